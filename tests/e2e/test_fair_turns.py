"""One connection that sends much at once, of whatever is small: everybody else is served meanwhile."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.contract.answers import read_answer
from tests.contract.running import Running, started

ROUTES = """\
version: 1
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
  sockets: {{targets: ["http://127.0.0.1:%d"]}}
  tiny: {{targets: ["http://127.0.0.1:%d"]}}
routes:
  - {{id: up, match: {{path: /up}}, auth: public, upstream: echo}}
  - {{id: socket, match: {{path: /socket}}, auth: public, upstream: sockets}}
  - {{id: tiny, match: {{path: /tiny}}, auth: public, upstream: tiny}}
  - {{id: here, match: {{path: /here}}, auth: public, direct_response: {{body: here}}}}
  - {{id: me, match: {{path: /me}}, policy: signed-in, upstream: echo}}
"""
CHUNKS = b"1\r\na\r\n" * 40_000
UPLOAD = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
HANDSHAKE = (
    b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
GRANTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)
FLOODS = {
    "requests for nothing": (b"", b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n" * 9_000),
    "requests without a credential": (b"", b"GET /me HTTP/1.1\r\nHost: a\r\n\r\n" * 9_000),
    "chunks of a byte": (UPLOAD % b"/up", CHUNKS),
    "chunks of a byte for an endpoint of ours": (UPLOAD % b"/auth/login", CHUNKS),
    "chunks with long extensions": (UPLOAD % b"/up", (b"1" + b";a=b" * 250 + b"\r\na\r\n") * 254),
    "long paths": (b"", b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"%ef%bc%8e" * 800) * 30),
    "empty frames": (HANDSHAKE, b"\x81\x80abcd" * 40_000),
    "a backend's chunks of a byte": (b"GET /tiny HTTP/1.1\r\nHost: a\r\n\r\n", b""),
}


def drain(sock: socket.socket) -> None:
    with suppress(OSError):
        while sock.recv(1 << 20):
            pass


def grant(sock: socket.socket) -> None:
    sock.sendall(GRANTED)
    drain(sock)


def pour(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(OSError):
        while True:
            sock.sendall(CHUNKS)


@contextmanager
def backend(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Its port.  Each connection is answered once its request's head has come."""

    def serve(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.recv(65_536)
            answer(sock)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # to close it does not wake who waits in `accept`


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("turns") / "g"
    with (
        backend(grant) as sockets,
        backend(pour) as tiny,
        started(folder, routes=ROUTES % (sockets, tiny)) as running,
    ):
        yield running


@contextmanager
def flooded(port: int, first: bytes, again: bytes) -> Iterator[None]:
    """One connection after the other: each is sent `again` until the gateway ends it."""
    over = threading.Event()
    began = threading.Event()

    def flood() -> None:
        while not over.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as sock:
                sock.settimeout(1)
                sock.sendall(first)
                threading.Thread(target=drain, args=(sock,), daemon=True).start()
                while not over.is_set():
                    began.set()
                    if again:
                        sock.sendall(again)
                    else:
                        over.wait(0.05)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        assert began.wait(10)
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("what", FLOODS)
def test_one_connection_that_sends_much_at_once_keeps_nobody_waiting(
    gateway: Running, what: str
) -> None:
    """The loops read one socket up to 32 times before they look at another: what was read of it
    used to be taken whole, and others waited for 3 to 20 s and more."""
    took: list[float] = []
    with flooded(gateway.port, *FLOODS[what]):
        for _ in range(20):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as sock:
                sock.sendall(b"GET /here HTTP/1.1\r\nHost: a\r\n\r\n")
                assert read_answer(sock.makefile("rb"), "GET").body == b"here"
            took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.5, took
    assert max(took) < 2, took
