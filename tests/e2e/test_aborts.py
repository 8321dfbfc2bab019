"""Clients that leave a real gateway: nothing of theirs goes on upstream."""

from __future__ import annotations

import base64
import hashlib
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.edge.server.limits import ListenerLimits
from gateway.edge.upstream.connection import SWEEP_S
from tests.contract.running import Running, started
from tests.e2e.processes import metric, until

ROUTES = """\
version: 1
defaults: {{auth: public}}
upstreams:
  slow:
    targets: ["http://127.0.0.1:{slow}"]
    timeout: {{response: 60s, idle: 60s}}
routes:
  - {{id: slow, match: {{path: "/slow/{{kind}}"}}, upstream: slow}}
"""
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Slow(socketserver.ThreadingTCPServer):
    """Begins answers that never end, grants sockets, and counts what is under way."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Slow)
        self.under_way: set[int] = set()
        self.begun = 0


class _Slow(socketserver.StreamRequestHandler):
    server: Slow

    def handle(self) -> None:
        head = b""
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            head += line
        if not head:
            return
        me = threading.get_ident()
        self.server.under_way.add(me)
        self.server.begun += 1
        try:
            self.wfile.write(self.begin(head))
            # Whoever leaves ends this read; a byte that comes is thrown away.
            while self.connection.recv(65_536):
                pass
        except ConnectionError:
            pass
        finally:
            self.server.under_way.discard(me)

    def begin(self, head: bytes) -> bytes:
        if head.startswith(b"GET /slow/silent "):
            return b""
        if head.startswith(b"GET /slow/stream "):
            return (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
            )
        key = head.lower().index(b"sec-websocket-key: ") + 19
        accept = base64.b64encode(hashlib.sha1(head[key : key + 24] + GUID).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )


@pytest.fixture(scope="module")
def slow() -> Iterator[Slow]:
    server = Slow()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def gateway(slow: Slow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    routes = ROUTES.format(slow=slow.server_address[1]).replace("{", "{{").replace("}", "}}")
    folder: Path = tmp_path_factory.mktemp("aborts") / "g"
    with started(folder, "--workers", "2", routes=routes) as running:
        yield running


def asked(running: Running, kind: str) -> socket.socket:
    fields = ""
    if kind == "socket":
        fields = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
    client = socket.create_connection(("127.0.0.1", running.port), timeout=60)
    client.sendall(f"GET /slow/{kind} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
    if kind != "silent":
        assert client.recv(9) == b"HTTP/1.1 "
    return client


def leave(client: socket.socket, *, reset: bool) -> None:
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_who_has_left_is_known_to_within_3_s() -> None:
    """One that only ends what it sends may wait for its answer still."""
    assert ListenerLimits().half_closed_s + SWEEP_S < 3


def test_a_hundred_clients_that_abort_leave_nothing_under_way(gateway: Running, slow: Slow) -> None:
    kinds = ["stream", "silent"] * 25 + ["socket"] * 50
    clients = [asked(gateway, kind) for kind in kinds]
    until(lambda: len(slow.under_way) == 100, 40)
    assert sum(metric(gateway, "authgate_websockets")) == 50
    for number, client in enumerate(clients):
        leave(client, reset=bool(number % 2))
    until(lambda: not slow.under_way, 40)
    assert slow.begun == 100  # none of them was tried again
    until(lambda: sum(metric(gateway, "authgate_websockets")) == 0, 40)
    until(lambda: sum(metric(gateway, "authgate_connections")) == 0, 40)
