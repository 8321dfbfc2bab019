"""What passes a tunnel, and how it ends."""

from __future__ import annotations

import asyncio

import pytest

from gateway.access.websocket_options import DEFAULT_WEBSOCKET_OPTIONS
from gateway.edge.streams.frames import FrameReader
from tests.edge.rig import Exchange, running
from tests.edge.streams.handshakes import echo, exactly, granting, opened
from tests.edge.streams.test_frames import frame

BOTH_LOOPS = True
MAX_FRAME_BYTES = DEFAULT_WEBSOCKET_OPTIONS.max_frame_bytes


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_when_one_side_leaves_the_other_is_given_what_came_and_then_the_end(
    side: str,
) -> None:
    last = frame(b"last words", masked=side == "client")
    heard: list[bytes] = []

    async def then(exchange: Exchange) -> None:
        if side == "upstream":
            exchange.send(last)
            await exchange.writer.drain()
            exchange.close()
        else:
            heard.append(await exchange.reader.read())

    async with running(granting(then=then)) as rig:
        client = await opened(rig)
        if side == "upstream":
            assert await client.rest() == last
        else:
            await client.send(last)
            client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        if side == "client":
            assert heard == [last]
        assert not rig.long_lived.tunnels
        assert rig.listener.open == 0 or side == "upstream"


async def test_a_clients_frame_over_1_mib_ends_the_socket_with_1009() -> None:
    async with running(echo) as rig:
        client = await opened(rig)
        await client.send(frame(b"x" * (MAX_FRAME_BYTES + 1), masked=True)[:14])
        assert await client.rest() == b"\x88\x11\x03\xf1frame_too_large"
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_frame_of_1_mib_passes() -> None:
    async with running(echo) as rig:
        client = await opened(rig)
        whole = frame(b"x" * MAX_FRAME_BYTES, masked=True)
        sending = asyncio.ensure_future(client.send(whole))
        assert await exactly(client, len(whole)) == whole
        await sending


async def test_a_socket_silent_both_ways_is_closed() -> None:
    async with running(echo) as rig:
        rig.spec(timeout_idle_s=0.3)
        client = await opened(rig)
        assert await client.rest() == b"\x88\x0e\x03\xe9idle_timeout"
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_neither_side_is_read_faster_than_the_other_takes() -> None:
    written = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal written
        block = frame(b"x" * 60_000)
        while True:
            exchange.send(block)
            await exchange.writer.drain()
            written += len(block)

    async with running(granting(then=flood)) as rig:
        client = await opened(rig)
        before = -1
        while before != written:  # until the kernel's buffers are full, and stay so
            before = written
            await asyncio.sleep(0.1)
        assert written < 16_000_000
        held = rig.tunnel
        transport = held.client.transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 1_000_000
        reader = FrameReader()
        for _ in range(100):
            assert reader.feed(await exactly(client, 60_000))
        assert written > before


async def test_a_worker_that_ends_says_goodbye_to_its_sockets() -> None:
    async with running(echo) as rig:
        client = await opened(rig)
        ending = asyncio.ensure_future(rig.listener.stop(0.1))
        assert await client.rest() == b"\x88\x0a\x03\xe9shutdown"
        await ending


async def test_a_tunnel_counts_as_a_request_of_its_target() -> None:
    async with running(echo) as rig:
        client = await opened(rig)
        pool = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]
        assert pool.in_flight == 1
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert pool.in_flight == 0


async def test_a_socket_is_a_slot_that_its_client_holds() -> None:
    async with running(echo) as rig:
        rig.spec(max_connections=2)
        client = await opened(rig)
        pool = rig.clusters.cluster_of(rig.gate.route.upstream).targets[0]  # type: ignore[arg-type]
        assert pool.holders == {"127.0.0.1": 1}
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0)
        assert not pool.holders
