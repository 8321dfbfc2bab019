"""The login throttle's counters in Redis, shared by all workers of all nodes.

While Redis is away `identity.throttle.Throttle` counts alone, to its share of the limits.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from gateway.stores.protocols import Attempt
from gateway.stores.redis import RedisStore, Script


class RedisAttempts:
    """Meets `protocols.Attempts`; raises StoreUnavailable."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._reserve = Script.shipped("reserve")
        self._give_back = Script.shipped("give_back")
        self._charged = Script.shipped("charged")

    async def reserve(self, attempts: Sequence[Attempt]) -> float:
        keys: list[str] = []
        words: list[Any] = []
        for attempt in attempts:
            keys += (f"attempts:{attempt.key}", f"waits:{attempt.key}")
            words += (attempt.limit, attempt.window_s)
        return float(await self._redis.script(self._reserve, keys, [*words, secrets.token_hex(4)]))

    async def give_back(self, attempts: Sequence[Attempt]) -> None:
        keys = [f"attempts:{attempt.key}" for attempt in attempts]
        await self._redis.script(self._give_back, keys, [])

    async def charged(self, attempt: Attempt) -> int:
        keys = [f"attempts:{attempt.key}"]
        return int(await self._redis.script(self._charged, keys, [attempt.window_s]))

    async def clear(self, keys: Sequence[str]) -> None:
        if keys:
            named = [f"{kind}:{key}" for key in keys for kind in ("attempts", "waits")]
            await self._redis.call("DEL", *(self._redis.prefix + name for name in named))
