"""Long answers: passed on as they come, and ended upstream when nobody reads them."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from tests.edge.rig import HUNG_S, Exchange, running, target

BOTH_LOOPS = True

GET = b"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


async def silent_after_the_head(exchange: Exchange) -> None:
    exchange.send(EVENTS)
    await exchange.reader.read()


async def test_the_head_of_a_stream_passes_before_its_first_event() -> None:
    async with running(silent_after_the_head) as rig:
        client = await rig.client()
        await client.send(GET)
        answer = await client.head()
        assert answer.values("content-type") == [b"text/event-stream"]


async def test_each_event_passes_when_it_comes_and_not_with_the_next() -> None:
    heard = asyncio.Event()
    count = 20

    async def script(exchange: Exchange) -> None:
        exchange.send(EVENTS)
        for number in range(count):
            exchange.send(b"b\r\ndata: %03d\n\n\r\n" % number)
            await heard.wait()  # the next one is sent only once this one has arrived
            heard.clear()

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        for number in range(count):
            async with asyncio.timeout(HUNG_S):
                line = await client.reader.readexactly(16)
            assert line == b"b\r\ndata: %03d\n\n\r\n" % number
            heard.set()


async def test_a_stream_that_ends_with_its_connection_passes_as_it_comes() -> None:
    heard = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        exchange.send(UNTIL_CLOSE + b"data: 1\n\n")
        await heard.wait()
        exchange.close()

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        assert await client.reader.readexactly(14) == b"9\r\ndata: 1\n\n\r\n"
        heard.set()
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_a_hundred_clients_that_leave_leave_no_request_upstream() -> None:
    async with running(silent_after_the_head) as rig:
        clients = [await rig.client() for _ in range(100)]
        for number, client in enumerate(clients):
            await client.send(GET)
            if number % 2:
                await client.head()  # half of them leave before their answer has come
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 100)
        for client in clients:
            client.writer.transport.abort()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert all(not t.in_flight for p in rig.clusters._clusters.values() for t in p.targets)


async def test_a_hundred_clients_that_wait_for_nothing_yet_leave_no_request_upstream() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with running(silent) as rig:
        clients = [await rig.client() for _ in range(100)]
        for client in clients:
            await client.send(GET)
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 100)
        for client in clients:
            client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_aiohttps_client_reads_events_of_an_aiohttp_server_one_by_one() -> None:
    heard = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(10):
            await response.write(b"data: %d\n\n" % number)
            await heard.wait()
            heard.clear()
        return response

    app = web.Application()
    app.router.add_get("/events", events)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with running() as rig, aiohttp.ClientSession() as session:
            rig.spec(targets=(target(runner.addresses[0][1]),))
            async with session.get(f"http://127.0.0.1:{rig.port}/events") as answer:
                for number in range(10):
                    async with asyncio.timeout(HUNG_S):
                        assert await answer.content.readuntil(b"\n\n") == b"data: %d\n\n" % number
                    heard.set()
                assert await answer.content.read() == b""
    finally:
        await runner.cleanup()
