"""The login throttle in Redis: counted before the work, all counters or none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from gateway.identity.throttle import OwnAttempts
from gateway.stores.attempts import RedisAttempts
from gateway.stores.protocols import Attempt
from gateway.stores.redis import RedisStore, open_redis
from tests.databases import Hands

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


async def pass_by(redis: RedisStore, seconds: float) -> None:
    """So much time: everything that is kept happened that much earlier."""
    for key in await redis.call("KEYS", f"{redis.prefix}*"):
        left_ms = int(await redis.call("PTTL", key)) - round(seconds * 1000)
        if left_ms <= 0:
            await redis.call("DEL", key)
            continue
        if await redis.call("TYPE", key) == "zset":
            members = await redis.call("ZRANGE", key, 0, -1)
            for member in members:
                await redis.call("ZINCRBY", key, -seconds, member)
        elif float(await redis.call("HGET", key, "open_at")):
            await redis.call("HINCRBYFLOAT", key, "open_at", -seconds)
        await redis.call("PEXPIRE", key, left_ms)


@pytest.mark.parametrize("seed", range(4))
async def test_counters_in_memory_judge_as_the_shared_ones_do(
    attempts: RedisAttempts, redis: RedisStore, seed: int
) -> None:
    """Whoever is away, the same caller is told the same."""
    chance, clock = random.Random(seed), Hands()
    own = OwnAttempts(clock)
    some = [Attempt("a", 2, 900), Attempt("b", 3, 900), Attempt("c", 5, 900)]
    told = []
    for _ in range(120):
        asked = chance.sample(some, chance.randint(1, 3))
        match chance.choices(["reserve", "give back", "clear", "wait"], [12, 2, 0.3, 3])[0]:
            case "reserve":
                told.append((await attempts.reserve(asked), await own.reserve(asked)))
            case "give back":
                await attempts.give_back(asked[:1])
                await own.give_back(asked[:1])
            case "clear":
                await attempts.clear([asked[0].key])
                await own.clear([asked[0].key])
            case "wait":
                seconds = chance.choice([0.4, 1.5, 5.0, 40.0, 300.0, 901.0])
                await pass_by(redis, seconds)
                clock.move(seconds)
        told += [(await attempts.charged(one), await own.charged(one)) for one in some]
    assert [shared for shared, _ in told] == [alone for _, alone in told]
    assert {1.0, 2.0, 4.0} <= {shared for shared, _ in told}
