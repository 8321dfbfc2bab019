"""Who lets its call wait, for a body or for a reader, keeps no slot from others.

What an attacker could do otherwise: hold every slot of an upstream for hours, by bodies that drip
just fast enough or answers that are hardly read, while all others are told that it is busy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from gateway.edge.proxy import request_body
from gateway.edge.upstream.clusters import TargetPool
from gateway.edge.upstream.slot_shares import PATIENCE_S
from tests.edge.rig import HUNG_S, OK, Answer, Client, Exchange, Rig, endless, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
UNREAD = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"
SIZE = 1_000_000
UPLOAD = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE
ATTACKER, ANOTHER = "127.9.9.9", "127.8.8.8"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"


async def by_path(exchange: Exchange) -> None:
    if b"/endless" in exchange.received.line:
        await endless(exchange)
    await exchange.body()
    exchange.send(OK)


@asynccontextmanager
async def narrow(slots: int, **changes: Any) -> AsyncIterator[Rig]:
    async with running(by_path) as rig:
        options = {"max_connections": slots, "queue": 8, "timeout_connect_s": HUNG_S}
        rig.spec(**(options | changes))
        yield rig


def pool(rig: Rig) -> TargetPool:
    return rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not true():
            await asyncio.sleep(0.01)


async def open_from(rig: Rig, ip: str, data: bytes) -> Client:
    client = Client(*await asyncio.open_connection("127.0.0.1", rig.port, local_addr=(ip, 0)))
    rig.clients.append(client)
    await client.send(data)
    return client


async def come_from(rig: Rig, ip: str, count: int, data: bytes) -> list[Client]:
    """So many calls from this address, each sent once the one before holds its slot."""
    clients = []
    for _ in range(count):
        held = pool(rig).in_flight
        client = await open_from(rig, ip, data)
        await until(lambda held=held: pool(rig).in_flight > held)  # type: ignore[misc]
        clients.append(client)
    return clients


async def drip(clients: list[Client]) -> None:
    while True:
        for client in clients:
            client.writer.write(b"x")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def dripping(clients: list[Client]) -> AsyncIterator[None]:
    task = asyncio.create_task(drip(clients))
    try:
        yield
    finally:
        task.cancel()


async def finish(client: Client) -> Answer:
    client.writer.write(b"x" * SIZE)
    return await client.answer()


def waited(rig: Rig) -> list[float]:
    receivers = [connection.receiver for connection in pool(rig).connections]
    return [one.client_waited_s(monotonic()) for one in receivers if one is not None]


async def all_waited_long(rig: Rig, count: int) -> None:
    await until(lambda: sum(each > PATIENCE_S for each in waited(rig)) == count)


async def cut(client: Client) -> None:
    answer = await client.answer()
    assert (answer.status, json.loads(answer.body)["reason"]) == (408, "request_timeout")
    assert answer.values("connection") == [b"close"]
    await client.rest()


async def test_who_drips_its_bodies_keeps_half_of_the_slots_and_no_more() -> None:
    async with narrow(4) as rig:
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        await until(lambda: min(waited(rig)) > 0.1)  # by far the longest, on a busy machine too
        slow += await come_from(rig, ATTACKER, 2, UPLOAD)
        async with dripping(slow):
            others = [asyncio.create_task(rig.ask(GET)) for _ in range(4)]
            assert [(await other).status for other in others] == [200] * 4
            cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
            assert not len(cluster.waiters)
            for client in slow[:2]:
                await cut(client)
        assert [(await finish(client)).status for client in slow[2:]] == [200] * 2
        await until(lambda: pool(rig).in_flight == 0)


async def test_no_more_are_cut_than_calls_wait() -> None:
    async with narrow(4) as rig:
        slow = await come_from(rig, ATTACKER, 4, UPLOAD)
        async with dripping(slow):
            assert (await rig.ask(GET)).status == 200
            await cut(slow[0])
        assert [(await finish(client)).status for client in slow[1:]] == [200] * 3


async def test_who_does_not_read_its_answers_keeps_half_of_the_slots_and_no_more() -> None:
    async with narrow(2) as rig:
        slow = await come_from(rig, ATTACKER, 2, UNREAD)
        assert (await rig.ask(GET)).status == 200
        with pytest.raises(ConnectionResetError):
            await slow[0].rest()
        assert pool(rig).in_flight == 1


async def test_who_reads_its_answers_byte_by_byte_is_slow_all_the_same() -> None:
    async with narrow(2) as rig:
        slow = await come_from(rig, ATTACKER, 2, UNREAD)

        async def sip(client: Client) -> None:
            while True:
                await client.reader.readexactly(1)
                await asyncio.sleep(0.001)

        sips = [asyncio.create_task(sip(client)) for client in slow]
        assert (await rig.ask(GET)).status == 200
        await until(lambda: pool(rig).in_flight == 1)
        for each in sips:
            each.cancel()
        await asyncio.gather(*sips, return_exceptions=True)


async def test_who_sends_on_and_reads_nothing_waits_for_itself() -> None:
    """An echo takes no more of the body once nobody takes what it answers."""

    async def echo(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while b"POST" in exchange.received.line:
            exchange.send(await exchange.reader.read(65_536))
            await exchange.writer.drain()

    async with narrow(2) as rig:
        rig.route(max_body_bytes=100_000_000)
        rig.upstream.script = echo
        post = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
        slow = await come_from(rig, ATTACKER, 2, post)
        for client in slow:
            client.writer.write(b"x" * 100_000_000)
        await all_waited_long(rig, 2)
        rig.upstream.script = by_path
        assert (await rig.ask(GET)).status == 200
        await until(lambda: pool(rig).in_flight == 1)


async def test_an_upload_that_was_answered_already_is_broken_off() -> None:
    async def early(exchange: Exchange) -> None:
        if b"POST" in exchange.received.line:
            exchange.send(BEGUN)
        await by_path(exchange)

    async with narrow(2) as rig:
        rig.upstream.script = early
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        assert [(await client.head()).status for client in slow] == [200] * 2
        async with dripping(slow):
            assert (await rig.ask(GET)).status == 200
            with pytest.raises(ConnectionResetError):
                await slow[0].rest()


async def test_nobody_is_cut_where_nobody_waits() -> None:
    async with narrow(2) as rig:
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        await all_waited_long(rig, 2)
        assert [(await finish(client)).status for client in slow] == [200] * 2


EXPECTING = b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"


async def test_who_sends_nothing_before_it_is_asked_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its upstream never asks, and for a second of each call nobody would wait for the client."""
    monkeypatch.setattr(request_body, "CONTINUE_AFTER_S", HUNG_S)
    async with narrow(2) as rig:
        slow = await come_from(rig, ATTACKER, 2, EXPECTING)
        assert (await rig.ask(GET)).status == 200
        await cut(slow[0])
        slow[1].writer.write(b"abc")
        await until(lambda: waited(rig) == [0.0])


