"""An auth gateway as it is usually written with aiohttp: the yardstick, not an example.

`web.Application`, one `ClientSession`, pyjwt on every request, and two questions to Redis:
is the token revoked, and how often did this user call in this window.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import jwt
from aiohttp import ClientSession, TCPConnector, web
from redis.asyncio import Redis

HOP_BY_HOP = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
SESSION: web.AppKey[ClientSession] = web.AppKey("session", ClientSession)
REDIS: web.AppKey[Any] = web.AppKey("redis", object)
MOST_IN_A_WINDOW = 100_000_000
DAY_S = 86_400


def refusal(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


def may_see_order(request: web.Request, claims: dict[str, Any]) -> bool:
    if not request.path.startswith("/api/orders/"):
        return True
    owner = request.path.split("/")[3]
    lately = time.time() - float(claims["auth_time"]) < DAY_S
    return owner == claims["sub"] and lately and request.query.get("lang") == "en"


class Gateway:
    def __init__(self, said: dict[str, Any]) -> None:
        self.public_key = Path(said["key"]).read_text()
        self.algorithm = said["algorithm"]
        self.issuer = said["issuer"]
        self.audience = said["audience"]
        self.backend = f"http://127.0.0.1:{said['backend']}"
        self.ownership = said["ownership"]

    async def judge(self, request: web.Request) -> dict[str, Any] | web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return refusal(401, "no token")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.public_key,
                algorithms=[self.algorithm],
                audience=self.audience,
                issuer=self.issuer,
            )
        except jwt.PyJWTError:
            return refusal(401, "bad token")
        redis = request.app[REDIS]
        if await redis.exists(f"revoked:{claims['jti']}"):
            return refusal(401, "revoked")
        window = f"rate:{claims['sub']}:{int(time.time()) // 10}"
        calls = await redis.incr(window)
        if calls == 1:
            await redis.expire(window, 20)
        if calls > MOST_IN_A_WINDOW:
            return refusal(429, "too many calls")
        if "user" not in claims["roles"]:
            return refusal(403, "forbidden")
        if self.ownership and not may_see_order(request, claims):
            return refusal(403, "not your order")
        return claims

    async def handle(self, request: web.Request) -> web.StreamResponse:
        claims = await self.judge(request)
        if isinstance(claims, web.Response):
            return claims
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        headers["X-User-Id"] = claims["sub"]
        headers["X-User-Roles"] = ",".join(claims["roles"])
        headers["X-Forwarded-For"] = request.remote or ""
        async with request.app[SESSION].request(
            request.method,
            self.backend + request.path_qs,
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_chunked(65536):
                await response.write(chunk)
            await response.write_eof()
            return response


async def main(said: dict[str, Any]) -> None:
    gateway = Gateway(said)
    app = web.Application()
    app[SESSION] = ClientSession(connector=TCPConnector(limit=256), auto_decompress=False)
    app[REDIS] = Redis(port=said["redis"])
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    tls = None
    if said["certificate"]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(said["certificate"])
    await web.TCPSite(runner, "127.0.0.1", said["port"], backlog=4096, ssl_context=tls).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
