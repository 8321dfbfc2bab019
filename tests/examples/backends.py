"""Small services behind each middleware of examples/verify: they answer who they think calls."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import StartResponse, WSGIEnvironment

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from examples.verify import aiohttp_middleware, asgi, wsgi
from examples.verify.verifier import Caller, Verifier
from tests.kept import kept
from tests.node_packages import lacking
from tests.ports import free_port
from tests.servers import end_with_parent

Fields = Sequence[tuple[str, str]]
ROOT = Path(__file__).parents[2]
EXPRESS = ROOT / "examples" / "verify" / "express"
INSTALLED = kept("express")
KINDS = ("asgi", "wsgi", "wsgi-decoded", "aiohttp", "express")


@dataclass
class Said:
    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Trust:
    issuer: str
    audience: str
    jwks_url: str
    anonymous: bool = False
    fetch: Callable[[str], bytes] | None = None

    def verifier(self) -> Verifier:
        return Verifier(
            issuer=self.issuer,
            audience=self.audience,
            jwks_url=self.jwks_url,
            fetch=self.fetch,
        )


Ask = Callable[[str, str, Fields], Awaitable[Said]]


@asynccontextmanager
async def backend(kind: str, trust: Trust) -> AsyncIterator[Ask]:
    if kind == "asgi":
        yield _asgi(trust)
    elif kind.startswith("wsgi"):
        yield _wsgi(trust, raw=kind == "wsgi")
    elif kind == "aiohttp":
        async with _aiohttp(trust) as ask:
            yield ask
    else:
        async with _express(trust) as ask:
            yield ask


def _answer(caller: Caller | None, names: Iterable[str]) -> dict[str, Any]:
    return {
        "caller": caller and caller.subject,
        "roles": sorted(caller.roles) if caller else [],
        "fields": [name for name in names if name.lower().startswith("x")],
    }


def _asgi(trust: Trust) -> Ask:
    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        names = [name.decode() for name, _ in scope["headers"]]
        body = json.dumps(_answer(scope["authgate.caller"], names)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    guarded = asgi.Authgate(app, trust.verifier(), anonymous=trust.anonymous)

    async def ask(method: str, target: str, fields: Fields) -> Said:
        path = target.partition("?")[0]
        scope = {
            "type": "http",
            "method": method,
            "path": unquote_to_bytes(path).decode(),
            "raw_path": path.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in fields],
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        await guarded(scope, receive, send)
        return Said(sent[0]["status"], json.loads(sent[1]["body"]))

    return ask


def _wsgi(trust: Trust, *, raw: bool) -> Ask:
    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", [])
        names = [n[5:].replace("_", "-") for n in environ if n.startswith("HTTP_")]
        return [json.dumps(_answer(environ["authgate.caller"], names)).encode()]

    guarded = wsgi.Authgate(app, trust.verifier(), anonymous=trust.anonymous)

    async def ask(method: str, target: str, fields: Fields) -> Said:
        path, _, query = target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
        }
        if raw:
            environ["RAW_URI"] = target
        for name, value in fields:
            key = "HTTP_" + name.upper().replace("-", "_")
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        statuses: list[str] = []

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            statuses.append(status)

        body = b"".join(guarded(environ, start))
        return Said(int(statuses[0].split()[0]), json.loads(body))

    return ask


@asynccontextmanager
async def _aiohttp(trust: Trust) -> AsyncIterator[Ask]:
    async def handle(request: web.Request) -> web.Response:
        caller = request[aiohttp_middleware.CALLER]
        return web.json_response(_answer(caller, request.headers))

    check = aiohttp_middleware.authgate(trust.verifier(), anonymous=trust.anonymous)
    app = web.Application(middlewares=[check])
    app.router.add_route("*", "/{rest:.*}", handle)
    async with TestServer(app) as server:
        yield _http(server.port or 0)


@asynccontextmanager
async def _express(trust: Trust) -> AsyncIterator[Ask]:
    if lacks := express_lacks():
        pytest.skip(f"Express is not here: {lacks}")
    port = free_port()
    environment = {
        "ISSUER": trust.issuer,
        "AUDIENCE": trust.audience,
        "JWKS_URL": trust.jwks_url,
        "ANONYMOUS": "1" if trust.anonymous else "",
        "PORT": str(port),
        "NODE_ENV": "production",
    }
    process = subprocess.Popen(
        ["node", "server.js"],
        cwd=INSTALLED,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield _http(port)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def express_lacks() -> str:
    """What to install; empty when its packages are there, or could be fetched just now."""
    return lacking(EXPRESS, INSTALLED)


def _http(port: int) -> Ask:
    async def ask(method: str, target: str, fields: Fields) -> Said:
        url = URL(f"http://127.0.0.1:{port}{target}", encoded=True)
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, headers=list(fields)) as answer,
        ):
            return Said(answer.status, await answer.json(content_type=None))

    return ask
