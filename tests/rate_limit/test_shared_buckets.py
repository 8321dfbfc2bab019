"""Leased and shared limits, on a real server: several workers are several `RateLimiter`."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway.access.definitions import Limit, LimitKey, Scope
from gateway.model import Call, Principal, SystemClock
from gateway.rate_limit import shared_buckets
from gateway.rate_limit.limiter import RateLimiter
from gateway.rate_limit.shared_buckets import REST_S
from gateway.stores.counters import RedisCounters
from gateway.stores.protocols import BucketGrant, BucketRequest, StoreUnavailable
from gateway.stores.redis import RedisStore, open_redis
from tests.faults import Fault, proxied
from tests.ports import free_port
from tests.servers import ValkeyServer

CALL = Call(
    "GET", "api.example.com", "/", ("",), "", headers=(), client_ip="192.0.2.1", scheme="https"
)


def caller(subject: str) -> Principal:
    return Principal(subject, (), None, "jti", None, kid="kid", issued_at=1, expires_at=2)


def limit(
    *, per_s: float = 1.0, burst: int = 100, scope: Scope = Scope.LEASED, name: str = "calls"
) -> Limit:
    return Limit(name, LimitKey.USER, per_s, burst, scope)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """Of this file's own: the tests count its commands and empty it."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.kill()


@pytest.fixture
async def redis(server: ValkeyServer) -> AsyncIterator[RedisStore]:
    store = open_redis(server.url)
    await store.call("FLUSHALL")
    yield store
    await store.close()


Patience = Callable[[float], None]
AS_IN_SERVICE_S = shared_buckets.TIMEOUT_S


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """For how long calls wait for the server: one that nobody hinders may be late all the same,
    where the machine is busy, and what is late is counted in another way."""

    def wait(seconds: float) -> None:
        monkeypatch.setattr(shared_buckets, "TIMEOUT_S", seconds)

    wait(30.0)
    return wait


def workers(redis: RedisStore, count: int) -> list[RateLimiter]:
    made = [RateLimiter(SystemClock(), RedisCounters(redis)) for _ in range(count)]
    for worker in made:
        worker.workers = count
    return made


async def commands(redis: RedisStore) -> int:
    """How many the server has processed."""
    return int((await redis.call("INFO", "stats"))["total_commands_processed"])


async def passes(worker: RateLimiter, asked: tuple[Limit, ...], who: str = "ada") -> bool:
    return (await worker.take(asked, CALL, caller(who))).wait_s == 0.0


@pytest.mark.parametrize("scope", [Scope.LEASED, Scope.SHARED])
async def test_four_workers_together_pass_no_more_than_the_burst(
    redis: RedisStore, scope: Scope
) -> None:
    asked = (limit(per_s=0.001, burst=100, scope=scope),)
    four = workers(redis, 4)
    passed = 0
    for turn in range(400):
        passed += await passes(four[turn % 4], asked)
        if turn % 25 == 0:
            for worker in four:
                await worker.sync()
    assert passed == 100


async def test_four_workers_at_once_pass_no_more_than_the_burst(redis: RedisStore) -> None:
    asked = (limit(per_s=0.001, burst=100),)
    four = workers(redis, 4)
    answers = await asyncio.gather(*(passes(four[turn % 4], asked) for turn in range(400)))
    assert sum(answers) <= 100


async def test_one_worker_may_have_the_whole_burst_that_the_others_do_not_want(
    redis: RedisStore,
) -> None:
    asked = (limit(per_s=0.001, burst=100),)
    one, *_ = workers(redis, 4)
    assert sum([await passes(one, asked) for _ in range(150)]) == 100


async def test_most_calls_of_a_busy_key_ask_nobody(redis: RedisStore) -> None:
    asked = (limit(per_s=0.001, burst=1000),)
    one, *_ = workers(redis, 2)
    before = await commands(redis)
    for _ in range(300):
        await passes(one, asked)
    scripts = (await commands(redis) - before) / 4  # TIME, GET and SET run inside each
    assert scripts < 30


