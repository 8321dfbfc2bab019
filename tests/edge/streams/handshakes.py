"""A handshake of a WebSocket, upstreams that grant it, and a socket that is open."""

from __future__ import annotations

import asyncio

from gateway.edge.streams.tunnel import Tunnel
from tests.edge.rig import HUNG_S, Client, Exchange, Rig, Script

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
    async with asyncio.timeout(HUNG_S):
        return await client.reader.readexactly(count)


def swept_after(tunnel: Tunnel, seconds: float) -> None:
    """A sweep that finds it as if so long had passed since all that it remembers.  To wait for a
    Ping and answer it in time would need a machine that is not busy for longer than that."""
    tunnel.active_at -= seconds
    for end in (tunnel.client, tunnel.upstream):
        end.received_at -= seconds
        for moment in ("pinged_at", "paused_at"):  # zero: never
            if at := getattr(end, moment):
                setattr(end, moment, at - seconds)
    tunnel.sweep(tunnel.loop.time())
