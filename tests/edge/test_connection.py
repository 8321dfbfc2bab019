"""One client served by a handler that tests write: what is begun, and when."""

from __future__ import annotations

import asyncio

from aiohttp.streams import StreamReader

from gateway.edge.connection import Connection, Outcome
from gateway.edge.headers import RequestHead
from tests.edge.rig import Rig, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Served:
    """A handler that answers each request at once with `answer`, or begins it and no more."""

    def __init__(self, rig: Rig, answer: bytes = b"") -> None:
        self.heads: list[RequestHead] = []
        self.begun: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._answer = answer
        rig.door.handler = self

    def serve(self, client: Connection, head: RequestHead, body: StreamReader) -> Outcome:
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
        rig.door.handler = Served(rig, EMPTY)
        await client.send(GET)
        assert (await client.answer()).status == 200
