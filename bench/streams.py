"""Both ends of a body for `bench.bodies`: a backend and clients that cost next to nothing.

They send from a file by sendfile(2) and let the kernel throw away what they receive (MSG_TRUNC,
tcp(7)), so that they share one core and still keep a proxy on another one busy.  Each connection
is a process of its own: no interpreter lock lies between them.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

BLOCK_BYTES = 1 << 20
WITHIN_S = 120.0
SLOW_S = 1.0
"""How long a slow side lets the other one wait: whatever lies between them fills up."""

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_WANTED = re.compile(rb"/([0-9]+)(?:\?| )")


class Block:
    """A megabyte that no compression makes smaller, sent as often as is needed."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("block")
        os.write(self._descriptor, os.urandom(BLOCK_BYTES))

    def send(self, sock: socket.socket, size: int) -> None:
        while size:
            size -= os.sendfile(sock.fileno(), self._descriptor, 0, min(size, BLOCK_BYTES))


class Stream:
    """One connection: heads are read, bodies thrown away."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._sink = bytearray(BLOCK_BYTES)
        self._rest = b""

    def head(self) -> bytes:
        """Up to and with the empty line; empty at the end of the connection."""
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self._sock.recv(65_536)
            if not more:
                return b""
            data += more
        self._rest = data[end + 4 :]
        return data[: end + 4]

    def discard(self, size: int) -> None:
        size -= len(self._rest)
        self._rest = b""
        if size < 0:
            raise RuntimeError("more bytes came than the head announced")
        while size:
            got = self._sock.recv_into(self._sink, min(size, BLOCK_BYTES), socket.MSG_TRUNC)
            if not got:
                raise ConnectionError(f"the connection ended {size} bytes before its body")
            size -= got


# --- the backend --------------------------------------------------------------------------------


def serve(port: int) -> None:
    """`GET /…/N` is answered with N bytes; a body with a length is thrown away, then 200.

    With `?slow` the body is left alone for SLOW_S first.
    """
    block = Block()
    listening = socket.create_server(("127.0.0.1", port), backlog=512)
    while True:
        sock, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            try:
                _serve_one(sock, block)
            finally:
                os._exit(0)
        sock.close()
        while True:  # those that have ended
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


def _serve_one(sock: socket.socket, block: Block) -> None:
    stream = Stream(sock)
    while head := stream.head():
        wanted = 0
        if head.startswith(b"GET "):
            found = _WANTED.search(head)
            wanted = int(found[1]) if found else 0
        elif length := _LENGTH.search(head):
            if b"?slow " in head:
                time.sleep(SLOW_S)
            stream.discard(int(length[1]))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % wanted)
        block.send(sock, wanted)


class ClientFailed(RuntimeError):
    """An exchange was not answered as it should be."""


# --- the clients --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    port: int
    upload: bool
    size: int
    token: str
    slow: bool
    """Whoever receives does not read at first."""
    seconds: float
    """No exchange begins after so long; each client makes one at least."""


def run(task: Task, connections: int) -> tuple[int, float]:
    """Exchanges made by all of them, and the seconds from the first to the last byte."""
    context = multiprocessing.get_context("fork")
    pipes, clients = [], []
    for _ in range(connections):
        ours, theirs = context.Pipe()
        client = context.Process(target=_client, args=(task, theirs), daemon=True)
        client.start()
        theirs.close()
        pipes.append(ours)
        clients.append(client)
    for pipe in pipes:
        _received(pipe)
    for pipe in pipes:
        pipe.send(True)
    done = [_received(pipe) for pipe in pipes]
    for client in clients:
        client.join(5)
    return sum(count for count, _, _ in done), max(d[2] for d in done) - min(d[1] for d in done)


def _received(pipe: Connection) -> tuple[int, float, float]:
    if not pipe.poll(WITHIN_S):
        raise RuntimeError(f"a client said nothing for {WITHIN_S} s")
    said: tuple[int, float, float] | str = pipe.recv()
    if not isinstance(said, tuple):
        raise ClientFailed(said)
    return said


def _client(task: Task, pipe: Connection) -> None:
    try:
        with socket.create_connection(("127.0.0.1", task.port), timeout=60) as sock:
            sock.settimeout(None)
            exchange = _exchange(task, sock)
            pipe.send((0, 0.0, 0.0))
            pipe.recv()
            count, began = 0, time.monotonic()
            while count == 0 or time.monotonic() - began < task.seconds:
                exchange()
                count += 1
            pipe.send((count, began, time.monotonic()))
    except (OSError, RuntimeError, EOFError) as error:
        pipe.send(f"{type(error).__name__}: {error}")


def _exchange(task: Task, sock: socket.socket) -> Callable[[], None]:
    stream, block = Stream(sock), Block()
    method, framing = "GET", ""
    if task.upload:
        method, framing = "POST", f"Content-Length: {task.size}\r\n"
    target = f"/api/bodies/{task.size}{'?slow' if task.slow else ''}"
    request = (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{task.port}\r\n"
        f"Authorization: Bearer {task.token}\r\n{framing}\r\n"
    ).encode()

    def once() -> None:
        if task.upload:
            sock.sendall(request, socket.MSG_MORE)
            block.send(sock, task.size)
        else:
            sock.sendall(request)
            if task.slow:
                time.sleep(SLOW_S)
        head = stream.head()
        length = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None:
            raise RuntimeError(f"answered with {head[:200]!r}")
        if int(length[1]) != (0 if task.upload else task.size):
            raise RuntimeError(f"a body of {int(length[1])} bytes was announced")
        stream.discard(int(length[1]))

    return once


if __name__ == "__main__":
    import sys

    serve(int(sys.argv[1]))