async def test_who_sends_all_without_being_asked_is_not_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_body, "CONTINUE_AFTER_S", 2 * PATIENCE_S)
    async with narrow(2) as rig:
        calls = await come_from(rig, ATTACKER, 2, EXPECTING + b"abc")
        assert (await rig.ask(GET)).status == 200
        for client in calls:
            assert (await client.head()).status == 100
            assert (await client.answer()).status == 200


async def test_two_neighbourhoods_that_drip_leave_room_to_a_third() -> None:
    """Whoever is at home over IPv4 and IPv6 has two."""
    async with narrow(4) as rig:
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        slow += await come_from(rig, ANOTHER, 2, UPLOAD)
        async with dripping(slow):
            assert (await rig.ask(GET)).status == 200
            await until(lambda: pool(rig).in_flight == 3)


async def test_of_two_that_drip_the_one_that_has_most_makes_room() -> None:
    async with narrow(4) as rig:
        few = await come_from(rig, ANOTHER, 1, UPLOAD)
        slow = await come_from(rig, ATTACKER, 3, UPLOAD)
        async with dripping(few + slow):
            assert (await rig.ask(GET)).status == 200
            await cut(slow[0])
        assert [(await finish(client)).status for client in few + slow[1:]] == [200] * 3


async def test_who_drips_from_two_neighbourhoods_stands_behind_others_in_the_queue() -> None:
    """It has fifteen calls there, and each place that is made would go to one of them."""
    async with narrow(5, queue=20, timeout_connect_s=4 * PATIENCE_S) as rig:
        slow = await come_from(rig, ATTACKER, 3, UPLOAD)
        slow += await come_from(rig, ANOTHER, 2, UPLOAD)
        async with dripping(slow):
            for number in range(15):
                await open_from(rig, (ATTACKER, ANOTHER)[number % 2], UPLOAD)
            await until(lambda: len(rig.gate.calls) == 20)
            assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3


