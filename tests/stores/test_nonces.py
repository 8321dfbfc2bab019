from __future__ import annotations

import asyncio

from gateway.stores.nonces import RedisNonceStore
from gateway.stores.redis import RedisStore


async def test_of_many_at_once_one_is_first(redis: RedisStore) -> None:
    workers = [RedisNonceStore(redis) for _ in range(20)]
    answers = await asyncio.gather(*(worker.claim("a", 60) for worker in workers))
    assert answers.count(True) == 1


async def test_it_is_forgotten_when_its_time_is_over(redis: RedisStore, key_prefix: str) -> None:
    once = RedisNonceStore(redis)
    assert await once.claim("a", 60)
    assert 0 < await redis.client.ttl(f"{key_prefix}once:a") <= 60


async def test_what_was_claimed_is_known_to_every_worker(redis: RedisStore) -> None:
    assert not await RedisNonceStore(redis).is_claimed("a")
    assert await RedisNonceStore(redis).claim("a", 60)
    assert await RedisNonceStore(redis).is_claimed("a")


async def test_another_key_is_another_thing(redis: RedisStore) -> None:
    once = RedisNonceStore(redis)
    assert await once.claim("a", 60)
    assert await once.claim("b", 60)
