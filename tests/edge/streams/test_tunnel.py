"""What passes between other people's peers is what would pass without the gateway.

`python -m bench.autobahn` runs the Autobahn|Testsuite in the same spirit, and longer.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import wsproto
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from gateway.access.websocket_options import WebSocketOptions
from tests.edge.rig import HUNG_S, Client, Rig, running, target
from tests.edge.streams.handshakes import handshake, swept_after
from tests.edge.streams.test_frames import frame

TEXT, BINARY, MORE, CLOSE, PING, PONG = 0x81, 0x82, 0x80, 0x88, 0x89, 0x8A
UNFINISHED = 0x7F
"""Takes the FIN bit away: more fragments follow."""


def masked(first: int, payload: bytes = b"") -> bytes:
    mask = b"\x01\x02\x03\x04"
    hidden = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return frame(b"", first=first, masked=True)[:1] + _length(payload) + mask + hidden


def _length(payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes((0x80 | len(payload),))
    if len(payload) < 65_536:
        return bytes((0xFE,)) + struct.pack(">H", len(payload))
    return bytes((0xFF,)) + struct.pack(">Q", len(payload))


def code(number: int, reason: bytes = b"") -> bytes:
    return struct.pack(">H", number) + reason


# --- servers ---


async def by_websockets(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def by_wsproto(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    socket = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    try:
        while data := await reader.read(65_536):
            socket.receive_data(data)
            for event in socket.events():
                for said in _answers(event):
                    writer.write(socket.send(said))
                if isinstance(event, CloseConnection):
                    return
            await writer.drain()
    except (wsproto.utilities.ProtocolError, ConnectionError):
        pass
    finally:
        writer.close()


def _answers(event: Event) -> list[Event]:
    if isinstance(event, Request):
        chosen = event.subprotocols[0] if event.subprotocols else None
        return [AcceptConnection(subprotocol=chosen, extensions=[PerMessageDeflate()])]
    if isinstance(event, CloseConnection | Ping):
        return [event.response()]
    return [event] if isinstance(event, TextMessage | BytesMessage) else []


@asynccontextmanager
async def server(kind: str) -> AsyncIterator[int]:
    if kind == "websockets":
        async with serve(
            by_websockets, "127.0.0.1", 0, max_size=None, ping_interval=None, close_timeout=1
        ) as started:
            yield next(iter(started.sockets)).getsockname()[1]
        return
    plain = await asyncio.start_server(by_wsproto, "127.0.0.1", 0)
    async with plain:
        yield plain.sockets[0].getsockname()[1]


@asynccontextmanager
async def front(kind: str) -> AsyncIterator[tuple[Rig, int]]:
    """The gateway before such a server, and the server's own port."""
    async with server(kind) as port, running() as rig:
        rig.spec(targets=(target(port),))
        yield rig, port


SERVERS = pytest.mark.parametrize("kind", ["websockets", "wsproto"])


# --- the same bytes, with the gateway and without ---

