"""What may be used once, in Redis: whichever worker is first has it."""

from __future__ import annotations

from gateway.stores.redis import RedisStore


class RedisOneTime:
    """Meets `identity.captcha.OneTime`."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis

    async def first(self, key: str, ttl_s: int) -> bool:
        """SET NX: one step on the server, so of two at once one is first."""
        answer = await self._redis.call(
            "SET", f"{self._redis.prefix}once:{key}", 1, "NX", "EX", max(1, ttl_s)
        )
        return answer is not None
