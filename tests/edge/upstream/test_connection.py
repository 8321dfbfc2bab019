"""The upstream's leg: what it may say, when its connection is used again, what it may take."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from gateway.access.definitions import Balance, Retry
from gateway.edge.upstream.clusters import Clusters
from tests.edge.rig import OK, Client, Exchange, RawUpstream, Rig, answering, running, target
from tests.ports import free_port

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
HEAD = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n"


def reason(body: bytes) -> str:
    return str(json.loads(body)["reason"])


UNREADABLE = {
    "no HTTP": b"hello\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "a NUL in a value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a control character": b"HTTP/1.1 200 OK\r\nX: a\x1b[0mb\r\nContent-Length: 0\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "a bare CR": b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 0\r\n\r\n",
    "an obs-fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "an empty name": b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a length and a coding": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a head of 128 KiB": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 131_072 + b"\r\n\r\n",
    "a head that never ends": b"HTTP/1.1 200 OK\r\n" + b"X: aaaaaaaaaaaaaa\r\n" * 8_192,
    "300 fields": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 300 + b"\r\n",
    "a tunnel nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "endless interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40,
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_an_answer_that_cannot_be_framed_is_502_and_its_connection_ends(data: bytes) -> None:
    async with running(answering(data)) as rig:
        client = await rig.client()
        await client.send(GET)
        answer = await client.answer()
        while answer.status == 103:
            answer = await client.answer()
        assert answer.status == 502
        assert reason(answer.body) == "upstream_malformed"
        assert b"HTTP/2" not in answer.body
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_an_upstream_that_nobody_listens_for_is_502() -> None:
    async with running() as rig:
        rig.spec(targets=(target(free_port()),))
        answer = await rig.ask(GET)
        assert (answer.status, reason(answer.body)) == (502, "upstream_unreachable")
        assert answer.values("proxy-status")


async def test_an_upstream_that_does_not_answer_is_504_and_is_cut() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with running(script) as rig:
        rig.spec(timeout_response_s=0.2)
        answer = await rig.ask(GET)
        assert (answer.status, reason(answer.body)) == (504, "upstream_timeout")
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_an_upstream_that_hangs_up_is_502() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.close()

    async with running(script) as rig:
        answer = await rig.ask(GET)
        assert (answer.status, reason(answer.body)) == (502, "upstream_unreachable")


SHORT = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "no end of the trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
}


@pytest.mark.parametrize("data", SHORT.values(), ids=SHORT.keys())
async def test_an_answer_cut_short_never_ends_cleanly(data: bytes) -> None:
    async with running(answering(data, close=True)) as rig:
        client = await rig.client()
        await client.send(GET)
        answer = await client.head()
        assert answer.status == 200
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_chunk_that_breaks_after_the_head_never_ends_cleanly() -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await go.wait()
        exchange.send(b"3\r\ndefXX0\r\n\r\n")

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        go.set()
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_chunk_that_is_broken_from_the_first_is_502() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n"
    async with running(answering(data)) as rig:
        assert (await rig.ask(GET)).status == 502


async def test_a_body_that_falls_silent_is_cut() -> None:
    async with running(answering(SHORT["a length"])) as rig:
        rig.spec(timeout_idle_s=0.2)
        client = await rig.client()
        await client.send(GET)
        await client.head()
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_body_reset_by_the_upstream_never_ends_cleanly() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await exchange.writer.drain()
        sock = exchange.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        exchange.abort()

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        with pytest.raises(ConnectionResetError):
            await client.rest()


# --- the pool ---


async def ask(client: Client, request: bytes = GET) -> int:
    await client.send(request)
    return (await client.answer(to_head=request is HEAD)).status


async def test_a_connection_is_used_again_after_a_clean_end() -> None:
    async with running() as rig:
        client = await rig.client()
        for _ in range(5):
            assert await ask(client) == 200
        assert rig.upstream.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        OK + b"x",
        OK + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx",
        b"HTTP/1.1 204 No Content\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_connection_with_bytes_left_over_is_never_used_again(data: bytes) -> None:
    async with running(answering(data)) as rig:
        client = await rig.client()
        assert await ask(client) in (200, 204)
        assert await ask(client) in (200, 204)
        assert rig.upstream.connections == 2


async def test_a_body_sent_after_head_is_nobodys_answer() -> None:
    async with running(answering(OK)) as rig:
        client = await rig.client()
        assert await ask(client, HEAD) == 200
        assert await ask(client, HEAD) == 200
        assert rig.upstream.connections == 2


async def test_after_a_500_its_connection_is_not_used_again() -> None:
    # uvicorn closes it then without having said so: the next caller's POST would be a 502.
    failed = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"
    async with running(answering(failed)) as rig:
        assert (await rig.ask(GET)).body == b"no"
        assert (await rig.ask(POST)).status == 500
        assert [received.connection for received in rig.upstream.requests] == [1, 2]


async def test_bytes_on_an_idle_connection_end_it() -> None:
    async with running() as rig:
        late: list[Exchange] = []

        async def script(exchange: Exchange) -> None:
            late.append(exchange)
            exchange.send(OK)

        rig.upstream.script = script
        client = await rig.client()
        assert await ask(client) == 200
        late[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        await client.send(GET)
        assert (await client.answer()).body == b"ok"
        assert rig.upstream.connections == 2


async def test_an_idle_connection_is_dropped_in_time() -> None:
    async with running() as rig:
        rig.spec(pool_idle_s=0.3)
        assert (await rig.ask(GET)).status == 200
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_reused_connection_that_had_ended_is_replayed_once() -> None:
    async def script(exchange: Exchange) -> None:
        if len(rig.upstream.requests) == 2:
            exchange.abort()
        else:
            exchange.send(OK)

    async with running(script) as rig:
        client = await rig.client()
        assert await ask(client) == 200
        assert await ask(client) == 200
        assert len(rig.upstream.requests) == 3


@pytest.mark.parametrize("request_bytes", [POST, POST.replace(b"POST", b"PUT")])
async def test_a_body_that_was_read_is_never_replayed(request_bytes: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.body()
        if len(rig.upstream.requests) == 2:
            exchange.abort()
        else:
            exchange.send(OK)

    async with running(script) as rig:
        client = await rig.client()
        assert await ask(client, request_bytes) == 200
        assert await ask(client, request_bytes) == 502
        assert len(rig.upstream.requests) == 2


async def test_a_fresh_connection_that_ends_is_not_replayed() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.abort()

    async with running(script) as rig:
        assert (await rig.ask(GET)).status == 502
        assert len(rig.upstream.requests) == 1


async def two_targets(rig: Rig, **changes: object) -> RawUpstream:
    second = RawUpstream()
    await second.start()
    rig.spec(targets=(target(rig.upstream.port), target(second.port)), **changes)
    return second


async def test_a_failure_to_connect_tries_the_other_target_with_any_method() -> None:
    async with running() as rig:
        second = await two_targets(rig, retry=Retry(attempts=2, connect=True))
        await rig.upstream.stop()
        client = await rig.client()
        for _ in range(4):
            assert await ask(client, POST) == 200
        assert len(second.requests) == 4
        await second.stop()


async def test_a_status_is_retried_only_for_requests_that_may_be_repeated() -> None:
    async with running(answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")) as rig:
        second = await two_targets(rig, retry=Retry(attempts=2, statuses=frozenset((503,))))
        client = await rig.client()
        assert [await ask(client) for _ in range(4)] == [200] * 4
        statuses = [await ask(client, POST) for _ in range(4)]
        assert sorted(statuses) == [200, 200, 503, 503]
        await second.stop()


async def test_a_status_is_passed_on_when_no_try_is_left() -> None:
    async with running(answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")) as rig:
        rig.spec(retry=Retry(attempts=3, statuses=frozenset((503,))))
        answer = await rig.ask(GET)
        assert answer.line == b"HTTP/1.1 503 Busy"
        assert len(rig.upstream.requests) == 3


async def test_a_status_passes_as_it_came_where_the_body_was_read() -> None:
    async with running(answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")) as rig:
        rig.spec(retry=Retry(attempts=2, statuses=frozenset((503,))))
        answer = await rig.ask(POST.replace(b"POST", b"PUT"))
        assert answer.line == b"HTTP/1.1 503 Busy"
        assert len(rig.upstream.requests) == 1


async def test_a_client_that_leaves_cuts_no_connection_that_another_has_taken_up() -> None:
    whole = asyncio.Event()

    async def all_but_the_first(exchange: Exchange) -> None:
        await exchange.body()
        if whole.is_set():
            exchange.send(OK)
        whole.set()

    async with running(all_but_the_first) as rig:
        assert rig.gate.route.upstream is not None
        staying, leaving = await rig.client(), await rig.client()
        await staying.send(GET[:5])
        await leaving.send(POST)
        await whole.wait()
        found = {c.relay is None: c for c in rig.listener.connections}
        pool = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]
        (connection,) = pool.connections
        # In one turn of the loop, as one poll may report them: a client resets, its answer
        # comes, another client asks.
        found[False].abort()
        connection.data_received(OK)
        found[True].data_received(GET[5:])
        assert (await staying.answer()).status == 200
        assert pool.in_flight == 0
        assert rig.upstream.connections == 1


async def test_targets_take_turns() -> None:
    async with running() as rig:
        second = await two_targets(rig)
        client = await rig.client()
        for _ in range(10):
            assert await ask(client) == 200
        assert len(second.requests) == len(rig.upstream.requests) == 5
        await second.stop()


async def test_least_requests_leaves_the_busy_target_alone() -> None:
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await release.wait()
        exchange.send(OK)

    async with running(script) as rig:
        second = await two_targets(rig, balance=Balance.LEAST_REQUESTS)
        waiting = asyncio.create_task(rig.ask(GET))
        client = await rig.client()
        while not rig.upstream.requests:  # until one of them waits at the first target
            if waiting.done():
                waiting = asyncio.create_task(rig.ask(GET))
            await asyncio.sleep(0.001)
        before = len(second.requests)
        for _ in range(6):
            assert await ask(client) == 200
        assert len(second.requests) == before + 6
        release.set()
        assert (await waiting).status == 200
        await second.stop()


async def test_connections_outlive_a_reload_that_keeps_their_target() -> None:
    async with running() as rig:
        client = await rig.client()
        assert await ask(client) == 200
        rig.spec(timeout_response_s=7.0)
        assert await ask(client) == 200
        assert rig.upstream.connections == 1


async def test_a_target_that_a_reload_removed_is_let_go() -> None:
    async with running() as rig:
        client = await rig.client()
        assert await ask(client) == 200
        second = RawUpstream()
        await second.start()
        rig.spec(targets=(target(second.port),))
        assert await ask(client) == 200
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        await second.stop()


@pytest.mark.parametrize("changed", [True, False], ids=["changed", "removed"])
async def test_a_call_that_is_replayed_after_a_reload_brings_nothing_back(changed: bool) -> None:
    asked, reloaded = asyncio.Event(), asyncio.Event()

    async def hangs_up_on_the_second(exchange: Exchange) -> None:
        if len(rig.upstream.requests) == 2:
            asked.set()
            await reloaded.wait()
            exchange.abort()
        else:
            exchange.send(OK)

    async with running(hangs_up_on_the_second) as rig:
        assert rig.gate.route.upstream is not None
        rig.clusters.apply([rig.gate.route.upstream])
        client = await rig.client()
        assert await ask(client) == 200
        await client.send(GET)
        await asked.wait()
        rig.spec(targets=(target(9),))
        fresh = rig.gate.route.upstream
        rig.clusters.apply([fresh] if changed else [])
        pools = dict(rig.clusters._clusters)
        reloaded.set()
        assert (await client.answer()).status == 200
        assert rig.clusters._clusters == pools
        # Its connection is not kept, though it ended well.
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_closing_cuts_every_connection() -> None:
    async with running() as rig:
        assert (await rig.ask(GET)).status == 200
        assert isinstance(rig.clusters, Clusters)
        rig.clusters.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
