"""Nonces in Redis: whichever worker claims one first has it."""

from __future__ import annotations

import secrets

from gateway.stores.redis import RedisStore, Script


class RedisNonceStore:
    """Implements `protocols.ReadableNonceStore`."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._script = Script.shipped("once")

    async def claim(self, key: str, ttl_s: int) -> bool:
        """One step on the server, so of two at once one is first."""
        words = (secrets.token_hex(8), max(1, ttl_s))
        answer = await self._redis.script(self._script, [f"once:{key}"], words)
        return str(answer) == "1"

    async def is_claimed(self, key: str) -> bool:
        """Whether somebody has claimed it, and its time is not over."""
        return bool(await self._redis.call("EXISTS", f"{self._redis.prefix}once:{key}"))
