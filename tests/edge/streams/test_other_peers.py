"""Other people's clients and servers of WebSockets, through the gateway."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.edge.rig import Rig, running, target

BOTH_LOOPS = True


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
