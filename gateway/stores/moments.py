"""When something happened, in Redis: by the clock of the server, which is one for all workers."""

from __future__ import annotations

from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import RedisStore, Script

_MICROSECONDS = 1_000_000


class RedisMoments:
    """Microseconds since the epoch; every call may raise StoreUnavailable."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._script = Script.shipped("moment")

    async def now(self) -> int:
        return round(await self._redis.time() * _MICROSECONDS)

    async def note(self, key: str, ttl_s: int) -> None:
        """That it happened now; what was noted before is forgotten."""
        await self._redis.script(self._script, [f"moment:{key}"], [max(1, ttl_s)])

    async def noted_at(self, key: str) -> int | None:
        """None where it did not happen, or so long ago that it is forgotten."""
        answer = await self._redis.call("GET", f"{self._redis.prefix}moment:{key}")
        try:
            return None if answer is None else int(answer)
        except (TypeError, ValueError) as error:
            raise StoreUnavailable("redis", "an answer that cannot be read") from error