DEFLATED = zlib.compress(b"a" * 1_000, wbits=-15)
CASES: dict[str, list[bytes]] = {
    "text": [masked(TEXT, "grüße".encode())],
    "sizes at the borders": [
        masked(BINARY, b"x" * size) for size in (0, 1, 125, 126, 127)
    ],
    "three fragments": [
        masked(TEXT & UNFINISHED, b"a"), masked(0, b"b"), masked(MORE, b"c"),
    ],
    "fragments of nothing": [masked(TEXT & UNFINISHED), masked(0), masked(MORE)],
    "a ping between fragments": [
        masked(TEXT & UNFINISHED, b"a"), masked(PING, b"here?"), masked(MORE, b"b"),
    ],
    "a character cut by a fragment": [
        masked(TEXT & UNFINISHED, b"\xc3"), masked(MORE, b"\xbc"),
    ],
    "pings of every size": [masked(PING, b"p" * size) for size in (0, 1, 124, 125)],
    "a pong that nobody asked for": [masked(PONG, b"unasked"), masked(TEXT, b"a")],
    "a ping of 126 bytes": [masked(PING, b"p" * 126)],
    "a ping in fragments": [masked(PING & UNFINISHED, b"p"), masked(MORE, b"q")],
    "a close in fragments": [masked(CLOSE & UNFINISHED, code(1000))],
    "text that is no UTF-8": [masked(TEXT, b"\xff\xfe")],
    "UTF-8 that breaks in a later fragment": [
        masked(TEXT & UNFINISHED, b"a"), masked(MORE, b"\xed\xa0\x80"),
    ],
    "a fragment that continues nothing": [masked(MORE, b"a")],
    "a message within a message": [masked(TEXT & UNFINISHED, b"a"), masked(TEXT, b"b")],
    "without a mask": [frame(b"bare", first=TEXT)],
    "a longer length than is needed": [b"\x82\xfe\x00\x01mask\x00"],
    "a length with its highest bit": [b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01mask\x00"],
    "what follows a close": [masked(CLOSE, code(1000)), masked(TEXT, b"late")],
    "a close with a broken reason": [masked(CLOSE, code(1000, b"\xff"))],
    "a close of one byte": [masked(CLOSE, b"\x03")],
    "a close without a code": [masked(CLOSE)],
    "a compressed message where nobody agreed on it": [masked(TEXT | 0x40, DEFLATED)],
}  # fmt: skip
CASES |= {f"opcode {op}": [masked(0x80 | op, b"x")] for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)}
CASES |= {f"reserved bit {bit:#x}": [masked(TEXT | bit, b"x")] for bit in (0x40, 0x20, 0x10)}
CASES |= {
    f"close {number}": [masked(CLOSE, code(number, b"bye"))]
    for number in (
        0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012,
        1013, 1014, 1015, 1016, 2999, 3000, 3999, 4000, 4999, 5000, 65535,
    )
}  # fmt: skip


LAST = b"the last word"


