"""Deliveries in Redis: what others told us once, and may tell us again."""

from __future__ import annotations

import secrets

from gateway.stores.protocols import Delivery, DeliveryState
from gateway.stores.redis import RedisStore, Script

UNDER_WAY_S = 10
"""Longer than anybody takes over one.  A worker that was killed meanwhile, or did not hear that it
was the first, tells nobody that it is not done: after so long the delivery may come again."""


class RedisDeliveries:
    """Implements `protocols.Deliveries`."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._script = Script.shipped("deliver")

    async def begin(self, key: str) -> Delivery:
        mark = secrets.token_hex(8)
        answer = await self._call(key, mark, "begin", UNDER_WAY_S)
        return Delivery(key, mark, DeliveryState(answer))

    async def finish(self, delivery: Delivery, keep_s: int) -> None:
        await self._call(delivery.key, delivery.mark, "finish", keep_s)

    async def withdraw(self, delivery: Delivery) -> None:
        await self._call(delivery.key, delivery.mark, "withdraw", 0)

    async def _call(self, key: str, mark: str, action: str, seconds: int) -> str:
        words = (mark, action, seconds)
        return str(await self._redis.script(self._script, [f"delivery:{key}"], words))
