"""WebSocket: a tunnel after the upstream's own 101, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from gateway.access.authorizer import Decision
from gateway.access.websocket_options import DEFAULT_WEBSOCKET_OPTIONS
from gateway.edge.streams.frames import FrameReader
from gateway.model import Reason
from tests.edge.rig import OK, Client, Exchange, Rig, Script, principal, running, target
from tests.edge.streams.test_frames import frame

BOTH_LOOPS = True

MAX_FRAME_BYTES = DEFAULT_WEBSOCKET_OPTIONS.max_frame_bytes
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
GRANTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)


def handshake(*fields: bytes, key: bytes = KEY, method: bytes = b"GET", minor: int = 1) -> bytes:
    lines = [
        b"%b /ws HTTP/1.%d" % (method, minor),
        b"Host: x",
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        *fields,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def granting(after: bytes = b"", *, then: Script | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        exchange.send(GRANTED + after)
        if then is not None:
            await then(exchange)
        await exchange.reader.read()
        exchange.close()

    return script


async def echo(exchange: Exchange) -> None:
    exchange.send(GRANTED)
    while data := await exchange.reader.read(65_536):
        exchange.send(data)
        await exchange.writer.drain()
    exchange.close()


async def opened(rig: Rig, *fields: bytes, behind: bytes = b"") -> Client:
    client = await rig.client()
    await client.send(handshake(*fields) + behind)
    assert (await client.head()).status == 101
    return client


async def exactly(client: Client, count: int) -> bytes:
    async with asyncio.timeout(10):
        return await client.reader.readexactly(count)


# --- the handshake ---


async def test_a_granted_handshake_becomes_a_tunnel_both_ways() -> None:
    async with running(echo) as rig:
        client = await opened(rig)
        sent = frame(b"hello", first=0xC1, masked=True)
        await client.send(sent)
        assert await exactly(client, len(sent)) == sent


async def test_the_upstream_reads_one_handshake_of_ours_with_the_callers_identity() -> None:
    async with running(echo) as rig:
        rig.gate.principal = principal()
        await opened(
            rig,
            b"X-Auth-User-Id: root",
            b"Sec-WebSocket-Protocol: chat, graphql-ws",
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        )
        received = rig.upstream.requests[0]
        assert received.values("upgrade") == [b"websocket"]
        assert received.values("connection") == [b"Upgrade"]
        assert received.values("sec-websocket-key") == [KEY]
        assert received.values("x-auth-user-id") == [b"u-1"]
        assert received.values("sec-websocket-protocol") == [b"chat, graphql-ws"]
        assert received.values("sec-websocket-extensions")[0].startswith(b"permessage-deflate")


async def test_a_refused_handshake_reaches_no_upstream() -> None:
    async with running(echo) as rig:
        refused = Reason.CROSS_ORIGIN
        rig.gate.decision = Decision(False, refused, refused, route=rig.gate.route)
        assert (await rig.ask(handshake())).status == 403
        assert not rig.upstream.requests


UNGRANTED = {
    "the accept of another key": GRANTED.replace(ACCEPT, b"AAAA" + ACCEPT[4:]),
    "no accept": GRANTED.replace(b"Sec-WebSocket-Accept", b"X-Accept"),
    "two accepts": GRANTED.replace(
        b"Connection", b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nConnection"
    ),
    "another protocol": GRANTED.replace(b"websocket", b"h2c"),
    "no Connection": GRANTED.replace(b"Connection: Upgrade", b"Connection: close"),
    "HTTP/1.0": GRANTED.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("data", UNGRANTED.values(), ids=UNGRANTED.keys())
async def test_a_101_that_does_not_answer_the_handshake_is_502(data: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(data + frame(b"smuggled"))
        await exchange.reader.read()

    async with running(script) as rig:
        answer = await rig.ask(handshake())
        assert answer.status == 502
        await rig.upstream.until(lambda: rig.upstream.open == 0)


@pytest.mark.parametrize(
    "data",
    [
        OK,
        OK.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        OK.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"),
    ],
)
async def test_a_200_opens_no_tunnel_and_what_follows_is_judged_as_a_request(data: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(data)

    async with running(script) as rig:
        client = await rig.client()
        behind = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send(handshake() + behind)
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 200
        assert [call.path for call in rig.gate.calls] == ["/ws", "/admin"]


PLAIN = {
    "a POST": handshake(b"Content-Length: 0", method=b"POST"),
    "a body": handshake(b"Content-Length: 2") + b"ab",
    "HTTP/1.0": handshake(minor=0),
    "no key": handshake().replace(b"Sec-WebSocket-Key", b"X-Key"),
    "a short key": handshake(key=b"AAAA"),
    "two keys": handshake(b"Sec-WebSocket-Key: " + KEY),
    "no Connection": handshake().replace(b"keep-alive, Upgrade", b"keep-alive"),
    "a key that Connection names": handshake().replace(
        b"keep-alive, Upgrade", b"Upgrade, Sec-WebSocket-Key"
    ),
    "two upgrades": handshake(b"Upgrade: websocket"),
}


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN.keys())
async def test_what_is_no_whole_handshake_is_passed_on_without_its_upgrade(data: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.body()
        exchange.send(GRANTED)

    async with running(script) as rig:
        assert (await rig.ask(data)).status == 502
        assert not rig.upstream.requests[0].values("upgrade")


OTHER_VERSIONS = {
    "none": b"",
    "8": b"Sec-WebSocket-Version: 8\r\n",
    "13 twice": b"Sec-WebSocket-Version: 13\r\n" * 2,
    "a list": b"Sec-WebSocket-Version: 13, 8\r\n",
    "013": b"Sec-WebSocket-Version: 013\r\n",
}


@pytest.mark.parametrize("line", OTHER_VERSIONS.values(), ids=OTHER_VERSIONS.keys())
async def test_a_handshake_of_another_version_is_426_and_names_13(line: bytes) -> None:
    async with running(echo) as rig:
        client = await rig.client()
        await client.send(handshake().replace(b"Sec-WebSocket-Version: 13\r\n", line))
        answer = await client.answer()
        assert answer.status == 426
        assert json.loads(answer.body)["reason"] == "upgrade_required"
        assert answer.values("sec-websocket-version") == [b"13"]
        assert answer.values("upgrade") == [b"websocket"]
        assert answer.values("connection") == [b"Upgrade"]
        assert not rig.upstream.requests
        # RFC 6455 section 4.4: the client may try again, on this connection too.
        await client.send(handshake())
        assert (await client.head()).status == 101


async def test_who_may_not_connect_is_told_nothing_of_versions() -> None:
    async with running(echo) as rig:
        refused = Reason.CROSS_ORIGIN
        rig.gate.decision = Decision(False, refused, refused, route=rig.gate.route)
        data = handshake().replace(b"Version: 13", b"Version: 8")
        assert (await rig.ask(data)).status == 403


async def test_h2c_hides_behind_no_second_upgrade() -> None:
    async with running(echo) as rig:
        data = handshake(b"Upgrade: websocket").replace(b"Upgrade: websocket", b"Upgrade: h2c", 1)
        assert (await rig.ask(data)).status == 400
        assert not rig.upstream.requests


async def test_frames_behind_the_handshake_wait_for_the_101() -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(exchange.reader.read(1), 0.05)
        await echo(exchange)

    async with running(script) as rig:
        client = await rig.client()
        early = frame(b"early", masked=True)
        await client.send(handshake() + early)
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        go.set()
        assert (await client.head()).status == 101
        assert await exactly(client, len(early)) == early


async def test_frames_behind_the_101_are_relayed() -> None:
    async with running(granting(frame(b"welcome"))) as rig:
        client = await opened(rig)
        assert await exactly(client, 9) == frame(b"welcome")


async def test_a_client_that_leaves_before_the_101_ends_its_handshake_upstream() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with running(script) as rig:
        client = await rig.client()
        await client.send(handshake())
        await rig.upstream.until(lambda: bool(rig.upstream.requests))
        client.close()
        await rig.upstream.until(lambda: rig.upstream.open == 0, within_s=3.0)


# --- the tunnel ---


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


# --- other people's clients and servers ---


async def words(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def aiohttp_echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=True, protocols=("chat",), max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@asynccontextmanager
async def real(kind: str) -> AsyncIterator[Rig]:
    """The gateway before somebody else's echo server."""
    async with running() as rig:
        if kind == "websockets":
            async with serve(words, "127.0.0.1", 0, subprotocols=["chat"], max_size=None) as server:  # type: ignore[list-item]
                rig.spec(targets=(target(next(iter(server.sockets)).getsockname()[1]),))
                yield rig
            return
        app = web.Application()
        app.router.add_get("/ws", aiohttp_echo)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            rig.spec(targets=(target(runner.addresses[0][1]),))
            yield rig
        finally:
            await runner.cleanup()


