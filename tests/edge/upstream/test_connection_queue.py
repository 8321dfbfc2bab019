"""Who waits for a connection to a target, and what comes of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import cast

import pytest

from gateway.access.definitions import Upstream
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.connection_queue import (
    CONNECTS_AT_ONCE,
    FEWEST_AT_ONCE,
    ConnectionQueue,
)
from tests.edge.rig import running

SPEC = Upstream("app", (), timeout_connect_s=0.2)
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


class Connection:
    """In the place of one: the queue only hands it on."""


class Bench:
    def __init__(self) -> None:
        self.scarce = False
        self.put_back: list[UpstreamConnection] = []
        loop = asyncio.get_running_loop()
        self.queue = ConnectionQueue(loop, lambda: self.scarce, self.put_back.append)

    def full(self) -> ConnectionQueue:
        for _ in range(CONNECTS_AT_ONCE):
            assert self.queue.begin()
        assert not self.queue.begin()
        return self.queue

    async def waiting(
        self, *, repeatable: bool = True, spec: Upstream = SPEC
    ) -> asyncio.Task[UpstreamConnection | None]:
        task = asyncio.create_task(self.queue.wait(spec, repeatable=repeatable))
        await asyncio.sleep(0)
        return task


def begun(queue: ConnectionQueue) -> int:
    """How many more may be made at once: they are."""
    count = 0
    while queue.begin():
        count += 1
    return count


def connection() -> UpstreamConnection:
    return cast(UpstreamConnection, Connection())


async def test_whoever_waits_longest_gets_what_falls_free() -> None:
    bench = Bench()
    queue = bench.full()
    first, second = await bench.waiting(), await bench.waiting()
    freed = connection()
    assert queue.hand_over(freed, keeps_idle=False)
    assert await first is freed
    assert not second.done()
    queue.end(connected=True)
    assert await second is None


async def test_what_is_sent_once_waits_for_a_connection_of_its_own() -> None:
    bench = Bench()
    queue = bench.full()
    post = await bench.waiting(repeatable=False)
    assert not queue.hand_over(connection(), keeps_idle=False)
    kept = connection()
    assert queue.hand_over(kept, keeps_idle=True)
    assert await post is kept


async def test_what_a_call_was_handed_that_had_left_goes_to_the_next() -> None:
    bench = Bench()
    queue = bench.full()
    leaving, next_one = await bench.waiting(), await bench.waiting()
    freed = connection()
    queue.hand_over(freed, keeps_idle=True)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert bench.put_back == [freed]
    last = await bench.waiting()
    queue.end(connected=False)
    next_one.cancel()
    assert await last is None


async def test_where_connections_come_late_fewer_are_made_at_once_until_they_come() -> None:
    bench = Bench()
    queue = bench.full()
    for _ in range(CONNECTS_AT_ONCE):
        queue.end(connected=False, late=True)
    assert begun(queue) == FEWEST_AT_ONCE
    for _ in range(FEWEST_AT_ONCE):
        queue.end(connected=True)
    assert begun(queue) == FEWEST_AT_ONCE
    for _ in range(CONNECTS_AT_ONCE**2 // 2):
        queue.end(connected=True)
        begun(queue)
    assert queue.connecting == CONNECTS_AT_ONCE


async def test_nobody_has_a_turn_while_descriptors_are_scarce() -> None:
    bench = Bench()
    bench.scarce = True
    assert not bench.queue.begin()
    call = await bench.waiting()
    bench.queue.give_turns()
    assert not call.done()
    bench.scarce = False
    bench.queue.give_turns()
    assert await call is None


async def test_who_waits_gives_up_once_nothing_comes_to_anybody() -> None:
    bench = Bench()
    bench.full()
    began_at = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await bench.queue.wait(SPEC, repeatable=True)
    assert asyncio.get_running_loop().time() - began_at >= 0.19
    assert not bench.queue.waiting


async def test_who_waits_does_not_give_up_while_others_are_served() -> None:
    bench = Bench()
    queue = bench.full()
    others = [await bench.waiting() for _ in range(10)]
    last = await bench.waiting()
    for other in others:
        await asyncio.sleep(0.1)
        assert queue.hand_over(connection(), keeps_idle=True)
        await other
    freed = connection()
    queue.hand_over(freed, keeps_idle=True)
    assert await last is freed


async def test_nobody_waits_longer_than_for_an_answer() -> None:
    bench = Bench()
    queue = bench.full()
    spec = replace(SPEC, timeout_connect_s=0.05, timeout_response_s=0.2)
    others = [await bench.waiting() for _ in range(40)]
    last = await bench.waiting(spec=spec)
    for other in others:
        if last.done():
            break
        await asyncio.sleep(0.02)
        queue.hand_over(connection(), keeps_idle=True)
        await other
    with pytest.raises(TimeoutError):
        await last
    for other in others:
        other.cancel()


async def test_a_burst_of_calls_is_answered_over_fewer_connections() -> None:
    async with running() as rig:
        rig.spec(timeout_connect_s=30.0)
        clients = [await rig.client() for _ in range(CONNECTS_AT_ONCE * 4)]
        for client in clients:
            await client.send(GET)
        answers = await asyncio.gather(*(client.answer() for client in clients))
        assert {answer.status for answer in answers} == {200}
        assert rig.upstream.connections < len(clients)


async def test_a_worker_that_stood_still_does_not_take_its_target_for_dead() -> None:
    """Ten thousand calls that come at once keep its loop busy for longer than connecting may
    take: the kernel has connected meanwhile."""
    async with running() as rig:
        rig.spec(timeout_connect_s=0.2)
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        connecting = asyncio.create_task(cluster.targets[0].connect())
        await asyncio.sleep(0)
        time.sleep(0.5)
        assert (await connecting).ready


async def test_who_waited_while_the_worker_stood_still_waits_on() -> None:
    bench = Bench()
    queue = bench.full()
    call = await bench.waiting()
    time.sleep(0.5)
    await asyncio.sleep(0.05)
    freed = connection()
    assert queue.hand_over(freed, keeps_idle=True)
    assert await call is freed
