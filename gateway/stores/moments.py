"""When something happened, in Redis: by the clock of the server, which is one for all workers."""

from __future__ import annotations

from typing import Any

from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import RedisStore, Script


class RedisMoments:
    """Microseconds since the epoch; every call may raise StoreUnavailable.

    Where Redis has lost what it knew (a restart without its files), nothing tells that something
    has not happened before: so it is kept since when it knows.
    """

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._script = Script.shipped("moment")
        self._now = Script.shipped("moment_now")

    async def now(self) -> int:
        return _read(await self._redis.script(self._now, ["moment-since"], []))

    async def known_since(self) -> int | None:
        """What happened later is known; None where nobody has asked what time it is."""
        answer = await self._redis.call("GET", f"{self._redis.prefix}moment-since")
        return None if answer is None else _read(answer)

    async def note(self, key: str, ttl_s: int) -> None:
        """That it happened now; what was noted before is forgotten."""
        await self._redis.script(self._script, [f"moment:{key}"], [max(1, ttl_s)])

    async def noted_at(self, key: str) -> int | None:
        """None where it did not happen, or so long ago that it is forgotten."""
        answer = await self._redis.call("GET", f"{self._redis.prefix}moment:{key}")
        return None if answer is None else _read(answer)


def _read(answer: Any) -> int:
    try:
        return int(answer)
    except (TypeError, ValueError) as error:
        raise StoreUnavailable("redis", "an answer that cannot be read") from error
