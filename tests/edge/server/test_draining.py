"""The client's leg while the listener ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.edge.rig import HUNG_S, OK, Exchange, running

BOTH_LOOPS = True
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_draining_door_says_close_and_still_answers() -> None:
    async with running() as rig:
        rig.listener.draining = True
        everything = await rig.all(GET)
        assert everything.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in everything


async def test_an_answer_that_is_awaited_when_draining_begins_says_close() -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        exchange.send(OK)

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        rig.listener.drain()
        go.set()
        answer = await client.answer()
        assert (answer.status, answer.values("connection")) == (200, [b"close"])
        assert await client.rest() == b""


@pytest.mark.parametrize("method", ["POST", "HEAD"])
async def test_what_was_sent_behind_an_answer_that_outlasts_the_drain_is_503(method: str) -> None:
    """The answer had promised that the connection goes on; the listeners are closed since."""
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await go.wait()
        exchange.send(b"lf")

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        assert (await client.head()).values("connection") == []
        await client.send(f"{method} /a HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 2)
        (connection,) = rig.listener.connections
        async with asyncio.timeout(HUNG_S):
            while not connection._intake.queue:
                await asyncio.sleep(0.01)
        rig.listener.drain()
        ending = asyncio.create_task(rig.listener.stop(10.0))
        async with asyncio.timeout(HUNG_S):
            while not connection._closing:
                await asyncio.sleep(0.01)
        go.set()
        head, _, body = (await client.rest()).removeprefix(b"half").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nConnection: close" in head
        assert b"\r\nRetry-After: 1" in head
        assert (b'"reason": "draining"' in body) == (method == "POST")
        assert b"HTTP/1.1" not in body
        await ending
        assert len(rig.upstream.requests) == 1
