from __future__ import annotations

import asyncio

from gateway.stores.deliveries import UNDER_WAY_S, RedisDeliveries
from gateway.stores.protocols import DeliveryState
from gateway.stores.redis import RedisStore


async def test_of_many_at_once_one_is_first(redis: RedisStore) -> None:
    deliveries = [RedisDeliveries(redis) for _ in range(20)]
    begun = await asyncio.gather(*(one.begin("a") for one in deliveries))
    states = [delivery.state for delivery in begun]
    assert states.count(DeliveryState.FIRST) == 1
    assert states.count(DeliveryState.UNDER_WAY) == 19


async def test_what_is_done_is_done_for_as_long_as_it_is_kept(
    redis: RedisStore, key_prefix: str
) -> None:
    deliveries = RedisDeliveries(redis)
    await deliveries.finish(await deliveries.begin("a"), 600)
    assert (await deliveries.begin("a")).state is DeliveryState.DONE
    assert UNDER_WAY_S < await redis.client.ttl(f"{key_prefix}delivery:a") <= 600
    assert (await deliveries.begin("b")).state is DeliveryState.FIRST


async def test_what_was_withdrawn_may_come_again(redis: RedisStore) -> None:
    deliveries = RedisDeliveries(redis)
    await deliveries.withdraw(await deliveries.begin("a"))
    assert (await deliveries.begin("a")).state is DeliveryState.FIRST


async def test_only_who_began_it_withdraws(redis: RedisStore) -> None:
    deliveries = RedisDeliveries(redis)
    first = await deliveries.begin("a")
    await deliveries.withdraw(await deliveries.begin("a"))
    assert (await deliveries.begin("a")).state is DeliveryState.UNDER_WAY
    await deliveries.finish(first, 60)
    await deliveries.withdraw(first)
    assert (await deliveries.begin("a")).state is DeliveryState.DONE


async def test_one_whose_worker_died_may_come_again_soon(
    redis: RedisStore, key_prefix: str
) -> None:
    await RedisDeliveries(redis).begin("a")
    assert 0 < await redis.client.ttl(f"{key_prefix}delivery:a") <= UNDER_WAY_S
