from __future__ import annotations

import pytest

from gateway.stores.moments import RedisMoments
from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import RedisStore


async def test_what_one_worker_notes_every_worker_can_place(redis: RedisStore) -> None:
    here, there = RedisMoments(redis), RedisMoments(redis)
    before = await here.now()
    assert await here.noted_at("a") is None
    await there.note("a", 60)
    noted = await here.noted_at("a")
    assert noted is not None
    assert before <= noted <= await here.now()
    assert await here.noted_at("b") is None


async def test_the_last_time_counts(redis: RedisStore) -> None:
    moments = RedisMoments(redis)
    await moments.note("a", 60)
    between = await moments.now()
    await moments.note("a", 60)
    noted = await moments.noted_at("a")
    assert noted is not None
    assert noted >= between


async def test_it_is_known_since_when_it_is_known(redis: RedisStore, key_prefix: str) -> None:
    """A Redis that comes back empty knows nothing of what was before."""
    moments = RedisMoments(redis)
    assert await moments.known_since() is None
    first = await moments.now()
    assert await moments.now() >= first
    assert await moments.known_since() == first
    await redis.call("DEL", f"{key_prefix}moment-since")
    assert await moments.known_since() is None
    again = await moments.now()
    assert await moments.known_since() == again
    assert again > first
    # A clock that was ahead, as of a server that has failed over.
    await redis.call("SET", f"{key_prefix}moment-since", again + 10**12)
    corrected = await moments.now()
    assert await moments.known_since() == corrected


async def test_it_is_forgotten_when_its_time_is_over(redis: RedisStore, key_prefix: str) -> None:
    await RedisMoments(redis).note("a", 60)
    assert 0 < await redis.client.ttl(f"{key_prefix}moment:a") <= 60


async def test_what_cannot_be_read_says_nothing(redis: RedisStore, key_prefix: str) -> None:
    await redis.call("SET", f"{key_prefix}moment:a", "soon")
    with pytest.raises(StoreUnavailable):
        await RedisMoments(redis).noted_at("a")
