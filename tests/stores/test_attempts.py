"""The login throttle in Redis: counted before the work, all counters or none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.stores.attempts import RedisAttempts
from gateway.stores.protocols import Attempt
from gateway.stores.redis import RedisStore, open_redis

ACCOUNT = Attempt("account:a", 5, 900)
ADDRESS = Attempt("address:b", 50, 900)


@pytest.fixture
async def redis(redis_url: str, key_prefix: str) -> AsyncIterator[RedisStore]:
    store = open_redis(redis_url, prefix=key_prefix)
    yield store
    await store.close()


@pytest.fixture
def attempts(redis: RedisStore) -> RedisAttempts:
    return RedisAttempts(redis)


async def test_of_thirty_attempts_at_once_five_are_let_in(attempts: RedisAttempts) -> None:
    waits = await asyncio.gather(*(attempts.reserve([ACCOUNT, ADDRESS]) for _ in range(30)))
    assert waits.count(0.0) == 5


async def test_each_refusal_doubles_the_wait_up_to_a_quarter_of_an_hour(
    attempts: RedisAttempts,
) -> None:
    for _ in range(5):
        assert await attempts.reserve([ACCOUNT]) == 0
    waits = [await attempts.reserve([ACCOUNT]) for _ in range(12)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


async def test_a_refused_attempt_charges_no_counter(attempts: RedisAttempts) -> None:
    full, empty = Attempt("full", 1, 900), Attempt("empty", 1, 900)
    await attempts.reserve([full])
    assert await attempts.reserve([full, empty]) > 0
    assert await attempts.reserve([empty]) == 0


async def test_what_is_given_back_makes_room(attempts: RedisAttempts) -> None:
    for _ in range(5):
        await attempts.reserve([ACCOUNT])
    await attempts.give_back([ACCOUNT])
    assert await attempts.reserve([ACCOUNT]) == 0
    assert await attempts.reserve([ACCOUNT]) > 0


async def test_a_cleared_counter_begins_again(attempts: RedisAttempts) -> None:
    for _ in range(9):
        await attempts.reserve([ACCOUNT])
    await attempts.clear([ACCOUNT.key])
    assert await attempts.reserve([ACCOUNT]) == 0


async def test_who_waits_as_told_gets_one_more_attempt(
    attempts: RedisAttempts, redis: RedisStore
) -> None:
    for _ in range(5):
        await attempts.reserve([ACCOUNT])
    assert await attempts.reserve([ACCOUNT]) == 1
    await redis.call("HSET", f"{redis.prefix}waits:{ACCOUNT.key}", "open_at", "1")
    assert await attempts.reserve([ACCOUNT]) == 0
    assert await attempts.reserve([ACCOUNT]) == 2


async def test_a_window_that_has_passed_is_forgotten(attempts: RedisAttempts) -> None:
    brief = Attempt("brief", 1, 0)
    assert await attempts.reserve([brief]) == 0
    assert await attempts.reserve([brief]) == 0


async def test_nothing_stays_in_redis_for_ever(attempts: RedisAttempts, redis: RedisStore) -> None:
    for _ in range(6):
        await attempts.reserve([ACCOUNT, ADDRESS])
    for key in await redis.call("KEYS", f"{redis.prefix}*"):
        assert 0 < int(await redis.call("PTTL", key)) <= 1_802_000


async def test_reading_a_counter_charges_nothing(attempts: RedisAttempts) -> None:
    assert [await attempts.charged(ACCOUNT) for _ in range(9)] == [0] * 9
    await attempts.reserve([ACCOUNT, ADDRESS])
    await attempts.reserve([ACCOUNT])
    assert (await attempts.charged(ACCOUNT), await attempts.charged(ADDRESS)) == (2, 1)
    await attempts.give_back([ACCOUNT])
    assert await attempts.charged(ACCOUNT) == 1
