"""When a target's breaker opens, what counts as a failure, and who may try after its rest."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.access.definitions import Breaker, Health, UpstreamTarget
from gateway.edge.proxy.response_relay import ResponseRelay
from gateway.edge.upstream.outcome import Outcome
from gateway.edge.upstream.target_health import TargetHealth
from tests.edge.rig import HUNG_S, OK, Answer, Exchange, Rig, answering, running, target

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def reason(answer: Answer) -> str:
    return str(json.loads(answer.body)["reason"])


def rested(rig: Rig, breaker: Breaker) -> None:
    """Its breaker was opened, and has been open for as long as it is to be."""
    rig.spec(breaker=breaker)
    now = asyncio.get_running_loop().time()
    health_of(rig).record_end(Outcome.BROKEN, "127.0.0.1", now - breaker.open_s)


def health_of(rig: Rig) -> TargetHealth:
    cluster = rig.clusters.cluster_of(rig.gate.route.upstream)  # type: ignore[arg-type]
    health = cluster.targets[0].health
    assert health is not None
    return health


async def streaming(exchange: Exchange) -> None:
    """A stream that does not end for `/stream`, and an answer for all else."""
    if b"/stream" not in exchange.received.line:
        exchange.send(OK)
        return
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await exchange.reader.read()


async def test_an_open_breaker_answers_503_without_asking_the_upstream() -> None:
    async with running(answering(b"nonsense\r\n\r\n", close=True)) as rig:
        rig.spec(breaker=Breaker(failures=3, window_s=10.0, open_s=60.0))
        assert [(await rig.ask(GET)).status for _ in range(3)] == [502] * 3
        asked = len(rig.upstream.requests)
        answer = await rig.ask(GET)
        assert (answer.status, reason(answer)) == (503, "upstream_busy")
        assert len(rig.upstream.requests) == asked


async def test_statuses_of_an_upstream_open_no_breaker() -> None:
    async with running(answering(BAD)) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        assert [(await rig.ask(GET)).status for _ in range(4)] == [500] * 4


async def test_clients_that_leave_open_no_breaker() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with running(silent) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        for count in range(1, 4):
            client = await rig.client()
            await client.send(GET)
            await rig.upstream.until(lambda count=count: len(rig.upstream.requests) == count)  # type: ignore[misc]
            client.close()
            await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_stream_whose_longest_life_is_over_is_no_failure_of_its_target() -> None:
    """Else who opens streams could close the target to everybody."""

    async with running(streaming) as rig:
        rig.spec(timeout_stream_s=0.3, breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        assert (await rig.ask(GET)).status == 200  # its connection is kept
        client = await rig.client()
        await client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).status == 200
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert (await rig.ask(GET)).status == 200


async def test_streams_that_fall_silent_are_no_failures_of_their_target() -> None:
    """It has answered: who opens streams in which nothing happens could close it to everybody."""

    async with running(streaming) as rig:
        rig.spec(
            timeout_idle_s=0.3,
            breaker=Breaker(failures=2, window_s=10.0, open_s=60.0),
            health=Health("/", every_s=60.0, fall=2, rise=2, timeout_s=1.0),
        )
        for _ in range(2):
            assert (await rig.ask(GET)).status == 200  # its connection is kept
            client = await rig.client()
            await client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.head()).status == 200
            with pytest.raises(ConnectionResetError):
                await client.rest()
        assert health_of(rig).healthy
        assert (await rig.ask(GET)).status == 200


async def test_of_calls_that_come_at_once_after_the_breakers_rest_one_tries() -> None:
    go_on = asyncio.Event()

    async def waiting(exchange: Exchange) -> None:
        await go_on.wait()
        exchange.send(OK)

    async with running(waiting) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=0.2))
        clients = [await rig.client() for _ in range(8)]
        now = asyncio.get_running_loop().time()
        health_of(rig).record_end(Outcome.BROKEN, "127.0.0.1", now - 0.2)
        for client in clients:
            client.writer.write(GET)
        answers = [asyncio.create_task(client.answer()) for client in clients]
        await rig.upstream.until(lambda: len(rig.upstream.requests) > 0)
        go_on.set()
        assert sorted([(await one).status for one in answers]) == [200, *[503] * 7]
        assert len(rig.upstream.requests) == 1


async def test_a_stream_that_tries_after_the_breakers_rest_decides_by_its_head() -> None:
    """It may last for a day, and everybody else would be refused as long."""

    async with running(streaming) as rig:
        rested(rig, Breaker(failures=1, window_s=10.0, open_s=60.0))
        client = await rig.client()
        await client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).status == 200
        assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3


async def test_a_client_that_leaves_while_its_call_tries_keeps_nobody_away() -> None:
    """Else who calls and leaves could keep the breaker open for as long as they like."""

    async def script(exchange: Exchange) -> None:
        if b"/silent" in exchange.received.line:
            await exchange.reader.read()
        exchange.send(OK)

    async with running(script) as rig:
        rested(rig, Breaker(failures=1, window_s=10.0, open_s=60.0))
        client = await rig.client()
        await client.send(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        assert (await rig.ask(GET)).status == 503
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3


# --- what a stranger asks for ---

STRANGER = "127.9.9.9"
DISLIKED = b"GET /.env HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = 8_000_000


async def hanging_up(exchange: Exchange) -> None:
    """A backend that hangs up on who asks for `/.env`."""
    if b"/.env" in exchange.received.line:
        exchange.close()
        return
    await exchange.body()
    exchange.send(OK)


async def test_a_stranger_whom_a_backend_hangs_up_on_keeps_nobody_else_away() -> None:
    async with running(hanging_up) as rig:
        rig.spec(breaker=Breaker(failures=3, window_s=10.0, open_s=60.0))
        assert (await rig.ask(GET)).status == 200
        for _ in range(8):
            assert (await rig.ask(DISLIKED, STRANGER)).status == 502
            assert (await rig.ask(GET)).status == 200


async def test_who_comes_first_after_a_stranger_opened_the_breaker_is_served_at_once() -> None:
    async with running(hanging_up) as rig:
        rig.spec(breaker=Breaker(failures=3, window_s=10.0, open_s=60.0))
        statuses = [(await rig.ask(DISLIKED, STRANGER)).status for _ in range(5)]
        assert statuses == [502, 502, 502, 503, 503]
        answers = await asyncio.gather(*(rig.ask(GET) for _ in range(8)))
        assert [answer.status for answer in answers] == [200] * 8
        assert (await rig.ask(GET, STRANGER)).status == 200


async def test_a_page_of_who_was_answered_is_served_whatever_strangers_meet() -> None:
    """Four neighbourhoods that are hung up on outvote one office."""
    async with running(hanging_up) as rig:
        # A hang-up on a kept connection is no failure: none is kept.
        rig.spec(pool_idle_s=0.0, breaker=Breaker(failures=4, window_s=60.0, open_s=60.0))
        assert (await rig.ask(GET)).status == 200
        for _ in range(3):
            for number in range(4):
                assert (await rig.ask(DISLIKED, f"127.9.{number}.9")).status == 502
            assert (await rig.ask(DISLIKED, "127.9.0.9")).status == 503
            answers = await asyncio.gather(*(rig.ask(GET) for _ in range(8)))
            assert [answer.status for answer in answers] == [200] * 8


async def test_a_call_that_is_refused_while_a_stranger_is_kept_away_closes_nothing_to_others() -> (
    None
):
    async with running(hanging_up) as rig:
        rig.spec(breaker=Breaker(failures=3, window_s=10.0, open_s=60.0))
        statuses = [(await rig.ask(DISLIKED, STRANGER)).status for _ in range(4)]
        assert statuses == [502, 502, 502, 503]
        port = rig.upstream.port
        await rig.upstream.stop()
        assert (await rig.ask(GET)).status == 502
        await rig.upstream.start(port=port)
        assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3


async def test_a_body_that_drips_while_it_tries_keeps_nobody_else_away() -> None:
    async with running(hanging_up) as rig:
        breaker = Breaker(failures=1, window_s=10.0, open_s=60.0)
        rested(rig, breaker)
        now = asyncio.get_running_loop().time()
        health_of(rig).record_end(Outcome.BROKEN, STRANGER, now - breaker.open_s)
        stranger = await rig.client(STRANGER)
        await stranger.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx")
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        assert (await rig.ask(GET, STRANGER)).status == 503
        assert [(await rig.ask(GET)).status for _ in range(3)] == [200] * 3


async def test_a_stranger_whom_a_backend_hangs_up_on_takes_no_target_out() -> None:
    async with running(hanging_up) as rig:
        rig.spec(health=Health("/", every_s=60.0, fall=2, rise=2, timeout_s=1.0))
        for _ in range(6):
            assert (await rig.ask(DISLIKED, STRANGER)).status == 502
        assert health_of(rig).healthy


async def test_a_backend_that_hangs_up_on_a_body_that_drips_has_not_failed() -> None:
    """It waited for whoever sends it, and may not want to for ever."""

    async def script(exchange: Exchange) -> None:
        if b"POST" in exchange.received.line:
            await exchange.reader.readexactly(1)
            exchange.abort()
            return
        exchange.send(OK)

    async with running(script) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        for _ in range(2):
            dripping = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx"
            assert (await rig.ask(dripping)).status == 502
        assert (await rig.ask(GET)).status == 200


async def test_a_target_that_refuses_is_left_alone_by_everybody() -> None:
    async with running(answering(OK)) as rig:
        rig.spec(breaker=Breaker(failures=3, window_s=10.0, open_s=60.0))
        assert (await rig.ask(GET)).status == 200
        rig.spec(pool_idle_s=0.0)
        await rig.upstream.stop()
        assert [(await rig.ask(GET, STRANGER)).status for _ in range(3)] == [502] * 3
        assert (await rig.ask(GET)).status == 503


@contextmanager
def full(listening: socket.socket) -> Iterator[socket.socket]:
    """It listens, and its queue of new connections is full: more are dropped, or sent away."""
    with listening, socket.socket(listening.family) as filler:
        filler.connect(listening.getsockname())
        yield listening


def full_port() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=0)


def full_path(folder: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.listen(0)
    return listening


async def test_a_burst_that_fills_a_queue_of_new_connections_keeps_nobody_else_away() -> None:
    async with running(hanging_up) as rig:
        with full(full_port()) as listening:
            port = listening.getsockname()[1]
            rig.spec(
                targets=(target(port),),
                timeout_connect_s=0.1,
                breaker=Breaker(failures=3, window_s=10.0, open_s=60.0),
            )
            burst = await asyncio.gather(*(rig.ask(GET, STRANGER) for _ in range(6)))
            assert [answer.status for answer in burst] == [504] * 6
            assert (await rig.ask(GET, STRANGER)).status == 503
        await rig.upstream.stop()
        await rig.upstream.start(port=port)
        assert (await rig.ask(GET, STRANGER)).status == 503
        answers = await asyncio.gather(*(rig.ask(GET) for _ in range(8)))
        assert [answer.status for answer in answers] == [200] * 8


async def test_a_burst_that_fills_the_queue_of_a_unix_socket_keeps_nobody_else_away(
    tmp_path: Path,
) -> None:
    async with running(hanging_up) as rig:
        with full(full_path(tmp_path)) as listening:
            path = listening.getsockname()
            rig.spec(
                targets=(UpstreamTarget(f"http+unix://{path}", "http+unix", path, 0, path),),
                breaker=Breaker(failures=3, window_s=10.0, open_s=60.0),
                health=Health("/", every_s=60.0, fall=3, rise=2, timeout_s=1.0),
            )
            burst = await asyncio.gather(*(rig.ask(GET, STRANGER) for _ in range(6)))
            assert [answer.status for answer in burst] == [502] * 6
            assert (await rig.ask(GET, STRANGER)).status == 503
            assert health_of(rig).healthy
            assert (await rig.ask(GET)).status == 502


@pytest.mark.parametrize("kept", [True, False], ids=["idle connection", "new connection"])
async def test_an_answer_that_breaks_for_a_slow_reader_is_no_failure(kept: bool) -> None:
    """A backend gives up on who does not read, and that is no fault of its own."""
    give_up = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if b"/big" not in exchange.received.line:
            exchange.send(OK)
            return
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
        exchange.send(b"x" * (BIG - 1))
        await give_up.wait()
        exchange.abort()

    async with running(script) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        if kept:
            assert (await rig.ask(GET)).status == 200
        client = await rig.client()
        await client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await held_back(rig)
        give_up.set()
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert (await rig.ask(GET)).status == 200


async def held_back(rig: Rig) -> None:
    """A client has not read for so long that its upstream is not read either."""
    async with asyncio.timeout(HUNG_S):
        while not any(relay.held_back for relay in relays(rig)):
            await asyncio.sleep(0.01)


def relays(rig: Rig) -> list[ResponseRelay]:
    writers = [connection.relay for connection in rig.listener.connections]
    return [writer for writer in writers if isinstance(writer, ResponseRelay)]


@pytest.mark.parametrize("kept", [True, False], ids=["idle connection", "new connection"])
async def test_an_answer_that_breaks_is_a_failure_on_whatever_connection(kept: bool) -> None:
    async def script(exchange: Exchange) -> None:
        if b"/cut" not in exchange.received.line:
            exchange.send(OK)
            return
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
        await exchange.writer.drain()
        exchange.close()

    async with running(script) as rig:
        rig.spec(breaker=Breaker(failures=1, window_s=10.0, open_s=60.0))
        if kept:
            assert (await rig.ask(GET)).status == 200
        client = await rig.client()
        await client.send(b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert (await rig.ask(GET)).status == 503
