"""The login throttle's counters in Redis, shared by all workers of all nodes.

While Redis is unavailable `identity.sign_in.throttle.Throttle` counts alone, up to its share of
the limits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gateway.stores.protocols import Attempt, ReserveResult, StoreUnavailable
from gateway.stores.redis import RedisStore, Script

_ANSWER = re.compile(r"(\d{1,8}(?:\.\d{1,9})?):(\d{1,8})", re.ASCII)


class RedisAttempts:
    """Meets `protocols.Attempts`; raises StoreUnavailable."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._reserve = Script.shipped("reserve")
        self._settle = Script.shipped("settle")
        self._give_back = Script.shipped("give_back")

    async def reserve(self, attempts: Sequence[Attempt], mark: str) -> ReserveResult:
        words: list[Any] = [mark]
        for attempt in attempts:
            words += (attempt.limit, attempt.window_s, int(attempt.paced), attempt.an_hour)
        answer = await self._redis.script(self._reserve, _keys(attempts), words)
        fields = _ANSWER.fullmatch(str(answer))
        if fields is None:
            raise StoreUnavailable("redis", "an answer that cannot be read")
        return ReserveResult(float(fields[1]), int(fields[2]))

    async def settle(self, attempts: Sequence[Attempt], mark: str, *, failed: bool) -> None:
        words: list[Any] = [mark, "f" if failed else "s"]
        for attempt in attempts:
            words += (attempt.limit, attempt.window_s, attempt.an_hour)
        await self._redis.script(self._settle, _keys(attempts), words)

    async def give_back(self, attempts: Sequence[Attempt], mark: str) -> None:
        await self._redis.script(self._give_back, _keys(attempts), [mark])

    async def clear(self, keys: Sequence[str]) -> None:
        if keys:
            await self._redis.call("DEL", *(f"{self._redis.prefix}attempts:{key}" for key in keys))

    async def keys_under(self, prefix: str) -> Sequence[str]:
        own = f"{self._redis.prefix}attempts:"
        pattern, cursor, keys = f"{own}{prefix}*", "0", dict[str, None]()
        while True:
            answer = await self._redis.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            try:
                cursor, found = str(answer[0]), [str(key) for key in answer[1]]
            except (TypeError, LookupError) as error:
                raise StoreUnavailable("redis", "an answer that cannot be read") from error
            keys |= dict.fromkeys(key.removeprefix(own) for key in found)
            if cursor == "0":
                return list(keys)


def _keys(attempts: Sequence[Attempt]) -> list[str]:
    return [f"attempts:{attempt.key}" for attempt in attempts]