async def test_nobody_is_cut_where_each_neighbourhood_has_one() -> None:
    async with narrow(2, timeout_connect_s=2 * PATIENCE_S) as rig:
        slow = await come_from(rig, ATTACKER, 1, UPLOAD)
        slow += await come_from(rig, ANOTHER, 1, UPLOAD)
        assert (await rig.ask(GET)).status == 503
        assert [(await finish(client)).status for client in slow] == [200] * 2


async def test_nobody_is_cut_for_who_would_then_have_as_many() -> None:
    go = asyncio.Event()

    async def slow_for_some(exchange: Exchange) -> None:
        if b"GET" in exchange.received.line:
            await go.wait()
        await by_path(exchange)

    async with narrow(4, timeout_connect_s=2 * PATIENCE_S) as rig:
        rig.upstream.script = slow_for_some
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        slow += await come_from(rig, ANOTHER, 1, UPLOAD)
        (busy,) = await come_from(rig, "127.0.0.1", 1, GET)
        assert (await rig.ask(GET)).status == 503
        go.set()
        assert (await busy.answer()).status == 200
        assert [(await finish(client)).status for client in slow] == [200] * 3


async def test_neighbours_count_together() -> None:
    async with narrow(2) as rig:
        slow = await come_from(rig, ATTACKER, 1, UPLOAD)
        slow += await come_from(rig, "127.9.9.1", 1, UPLOAD)
        assert (await rig.ask(GET)).status == 200
        await cut(slow[0])
        assert (await finish(slow[1])).status == 200


async def test_uploads_that_end_in_time_are_not_cut() -> None:
    async with narrow(2) as rig:
        quick = await come_from(rig, ATTACKER, 2, UPLOAD)
        waiting = asyncio.create_task(rig.ask(GET))
        cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
        await until(lambda: len(cluster.waiters) == 1)
        assert [(await finish(client)).status for client in quick] == [200] * 2
        assert (await waiting).status == 200


async def test_who_is_held_back_by_the_upstream_is_not_cut() -> None:
    """It is the upstream that takes no more of the bodies."""
    go = asyncio.Event()

    async def deaf(exchange: Exchange) -> None:
        if b"POST" in exchange.received.line:
            await go.wait()
        await by_path(exchange)

    most = 64 << 20
    async with narrow(2, timeout_connect_s=2 * PATIENCE_S) as rig:
        rig.route(max_body_bytes=most)
        rig.upstream.script = deaf
        post = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % most
        uploads = await come_from(rig, ATTACKER, 2, post)
        for client in uploads:
            client.writer.write(b"x" * most)
        await until(lambda: all(one.paused for one in pool(rig).connections))
        assert (await rig.ask(GET)).status == 503
        go.set()
        assert [(await client.answer()).status for client in uploads] == [200] * 2


async def test_who_waits_for_a_slow_upstream_is_not_cut() -> None:
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go.wait()
        await by_path(exchange)

    async with narrow(2, timeout_connect_s=2 * PATIENCE_S) as rig:
        rig.upstream.script = slow
        calls = await come_from(rig, ATTACKER, 2, GET)
        assert (await rig.ask(GET)).status == 503
        go.set()
        assert [(await client.answer()).status for client in calls] == [200] * 2


async def test_the_only_slot_is_taken_from_nobody() -> None:
    async with narrow(1, timeout_connect_s=2 * PATIENCE_S) as rig:
        (slow,) = await come_from(rig, ATTACKER, 1, UPLOAD)
        assert (await rig.ask(GET)).status == 503
        assert (await finish(slow)).status == 200
        assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3


async def test_one_slow_upload_leaves_the_other_slot_of_two_to_its_clients_calls() -> None:
    async with narrow(2) as rig:
        (slow,) = await come_from(rig, ATTACKER, 1, UPLOAD)
        await all_waited_long(rig, 1)
        calls = [asyncio.create_task(rig.ask(GET)) for _ in range(6)]
        assert [(await call).status for call in calls] == [200] * 6
        assert (await finish(slow)).status == 200


async def test_where_nobody_may_wait_who_is_turned_away_makes_room() -> None:
    async with narrow(2, queue=0) as rig:
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        async with dripping(slow):
            async with asyncio.timeout(HUNG_S):
                while (await rig.ask(GET)).status == 503:
                    await asyncio.sleep(0.01)
            await cut(slow[0])
        assert (await finish(slow[1])).status == 200


