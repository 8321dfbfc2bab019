"""The login throttle in Redis: counted before the work, all counters or none."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.identity.sign_in.local_attempts import LocalAttempts
from gateway.stores.attempts import RedisAttempts
from gateway.stores.protocols import PENDING_S, Attempt, Attempts
from gateway.stores.redis import RedisStore
from tests.databases import Hands

ACCOUNT = Attempt("account:a", 5, 900, paced=True, an_hour=15)
ADDRESS = Attempt("address:b", 50, 900)


@pytest.fixture
def attempts(redis: RedisStore) -> RedisAttempts:
    return RedisAttempts(redis)


async def test_of_thirty_attempts_at_once_five_are_let_in(attempts: RedisAttempts) -> None:
    told = await asyncio.gather(
        *(attempts.reserve([ACCOUNT, ADDRESS], f"m{number}") for number in range(30))
    )
    assert [counted.wait_s for counted in told].count(0.0) == 5


async def test_each_failure_doubles_the_wait_for_the_next(
    attempts: RedisAttempts, redis: RedisStore
) -> None:
    waits = []
    for number in range(5):
        assert (await attempts.reserve([ACCOUNT], f"m{number}")).wait_s == 0
        await attempts.settle([ACCOUNT], f"m{number}", failed=True)
        counted = await attempts.reserve([ACCOUNT], "too early")
        waits.append(counted.wait_s)
        assert counted.failures == number + 1
        await pass_by(redis, counted.wait_s)
    assert waits == pytest.approx([1, 2, 4, 8, 885], abs=0.5)


async def test_a_refused_attempt_charges_no_counter(attempts: RedisAttempts) -> None:
    full, empty = Attempt("full", 1, 900), Attempt("empty", 1, 900)
    await attempts.reserve([full], "a")
    assert (await attempts.reserve([full, empty], "b")).wait_s > 0
    assert (await attempts.reserve([empty], "c")).wait_s == 0


async def test_what_is_given_back_makes_room_for_one(attempts: RedisAttempts) -> None:
    for number in range(5):
        await attempts.reserve([ACCOUNT], f"m{number}")
    await attempts.give_back([ACCOUNT], "m2")
    assert (await attempts.reserve([ACCOUNT], "x")).wait_s == 0
    assert (await attempts.reserve([ACCOUNT], "y")).wait_s > 0


@pytest.mark.parametrize("where", ["redis", "memory"])
async def test_counters_are_cleared_by_what_they_begin_with(
    attempts: RedisAttempts, where: str
) -> None:
    counters: Attempts = attempts if where == "redis" else LocalAttempts(Hands())
    ours = [Attempt(f"device:a:{number}", 1, 900) for number in range(1_500)]
    other = Attempt("device:ab:1", 1, 900)
    for start in range(0, 1_500, 100):
        await counters.reserve(ours[start : start + 100], "m")
    await counters.reserve([other], "m")
    await counters.clear(await counters.keys_under("device:a:"))
    assert (await counters.reserve(ours, "n")).wait_s == 0
    assert (await counters.reserve([other], "n")).wait_s > 0


async def test_a_cleared_counter_begins_again(attempts: RedisAttempts) -> None:
    for number in range(9):
        await attempts.reserve([ACCOUNT], f"m{number}")
    await attempts.clear([ACCOUNT.key])
    assert (await attempts.reserve([ACCOUNT], "x")).wait_s == 0


async def test_a_window_that_has_passed_is_forgotten(
    attempts: RedisAttempts, redis: RedisStore
) -> None:
    brief = Attempt("brief", 1, 60)
    assert (await attempts.reserve([brief], "a")).wait_s == 0
    await pass_by(redis, 61)
    assert (await attempts.reserve([brief], "b")).wait_s == 0


async def test_a_clock_that_was_set_back_makes_nobody_wait_longer(
    attempts: RedisAttempts, redis: RedisStore
) -> None:
    for number in range(4):
        await attempts.reserve([ACCOUNT, ADDRESS], f"m{number}")
    for number in range(3):
        await attempts.settle([ACCOUNT, ADDRESS], f"m{number}", failed=True)
    await pass_by(redis, -86_400)
    counted = await attempts.reserve([ACCOUNT, ADDRESS], "x")
    assert counted.failures == 3
    assert 0 < counted.wait_s <= 4
    await pass_by(redis, 4)
    assert (await attempts.reserve([ACCOUNT, ADDRESS], "x")).wait_s == 0


async def test_nothing_stays_in_redis_for_ever(attempts: RedisAttempts, redis: RedisStore) -> None:
    for number in range(6):
        await attempts.reserve([ACCOUNT, ADDRESS], f"m{number}")
        await attempts.settle([ACCOUNT, ADDRESS], f"m{number}", failed=True)
    for key in await redis.call("KEYS", f"{redis.prefix}*"):
        assert 0 < int(await redis.call("PTTL", key)) <= 3_600_001


async def test_what_is_never_settled_counts_for_two_minutes_in_the_hour_too(
    attempts: RedisAttempts, redis: RedisStore
) -> None:
    """A client that leaves, or a worker that is killed, fifteen times."""
    for number in range(3):
        for each in range(5):
            assert (await attempts.reserve([ACCOUNT], f"m{number}-{each}")).wait_s == 0
        await pass_by(redis, PENDING_S + 1)
    assert (await attempts.reserve([ACCOUNT], "the owner")).wait_s == 0


async def test_one_failure_is_kept_for_a_quarter_of_an_hour_and_no_longer(
    attempts: RedisAttempts, redis: RedisStore
) -> None:
    """Who tries each of a million accounts once fills Redis for 15 minutes, not for an hour."""
    await attempts.reserve([ACCOUNT], "a")
    await attempts.settle([ACCOUNT], "a", failed=True)
    (key,) = await redis.call("KEYS", f"{redis.prefix}*")
    assert int(await redis.call("PTTL", key)) <= 900_001


async def pass_by(redis: RedisStore, seconds: float) -> None:
    """So much time: everything that is kept happened that much earlier."""
    for key in await redis.call("KEYS", f"{redis.prefix}*"):
        left_ms = int(await redis.call("PTTL", key)) - round(seconds * 1000)
        if left_ms <= 0:
            await redis.call("DEL", key)
            continue
        for member in await redis.call("ZRANGE", key, 0, -1):
            await redis.call("ZINCRBY", key, -seconds, member)
        await redis.call("PEXPIRE", key, left_ms)


@pytest.mark.parametrize("seed", range(4))
async def test_counters_in_memory_judge_as_the_shared_ones_do(
    attempts: RedisAttempts, redis: RedisStore, seed: int
) -> None:
    """Whoever is away, the same caller is told the same."""
    chance, clock, passed_s = random.Random(seed), Hands(), 0.0
    own = LocalAttempts(clock)
    some = [
        Attempt("a", 2, 900),
        Attempt("b", 3, 900, paced=True),
        Attempt("c", 5, 900, paced=True, an_hour=9),
    ]
    told, under_way = [], []
    for number in range(150):
        asked, mark = chance.sample(some, chance.randint(1, 3)), f"m{number}"
        at_s, at_us = await redis.call("TIME")
        clock.at = int(at_s) + int(at_us) / 1e6 + passed_s
        match chance.choices(["reserve", "settle", "clear", "wait"], [12, 9, 0.3, 5])[0]:
            case "reserve":
                here, there = await own.reserve(asked, mark), await attempts.reserve(asked, mark)
                told.append((there, here))
                if not here.wait_s:
                    under_way.append((asked, mark))
            case "settle" if under_way:
                asked, mark = under_way.pop(chance.randrange(len(under_way)))
                if chance.random() < 0.3:
                    await attempts.give_back(asked, mark)
                    await own.give_back(asked, mark)
                else:
                    failed = chance.random() < 0.8
                    await attempts.settle(asked, mark, failed=failed)
                    await own.settle(asked, mark, failed=failed)
            case "clear":
                await attempts.clear([asked[0].key])
                await own.clear([asked[0].key])
            case "wait":
                seconds = chance.choice([0.6, 1.7, 5.3, 40.2, 300.9, 901.5])
                await pass_by(redis, seconds)
                passed_s += seconds
    assert [there.failures for there, _ in told] == [here.failures for _, here in told]
    assert [there.wait_s for there, _ in told] == pytest.approx(
        [here.wait_s for _, here in told], abs=0.4
    )
    assert len({round(here.wait_s) for _, here in told}) > 4