MESSAGES: list[Any] = [
    "",
    "grüße " * 5_000,
    b"\0" * 200_000,
    "x",
    b"y" * 126,
    hashlib.sha512(b"").digest() * 2_000,
]


@pytest.mark.parametrize("kind", ["websockets", "aiohttp"])
async def test_the_websockets_client_talks_compressed_through_the_gateway(kind: str) -> None:
    async with (
        real(kind) as rig,
        connect(f"ws://127.0.0.1:{rig.port}/ws", subprotocols=["chat"], max_size=None) as socket,  # type: ignore[list-item]
    ):
        assert socket.subprotocol == "chat"
        assert "permessage-deflate" in str(socket.response and socket.response.headers)
        for message in MESSAGES:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["a", "b", "c"])
        assert await socket.recv() == "abc"
        assert await (await socket.ping()) >= 0.0


@pytest.mark.parametrize("kind", ["websockets", "aiohttp"])
async def test_aiohttps_client_talks_compressed_through_the_gateway(kind: str) -> None:
    async with (
        real(kind) as rig,
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://127.0.0.1:{rig.port}/ws", compress=15, protocols=("chat",), max_msg_size=0
        ) as socket,
    ):
        assert socket.compress
        assert socket.protocol == "chat"
        for message in MESSAGES:
            if isinstance(message, str):
                await socket.send_str(message)
                assert await socket.receive_str() == message
            else:
                await socket.send_bytes(message)
                assert await socket.receive_bytes() == message
        await socket.close(code=4_000, message=b"bye")
        # The answer is the upstream's own: aiohttp says 1000 to whatever it is told.
        assert socket.close_code == (4_000 if kind == "websockets" else 1_000)


async def test_the_close_code_of_an_upstream_reaches_the_client() -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.close(4_001, "moved")

    async with running() as rig, serve(leave, "127.0.0.1", 0) as server:
        rig.spec(targets=(target(next(iter(server.sockets)).getsockname()[1]),))
        async with connect(f"ws://127.0.0.1:{rig.port}/ws") as socket:
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4_001, "moved")


def test_the_accept_of_these_tests_is_the_rfcs() -> None:
    made = hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert base64.b64encode(made) == ACCEPT
