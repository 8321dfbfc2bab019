"""Who waits for a slot is sent to no target that gets no calls now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from gateway.access.definitions import Breaker, Health, Upstream
from gateway.edge.upstream.clusters import Cluster, Clusters, TargetPool
from gateway.edge.upstream.outcome import Outcome
from gateway.edge.upstream.protocols import ResponseReceiver
from gateway.edge.upstream.slot_shares import PATIENCE_S
from tests.edge.rig import HUNG_S, OK, Exchange, running, target
from tests.ports import free_port

BOTH_LOOPS = True

HEALTH = Health("/", every_s=600.0, fall=1, rise=1, timeout_s=1.0)
HERE, THERE = "192.0.2.1", "198.51.100.1"


@asynccontextmanager
async def full(**changes: Any) -> AsyncIterator[Cluster]:
    """Two targets with one slot each, both taken."""
    clusters = Clusters()
    options: dict[str, Any] = {"max_connections": 1, "queue": 8, "timeout_connect_s": HUNG_S}
    spec = Upstream("u", (target(20_000), target(20_001)), **(options | changes))
    try:
        cluster = clusters.cluster_of(spec)
        for each in cluster.targets:
            each.acquire(HERE)
        yield cluster
    finally:
        clusters.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not true():
            await asyncio.sleep(0.01)


async def waiting(cluster: Cluster, *ips: str) -> list[asyncio.Task[TargetPool | None]]:
    tasks = []
    for ip in ips:
        count = len(cluster.waiters)
        tasks.append(asyncio.create_task(cluster.acquire_slot(ip)))
        await until(lambda count=count: len(cluster.waiters) > count)  # type: ignore[misc]
    return tasks


def probed(pool: TargetPool, good: bool) -> None:
    assert pool.health is not None
    pool.health.record_probe(good)


async def test_a_target_that_probes_took_out_hands_its_slot_to_nobody() -> None:
    async with full(health=HEALTH) as cluster:
        out, good = cluster.targets
        first, second = await waiting(cluster, HERE, THERE)
        probed(out, False)
        out.release(HERE)
        assert (out.in_flight, len(cluster.waiters)) == (0, 2)
        good.release(HERE)
        assert await first is good
        good.release(HERE)
        assert await second is good


async def test_who_waits_is_looked_at_again_once_a_target_is_back() -> None:
    async with full(health=HEALTH) as cluster:
        out, _ = cluster.targets
        tasks = await waiting(cluster, HERE)
        probed(out, False)
        out.release(HERE)
        assert len(cluster.waiters) == 1
        probed(out, True)
        async with asyncio.timeout(HUNG_S):
            assert await tasks[0] is out
        assert out.in_flight == 1


async def test_where_probes_call_all_targets_bad_who_waits_is_sent_to_any() -> None:
    async with full(health=HEALTH) as cluster:
        tasks = await waiting(cluster, HERE)
        for each in cluster.targets:
            probed(each, False)
        cluster.targets[0].release(HERE)
        assert await tasks[0] is cluster.targets[0]


async def test_who_waits_for_a_target_that_stays_away_is_told_so_in_time() -> None:
    async with full(health=HEALTH, timeout_connect_s=0.2) as cluster:
        tasks = await waiting(cluster, HERE)
        probed(cluster.targets[0], False)
        cluster.targets[0].release(HERE)
        assert await tasks[0] is None


async def test_a_target_whose_breaker_is_open_hands_its_slot_to_nobody_it_keeps_away() -> None:
    async with full(breaker=Breaker(1, 10.0, 60.0)) as cluster:
        out, good = cluster.targets
        (task,) = await waiting(cluster, HERE)
        out.record_end(Outcome.UNREACHED, HERE)
        out.release(HERE)
        assert (out.in_flight, len(cluster.waiters)) == (0, 1)
        good.release(HERE)
        assert await task is good


async def test_a_target_that_keeps_one_client_away_has_its_slots_for_all_others() -> None:
    async with full(breaker=Breaker(1, 10.0, 60.0)) as cluster:
        out, good = cluster.targets
        out.record_end(Outcome.BROKEN, THERE)
        one, other = await waiting(cluster, THERE, HERE)
        out.release(HERE)
        assert await other is out
        good.release(HERE)
        assert await one is good


async def test_a_call_from_the_queue_is_the_one_trial_of_its_neighbourhood() -> None:
    async with full(breaker=Breaker(1, 10.0, 0.05)) as cluster:
        out, good = cluster.targets
        first, second = await waiting(cluster, HERE, HERE)
        out.record_end(Outcome.UNREACHED, HERE)
        out.release(HERE)
        async with asyncio.timeout(HUNG_S):
            assert await first is out
        out.release(HERE)
        assert len(cluster.waiters) == 1
        good.release(HERE)
        assert await second is good


async def test_who_leaves_as_it_is_to_try_a_target_lets_the_next_one_try() -> None:
    async with full(breaker=Breaker(1, 10.0, 0.05)) as cluster:
        out, _ = cluster.targets
        first, second = await waiting(cluster, HERE, HERE)
        out.record_end(Outcome.UNREACHED, HERE)
        out.release(HERE)
        async with asyncio.timeout(HUNG_S):
            while not out.in_flight:
                await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        async with asyncio.timeout(HUNG_S):
            assert await second is out


async def test_no_slow_call_is_ended_at_a_target_that_gets_no_calls() -> None:
    """Whoever wants a slot could not be sent there."""

    async def by_method(exchange: Exchange) -> None:
        await exchange.body()
        exchange.send(OK)

    async with running(by_method) as rig:
        rig.spec(max_connections=2, queue=8, timeout_connect_s=0.5, breaker=Breaker(1, 10.0, 60.0))
        rig.spec(targets=(target(rig.upstream.port), target(free_port())))
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        out, other = cluster.targets
        for _ in range(2):
            other.acquire(HERE)
        slow = [await rig.client("127.9.9.9") for _ in range(2)]
        for client in slow:
            await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        await until(lambda: out.in_flight == 2)
        out.record_end(Outcome.UNREACHED, HERE)
        await until(lambda: all(_waited_long(each.receiver) for each in out.connections))
        answer = await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == 503
        for client in slow:
            await client.send(b"x")
            assert (await client.answer()).status == 200


def _waited_long(receiver: ResponseReceiver | None) -> bool:
    return receiver is not None and receiver.client_waited_s(monotonic()) > PATIENCE_S
