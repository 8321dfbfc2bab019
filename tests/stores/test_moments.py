from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.stores.moments import RedisMoments
from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import RedisStore, open_redis
from tests.servers import ValkeyServer

KIND = "kind"
MOST = 20_000


async def test_what_one_worker_notes_every_worker_can_place(redis: RedisStore) -> None:
    here, there = RedisMoments(redis), RedisMoments(redis)
    before = await here.now(KIND)
    assert not await here.has_come(KIND, ["a"], before)
    await there.note(KIND, ["a", "c"])
    assert await here.has_come(KIND, ["a"], before)
    assert await here.has_come(KIND, ["b", "c"], before)
    assert await here.has_come(KIND, ["a"], None)
    assert not await here.has_come(KIND, ["b"], before)
    assert not await here.has_come(KIND, ["b"], None)
    assert not await here.has_come("another", ["a"], await here.now("another"))
    assert not await here.has_come(KIND, ["a"], await here.now(KIND))


async def test_the_last_time_counts(redis: RedisStore) -> None:
    moments = RedisMoments(redis)
    await moments.note(KIND, ["a"])
    between = await moments.now(KIND)
    await moments.note(KIND, ["a"])
    assert await moments.has_come(KIND, ["a"], between)


async def test_of_a_moment_that_redis_does_not_know_nobody_can_say(
    redis: RedisStore, key_prefix: str
) -> None:
    """As it comes back empty, or was given another's content while it runs."""
    moments = RedisMoments(redis)
    first = await moments.now(KIND)
    assert await moments.has_come(KIND, ["a"], 1_790_000_000_000_000)  # of the version before
    assert await moments.has_come(KIND, ["a"], first + 1)
    assert not await moments.has_come(KIND, ["a"], first)
    await redis.call("DEL", f"{key_prefix}moments:{KIND}")
    assert await moments.has_come(KIND, ["a"], first)
    again = await moments.now(KIND)
    assert await moments.has_come(KIND, ["a"], first)
    assert not await moments.has_come(KIND, ["a"], again)


async def test_what_is_kept_is_bounded_and_of_a_moment_before_it_nobody_can_say(
    redis: RedisStore, key_prefix: str
) -> None:
    moments = RedisMoments(redis)
    first = await moments.now(KIND)
    await moments.note(KIND, ["a"])
    second = await moments.now(KIND)
    await moments.note(KIND, [f"b{number}" for number in range(MOST - 1)])
    assert await moments.has_come(KIND, ["a"], first)
    assert not await moments.has_come(KIND, ["none"], first)
    await moments.note(KIND, ["c"])
    assert await redis.call("ZCARD", f"{key_prefix}moments:{KIND}") == MOST + 1
    assert await moments.has_come(KIND, ["none"], first)  # it may have been "a"
    assert not await moments.has_come(KIND, ["none"], second)
    assert await moments.has_come(KIND, ["b0"], second)
    await moments.note(KIND, ["d"])
    assert await moments.has_come(KIND, ["b0"], second)
    assert not await moments.has_come(KIND, ["b0"], await moments.now(KIND))


async def test_a_kind_of_which_nobody_asks_any_more_is_forgotten(
    redis: RedisStore, key_prefix: str
) -> None:
    moments, key = RedisMoments(redis), f"{key_prefix}moments:{KIND}"
    since = await moments.now(KIND)
    for ask in (
        lambda: moments.note(KIND, ["a"]),
        lambda: moments.now(KIND),
        lambda: moments.has_come(KIND, ["a"], since),
    ):
        await redis.call("EXPIRE", key, 60)
        await ask()
        assert 80_000 < await redis.client.ttl(key) <= 86_400


async def test_what_cannot_be_read_says_nothing(redis: RedisStore, key_prefix: str) -> None:
    await redis.call("SET", f"{key_prefix}moments:{KIND}", "soon")
    with pytest.raises(StoreUnavailable):
        await RedisMoments(redis).has_come(KIND, ["a"], None)


async def test_what_no_replica_has_is_not_noted_where_one_is_to_have_it(
    own_valkey: Callable[..., ValkeyServer],
) -> None:
    """Else a server that is cut off takes what its successor never hears of."""
    redis = open_redis(own_valkey().url)
    redis.replicas = 1
    try:
        with pytest.raises(StoreUnavailable):
            await RedisMoments(redis).note(KIND, ["a"])
    finally:
        await redis.close()
