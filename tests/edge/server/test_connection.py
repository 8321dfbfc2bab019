"""One client served by a handler that tests write: what is begun, and when."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest

from gateway.edge.http1.request_head import RequestHead
from gateway.edge.server.connection import Connection
from gateway.edge.server.handler import ServeResult
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.request_body import RequestBody
from gateway.edge.server.request_intake import MAX_QUEUED
from gateway.edge.server.tcp import sent_ago_s
from tests.edge.rig import HUNG_S, Exchange, Rig, answer_ok, answering, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
HASTY = ListenerLimits(half_closed_s=0.3, sweep_s=0.05)
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Served:
    """A handler that answers each request at once with `answer`, or begins it and no more."""

    def __init__(self, rig: Rig, answer: bytes = b"") -> None:
        self.heads: list[RequestHead] = []
        self.begun: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._answer = answer
        rig.listener.handler = self

    def serve(self, client: Connection, head: RequestHead, body: RequestBody) -> ServeResult:
        self.heads.append(head)
        if not self.begun.done():
            self.begun.set_result(client)
        if not self._answer:
            return None
        client.write(self._answer)
        return True


async def test_nothing_is_begun_behind_the_last_answer_though_it_is_here_already() -> None:
    async with running() as rig:
        served = Served(rig)
        client = await rig.client()
        await client.send(GET)
        connection = await served.begun
        # Both in one turn of the loop: the answer ends, and more has come.
        connection.ended(False)
        connection.data_received(GET)
        assert await client.rest() == b""
        assert len(served.heads) == 1


async def test_who_half_closes_behind_its_requests_is_answered_and_closed() -> None:
    """RFC 9112 section 9.6: to send no more is no wish to hear nothing."""
    async with running() as rig:
        client = await rig.client()
        client.writer.write(GET * 3)
        client.writer.write_eof()
        for _ in range(3):
            assert (await client.answer()).body == b"ok"
        assert await client.rest() == b""
        assert len(rig.upstream.requests) == 3


async def test_who_half_closes_is_given_a_long_answer_to_its_end() -> None:
    size = 5_000_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    async with running(answering(head + b"x" * size), limits=HASTY) as rig:
        client = await rig.client()
        client.writer.write(GET)
        client.writer.write_eof()
        assert len((await client.answer()).body) == size
        assert await client.rest() == b""


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_who_half_closes_does_not_hold_its_upstream_request_for_ever(begun: bytes) -> None:
    """It may as well have gone: the two look alike until something is written."""

    async def script(exchange: Exchange) -> None:
        exchange.send(begun)
        await exchange.reader.read()
        exchange.abort()

    async with running(script, limits=HASTY) as rig:
        client = await rig.client()
        client.writer.write(GET)
        client.writer.write_eof()
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        with suppress(ConnectionResetError):
            assert b"ok" not in await client.rest()


async def test_who_half_closes_has_its_whole_time_for_an_answer_to_begin() -> None:
    """However often it is looked meanwhile."""
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await answer_ok(exchange)

    async with running(script, limits=ListenerLimits(half_closed_s=30.0, sweep_s=29.9)) as rig:
        client = await rig.client()
        client.writer.write(GET)
        client.writer.write_eof()
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        (connection,) = rig.listener._watched
        assert connection.transport is not None
        sock = connection.transport.get_extra_info("socket")
        while sent_ago_s(sock, 1.0) < 0.2:
            await asyncio.sleep(0.01)
        connection.sweep(asyncio.get_running_loop().time())
        go.set()
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("behind", [b"\r\n", GET[:-2]], ids=["an empty line", "part of a head"])
async def test_what_came_early_of_the_next_head_ends_no_call(behind: bytes) -> None:
    """RFC 9112 section 2.2: some clients send an empty line behind a body."""
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await answer_ok(exchange)

    async with running(script) as rig:
        client = await rig.client()
        await client.send(POST + b"0123456789" + behind)
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        (connection,) = rig.listener.connections
        connection.sweep(asyncio.get_running_loop().time() + 3_600)
        go.set()
        assert (await client.answer()).status == 200
        await client.send(GET[len(behind) :] if GET.startswith(behind) else GET)
        assert (await client.answer()).status == 200


async def test_an_empty_line_leaves_a_connection_idle() -> None:
    async with running() as rig:
        client = await rig.client()
        await client.send(POST + b"0123456789\r\n")
        assert (await client.answer()).status == 200
        (connection,) = rig.listener.connections
        connection.sweep(asyncio.get_running_loop().time() + 3_600)
        await client.send(GET)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    "sent", [b"", GET[:-2], POST + b"abc"], ids=["nothing", "a head", "a body"]
)
async def test_who_half_closes_before_its_request_is_whole_is_cut(sent: bytes) -> None:
    async with running() as rig:
        client = await rig.client()
        client.writer.write(sent)
        client.writer.write_eof()
        with suppress(ConnectionResetError):
            assert await client.rest() == b""


async def test_a_whole_request_before_a_part_of_one_is_answered_at_the_half_close() -> None:
    async with running() as rig:
        client = await rig.client()
        client.writer.write(GET + GET[:-2])
        client.writer.write_eof()
        assert (await client.answer()).body == b"ok"
        assert await client.rest() == b""


CHUNKED = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE_POST = POST + b"0123456789"


@pytest.mark.parametrize("first", [GET, WHOLE_POST], ids=["no body", "a body"])
@pytest.mark.parametrize(
    "between", [b"", GET * 2, WHOLE_POST, GET * 40], ids=["none", "two", "a body", "many"]
)
@pytest.mark.parametrize(
    "last",
    [
        POST,
        POST + b"abc",
        CHUNKED + b"5\r\nhe",
        CHUNKED + b"5\r\nhello\n0\r\n\r\n",
        b"GET b\r\n\r\n",
    ],
    ids=["no body yet", "a short body", "a short chunk", "a broken chunk", "a malformed head"],
)
async def test_whole_requests_before_a_broken_one_are_answered_at_the_half_close(
    first: bytes, between: bytes, last: bytes
) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await answer_ok(exchange)

    async with running(script, limits=ListenerLimits(half_closed_s=HUNG_S)) as rig:
        client = await rig.client()
        client.writer.write(first + between + last)
        client.writer.write_eof()
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        (connection,) = rig.listener.connections
        async with asyncio.timeout(HUNG_S):
            while connection.transport is not None and not connection._link.half_closed_at:
                if len(connection._intake.queue) == MAX_QUEUED:
                    break  # its last byte is read later
                await asyncio.sleep(0)
        go.set()
        for _ in range(1 + between.count(b"HTTP/1.1")):
            assert (await client.answer()).body == b"ok"
        refusal = await client.answer()
        assert (refusal.status, b"request_malformed" in refusal.body) == (400, True)
        assert await client.rest() == b""


@pytest.mark.parametrize("last", [POST + b"abc", CHUNKED + b"x\r\n"], ids=["short", "broken"])
async def test_a_request_that_broke_before_its_turn_is_never_begun(last: bytes) -> None:
    async with running() as rig:
        served = Served(rig)
        client = await rig.client()
        client.writer.write(GET + last)
        client.writer.write_eof()
        connection = await served.begun
        async with asyncio.timeout(HUNG_S):
            while connection.transport is not None and not connection._link.half_closed_at:
                await asyncio.sleep(0)
        connection.write(EMPTY)
        connection.ended(True)
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 400
        assert await client.rest() == b""
        assert len(served.heads) == 1


async def test_a_client_that_reads_no_answer_is_not_answered_into_memory() -> None:
    size = 1_000_000
    async with running() as rig:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
        served = Served(rig, answer)
        client = await rig.client()
        await client.send(GET)
        connection = await served.begun
        for _ in range(10):
            connection.data_received(GET * 10)
            await asyncio.sleep(0)
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() <= 2 * len(answer)
        assert len(served.heads) < 20
        for _ in range(101):
            assert len((await client.answer()).body) == size
        assert len(served.heads) == 101


async def test_a_kept_connection_hears_the_request_behind_a_body_that_nobody_read() -> None:
    """The body is whole in memory, and more than the reader holds before it stops the client."""
    size = 200_000
    async with running() as rig:
        served = Served(rig)
        client = await rig.client()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        connection = await served.begun
        connection.data_received(b"x" * size + GET)
        connection.write(EMPTY)
        connection.ended(True)
        assert (await client.answer()).status == 200
        assert len(served.heads) == 2
        connection.write(EMPTY)
        connection.ended(True)
        assert (await client.answer()).status == 200
        rig.listener.handler = Served(rig, EMPTY)
        await client.send(GET)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    "behind",
    [
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000) * 5,
        (
            b"POST /a HTTP/1.1\r\nHost: x\r\nX: "
            + b"y" * 15_000
            + b"\r\nContent-Length: 5\r\n\r\nhello"
        )
        * 40,
        GET * 31
        + b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
        + b"x" * 300_000,
    ],
)
async def test_whatever_waits_behind_a_request_is_answered_after_it(behind: bytes) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await answer_ok(exchange)

    count = behind.count(b"HTTP/1.1")
    async with running(script) as rig:
        client = await rig.client()
        sending = asyncio.create_task(client.send(GET + behind))
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        go.set()
        for _ in range(count + 1):
            assert (await client.answer()).status == 200
        await sending
        assert len(rig.upstream.requests) == count + 1


@pytest.mark.parametrize("sent", [GET, POST + b"0123456789", POST + b"half", GET + b"GET /b"])
async def test_one_that_is_over_goes_without_the_collector(sent: bytes) -> None:
    """Hundreds a minute would wait for it, and what a reload freezes would never go."""
    async with running() as rig:
        gc.collect()
        gc.disable()
        try:
            before = sum(type(one) is Connection for one in gc.get_objects())
            for _ in range(3):
                client = await rig.client()
                await client.send(sent)
                if not sent.endswith(b"half"):
                    assert (await client.answer()).status == 200
                client.writer.close()
                await client.writer.wait_closed()
            async with asyncio.timeout(HUNG_S):
                while rig.listener.connections:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0)  # what the loop itself still holds
            after = sum(type(one) is Connection for one in gc.get_objects())
        finally:
            gc.enable()
        assert after == before
