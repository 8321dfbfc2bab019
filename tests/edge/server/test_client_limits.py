"""The client's leg: how long a head may be, and how long a client may take."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.edge.server.listener import ListenerLimits
from tests.edge.rig import HUNG_S, answering, endless, running

BOTH_LOOPS = True
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"a" * 9000, 414),
        (b"GET /" + b"a" * 100_000, 414),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17_000 + b"\r\n\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17_000, 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X" * 20_000 + b": y\r\n\r\n", 431),
    ],
)
async def test_a_head_past_its_limits_is_refused(data: bytes, status: int) -> None:
    async with running() as rig:
        everything = await rig.all(data)
        assert everything.startswith(b"HTTP/1.1 %d " % status)
        assert not rig.upstream.requests


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 8177 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 99 + b"\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 16_300 + b"\r\n\r\n",
    ],
)
async def test_a_head_within_its_limits_passes(data: bytes) -> None:
    async with running() as rig:
        assert (await rig.ask(data)).status == 200


FAST = ListenerLimits(
    head_s=0.2,
    keepalive_s=0.5,
    body_idle_s=0.3,
    body_rate_window_s=0.4,
    stall_s=0.4,
    linger_s=0.2,
    sweep_s=0.05,
)


@pytest.mark.parametrize("data", [b"", b"\r\n", b"G"])
async def test_who_connects_and_does_not_ask_is_cut_when_a_head_had_its_time(data: bytes) -> None:
    async with running(limits=replace(FAST, keepalive_s=30.0)) as rig:
        assert await rig.all(data) == b""


async def test_a_head_that_does_not_end_is_cut() -> None:
    async with running(limits=FAST) as rig:
        assert await rig.all(b"GET /a HTTP/1.1\r\nHost: x\r\n") == b""


@pytest.mark.parametrize("before", [b"", GET], ids=["the first request", "the second"])
async def test_a_head_that_trickles_is_cut(before: bytes) -> None:
    """Each byte is no new beginning: the whole head has its time."""
    async with running(limits=replace(FAST, keepalive_s=30.0)) as rig:
        client = await rig.client()
        if before:
            await client.send(before)
            assert (await client.answer()).status == 200

        async def trickle() -> None:
            with suppress(ConnectionError):
                await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX: ")
                while True:
                    await client.send(b"a")
                    await asyncio.sleep(0.02)

        task = asyncio.create_task(trickle())
        with suppress(ConnectionResetError):
            assert await client.rest() == b""
        task.cancel()
        assert len(rig.upstream.requests) == (1 if before else 0)


async def test_an_idle_connection_is_closed() -> None:
    async with running(limits=FAST) as rig:
        client = await rig.client()
        await client.send(GET)
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


@pytest.mark.parametrize("method", [b"POST", b"GET", b"HEAD"])
async def test_a_body_that_stops_coming_is_408(method: bytes) -> None:
    async with running(limits=FAST) as rig:
        head = method + b" /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        everything = await rig.all(head + b"abc")
        assert everything.startswith(b"HTTP/1.1 408 ")
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_body_that_trickles_is_408() -> None:
    async with running(limits=FAST) as rig:
        client = await rig.client()
        await client.send(POST + b"Content-Length: 1000\r\n\r\n")

        async def trickle() -> None:
            while True:
                await client.send(b"a")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(trickle())
        assert (await client.head()).status == 408
        task.cancel()


async def test_a_body_for_an_endpoint_of_ours_that_trickles_is_408_in_time() -> None:
    """However steadily it comes: nothing of ours takes long to send."""
    limits = ListenerLimits(own_body_s=0.3, body_bytes_per_s=0, sweep_s=0.05)
    async with running(limits=limits) as rig:
        client = await rig.client()
        await client.send(b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")

        async def trickle() -> None:
            with suppress(ConnectionError):
                while True:
                    await client.send(b"a")
                    await asyncio.sleep(0.02)

        task = asyncio.create_task(trickle())
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["reason"]) == (408, "request_timeout")
        task.cancel()


async def test_a_client_that_reads_nothing_is_cut() -> None:
    async with running(endless, limits=FAST) as rig:
        with socket.create_connection(("127.0.0.1", rig.port)) as sock:
            sock.sendall(GET)
            await rig.upstream.until(lambda: rig.upstream.open == 1)
            await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_an_answer_that_is_not_read_does_not_hold_its_connection_for_ever() -> None:
    body = b"x" * 6_000_000
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with running(answering(data), limits=FAST) as rig:
        with socket.create_connection(("127.0.0.1", rig.port)) as sock:
            sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            async with asyncio.timeout(HUNG_S):
                while not rig.listener.open:
                    await asyncio.sleep(0.01)
                while rig.listener.open:
                    await asyncio.sleep(0.01)