async def turned_away_once(rig: Rig, slow: list[Client]) -> None:
    """Somebody else was, after these calls had waited for long: the first of them is ended."""
    await all_waited_long(rig, len(slow))
    assert (await rig.ask(GET)).status == 503
    await cut(slow[0])
    await until(lambda: pool(rig).in_flight == len(slow) - 1)


async def test_where_nobody_may_wait_room_is_kept_for_who_was_turned_away() -> None:
    """Whoever was ended sees it first, and would have the slot again at once."""
    async with narrow(4, queue=0) as rig:
        slow = await come_from(rig, ATTACKER, 4, UPLOAD)
        await turned_away_once(rig, slow)
        for _ in range(3):
            again = await (await open_from(rig, ATTACKER, GET)).answer()
            assert (again.status, json.loads(again.body)["reason"]) == (503, "upstream_busy")
            assert (await rig.ask(GET)).status == 200
        assert [(await finish(client)).status for client in slow[1:]] == [200] * 3


async def test_no_more_room_is_kept_than_calls_were_turned_away() -> None:
    async with narrow(4, queue=0) as rig:
        slow = await come_from(rig, ATTACKER, 4, UPLOAD)
        await turned_away_once(rig, slow)
        assert (await finish(slow[1])).status == 200
        await until(lambda: pool(rig).in_flight == 2)
        assert (await (await open_from(rig, ATTACKER, GET)).answer()).status == 200


async def test_room_is_kept_for_a_moment_only() -> None:
    async with narrow(2, queue=0) as rig:
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        await turned_away_once(rig, slow)
        async with asyncio.timeout(HUNG_S):
            while (await (await open_from(rig, ATTACKER, GET)).answer()).status == 503:
                await asyncio.sleep(0.05)
        assert (await finish(slow[1])).status == 200


async def test_half_of_the_slots_at_most_are_kept() -> None:
    """Many were turned away at once, and go on to call: who uploads is let in beside them."""
    async with narrow(4, queue=0) as rig:
        slow = await come_from(rig, ATTACKER, 1, UPLOAD)
        held = await come_from(rig, ANOTHER, 3, UPLOAD)
        callers = [f"127.0.{number}.1" for number in range(1, 7)]
        for ip in callers:
            assert (await (await open_from(rig, ip, GET)).answer()).status == 503
        assert [(await finish(client)).status for client in held] == [200] * 3
        await until(lambda: pool(rig).in_flight == 1)
        for ip in callers:
            assert (await (await open_from(rig, ip, GET)).answer()).status == 200
            assert (await (await open_from(rig, ATTACKER, GET)).answer()).status == 200
        assert (await finish(slow[0])).status == 200


async def test_where_nobody_else_was_turned_away_one_neighbourhood_has_all_slots() -> None:
    async with narrow(2, queue=0) as rig:
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        assert (await (await open_from(rig, ATTACKER, GET)).answer()).status == 503
        assert (await finish(slow[0])).status == 200
        await until(lambda: pool(rig).in_flight == 1)
        assert (await (await open_from(rig, ATTACKER, GET)).answer()).status == 200
        assert (await finish(slow[1])).status == 200


async def test_who_has_more_than_half_stands_behind_all_others_in_the_queue() -> None:
    """With seven before it, each after half a second, it would be told that all is busy."""
    async with narrow(2, timeout_connect_s=4 * PATIENCE_S) as rig:
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        async with dripping(slow):
            for _ in range(7):
                await open_from(rig, ATTACKER, UPLOAD)
            await until(lambda: len(rig.gate.calls) == 9)
            assert (await rig.ask(GET)).status == 200


async def test_who_has_more_than_half_fills_no_queue() -> None:
    async with narrow(2, queue=2) as rig:
        slow = await come_from(rig, ATTACKER, 2, UPLOAD)
        await until(lambda: len(waited(rig)) == 2 and min(waited(rig)) > 0.0)
        async with dripping(slow):
            for calls in (3, 4):
                last = await open_from(rig, ATTACKER, UPLOAD)
                await until(lambda calls=calls: len(rig.gate.calls) == calls)  # type: ignore[misc]
            assert (await rig.ask(GET)).status == 200
        # Where half a second had passed, a slot was free before its place was taken.
        assert (await finish(last)).status in (503, 200)