async def said(port: int, frames: list[bytes]) -> bytes:
    """Everything that comes back until the other side closes; if it does not by itself, it is
    asked to once it has answered the last word."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        await client.send(handshake())
        assert (await client.head()).status == 101
        await client.send(b"".join([*frames, masked(TEXT, LAST)]))
        heard = b""
        async with asyncio.timeout(HUNG_S):
            while LAST not in heard and (data := await client.reader.read(65_536)):
                heard += data
        if LAST in heard:
            await client.send(masked(CLOSE, code(1000)))
        return heard + await client.rest()
    except ConnectionError:
        return b"reset"
    finally:
        client.close()


@SERVERS
@pytest.mark.parametrize("name", CASES)
async def test_a_server_says_the_same_to_whatever_it_is_sent(kind: str, name: str) -> None:
    frames = CASES[name]
    async with front(kind) as (rig, port):
        directly = await said(port, frames)
        assert await said(rig.port, frames) == directly
        assert directly


# --- other people's clients ---


async def talk_by_websockets(port: int, messages: list[bytes | str]) -> list[bytes | str]:
    heard: list[bytes | str] = []
    async with connect(
        f"ws://127.0.0.1:{port}/ws", max_size=None, compression="deflate", proxy=None
    ) as socket:
        assert "permessage-deflate" in str(socket.response and socket.response.headers)
        for message in messages:
            await socket.send(message)
            heard.append(await socket.recv())
    return heard


async def talk_by_wsproto(port: int, messages: list[bytes | str]) -> list[bytes | str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    socket = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    writer.write(socket.send(Request(host="x", target="/ws", extensions=[PerMessageDeflate()])))
    heard: list[bytes | str] = []
    waiting = list(messages)
    parts: list[bytes | str] = []
    while True:
        socket.receive_data(await reader.read(65_536))
        for event in socket.events():
            if isinstance(event, AcceptConnection):
                assert event.extensions
            elif isinstance(event, TextMessage | BytesMessage):
                parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
                if not event.message_finished:
                    continue
                whole = "" if isinstance(event, TextMessage) else b""
                heard.append(whole.join(parts))  # type: ignore[arg-type]
                parts.clear()
            elif isinstance(event, CloseConnection):
                writer.close()
                return heard
            else:
                continue
            said: Event = CloseConnection(code=1000)
            if waiting:
                said = _message(waiting.pop(0))
            writer.write(socket.send(said))


def _message(data: bytes | str) -> Event:
    return TextMessage(data=data) if isinstance(data, str) else BytesMessage(data=data)


CLIENTS: dict[str, Callable[[int, list[bytes | str]], Awaitable[list[bytes | str]]]] = {
    "websockets": talk_by_websockets,
    "wsproto": talk_by_wsproto,
}


@SERVERS
@pytest.mark.parametrize("client", CLIENTS)
async def test_compressed_messages_pass_with_the_context_of_those_before(
    kind: str, client: str
) -> None:
    # Each is nearly free once the one before it is known: that is context takeover.
    text = "".join(chr(0x100 + n * 7 % 500) for n in range(3_000))
    messages: list[bytes | str] = [text, text, text[::-1], text.encode(), "", text]
    async with front(kind) as (rig, _):
        assert await CLIENTS[client](rig.port, messages) == messages


@SERVERS
@pytest.mark.parametrize("client", CLIENTS)
async def test_messages_of_every_length_pass(kind: str, client: str) -> None:
    sizes = (0, 1, 125, 126, 127, 65_535, 65_536, 1_048_576)
    messages: list[bytes | str] = [bytes(n * 31 % 251 for n in range(size)) for size in sizes]
    async with front(kind) as (rig, _):
        rig.route(websocket=WebSocketOptions(max_frame_bytes=2 * 1_048_576))
        assert await CLIENTS[client](rig.port, messages) == messages


@SERVERS
async def test_pings_of_the_gateway_disturb_no_peer_and_reach_none(kind: str) -> None:
    async with front(kind) as (rig, _):
        rig.route(websocket=WebSocketOptions(ping_s=20.0))
        async with connect(
            f"ws://127.0.0.1:{rig.port}/ws", ping_interval=None, proxy=None
        ) as socket:
            tunnel = rig.tunnel
            for message in ("a", "b", "c"):
                swept_after(tunnel, 20.0)
                async with asyncio.timeout(HUNG_S):
                    for end in (tunnel.client, tunnel.upstream):
                        assert end.pinged_at
                        while end.received_at < end.pinged_at:
                            await asyncio.sleep(0.005)  # until it has answered
                await socket.send(message)
                assert await socket.recv() == message
            # Its own ping gets its own answer.
            assert await (await socket.ping(b"mine")) >= 0.0


@pytest.mark.parametrize("number", [1000, 1001, 1003, 1011, 3000, 4999])
async def test_either_side_hears_with_what_code_the_other_closed(number: int) -> None:
    async def closing(socket: ServerConnection) -> None:
        await socket.close(number, "from the server")

    async with (
        serve(closing, "127.0.0.1", 0) as server,
        running() as rig,
    ):
        rig.spec(targets=(target(next(iter(server.sockets)).getsockname()[1]),))
        async with connect(f"ws://127.0.0.1:{rig.port}/ws", proxy=None) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (number, "from the server")


async def test_the_server_chooses_among_the_subprotocols_of_the_client() -> None:
    async with (
        front("wsproto") as (rig, _),
        connect(
            f"ws://127.0.0.1:{rig.port}/ws",
            subprotocols=["graphql-transport-ws", "chat"],  # type: ignore[list-item]
            proxy=None,
        ) as socket,
    ):
        assert socket.subprotocol == "graphql-transport-ws"


def test_the_frames_of_these_cases_are_what_a_client_would_send() -> None:
    socket = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
    socket.receive_data(b"".join(CASES["three fragments"]) + masked(PING, b"x"))
    events = list(socket.events())
    assert [event.data for event in events if isinstance(event, TextMessage)] == ["a", "b", "c"]
    assert [event.payload for event in events if isinstance(event, Ping)] == [b"x"]
    assert Pong(payload=b"x") == Ping(payload=b"x").response()
