"""Redis away, in every way: an outage in time, cheap for who does not wait, and healed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.model import Change, ChangeKind, Reason
from gateway.stores.attempts import RedisAttempts
from gateway.stores.connection_slots import WAITING_MAX, ConnectionSlots
from gateway.stores.counters import RedisCounters
from gateway.stores.health import redis_findings
from gateway.stores.nonces import RedisNonceStore
from gateway.stores.protocols import Attempt, BucketRequest, StoreBusy, StoreUnavailable
from gateway.stores.redis import (
    CONNECTIONS,
    URGENT_CONNECTIONS,
    RedisStore,
    Script,
    open_redis,
)
from gateway.stores.stream import RedisChangeStream
from tests.faults import EVERY, Fault, FaultProxy, proxied
from tests.own_time import own_time
from tests.servers import SentinelServer, ValkeyServer, wait_until
from tests.stores.failed_calls import is_let_go

TIMEOUT_S = 1.3


@pytest.fixture
async def proxy(own_valkey: Callable[..., ValkeyServer]) -> AsyncIterator[FaultProxy]:
    async with proxied(own_valkey().port) as proxy:
        yield proxy


@pytest.fixture
async def redis(proxy: FaultProxy) -> AsyncIterator[RedisStore]:
    store = open_redis(f"redis://127.0.0.1:{proxy.port}")
    yield store
    await store.close()


async def fails_in_time(redis: RedisStore) -> None:
    async with own_time() as passed:
        with pytest.raises(StoreUnavailable):
            await redis.call("SET", "a", "1")
    assert passed.seconds < TIMEOUT_S


def patient(redis: RedisStore) -> None:
    """Its callers wait for as long as a busy machine takes."""
    redis._slots = ConnectionSlots("redis", CONNECTIONS, wait_s=60)
    redis._urgent_slots = ConnectionSlots("redis", URGENT_CONNECTIONS, wait_s=60)
    redis._timeout_s = 60
    for name in ("socket_timeout", "socket_connect_timeout"):
        redis.client.connection_pool.connection_kwargs[name] = 60


async def heals(redis: RedisStore) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await redis.call("SET", "a", "1")
                return
            except StoreUnavailable:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.RESET, Fault.HANG, Fault.CUT])
async def test_what_a_failed_call_held_is_let_go_with_it(
    proxy: FaultProxy, redis: RedisStore, fault: Fault
) -> None:
    await heals(redis)
    await proxy.set(fault)
    for _ in range(2):  # the connection that is there, and one that is to be made
        assert await is_let_go(lambda: redis.call("SET", "a", "1"))


@pytest.mark.parametrize("fault", [f for f in EVERY if f is not Fault.DELAY])
async def test_each_fault_is_an_outage_in_time_and_heals(
    proxy: FaultProxy, redis: RedisStore, fault: Fault
) -> None:
    await redis.call("SET", "a", "1")
    await proxy.set(fault)
    await fails_in_time(redis)
    assert redis.is_unavailable
    await proxy.set(Fault.NONE)
    await heals(redis)
    assert not redis.is_unavailable


async def test_while_it_is_away_only_one_caller_at_a_time_waits(
    proxy: FaultProxy, redis: RedisStore
) -> None:
    await redis.call("SET", "a", "1")
    await proxy.set(Fault.HANG)
    await fails_in_time(redis)
    await asyncio.sleep(0.1)
    looking = asyncio.create_task(fails_in_time(redis))
    await asyncio.sleep(0)
    async with own_time() as passed:
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                await redis.call("GET", "a")
    assert passed.seconds < 0.2
    await looking


async def test_an_answer_never_goes_to_another_caller_than_the_one_who_asked(
    proxy: FaultProxy, redis: RedisStore
) -> None:
    """Cancelled calls leave their answers under way; no later caller may read one."""
    await proxy.set(Fault.DELAY)
    proxy.delay_s = 0.01

    async def echo(text: str) -> None:
        assert await redis.call("ECHO", text) == text

    for turn in range(30):
        cancelled = asyncio.create_task(redis.call("ECHO", f"cancelled{turn}"))
        await asyncio.sleep(0.001 * (turn % 15))
        cancelled.cancel()
        await asyncio.gather(*(echo(f"{turn}.{i}") for i in range(3)))
        await asyncio.wait([cancelled])


async def test_more_callers_than_connections_are_all_served(redis: RedisStore) -> None:
    patient(redis)
    answers = await asyncio.gather(*(redis.call("ECHO", str(i)) for i in range(200)))
    assert answers == [str(i) for i in range(200)]


@pytest.mark.parametrize("turn", range(6))
async def test_connections_that_were_reset_while_they_rested_are_not_noticed(
    proxy: FaultProxy, redis: RedisStore, turn: int
) -> None:
    """uvloop refuses to write to each with a RuntimeError of its own."""
    patient(redis)
    counters, once = RedisCounters(redis), RedisNonceStore(redis)
    for number in range(4):
        await asyncio.gather(*(redis.call("PING") for _ in range(CONNECTIONS)))
        proxy.begin_reset()
        for _ in range(turn * turn):  # the loop hears of it before, while or after we ask
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as together:
            for n in range(30):
                together.create_task(redis.call("PING"))
                together.create_task(counters.spend([[BucketRequest("k", 0.001, 10)]], 1))
                together.create_task(once.claim(f"{turn}.{number}.{n}", 60))
                together.create_task(RedisChangeStream(redis).view())
    assert not redis.is_unavailable


async def test_a_limit_is_answered_though_its_connection_is_reset_meanwhile(
    proxy: FaultProxy, redis: RedisStore
) -> None:
    """What was written to it may have been charged: it is charged once more at most."""
    counters, request = RedisCounters(redis), BucketRequest("k", 60, 100)
    asked = 20
    for _ in range(asked):
        await redis.call("PING")
        proxy.begin_reset()
        await counters.spend([[request]], 1)
    (grants,) = await counters.spend([[request]], 1)
    assert isinstance(grants, list)
    (last,) = grants
    assert 100 - 2 * asked - 1 <= last.left <= 100 - asked - 1


@pytest.mark.parametrize("fault", [f for f in EVERY if f is not Fault.DELAY])
async def test_whatever_is_asked_during_a_fault_no_other_exception_comes_out(
    proxy: FaultProxy, redis: RedisStore, fault: Fault
) -> None:
    stream, attempts = RedisChangeStream(redis), RedisAttempts(redis)
    counters, once = RedisCounters(redis), RedisNonceStore(redis)
    attempt = Attempt("a", 5, 900)
    change = Change("id", ChangeKind.SESSION, "s", 5, Reason.TOKEN_REVOKED, 7)
    questions: list[Callable[[], Awaitable[object]]] = [
        lambda: redis.call("GET", "a"),
        lambda: redis.call("INFO"),
        lambda: redis.call("CONFIG", "GET", "maxmemory-policy"),
        lambda: attempts.reserve([attempt], "x"),
        lambda: attempts.settle([attempt], "x", failed=True),
        lambda: attempts.give_back([attempt], "x"),
        lambda: attempts.clear(["a"]),
        lambda: counters.spend([[BucketRequest("k", 1.0, 10, 1, 5)]], 1),
        lambda: once.claim("k", 60),
        lambda: stream.register("w"),
        lambda: stream.renew("w", 1, 0, 0),
        lambda: stream.append([change]),
        lambda: stream.view(),
        lambda: stream.read_new(0, 0.05),
        lambda: stream.trim(60),
        lambda: redis_findings(redis),
    ]
    for ask in questions:
        await ask()
    await proxy.set(fault)
    for _ in range(2):
        answers = await asyncio.gather(*(ask() for ask in questions), return_exceptions=True)
        strange = [a for a in answers if isinstance(a, BaseException)]
        assert [a for a in strange if not isinstance(a, StoreUnavailable)] == []


async def test_who_finds_no_place_in_our_own_queue_is_told_so_and_redis_is_not_away(
    proxy: FaultProxy, redis: RedisStore
) -> None:
    await redis.call("PING")
    await proxy.set(Fault.DELAY)
    answers = await asyncio.gather(
        *(redis.call("PING") for _ in range(CONNECTIONS + WAITING_MAX + 10)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, StoreBusy) for answer in answers) >= 10
    assert not [a for a in answers if isinstance(a, BaseException) and not isinstance(a, StoreBusy)]
    assert not redis.is_unavailable


async def test_the_lease_does_not_stand_in_the_queue_of_the_callers(
    proxy: FaultProxy, redis: RedisStore
) -> None:
    patient(redis)
    stream = RedisChangeStream(redis)
    await stream.register("w")
    await proxy.set(Fault.DELAY)
    callers = [asyncio.ensure_future(redis.call("PING")) for _ in range(400)]
    await asyncio.sleep(0)
    assert await stream.renew("w", 1, 0, 0) is not None
    assert not all(caller.done() for caller in callers)
    await proxy.set(Fault.NONE)
    await asyncio.gather(*callers)


async def test_an_attempt_that_is_asked_for_twice_is_charged_once(redis: RedisStore) -> None:
    attempts, one = RedisAttempts(redis), [Attempt("a", 2, 900)]
    waits = [(await attempts.reserve(one, mark)).wait_s for mark in ("x", "x", "x", "y", "y", "z")]
    assert waits[:5] == [0.0] * 5
    assert waits[5] > 0


async def test_who_was_first_is_first_still_when_the_call_is_tried_again(
    redis: RedisStore,
) -> None:
    script = Script.shipped("once")
    assert [await redis.script(script, ["once:a"], [mark, 60]) for mark in "xxy"] == [1, 1, 0]


async def test_an_answer_of_another_kind_is_an_outage(redis: RedisStore) -> None:
    await redis.call("SET", f"{redis.prefix}state", "not a hash")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await RedisChangeStream(redis).view()


async def test_a_demoted_server_is_left_for_its_successor(
    own_valkey: Callable[..., ValkeyServer],
) -> None:
    server = own_valkey()
    redis = open_redis(server.url)
    await redis.call("SET", "a", "1")
    server.ask(b"REPLICAOF 127.0.0.1 1")
    with pytest.raises(StoreUnavailable, match="is a replica"):
        await redis.call("SET", "a", "2")
    server.ask(b"REPLICAOF NO ONE")
    await heals(redis)
    await redis.close()


async def test_sentinel_leads_to_the_new_master(
    own_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    master = own_valkey()
    replica = own_valkey(replicaof=f"127.0.0.1 {master.port}")
    sentinel = SentinelServer(tmp_path / "sentinel", master.port)
    try:
        sentinel.start()
        wait_until(lambda: sentinel.knows(replicas=1), 60, "Sentinel to see the replica")
        redis = open_redis(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
        await heals(redis)
        master.kill()
        await heals(redis)
        assert str(replica.port) in str(await redis.call("CONFIG", "GET", "port"))
        await redis.close()
    finally:
        sentinel.kill()


async def test_a_write_that_no_replica_has_does_not_count(
    own_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    master = own_valkey()
    sentinel = SentinelServer(tmp_path / "sentinel", master.port)
    try:
        sentinel.start()
        redis = open_redis(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
        with pytest.raises(StoreUnavailable, match="not by enough replicas"):
            await RedisChangeStream(redis).register("w")
        assert not redis.is_unavailable
        await redis.close()
    finally:
        sentinel.kill()


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis+sentinel://:geheim@h:1",
        "redis+sentinel:///service",
        "redis://:geheim@h:port",
    ],
)
def test_a_url_that_names_no_server_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL") as raised:
        open_redis(url)
    assert "geheim" not in str(raised.value)