async def test_a_shared_limit_asks_on_every_call(redis: RedisStore) -> None:
    asked = (limit(per_s=0.001, burst=1000, scope=Scope.SHARED),)
    one, *_ = workers(redis, 2)
    for _ in range(20):
        await passes(one, asked)
    answer = await RedisCounters(redis).spend([[BucketRequest("calls:ada", 1000.0, 1000, 0, 0)]], 1)
    assert isinstance(answer[0], list)
    assert answer[0][0].left == 980


async def test_a_clock_of_redis_that_is_set_back_shuts_nobody_out(redis: RedisStore) -> None:
    """What was counted by a time that is yet to come would be waited for, an hour or a day."""
    counters = RedisCounters(redis)
    asked = BucketRequest("calls:ada", 1.0, 15)
    await counters.spend([[asked]], 1)
    (key,) = await redis.call("KEYS", f"{redis.prefix}*calls:ada*")
    in_an_hour = float(await redis.call("GET", key)) + 3_600_000_000
    await redis.call("SET", key, str(in_an_hour))
    (answer,) = await counters.spend([[asked]], 1)
    assert isinstance(answer, list)
    assert answer[0].left == 14


async def test_a_burst_under_four_a_worker_is_shared_of_itself(redis: RedisStore) -> None:
    asked = (limit(per_s=0.001, burst=15),)
    one, *_ = workers(redis, 4)
    for _ in range(10):
        await passes(one, asked)
    answer = await RedisCounters(redis).spend([[BucketRequest("calls:ada", 1000.0, 15, 0, 0)]], 1)
    assert isinstance(answer[0], list)
    assert answer[0][0].left == 5


async def test_what_a_worker_holds_and_no_longer_uses_goes_back(redis: RedisStore) -> None:
    asked = (limit(per_s=0.001, burst=100),)
    one, other = workers(redis, 2)
    for _ in range(30):
        await passes(one, asked)
    for _ in range(60):
        await one.sync()
    assert sum([await passes(other, asked) for _ in range(100)]) == 70


