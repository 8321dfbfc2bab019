"""aiohttp middleware.

    app = web.Application(middlewares=[authgate(verifier)])

A call without a good assertion is answered 401.  The caller is `request[CALLER]`; with
`anonymous=True` it is None for a call that brings no assertion.  Handlers never see an
`X-Auth-*` field.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from .verifier import FIELD, Caller, Refused, Verifier

CALLER: web.RequestKey[Caller | None] = web.RequestKey("authgate.caller", object)  # type: ignore[arg-type]


def authgate(verifier: Verifier, *, anonymous: bool = False) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.getall(FIELD, [])
        caller = None
        if given or not anonymous:
            path = request.raw_path.partition("?")[0]
            try:
                if len(given) != 1:
                    raise Refused("not exactly one assertion")
                caller = await verifier.verify_async(given[0], request.method, path)
            except Refused:
                return web.json_response(
                    {"title": "Not through the gateway", "status": 401},
                    status=401,
                    content_type="application/problem+json",
                )
        kept = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if not name.lower().replace("_", "-").startswith("x-auth-")
        )
        seen = request.clone(headers=kept)
        seen[CALLER] = caller
        return await handler(seen)

    return check
