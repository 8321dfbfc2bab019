"""Whose turn it is, who may wait, and who is left out."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from gateway.access.definitions import Balance, Breaker, Health, Retry, Upstream
from gateway.edge.upstream.clusters import Clusters
from gateway.edge.upstream.outcome import Outcome
from tests.edge.rig import (
    HUNG_S,
    OK,
    Answer,
    Exchange,
    RawUpstream,
    Rig,
    answering,
    running,
    target,
)
from tests.ports import free_port

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
HEALTH = Health("/healthz", every_s=0.25, fall=2, rise=2, timeout_s=0.5)


def reason(answer: Answer) -> str:
    return str(json.loads(answer.body)["reason"])


async def until(true: object) -> None:
    assert callable(true)
    async with asyncio.timeout(HUNG_S):
        while not true():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def spec_of(count: int, **changes: object) -> AsyncIterator[tuple[Clusters, Upstream]]:
    clusters = Clusters(random=Random(7))
    spec = Upstream("u", tuple(target(20_000 + n) for n in range(count)), **changes)  # type: ignore[arg-type]
    try:
        yield clusters, spec
    finally:
        clusters.close()


# --- balance ---


async def test_two_choices_keep_ten_targets_nearly_even() -> None:
    async with spec_of(10, balance=Balance.LEAST_REQUESTS) as (clusters, spec):
        cluster = clusters.cluster_of(spec)
        for _ in range(1_000):
            chosen = cluster.choose("127.0.0.1")
            assert chosen is not None
            chosen.acquire("127.0.0.1")
        busy = [each.in_flight for each in cluster.targets]
        assert sum(busy) == 1_000
        assert max(busy) - min(busy) <= 6


async def test_a_target_that_was_tried_is_left_out_while_there_is_another() -> None:
    async with spec_of(2, balance=Balance.LEAST_REQUESTS) as (clusters, spec):
        cluster = clusters.cluster_of(spec)
        first, second = cluster.targets
        assert {cluster.choose("127.0.0.1", [first]) for _ in range(20)} == {second}
        assert cluster.choose("127.0.0.1", [first, second]) in (first, second)


async def test_a_target_whose_breaker_is_open_is_tried_early_only_where_there_is_no_other() -> None:
    async with spec_of(2, breaker=Breaker(1, 10.0, 60.0)) as (clusters, spec):
        cluster = clusters.cluster_of(spec)
        first, second = cluster.targets
        first.record_end(Outcome.BROKEN, "127.0.0.1")
        assert {cluster.choose("127.9.9.9") for _ in range(4)} == {second}
        second.record_end(Outcome.BROKEN, "127.0.0.1")
        assert {cluster.choose("127.9.9.9") for _ in range(4)} == {first, second}
        assert cluster.choose("127.0.0.1") is None


async def test_of_targets_that_are_tried_early_those_that_are_healthy_come_first() -> None:
    health = Health("/", every_s=60.0, fall=1, rise=1, timeout_s=1.0)
    breaker = Breaker(2, 10.0, 60.0)
    async with spec_of(2, breaker=breaker, health=health) as (clusters, spec):
        cluster = clusters.cluster_of(spec)
        first, second = cluster.targets
        first.record_end(Outcome.UNREACHED, "127.0.0.1")
        for _ in range(2):
            second.record_end(Outcome.BROKEN, "127.0.0.1")
        assert {cluster.choose("127.9.9.9") for _ in range(4)} == {second}
        assert {cluster.choose("127.0.0.1") for _ in range(4)} == {first}


# --- places ---


@asynccontextmanager
async def narrow(queue: int) -> AsyncIterator[tuple[Rig, asyncio.Semaphore]]:
    """One connection, and so many that may wait for it; answers come when they are released."""
    go = asyncio.Semaphore(0)

    async def script(exchange: Exchange) -> None:
        await go.acquire()
        exchange.send(OK)

    async with running(script) as rig:
        rig.spec(max_connections=1, queue=queue, timeout_connect_s=5.0)
        yield rig, go


async def test_past_its_connections_an_upstream_is_busy() -> None:
    async with narrow(queue=0) as (rig, go):
        first = asyncio.create_task(rig.ask(GET))
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        answer = await rig.ask(GET)
        assert (answer.status, reason(answer)) == (503, "upstream_busy")
        assert answer.values("retry-after")
        go.release()
        assert (await first).status == 200
        go.release()
        assert (await rig.ask(GET)).status == 200
        assert rig.upstream.connections == 1


async def test_who_waits_is_served_in_turn_on_the_one_connection() -> None:
    async with narrow(queue=2) as (rig, go):
        calls = [asyncio.create_task(rig.ask(GET))]
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        calls += [asyncio.create_task(rig.ask(GET)) for _ in range(2)]
        await until(lambda: len(cluster.waiters) == 2)
        assert (await rig.ask(GET)).status == 503
        for _ in range(3):
            go.release()
        assert [(await call).status for call in calls] == [200, 200, 200]
        assert rig.upstream.connections == 1
        assert cluster.targets[0].in_flight == 0


async def test_who_waits_too_long_is_told_so_and_leaves_the_queue() -> None:
    async with narrow(queue=1) as (rig, go):
        rig.spec(timeout_connect_s=0.1)
        first = asyncio.create_task(rig.ask(GET))
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        assert reason(await rig.ask(GET)) == "upstream_busy"
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        assert not cluster.waiters
        go.release()
        assert (await first).status == 200


async def test_a_client_that_leaves_the_queue_takes_no_place_with_it() -> None:
    async with narrow(queue=1) as (rig, go):
        first = asyncio.create_task(rig.ask(GET))
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        leaver = await rig.client()
        await leaver.send(GET)
        await until(lambda: len(cluster.waiters) == 1)
        leaver.close()
        await until(lambda: not cluster.waiters)
        go.release()
        assert (await first).status == 200
        assert cluster.targets[0].in_flight == 0


async def test_a_place_given_to_who_leaves_in_the_same_moment_is_given_back() -> None:
    async with spec_of(1, max_connections=1, queue=1) as (clusters, spec):
        cluster = clusters.cluster_of(spec)
        cluster.targets[0].acquire("127.0.0.1")
        waiting = asyncio.create_task(cluster.acquire_slot("192.0.2.1"))
        await until(lambda: len(cluster.waiters) == 1)
        cluster.targets[0].release("127.0.0.1")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert cluster.targets[0].in_flight == 0


async def test_a_slot_at_a_target_that_a_reload_removed_is_given_to_no_call_that_came_after_it() -> (
    None
):
    async with spec_of(2, max_connections=1, queue=2) as (clusters, spec):
        before = replace(spec, targets=spec.targets[:1])
        clusters.apply([before])
        former = clusters.cluster_of(before)
        removed = former.targets[0]
        removed.acquire("127.0.0.1")
        admitted_before = asyncio.create_task(former.acquire_slot("192.0.2.1"))
        await until(lambda: len(former.waiters) == 1)
        after = replace(spec, targets=spec.targets[1:])
        clusters.apply([after])
        current = clusters.cluster_of(after)
        current.targets[0].acquire("127.0.0.1")
        admitted_after = asyncio.create_task(current.acquire_slot("192.0.2.1"))
        await until(lambda: len(current.waiters) == 2)
        removed.release("127.0.0.1")
        assert await admitted_before is removed
        removed.release("127.0.0.1")
        assert removed.in_flight == 0
        current.targets[0].release("127.0.0.1")
        assert await admitted_after is current.targets[0]


async def test_who_waits_is_served_where_a_reload_takes_the_bound_away() -> None:
    async with spec_of(1, max_connections=1, queue=1, timeout_connect_s=30.0) as (clusters, spec):
        clusters.apply([spec])
        cluster = clusters.cluster_of(spec)
        cluster.targets[0].acquire("127.0.0.1")
        waiting = asyncio.create_task(cluster.acquire_slot("192.0.2.1"))
        await until(lambda: len(cluster.waiters) == 1)
        clusters.apply([replace(spec, max_connections=0)])
        cluster.targets[0].release("127.0.0.1")
        async with asyncio.timeout(HUNG_S):
            assert await waiting is cluster.targets[0]


# --- health ---


@asynccontextmanager
async def pair(**changes: object) -> AsyncIterator[tuple[Rig, RawUpstream]]:
    second = RawUpstream()
    await second.start()
    try:
        async with running() as rig:
            rig.spec(targets=(target(rig.upstream.port), target(second.port)), **changes)
            yield rig, second
    finally:
        await second.stop()


def lines(upstream: RawUpstream) -> Counter[bytes]:
    return Counter(received.line.split()[1] for received in upstream.requests)


async def test_a_target_whose_probes_fail_gets_no_calls_until_they_succeed_again() -> None:
    async with pair(health=HEALTH) as (rig, second):
        assert rig.gate.route.upstream is not None
        rig.clusters.apply([rig.gate.route.upstream])
        standing = rig.clusters.cluster_of(rig.gate.route.upstream).targets[1].health
        assert standing is not None
        second.script = answering(BAD, close=True)
        await until(lambda: not standing.healthy)
        before = lines(second)[b"/a"]
        for _ in range(6):
            assert (await rig.ask(GET)).status == 200
        assert lines(second)[b"/a"] == before
        second.script = answering(OK)
        await until(lambda: standing.healthy)
        for _ in range(4):
            await rig.ask(GET)
        assert lines(second)[b"/a"] > before


async def test_calls_that_fail_take_a_target_out_before_its_next_probe() -> None:
    slow = Health("/healthz", every_s=60.0, fall=2)
    async with running() as rig:
        rig.spec(
            targets=(target(rig.upstream.port), target(free_port())),
            health=slow,
            retry=Retry(attempts=2, connect=True),
        )
        assert [(await rig.ask(GET)).status for _ in range(8)] == [200] * 8
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        assert [t.health is not None and t.health.healthy for t in cluster.targets] == [
            True,
            False,
        ]


async def test_calls_that_are_answered_do_not_speak_for_a_target_whose_probes_fail() -> None:
    """Its health path says no: it is being taken out of service, and answers until then."""
    async with pair(health=HEALTH) as (rig, second):
        assert rig.gate.route.upstream is not None
        rig.clusters.apply([rig.gate.route.upstream])
        standing = rig.clusters.cluster_of(rig.gate.route.upstream).targets[1].health
        assert standing is not None

        async def leaving(exchange: Exchange) -> None:
            probed = b"/healthz" in exchange.received.line
            exchange.send(BAD if probed else OK)

        second.script = leaving
        client = await rig.client()
        async with asyncio.timeout(HUNG_S):
            while standing.healthy:
                await client.send(GET)
                assert (await client.answer()).status == 200


async def test_ten_calls_at_once_are_shared_by_two_targets_without_a_connection() -> None:
    go_on = asyncio.Event()

    async def waiting(exchange: Exchange) -> None:
        await go_on.wait()
        exchange.send(OK)

    async with pair(balance=Balance.LEAST_REQUESTS) as (rig, second):
        rig.upstream.script = second.script = waiting
        clients = [await rig.client() for _ in range(10)]
        await asyncio.gather(*(client.send(GET) for client in clients))
        both = (rig.upstream, second)
        await rig.upstream.until(lambda: sum(len(one.requests) for one in both) == 10)
        assert [len(one.requests) for one in both] == [5, 5]
        go_on.set()
        assert [(await client.answer()).status for client in clients] == [200] * 10


async def test_where_every_target_is_called_bad_the_calls_go_out_all_the_same() -> None:
    async with running() as rig:
        rig.spec(health=Health("/healthz", every_s=60.0, fall=1))
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        assert cluster.targets[0].health is not None
        cluster.targets[0].health.record_probe(False)
        assert (await rig.ask(GET)).status == 200


async def test_a_probe_goes_on_a_connection_of_its_own_and_names_the_host() -> None:
    async with running() as rig:
        rig.spec(health=HEALTH, host="orders.internal")
        rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        await rig.upstream.until(lambda: len(rig.upstream.requests) >= 1)
        first = rig.upstream.requests[0]
        assert first.line == b"GET /healthz HTTP/1.1"
        assert first.values("host") == [b"orders.internal"]


async def test_an_upstream_that_a_reload_removed_is_probed_no_more() -> None:
    async with running() as rig:
        rig.spec(health=HEALTH)
        rig.clusters.apply([rig.gate.route.upstream])  # type: ignore[list-item]
        await rig.upstream.until(lambda: len(rig.upstream.requests) >= 1)
        rig.clusters.apply([])
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        before = len(rig.upstream.requests)
        await asyncio.sleep(0.6)  # two probes' time
        assert len(rig.upstream.requests) == before
