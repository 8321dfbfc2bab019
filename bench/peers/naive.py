"""An auth gateway as it is usually written with aiohttp: the yardstick, not an example.

`web.Application`, one `ClientSession`, pyjwt on every request, and two questions to Redis:
is the token revoked, and how often did this user call in this window.
"""

from __future__ import annotations

import asyncio
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


def refusal(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


class Gateway:
    def __init__(self, public_key: str, issuer: str, audience: str, backend: str) -> None:
        self.public_key = public_key
        self.issuer = issuer
        self.audience = audience
        self.backend = backend

    async def judge(self, request: web.Request) -> dict[str, Any] | web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return refusal(401, "no token")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.public_key,
                algorithms=["RS256"],
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


async def main(port: int, backend: int, redis: int, key: Path, issuer: str, audience: str) -> None:
    gateway = Gateway(key.read_text(), issuer, audience, f"http://127.0.0.1:{backend}")
    app = web.Application()
    app[SESSION] = ClientSession(connector=TCPConnector(limit=256), auto_decompress=False)
    app[REDIS] = Redis(port=redis)
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    port, backend, redis = (int(word) for word in sys.argv[1:4])
    asyncio.run(main(port, backend, redis, Path(sys.argv[4]), sys.argv[5], sys.argv[6]))
