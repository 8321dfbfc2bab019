"""A worker is stopped while one of its users signs out elsewhere, and then goes on.

What its sockets and streams hand on after the 204 is counted; `tests/e2e/test_paused_workers.py`
and `python -m bench.paused` ask for none.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import socket
import socketserver
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from tests.contract.answers import read_answer
from tests.contract.running import Running
from tests.e2e.processes import edit, metric, until, workers

BUSY_WITH = 16
"""Connections whose calls are at work when the worker is stopped.  One that is stopped while it
waits for events is woken as by a signal, and looks at its timers before its sockets; one that is
stopped at work, or with its whole machine, is not."""
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MARK = b"said-after-the-204"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ROUTE = """\
  - id: lasting
    match: {path: /lasting}
    policy: signed-in
    upstream: talker
"""


def masked(content: bytes) -> bytes:
    """A text frame of a client; the mask is of zeros, so that its bytes are seen (RFC 6455
    section 5.3 forbids a mask that can be guessed, and nobody here guesses)."""
    return bytes((0x81, 0x80 | len(content), 0, 0, 0, 0)) + content


def text(content: bytes) -> bytes:
    return bytes((0x81, len(content))) + content


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


class _Call(socketserver.StreamRequestHandler):
    server: Talker

    def handle(self) -> None:
        head = b""
        while (line := self.rfile.readline()) not in (b"", b"\r\n"):
            head += line
        found = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
        if found is None:
            self.request.sendall(EVENTS + chunk(b"data: begun\n\n"))
        else:
            accept = base64.b64encode(hashlib.sha1(found[1] + GUID).digest())
            self.request.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
        with self.server.lock:
            self.server.calls.append((self.request, found is not None))
        while data := self._received():
            with self.server.lock:
                self.server.heard += data

    def _received(self) -> bytes:
        try:
            return bytes(self.request.recv(65_536))
        except OSError:
            return b""


class Talker(socketserver.ThreadingTCPServer):
    """An upstream whose answers last: it keeps what it hears, and says what it is told to."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Call)
        self.lock = threading.Lock()
        self.calls: list[tuple[socket.socket, bool]] = []
        self.heard = b""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def say(self, content: bytes) -> None:
        """To every call; one that has ended hears nothing."""
        with self.lock:
            for call, is_socket in self.calls:
                try:
                    call.sendall(text(content) if is_socket else chunk(content))
                except OSError:
                    continue


@dataclass
class Passed:
    """What was handed on after the 204 by the worker that had stood still."""

    frames: int
    events: int
    held: int
    """Sockets and streams that it held: none, and the run has shown nothing."""


@dataclass
class Pausing:
    running: Running
    talker: Talker = field(default_factory=Talker)

    def install(self) -> None:
        port = self.talker.server_address[1]
        upstream = f'upstreams:\n  talker: {{targets: ["http://127.0.0.1:{port}"]}}\n'
        edit(self.running, lambda text: text.replace("upstreams:\n", upstream, 1) + ROUTE)
        until(lambda: len(workers(self.running)) == 2, 60)
        until(lambda: self.running.call("GET", "/lasting").status == 401, 60)

    @property
    def _public(self) -> str:
        return f"GET /public/x HTTP/1.1\r\nHost: 127.0.0.1:{self.running.port}\r\n\r\n"

    @property
    def _refused(self) -> bytes:
        return f"GET /auth/me HTTP/1.1\r\nHost: 127.0.0.1:{self.running.port}\r\n\r\n".encode()

    def _open(self, head: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.running.port), timeout=10)
        opened.sendall(head.encode())
        return opened

    def _last(self, token: str, *, upgrade: bool) -> socket.socket:
        key = base64.b64encode(os.urandom(16)).decode()
        more = (
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n"
        )
        opened = self._open(
            f"GET /lasting HTTP/1.1\r\nHost: 127.0.0.1:{self.running.port}\r\n"
            f"Authorization: Bearer {token}\r\n{more if upgrade else ''}\r\n"
        )
        begun = b""
        while not begun.endswith(b"\r\n\r\n" if upgrade else b"begun\n\n\r\n"):
            begun += opened.recv(1)
        assert begun.startswith(b"HTTP/1.1 101 " if upgrade else b"HTTP/1.1 200 "), begun
        return opened

    def run(self, email: str, pairs: int = 8) -> Passed:
        """One worker stands still from before the sign-out until after its 204."""
        running, talker = self.running, self.talker
        with talker.lock:
            talker.calls.clear()
            talker.heard = b""
        token = running.sign_in(email)["access_token"]
        paused = workers(running)[0]
        with ExitStack() as opened:
            sockets = [opened.enter_context(self._last(token, upgrade=True)) for _ in range(pairs)]
            streams = [opened.enter_context(self._last(token, upgrade=False)) for _ in range(pairs)]
            until(lambda: sum(metric(running, "authgate_long_lived_requests")) >= 2 * pairs, 60)
            busy = [opened.enter_context(self._open(self._public)) for _ in range(BUSY_WITH)]
            for each in busy:
                read_answer(each.makefile("rb"), "GET")
            for each in busy:
                each.sendall(self._refused * 300)
            os.kill(paused, signal.SIGSTOP)
            try:
                self._sign_out(token)
                held = [s for s in (*sockets, *streams) if not _ended(s)]
                for each in sockets:
                    _send(each, masked(MARK))
                talker.say(MARK)
            finally:
                os.kill(paused, signal.SIGCONT)
            told = [(each in sockets, _rest(each)) for each in held]
            until(lambda: sum(metric(running, "authgate_long_lived_requests")) == 0, 60)
            until(lambda: paused in workers(running), 60)
        with talker.lock:
            frames = talker.heard.count(MARK)
        frames += sum(said.count(MARK) for is_socket, said in told if is_socket)
        events = sum(said.count(MARK) for is_socket, said in told if not is_socket)
        return Passed(frames, events, len(held))

    def _sign_out(self, token: str) -> None:
        """By the worker that goes on: connections that the other one holds are not answered."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with closing(self._open(self._public)) as asked:
                asked.settimeout(0.5)
                reader = asked.makefile("rb")
                try:
                    read_answer(reader, "GET")
                except TimeoutError:
                    continue
                asked.settimeout(20)
                asked.sendall(
                    f"POST /auth/logout HTTP/1.1\r\nHost: 127.0.0.1:{self.running.port}\r\n"
                    f"Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n".encode()
                )
                if read_answer(asked.makefile("rb"), "POST").status == 204:
                    return
        raise AssertionError("no 204 within 30 s")


def _ended(connection: socket.socket) -> bool:
    """Whether the other end has closed it; what it said before is not looked at."""
    connection.settimeout(0.0)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(10.0)
    return True


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        return


def _rest(connection: socket.socket) -> bytes:
    said = b""
    try:
        while data := connection.recv(65_536):
            said += data
    except ConnectionError:
        pass
    return said
