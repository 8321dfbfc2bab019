"""Signing in as it is usually written with aiohttp, bcrypt and pyjwt: a yardstick, no example.

The account and the refresh token are in Redis; a refresh token is good once.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import bcrypt
import jwt
from aiohttp import web
from redis.asyncio import Redis

LIFE_S = 900
REFRESH_S = 604_800


class Desk:
    def __init__(self, said: dict[str, Any]) -> None:
        self.redis: Any = Redis(port=said["redis"], decode_responses=True)
        self.key = Path(said["key"]).read_text()
        self.said = said

    async def login(self, request: web.Request) -> web.Response:
        body = await request.json()
        stored = await self.redis.hget("accounts", body["email"])
        password = body["password"].encode()
        if not stored or not await asyncio.to_thread(bcrypt.checkpw, password, stored.encode()):
            return web.json_response({"error": "invalid_credentials"}, status=401)
        return await self.signed_in(body["email"])

    async def refresh(self, request: web.Request) -> web.Response:
        body = await request.json()
        email = await self.redis.getdel(f"refresh:{body['refresh_token']}")
        if not email:
            return web.json_response({"error": "invalid_grant"}, status=401)
        return await self.signed_in(email)

    async def signed_in(self, email: str) -> web.Response:
        now = int(time.time())
        claims = {
            "iss": self.said["issuer"],
            "aud": self.said["audience"],
            "sub": email,
            "jti": secrets.token_urlsafe(12),
            "roles": ["user"],
            "iat": now,
            "exp": now + LIFE_S,
        }
        refresh = secrets.token_urlsafe(32)
        await self.redis.set(f"refresh:{refresh}", email, ex=REFRESH_S)
        access = jwt.encode(claims, self.key, algorithm="ES256")
        return web.json_response({"access_token": access, "refresh_token": refresh})


async def main(said: dict[str, Any]) -> None:
    desk = Desk(said)
    await desk.redis.hset("accounts", mapping=dict.fromkeys(said["emails"], said["hash"]))
    app = web.Application()
    app.router.add_post("/auth/login", desk.login)
    app.router.add_post("/auth/refresh", desk.refresh)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", said["port"], backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
