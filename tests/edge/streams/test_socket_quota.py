"""How many sockets a caller may have open, how long they may be silent, how large a frame is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import cast

from gateway.access.websocket_options import WebSocketOptions
from gateway.edge.streams.tunnel_end import TunnelEnd
from tests.edge.rig import HUNG_S, Exchange, Rig, principal, running
from tests.edge.streams.handshakes import (
    echo,
    exactly,
    granting,
    handshake,
    opened,
    swept_after,
)
from tests.edge.streams.test_frames import frame

BOTH_LOOPS = True


async def refused(rig: Rig) -> bytes:
    answer = await rig.ask(handshake())
    assert (answer.status, json.loads(answer.body)["reason"]) == (429, "rate_limited")
    (wait_s,) = answer.values("retry-after")
    return wait_s


async def left(rig: Rig, count: int) -> None:
    """Until that many callers hold a place; the last of a socket is told by its transports."""
    async with asyncio.timeout(HUNG_S):
        while len(rig.long_lived.socket_quota) != count:
            await asyncio.sleep(0.01)


# --- how many ---


async def test_past_its_limit_a_user_is_told_429_before_the_upstream_is_asked() -> None:
    async with running(echo) as rig:
        rig.gate.principal = principal()
        rig.route(websocket=WebSocketOptions(max_per_user=2))
        for _ in range(2):
            await opened(rig)
        assert int(await refused(rig)) >= 1
        assert len(rig.upstream.requests) == 2


async def test_another_user_and_another_route_are_not_counted_together() -> None:
    async with running(echo) as rig:
        rig.gate.principal = principal()
        rig.route(websocket=WebSocketOptions(max_per_user=1))
        await opened(rig)
        await refused(rig)
        rig.gate.principal = principal(subject="u-2")
        await opened(rig)
        rig.gate.principal = principal()
        rig.route(id="other")
        await opened(rig)


async def test_all_sessions_of_a_user_are_counted_together() -> None:
    async with running(echo) as rig:
        rig.route(websocket=WebSocketOptions(max_per_user=1))
        rig.gate.principal = principal(session_id="s-1", token_id="t-1")
        await opened(rig)
        rig.gate.principal = principal(session_id="s-2", token_id="t-2")
        await refused(rig)


async def test_where_nobody_is_signed_in_the_address_is_counted() -> None:
    async with running(echo) as rig:
        rig.route(websocket=WebSocketOptions(max_per_user=1))
        await opened(rig)
        await refused(rig)
        # A user of the same address has places of their own.
        rig.gate.principal = principal()
        await opened(rig)


async def test_a_socket_that_ends_leaves_its_place() -> None:
    async with running(echo) as rig:
        rig.route(websocket=WebSocketOptions(max_per_user=1))
        client = await opened(rig)
        client.close()
        await left(rig, 0)
        await opened(rig)


async def test_a_socket_holds_its_place_until_its_upstream_has_what_was_sent() -> None:
    go = asyncio.Event()

    async def then(exchange: Exchange) -> None:
        reading = cast(asyncio.Transport, exchange.writer.transport)
        reading.pause_reading()
        await go.wait()
        reading.resume_reading()

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(max_per_user=1))
        client = await opened(rig)
        tunnel = rig.tunnel
        async with asyncio.timeout(HUNG_S):
            while not tunnel.upstream.buffered():  # what the sockets between them hold is full
                await client.send(frame(b"x" * 8_000, masked=True))
                await asyncio.sleep(0.002)
            client.close()
            while tunnel.client.transport is not None:
                await asyncio.sleep(0.01)
        await refused(rig)
        go.set()
        await left(rig, 0)
        await opened(rig)


async def test_a_handshake_holds_its_place_while_the_upstream_thinks_and_leaves_it_if_refused() -> (
    None
):
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with running(script) as rig:
        rig.route(websocket=WebSocketOptions(max_per_user=1))
        client = await rig.client()
        await client.send(handshake())
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        await refused(rig)
        go.set()
        assert (await client.answer()).status == 403
        await left(rig, 0)


async def test_a_client_that_leaves_before_the_101_leaves_its_place_too() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with running(script) as rig:
        rig.route(websocket=WebSocketOptions(max_per_user=1))
        client = await rig.client()
        await client.send(handshake())
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        client.close()
        await left(rig, 0)


async def test_a_thousand_handshakes_at_once_get_no_place_more_than_there_are() -> None:
    async with running(echo) as rig:
        rig.route(websocket=WebSocketOptions(max_per_user=5))

        async def one() -> int:
            client = await rig.client()
            await client.send(handshake())
            return (await client.head()).status

        statuses = await asyncio.gather(*(one() for _ in range(100)))
        assert sorted(set(statuses)) == [101, 429]
        assert statuses.count(101) == 5


# --- how large, how silent ---


async def test_a_route_may_take_shorter_and_longer_frames() -> None:
    async with running(echo) as rig:
        rig.route(websocket=WebSocketOptions(max_frame_bytes=200))
        client = await opened(rig)
        await client.send(frame(b"x" * 200, masked=True))
        await exactly(client, len(frame(b"x" * 200, masked=True)))
        await client.send(frame(b"x" * 201, masked=True))
        assert await client.rest() == b"\x88\x11\x03\xf1frame_too_large"


async def test_a_route_may_bear_a_longer_silence_than_its_upstream_does() -> None:
    async with running(granting()) as rig:
        rig.spec(timeout_idle_s=30.0)
        rig.route(websocket=WebSocketOptions(idle_s=0.3))
        client = await opened(rig)
        assert await client.rest() == b"\x88\x0e\x03\xe9idle_timeout"


# --- signs of life ---

PING, PONG = 0x89, 0x8A
PING_S = 20.0
MASK = b"\0\0\0\0"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HUNG_S):
        while not holds():
            await asyncio.sleep(0.005)


async def answered(end: TunnelEnd) -> None:
    """Until what it said after it was asked has come."""
    await until(lambda: end.received_at >= end.pinged_at)


async def answering_pings(exchange: Exchange) -> None:
    while True:
        ping = await exchange.reader.readexactly(14)
        assert ping[:2] == bytes((PING, 0x88))
        payload = bytes(byte ^ ping[2 + i % 4] for i, byte in enumerate(ping[6:]))
        exchange.send(frame(payload, first=PONG))


async def test_a_silent_client_is_asked_and_its_answer_goes_no_further() -> None:
    heard: list[bytes] = []

    async def then(exchange: Exchange) -> None:
        heard.append(await exchange.reader.readexactly(14))  # the Ping that the upstream is sent
        hidden, mask = heard[0][6:], heard[0][2:6]
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(hidden))
        exchange.send(frame(payload, first=PONG))
        heard.append(await exchange.reader.readexactly(len(frame(b"after", masked=True))))

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=PING_S))
        client = await opened(rig)
        swept_after(rig.tunnel, PING_S)
        ping = await exactly(client, 10)
        assert ping[:2] == bytes((PING, 8))
        await client.send(bytes((PONG, 0x88)) + MASK + ping[2:])
        await client.send(frame(b"after", masked=True))
        await until(lambda: len(heard) == 2)
        await answered(rig.tunnel.upstream)
        assert heard[0][:2] == bytes((PING, 0x88))
        assert heard[1] == frame(b"after", masked=True)
        # The answer of the upstream was kept as well: what comes next is the next Ping.
        swept_after(rig.tunnel, PING_S)
        assert await exactly(client, 10) == ping


async def test_what_comes_behind_a_share_of_answers_alone_is_not_lost() -> None:
    """Of 256 answers to us nothing passes, and what came with them was never looked at."""
    heard: list[bytes] = []

    async def then(exchange: Exchange) -> None:
        await exchange.reader.readexactly(14)
        heard.append(await exchange.reader.readexactly(len(frame(b"after", masked=True))))

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=PING_S))
        client = await opened(rig)
        swept_after(rig.tunnel, PING_S)
        ping = await exactly(client, 10)
        pong = bytes((PONG, 0x88)) + MASK + ping[2:]
        await client.send(pong * 256 + frame(b"after", masked=True))
        await until(lambda: bool(heard))
        assert heard == [frame(b"after", masked=True)]


async def test_each_side_is_asked_with_a_payload_that_the_other_never_sees() -> None:
    told: list[bytes] = []

    async def then(exchange: Exchange) -> None:
        told.append(await exchange.reader.readexactly(14))

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=PING_S))
        client = await opened(rig)
        swept_after(rig.tunnel, PING_S)
        ping = await exactly(client, 10)
        await until(lambda: bool(told))
        hidden, mask = told[0][6:], told[0][2:6]
        assert bytes(byte ^ mask[i % 4] for i, byte in enumerate(hidden)) != ping[2:]


async def test_a_peer_that_gives_no_sign_of_life_is_closed_and_the_other_is_told() -> None:
    async def then(exchange: Exchange) -> None:
        while True:  # this side lives
            exchange.send(frame(b"tick"))
            await exchange.writer.drain()
            await asyncio.sleep(0.05)

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=0.3))
        client = await opened(rig)
        heard = await client.rest()
        assert heard.endswith(b"\x88\x0e\x03\xe9ping_timeout")
        assert heard.count(bytes((PING, 8))) == 1
        await rig.upstream.until(lambda: rig.upstream.open == 0)


async def test_a_peer_that_is_not_read_is_not_taken_for_silent() -> None:
    go = asyncio.Event()

    async def then(exchange: Exchange) -> None:
        ping = await exchange.reader.readexactly(14)
        await go.wait()
        payload = bytes(byte ^ ping[2 + i % 4] for i, byte in enumerate(ping[6:]))
        exchange.send(frame(payload, first=PONG) + frame(b"late"))

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=PING_S, idle_s=3_600.0))
        client = await opened(rig)
        tunnel = rig.tunnel
        swept_after(tunnel, PING_S)
        assert tunnel.upstream.pinged_at
        ping = await exactly(client, 10)
        await client.send(bytes((PONG, 0x88)) + MASK + ping[2:])
        await answered(tunnel.client)
        slow = tunnel.upstream.other
        slow.pause_writing()  # as its transport does while the client takes nothing
        swept_after(tunnel, 1.5 * PING_S)
        assert not tunnel.closing
        slow.resume_writing()
        swept_after(tunnel, 0.5 * PING_S)
        assert not tunnel.closing
        go.set()
        while (head := await exactly(client, 2)) == bytes((PING, 8)):
            await exactly(client, 8)
        assert head + await exactly(client, 4) == frame(b"late")


async def test_any_byte_is_a_sign_of_life() -> None:
    async with running(echo) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=PING_S, idle_s=3_600.0))
        client = await opened(rig)
        tunnel = rig.tunnel
        for _ in range(4):  # for longer than the time in which it would have been given up
            await client.send(frame(b"tick", masked=True))
            assert await exactly(client, 10) == frame(b"tick", masked=True)
            swept_after(tunnel, 0.75 * PING_S)
            assert not tunnel.client.pinged_at
            assert not tunnel.upstream.pinged_at
        swept_after(tunnel, 0.25 * PING_S)
        assert tunnel.client.pinged_at
        assert tunnel.upstream.pinged_at


async def test_a_ping_never_stands_within_a_frame() -> None:
    whole = frame(b"x" * 1_000)

    async def then(exchange: Exchange) -> None:
        for at in range(0, len(whole), 50):  # for three times as long as the client may be silent
            exchange.send(whole[at : at + 50])
            await asyncio.sleep(0.03)
        await answering_pings(exchange)

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=0.2))
        client = await opened(rig)
        assert await exactly(client, len(whole)) == whole
        assert (await exactly(client, 10))[:2] == bytes((PING, 8))


async def test_a_ping_may_stand_between_the_fragments_of_a_message() -> None:
    first, last = frame(b"begin", first=0x01), frame(b"end", first=0x80)
    go = asyncio.Event()

    async def then(exchange: Exchange) -> None:
        exchange.send(first)
        await go.wait()
        exchange.send(last)

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=PING_S))
        client = await opened(rig)
        assert await exactly(client, 7) == first
        swept_after(rig.tunnel, PING_S)
        ping = await exactly(client, 10)
        await client.send(bytes((PONG, 0x88)) + MASK + ping[2:])
        go.set()
        assert await exactly(client, 5) == last


async def test_nothing_follows_a_close_frame_of_the_upstream() -> None:
    async def then(exchange: Exchange) -> None:
        exchange.send(frame(b"\x03\xe8", first=0x88))

    async with running(granting(then=then)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=0.2, idle_s=0.9))
        client = await opened(rig)
        assert await client.rest() == frame(b"\x03\xe8", first=0x88)


async def test_answers_to_us_are_no_talk_that_keeps_a_socket_open() -> None:
    async with running(granting(then=answering_pings)) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=0.3, idle_s=1.2))
        client = await opened(rig)
        answered = 0
        while (head := await exactly(client, 2)) == bytes((PING, 8)):
            payload = await exactly(client, 8)
            await client.send(bytes((PONG, 0x88)) + MASK + payload)
            answered += 1
        assert head[0] == 0x88
        assert (await client.rest())[2:] == b"idle_timeout"
        assert answered >= 1


async def test_where_it_is_off_nobody_is_asked() -> None:
    async with running(echo) as rig:
        rig.route(websocket=WebSocketOptions(ping_s=0.0, idle_s=0.8))
        client = await opened(rig)
        assert await client.rest() == b"\x88\x0e\x03\xe9idle_timeout"
