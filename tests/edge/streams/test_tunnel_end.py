"""An end that comes right behind many frames: it is told once, and behind all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.edge.http1.turns import SHARE
from gateway.edge.streams.tunnel import STALL_S, Tunnel
from tests.edge.hasty_peers import answered_hastily, hasty_client
from tests.edge.rig import HUNG_S, Exchange, running
from tests.edge.streams.handshakes import GRANTED, granting, handshake, opened, swept_after
from tests.edge.streams.test_frames import frame

BOTH_LOOPS = True

FRAME, MASKED = frame(b"tick"), frame(b"tick", masked=True)
CLOSE = b"\x88\x02\x03\xe8"
MANY = 4 * SHARE


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("frames", [MANY, 50_000])
async def test_a_client_is_given_all_that_its_upstream_said_before_it_left(
    tmp_path: Path, frames: int
) -> None:
    said = FRAME * frames + CLOSE
    async with running() as rig, answered_hastily(rig, tmp_path, GRANTED + said):
        client = await opened(rig)
        assert await client.rest() == said


@pytest.mark.parametrize("frames", [MANY, 50_000])
async def test_an_upstream_is_given_all_that_its_client_said_before_it_left(
    tmp_path: Path, frames: int
) -> None:
    heard = b""

    async def script(exchange: Exchange) -> None:
        nonlocal heard
        exchange.send(GRANTED)
        heard = await exchange.reader.read()

    async with running(script) as rig:
        said = MASKED * frames + b"\x88\x82\0\0\0\0\x03\xe8"
        assert (await hasty_client(rig, tmp_path, handshake(), said)).startswith(b"HTTP/1.1 101")
        await rig.upstream.until(lambda: not rig.upstream.open)
        assert heard == said


async def test_the_end_waits_for_who_is_slow_and_for_all_that_came_before_it(
    tmp_path: Path,
) -> None:
    said = FRAME * 50_000 + CLOSE
    async with running() as rig:
        async with answered_hastily(rig, tmp_path, GRANTED + said):
            client = await opened(rig)
            slow = rig.tunnel.client
            slow.pause_writing()  # as its transport does while the client takes nothing
        slow.resume_writing()
        assert await client.rest() == said


async def test_what_was_left_of_a_read_brings_no_more_while_the_other_takes_nothing() -> None:
    """What was left fills the transport of the other, which tells so once."""

    async def script(exchange: Exchange) -> None:
        exchange.send(GRANTED)
        await asyncio.Event().wait()

    async with running(script) as rig:
        await opened(rig)
        client, upstream = rig.tunnel.client, rig.tunnel.upstream
        assert client.transport is not None
        client.data_received(MASKED * SHARE + frame(b"x" * 200_000, masked=True) * 100)
        assert client.rest
        await until(lambda: not client.rest)
        assert upstream.paused_at
        assert not client.transport.is_reading()
        client.tunnel.abort()


# --- that nothing waits for ever ---


async def left_behind(tunnel: Tunnel) -> None:
    """Frames of an upstream that has gone wait for a client that takes nothing."""
    upstream = tunnel.upstream
    tunnel.client.pause_writing()
    upstream.data_received(FRAME * MANY)
    transport = upstream.transport
    assert transport is not None
    transport.abort()
    await until(lambda: upstream.transport is None)


async def test_what_waits_for_who_takes_nothing_is_held_no_longer_than_that_may_last() -> None:
    async with running(granting()) as rig:
        client = await opened(rig)
        tunnel = rig.tunnel
        await left_behind(tunnel)
        assert tunnel.client.buffered() >= (MANY - SHARE) * len(FRAME)
        swept_after(tunnel, STALL_S - 1.0)
        assert not tunnel.closed
        assert tunnel.upstream.rest
        swept_after(tunnel, 2.0)
        tunnel.sweep(tunnel.loop.time() + 1.0)
        await until(lambda: tunnel.closed)
        assert not tunnel.upstream.rest
        assert not rig.long_lived.tunnels
        client.close()


async def test_what_waits_for_who_leaves_too_is_forgotten() -> None:
    async with running(granting()) as rig:
        client = await opened(rig)
        tunnel = rig.tunnel
        await left_behind(tunnel)
        client.writer.transport.abort()
        tunnel.client.resume_writing()
        await until(lambda: tunnel.closed)
        assert not tunnel.upstream.rest


async def test_what_waits_for_who_is_slow_is_passed_on_once_they_take_it() -> None:
    async with running(granting()) as rig:
        client = await opened(rig)
        tunnel = rig.tunnel
        await left_behind(tunnel)
        tunnel.client.resume_writing()
        assert await client.rest() == FRAME * MANY
        await until(lambda: tunnel.closed)


async def test_the_place_of_a_client_that_has_left_is_free_though_what_it_said_waits() -> None:
    async with running(granting()) as rig:
        await opened(rig)
        tunnel = rig.tunnel
        client = tunnel.client
        tunnel.upstream.pause_writing()
        client.data_received(MASKED * MANY)
        transport = client.transport
        assert transport is not None
        transport.abort()
        await until(lambda: client.transport is None)
        assert client.rest
        assert not rig.listener.connections
        tunnel.upstream.resume_writing()
        await until(lambda: tunnel.closed)
