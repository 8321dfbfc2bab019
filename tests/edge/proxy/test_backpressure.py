"""Who leaves ends what was for them, and who is slow holds back the other side alone."""

from __future__ import annotations

import asyncio

from tests.edge.rig import OK, Exchange, running

BOTH_LOOPS = True
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n"
EXPECTING = b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"


async def test_a_client_that_leaves_ends_its_upstream_request() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_client_that_leaves_in_its_body_ends_its_upstream_request() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.body()

    async with running(script) as rig:
        client = await rig.client()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        await rig.upstream.until(lambda: len(rig.upstream.requests) == 1)
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_slow_client_holds_the_upstream_back() -> None:
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            exchange.send(b"x" * 1_000_000)
            await exchange.writer.drain()
            sent += 1

    async with running(script) as rig:
        client = await rig.client()
        await client.send(GET)
        await client.head()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 60
        total = 0
        while total < 100_000_000:
            total += len(await client.reader.read(1 << 20))
        assert sent == 100


async def test_a_slow_client_does_not_hold_back_the_next_answer() -> None:
    size = 6_000_000

    async def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await exchange.writer.drain()

    async with running(script) as rig:
        slow = await rig.client()
        await slow.send(GET + GET + GET)
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        for _ in range(3):
            await asyncio.sleep(0.05)
            assert len((await slow.answer()).body) == size
        fast = await rig.client()
        await fast.send(GET)
        assert len((await fast.answer()).body) == size


async def test_a_slow_upstream_holds_the_client_back() -> None:
    go = asyncio.Event()
    received = 0

    async def script(exchange: Exchange) -> None:
        nonlocal received
        await go.wait()
        received = len(await exchange.body())
        exchange.send(OK)

    size = 64_000_000
    async with running(script) as rig:
        rig.route(max_body_bytes=size)
        client = await rig.client()
        await client.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        sending = asyncio.create_task(client.send(b"x" * size))
        await asyncio.sleep(0.3)
        assert not sending.done()
        go.set()
        assert (await client.answer()).status == 200
        await sending
        assert received == size
