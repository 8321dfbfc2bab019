"""ASGI middleware (FastAPI, Starlette, Django under ASGI).

    app.add_middleware(Authgate, verifier=verifier)

A call without a good assertion is answered 401.  The caller is `scope["authgate.caller"]`;
with `anonymous=True` it is None for a call that brings no assertion, as authgate sends none
for callers of public routes.  Handlers never see an `X-Auth-*` field: there is one source of
the truth.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .verifier import FIELD, Refused, Verifier

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_NAME = FIELD.lower().encode()


class Authgate:
    def __init__(self, app: App, verifier: Verifier, *, anonymous: bool = False) -> None:
        self._app = app
        self._verifier = verifier
        self._anonymous = anonymous

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name.lower() == _NAME]
        caller = None
        if given or not self._anonymous:
            try:
                if len(given) != 1:
                    raise Refused("not exactly one assertion")
                # A WebSocket handshake is a GET (RFC 6455 section 4.1).
                method = scope.get("method", "GET")
                path = scope["raw_path"].partition(b"?")[0].decode("latin-1")
                caller = await self._verifier.verify_async(given[0].decode("latin-1"), method, path)
            except Refused:
                await _refuse(scope, send)
                return
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if not name.lower().replace(b"_", b"-").startswith(b"x-auth-")
        ]
        await self._app({**scope, "headers": headers, "authgate.caller": caller}, receive, send)


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    body = json.dumps({"title": "Not through the gateway", "status": 401}).encode()
    fields = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": fields})
    await send({"type": "http.response.body", "body": body})
