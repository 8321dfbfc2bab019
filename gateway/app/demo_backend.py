"""The demo backend of `gateway dev`: it shows what a backend receives, browsers by a page and
programs by JSON.  Loopback only.

It trusts whatever reaches it, as a backend behind the gateway may, and decides nothing.
"""

from __future__ import annotations

import json

from aiohttp import web

from gateway.access.routing.own_paths import OwnPaths
from gateway.app.demo_page import DemoPage

_BODY_SHOWN_BYTES = 2000
_PAGE = web.AppKey("page", DemoPage)


def application(own_paths: OwnPaths | None = None) -> web.Application:
    """`own_paths` are the gateway's own, to which its page links."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app[_PAGE] = DemoPage(own_paths or OwnPaths())
    app.on_response_prepare.append(_name)
    app.router.add_get("/healthz", _healthz)
    app.router.add_route("*", "/{rest:.*}", _echo)
    return app


async def _name(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "demo-backend"


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _echo(request: web.Request) -> web.Response:
    """The request as it arrived, and an order where the path names one."""
    received = bytearray()
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        received += chunk[: _BODY_SHOWN_BYTES - len(received)]
    answer: dict[str, object] = {}
    segments = request.path.strip("/").split("/")
    if len(segments) >= 2 and segments[-2] == "orders":
        owner = segments[segments.index("users") + 1] if "users" in segments[:-2] else None
        answer["order"] = {"id": segments[-1], "owner": owner, "total": "42.00 EUR"}
    answer |= {
        "method": request.method,
        "path": request.raw_path,
        "headers": _headers(request),
        "body_bytes": size,
    }
    if received:
        answer["body"] = received.decode("utf-8", "replace")
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        return web.Response(text=request.app[_PAGE].render(answer), content_type="text/html")
    return web.Response(
        body=json.dumps(answer, indent=2).encode() + b"\n", content_type="application/json"
    )


def _headers(request: web.Request) -> dict[str, str | list[str]]:
    """Names in the spelling that arrived; a repeated one keeps all of its values."""
    found: dict[str, str | list[str]] = {}
    # `request.headers` has aiohttp's spelling of the names that it knows.
    for raw_name, raw_value in request.raw_headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        held = found.get(name)
        if held is None:
            found[name] = value
        elif isinstance(held, list):
            held.append(value)
        else:
            found[name] = [held, value]
    return found