class Later:
    """The clocks of this machine, the steady one as a test sets it forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return time.time()

    def steady(self) -> float:
        return time.monotonic() + self.ahead_s


async def in_turns(
    two: Sequence[RateLimiter], clock: Later, asked: tuple[Limit, ...], *, seconds: int
) -> int:
    """How many pass of one call a second, which the workers take in turns while they sync."""
    passed = 0
    for second in range(seconds):
        passed += await passes(two[second % len(two)], asked)
        for _ in range(10):
            clock.ahead_s += 0.1
            for worker in two:
                await worker.sync()
    return passed


async def test_a_slow_caller_of_a_large_burst_asks_every_few_calls(redis: RedisStore) -> None:
    """Each of many callers is slow, and two workers asked for nearly each call of theirs."""
    asked, clock = (limit(per_s=0.001, burst=2000),), Later()
    two = [RateLimiter(clock, RedisCounters(redis)) for _ in range(2)]
    for worker in two:
        worker.workers = 2
    before = await commands(redis)
    assert await in_turns(two, clock, asked, seconds=40) == 40
    scripts = (await commands(redis) - before) / 4
    assert scripts <= 16


async def test_what_rests_with_a_worker_goes_back(redis: RedisStore) -> None:
    asked, clock = (limit(per_s=0.001, burst=2000),), Later()
    two = [RateLimiter(clock, RedisCounters(redis)) for _ in range(2)]
    for worker in two:
        worker.workers = 2
    await in_turns(two, clock, asked, seconds=10)
    for _ in range(2):  # what was used is filled up and rests once more
        clock.ahead_s += REST_S
        for worker in two:
            await worker.sync()
    peek = [[BucketRequest("calls:ada", 1000.0, 2000, 0, 0)]]
    (answer,) = await RedisCounters(redis).spend(peek, 1)
    assert isinstance(answer, list)
    assert answer[0].left == 1990


async def test_what_rests_is_a_hundredth_of_the_burst(redis: RedisStore) -> None:
    """So much may pass too late, and so much may others miss."""
    asked = (limit(per_s=0.001, burst=2000),)
    four = workers(redis, 4)
    for worker in four:
        for _ in range(2):
            await passes(worker, asked)
        for _ in range(20):
            await worker.sync()
    peek = [[BucketRequest("calls:ada", 1000.0, 2000, 0, 0)]]
    (answer,) = await RedisCounters(redis).spend(peek, 1)
    assert isinstance(answer, list)
    assert 2000 - 8 - 20 <= answer[0].left < 2000 - 8


async def test_a_refusal_is_remembered_so_that_a_flood_asks_nobody(redis: RedisStore) -> None:
    asked = (limit(per_s=0.001, burst=20),)
    one, *_ = workers(redis, 2)
    for _ in range(30):
        await passes(one, asked)
    before = await commands(redis)
    for _ in range(200):
        assert not await passes(one, asked)
    assert await commands(redis) - before <= 2


async def test_a_group_of_shared_limits_is_charged_whole_or_not_at_all(redis: RedisStore) -> None:
    wide = limit(name="wide", per_s=0.001, burst=10, scope=Scope.SHARED)
    narrow = limit(name="narrow", per_s=0.001, burst=1, scope=Scope.SHARED)
    one, *_ = workers(redis, 2)
    both, alone = (wide, narrow), (wide,)
    assert [await passes(one, both) for _ in range(4)] == [True, False, False, False]
    assert sum([await passes(one, alone) for _ in range(20)]) == 9


async def test_a_shared_refusal_gives_back_what_a_local_limit_took(redis: RedisStore) -> None:
    local = limit(name="local", per_s=0.001, burst=3, scope=Scope.LOCAL)
    shared = limit(name="shared", per_s=0.001, burst=1, scope=Scope.SHARED)
    one, *_ = workers(redis, 2)
    both, alone = (local, shared), (local,)
    for _ in range(5):
        await passes(one, both)
    assert sum([await passes(one, alone) for _ in range(5)]) == 2


async def test_a_shared_bucket_fills_at_its_rate(redis: RedisStore) -> None:
    counters = RedisCounters(redis)
    taken = await counters.spend([[BucketRequest("k", 3600.0, 10, 10, 10)]], 1)
    assert isinstance(taken[0], list)
    assert taken[0][0].left == 0
    refused = await counters.spend([[BucketRequest("k", 3600.0, 10)]], 1)
    assert isinstance(refused[0], float)
    assert 3590 < refused[0] <= 3600


async def test_what_is_owed_is_paid_back_even_where_there_is_no_room(redis: RedisStore) -> None:
    counters = RedisCounters(redis)
    await counters.spend([[BucketRequest("k", 100.0, 10, 8, 8)]], 1)
    refused = await counters.spend([[BucketRequest("k", 100.0, 10, 1, 1, owed=5)]], 1)
    assert isinstance(refused[0], float)
    assert 390 < refused[0] <= 400


async def test_no_more_than_a_burst_is_ever_owed(redis: RedisStore) -> None:
    counters = RedisCounters(redis)
    refused = await counters.spend([[BucketRequest("k", 100.0, 10, 1, 1, owed=5000)]], 1)
    assert isinstance(refused[0], float)
    assert 1090 < refused[0] <= 1100


async def test_without_redis_each_worker_spends_its_share_and_no_more(tmp_path: Path) -> None:
    nobody = open_redis(f"unix://{tmp_path}/nobody")
    four = workers(nobody, 4)
    asked = (limit(per_s=0.001, burst=100),)
    for worker in four:
        assert sum([await passes(worker, asked) for _ in range(60)]) == 25
        assert worker.unavailable


async def test_what_was_spent_without_redis_is_reported_when_it_is_back(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, free_port())
    store = open_redis(server.url)
    one, other = workers(store, 2)
    asked = (limit(per_s=0.001, burst=100),)
    assert sum([await passes(one, asked) for _ in range(80)]) == 50
    server.start()
    try:
        async with asyncio.timeout(10):
            while one.unavailable or other.unavailable:
                await one.sync()
                await other.sync()
        await one.sync()
        assert sum([await passes(other, asked) for _ in range(200)]) == 50
    finally:
        await store.close()
        server.kill()


@pytest.mark.parametrize("burst", [3, 100])
async def test_workers_that_do_not_know_of_each_other_yet_pass_no_more_than_the_burst(
    redis: RedisStore, burst: int
) -> None:
    two = [*workers(redis, 1), *workers(redis, 1)]
    asked = (limit(per_s=0.001, burst=burst),)
    assert sum([await passes(two[turn % 2], asked) for turn in range(3 * burst)]) == burst


async def test_the_one_worker_there_can_ever_be_asks_nobody(redis: RedisStore) -> None:
    alone = RateLimiter(SystemClock(), RedisCounters(redis), live=lambda: 2, alone=True)
    asked = (limit(per_s=0.001, burst=100),)
    before = await commands(redis)
    assert sum([await passes(alone, asked) for _ in range(150)]) == 100
    assert await commands(redis) - before <= 1


async def test_workers_that_start_without_redis_share_by_how_many_there_are_to_be(
    tmp_path: Path,
) -> None:
    asked = (limit(per_s=0.001, burst=100),)
    for _ in range(2):
        nobody = RedisCounters(open_redis(f"unix://{tmp_path}/nobody"))
        worker = RateLimiter(SystemClock(), nobody, live=lambda: 2)
        assert sum([await passes(worker, asked) for _ in range(150)]) == 50


async def test_a_route_limit_counts_each_route_for_itself(redis: RedisStore) -> None:
    two = workers(redis, 2)
    read, write = (
        (dataclasses.replace(limit(per_s=0.001), key=LimitKey.ROUTE, route_id=route),)
        for route in ("orders.read", "orders.write")
    )
    assert sum([await passes(two[turn % 2], read) for turn in range(150)]) == 100
    assert sum([await passes(two[turn % 2], write) for turn in range(150)]) == 100


async def test_the_unit_of_a_client_that_left_while_it_was_asked_for_is_not_lost(
    redis: RedisStore,
) -> None:
    asked = (limit(per_s=0.001, burst=20),)
    one, *_ = workers(redis, 2)
    leaving = asyncio.ensure_future(one.take(asked, CALL, caller("ada")))
    await asyncio.sleep(0)
    leaving.cancel()
    assert isinstance((await asyncio.gather(leaving, return_exceptions=True))[0], BaseException)
    assert sum([await passes(one, asked) for _ in range(40)]) == 20


async def test_the_unit_of_a_client_that_left_before_a_task_went_on_is_not_lost(
    redis: RedisStore,
) -> None:
    asked = (limit(per_s=0.001, burst=20),)
    one, *_ = workers(redis, 2)
    begun = one.take(asked, CALL, caller("ada"))
    begun.send(None)
    begun.close()
    assert sum([await passes(one, asked) for _ in range(40)]) == 20


class Slow:
    """A server that hangs until it is told to answer, or to fail; meets `protocols.Counters`."""

    def __init__(self, counters: RedisCounters) -> None:
        self._counters = counters
        self.go = asyncio.Event()
        self.answered = asyncio.Event()
        self.fails = False

    async def spend(
        self, groups: Sequence[Sequence[BucketRequest]], sharers: int
    ) -> list[list[BucketGrant] | float]:
        fails = self.fails
        await self.go.wait()
        if fails:
            raise StoreUnavailable("redis")
        answers = await self._counters.spend(groups, sharers)
        self.answered.set()
        return answers


def slowed(redis: RedisStore) -> tuple[RateLimiter, Slow]:
    """One of two workers, and what it asks."""
    slow = Slow(RedisCounters(redis))
    worker = RateLimiter(SystemClock(), slow)
    worker.workers = 2
    return worker, slow


async def test_a_call_does_not_wait_for_a_server_that_hangs(
    redis: RedisStore, patience: Patience
) -> None:
    patience(AS_IN_SERVICE_S)
    worker, _ = slowed(redis)
    asked = (limit(per_s=0.001, burst=100),)
    async with asyncio.timeout(10):
        first = await asyncio.gather(*(passes(worker, asked) for _ in range(60)))
        assert sum(first) == 50
        assert worker.unavailable
        assert not await passes(worker, asked)


async def test_what_comes_too_late_for_its_caller_is_kept_for_the_next(
    redis: RedisStore, patience: Patience
) -> None:
    worker, slow = slowed(redis)
    asked = (limit(per_s=0.001, burst=100, scope=Scope.SHARED),)
    patience(AS_IN_SERVICE_S)
    assert await passes(worker, asked)
    patience(30.0)
    slow.go.set()
    async with asyncio.timeout(10):
        await slow.answered.wait()
    await worker.sync()
    await worker.sync()
    answer = await RedisCounters(redis).spend([[BucketRequest("calls:ada", 1000.0, 100, 0, 0)]], 1)
    assert isinstance(answer[0], list)
    # One unit of the share, told afterwards, and one that this worker now holds.
    assert answer[0][0].left == 98
    assert sum([await passes(worker, asked) for _ in range(150)]) == 99


async def answered_late(worker: RateLimiter, slow: Slow) -> None:
    """Until the answer is there that nobody waits for any more."""
    slow.go.set()
    async with asyncio.timeout(10):
        while worker.unavailable:
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # whoever is told of it has been


async def test_what_is_granted_too_late_pays_for_what_was_spent_of_the_share(
    redis: RedisStore, patience: Patience
) -> None:
    patience(AS_IN_SERVICE_S)
    worker, slow = slowed(redis)
    asked = (limit(per_s=0.001, burst=10, scope=Scope.SHARED),)
    assert sum(await asyncio.gather(*(passes(worker, asked) for _ in range(8)))) == 5
    await answered_late(worker, slow)  # for all eight
    patience(30.0)
    assert sum([await passes(worker, asked) for _ in range(20)]) == 5


async def test_who_is_refused_too_late_gets_no_more_of_the_share(
    redis: RedisStore, patience: Patience
) -> None:
    worker, slow = slowed(redis)
    asked = (limit(per_s=0.001, burst=10, scope=Scope.SHARED),)
    other, _ = workers(redis, 2)
    assert sum([await passes(other, asked) for _ in range(10)]) == 10
    patience(AS_IN_SERVICE_S)
    assert await passes(worker, asked)
    await answered_late(worker, slow)
    slow.go.clear()
    assert not any([await passes(worker, asked) for _ in range(3)])


async def test_what_was_owed_to_a_server_that_hung_and_then_failed_is_owed_still(
    redis: RedisStore, patience: Patience
) -> None:
    patience(AS_IN_SERVICE_S)
    worker, slow = slowed(redis)
    asked = (limit(per_s=0.001, burst=100, scope=Scope.SHARED),)
    assert sum([await passes(worker, asked) for _ in range(3)]) == 3  # of the share
    slow.go.set()
    async with asyncio.timeout(10):
        while worker.unavailable:  # until the first answer is there after all, and grants a unit
            await asyncio.sleep(0)
    slow.go.clear()
    slow.fails = True
    assert sum([await passes(worker, asked) for _ in range(2)]) == 2
    slow.fails = False
    slow.go.set()
    await worker.sync()
    await worker.sync()
    answer = await RedisCounters(redis).spend([[BucketRequest("calls:ada", 1000.0, 100, 0, 0)]], 1)
    assert isinstance(answer[0], list)
    assert answer[0][0].left == 95


async def test_who_has_spent_the_limit_gets_no_share_when_redis_goes_away(
    server: ValkeyServer, redis: RedisStore
) -> None:
    asked = (limit(per_s=0.001, burst=100),)
    async with proxied(server.port) as proxy:
        store = open_redis(f"redis://127.0.0.1:{proxy.port}")
        two = workers(store, 2)
        assert sum([await passes(two[n % 2], asked) for n in range(150)]) == 100
        await proxy.set(Fault.REFUSE)
        for worker in two:
            assert await passes(worker, asked, "bob")
            assert worker.unavailable
            assert not await passes(worker, asked)
        await store.close()


@pytest.mark.parametrize("fault", [Fault.GARBLE, Fault.CUT, Fault.HANG, Fault.RESET])
async def test_whatever_comes_back_a_call_is_judged_and_the_limit_holds(
    server: ValkeyServer, redis: RedisStore, patience: Patience, fault: Fault
) -> None:
    patience(AS_IN_SERVICE_S)
    asked = (limit(per_s=0.001, burst=100),)
    async with proxied(server.port) as proxy:
        store = open_redis(f"redis://127.0.0.1:{proxy.port}")
        (worker,) = workers(store, 2)[:1]
        await proxy.set(fault)
        async with asyncio.timeout(20):
            passed = [await passes(worker, asked) for _ in range(60)]
            assert sum(passed) == 50
            await proxy.set(Fault.NONE)
            while worker.unavailable:
                await worker.sync()
        await store.close()
