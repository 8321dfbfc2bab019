"""WebSockets that echo: each sends a message, waits for it to come back, and sends the next.

python -m bench.scenarios.clients.sockets PORT TOKENS SECONDS     the clients
python -m bench.scenarios.clients.sockets PORT                    the upstream that echoes
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from bench.scenarios.clients import result
from bench.websocket import asking, granting

SOCKETS = 64
MESSAGE_BYTES = 64
MASK_BYTES, HEAD_BYTES = 4, 2


def masked(message: bytes) -> bytes:
    """A text frame of a client (RFC 6455, section 5.2); all of ours are shorter than 126 bytes."""
    mask = os.urandom(MASK_BYTES)
    return bytes((0x81, 0x80 | len(message))) + mask + _xor(message, mask)


def unmasked(frame: bytes) -> bytes:
    """The same frame as a server says it."""
    size = frame[1] & 0x7F
    start = HEAD_BYTES + MASK_BYTES
    body = _xor(frame[start : start + size], frame[HEAD_BYTES:start])
    return bytes((frame[0], size)) + body


def _xor(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    key = (mask * (size // MASK_BYTES + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


class Echo(asyncio.Protocol):
    """Grants every handshake and sends each message back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are none of asyncio's by inheritance.
        self._transport = cast(asyncio.Transport, transport)
        self._granted = False
        self._read = b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self._granted:
            head, end, self._read = self._read.partition(b"\r\n\r\n")
            if not end:
                self._read = head
                return
            self._granted = True
            self._transport.write(granting(head))
        while len(self._read) >= HEAD_BYTES:
            size = HEAD_BYTES + MASK_BYTES + (self._read[1] & 0x7F)
            if len(self._read) < size:
                return
            self._transport.write(unmasked(self._read[:size]))
            self._read = self._read[size:]


class Client(asyncio.Protocol):
    """One socket; `until` is when it sends no more."""

    def __init__(self, port: int, token: str, loop: asyncio.AbstractEventLoop) -> None:
        self._hello = asking(port, token)
        self._message = os.urandom(MESSAGE_BYTES // 2).hex().encode()
        self.granted: asyncio.Future[bytes] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.seconds: list[float] = []
        self.wrong = 0
        self._read = b""
        self._until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are none of asyncio's by inheritance.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._hello)

    def start(self, until: float) -> None:
        self._until = until
        self._send()

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self.granted.done():
            head, end, self._read = self._read.partition(b"\r\n\r\n")
            if not end:
                self._read = head
                return
            self.granted.set_result(head)
        while len(self._read) >= HEAD_BYTES:
            size = HEAD_BYTES + self._read[1]
            if len(self._read) < size:
                return
            self._receive(self._read[:size])
            self._read = self._read[size:]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.granted.done():
            self.granted.set_result(self._read)
        if not self.ended.done():
            self.wrong += 1
            self.ended.set_result(None)

    def close(self) -> None:
        self._transport.abort()

    def _receive(self, frame: bytes) -> None:
        if frame[0] != 0x81:
            return  # a ping of the gateway's; it gets no pong in a run this short
        now = time.perf_counter()
        self.seconds.append(now - self._sent_at)
        if frame[HEAD_BYTES:] != self._message:
            self.wrong += 1
        if now < self._until:
            self._send()
        elif not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(masked(self._message))


async def opened(port: int, token: str) -> Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(port, token, loop), "127.0.0.1", port)
    await asyncio.wait_for(client.granted, 10)
    return client


async def load(port: int, tokens: list[str], seconds: float) -> None:
    clients = [await opened(port, tokens[number % len(tokens)]) for number in range(SOCKETS)]
    refused = sum(not client.granted.result().startswith(b"HTTP/1.1 101 ") for client in clients)
    if refused:
        print(result(seconds, [], refused=refused))
        return
    began_at = time.perf_counter()
    for client in clients:
        client.start(began_at + seconds)
    await asyncio.wait([client.ended for client in clients], timeout=seconds + 10)
    took_s = time.perf_counter() - began_at
    every = [second for client in clients for second in client.seconds]
    silent = sum(not client.ended.done() for client in clients)
    print(result(took_s, every, broken=silent + sum(client.wrong for client in clients)))
    for client in clients:
        client.close()


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        uvloop.run(serve(int(sys.argv[1])))
    else:
        words = sys.argv[1:]
        uvloop.run(load(int(words[0]), Path(words[1]).read_text().split(), float(words[2])))
