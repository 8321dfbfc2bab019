"""Two nodes behind the HAProxy of `deploy/haproxy`: who goes away, and that no caller notices."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.contract.running import Running, started
from tests.e2e.processes import children, edit, listening, ready, until, versions, workers
from tests.ports import free_port
from tests.servers import ValkeyServer

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
DRAIN_S = 2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not here: apt-get install haproxy"),
]


@contextmanager
def balanced(folder: Path, one: Running | Silent, two: Running | Silent) -> Iterator[int]:
    """HAProxy with the shipped configuration on a free port, until the block ends."""
    port = free_port()
    self_signed("localhost", "127.0.0.1").write_pair(folder)
    text = CONFIGURATION.read_text()
    for shipped, ours in (
        ("0.0.0.0:8443", f"127.0.0.1:{port}"),
        ("/etc/authgate/tls", str(folder)),
        ("127.0.0.1:8081 port 9911", f"127.0.0.1:{one.port} port {one.admin_port}"),
        ("127.0.0.1:8082 port 9912", f"127.0.0.1:{two.port} port {two.admin_port}"),
    ):
        assert shipped in text
        text = text.replace(shipped, ours)
    (folder / "haproxy.cfg").write_text(text)
    assert HAPROXY is not None
    process = subprocess.Popen(
        [HAPROXY, "-f", str(folder / "haproxy.cfg"), "-db"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: listening(port), 10)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def connected(port: int) -> socket.socket:
    """Over TLS; whose certificate it is the tests of `deploy` look at."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", port), timeout=15)
    return context.wrap_socket(plain)


def status_of(port: int, path: str, token: str = "") -> int:
    """What HAProxy answers to one call on a connection of its own."""
    with connected(port) as sock:
        credential = f"Authorization: Bearer {token}\r\n" if token else ""
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{credential}\r\n".encode()
        )
        return int(sock.makefile("rb").readline().split()[1])


@dataclass
class Load:
    """Callers that go on until the block ends; `failed` holds every answer that was not 200."""

    port: int
    callers: int = 6
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._call) for _ in range(self.callers)]
        for thread in self._threads:
            thread.start()
        self.more(100)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def more(self, calls: int) -> None:
        """Until so many more were answered."""
        wanted = self.answered + calls
        until(lambda: self.answered >= wanted, 30)

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                self._calls_on_one_connection()
            except OSError as error:
                self._note(type(error).__name__)

    def _calls_on_one_connection(self) -> None:
        with connected(self.port) as sock:
            reader = sock.makefile("rb")
            for _ in range(20):
                if self._stop.is_set():
                    return
                sock.sendall(b"GET /public/x HTTP/1.1\r\nHost: a.example\r\n\r\n")
                status = reader.readline()
                length = 0
                while (line := reader.readline()) not in (b"\r\n", b""):
                    if match := re.match(rb"(?i)content-length: *([0-9]+)", line):
                        length = int(match[1])
                reader.read(length)
                self._note("" if b" 200 " in status else status.decode("latin-1"))

    def _note(self, failure: str) -> None:
        with self._lock:
            if failure:
                self.failed.append(failure)
            else:
                self.answered += 1


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Running, Running]]:
    drain = str(DRAIN_S)
    with (
        started(tmp_path / "one", GATEWAY_DRAIN_S=drain) as one,
        started(tmp_path / "two", "--workers", "2", GATEWAY_DRAIN_S=drain) as two,
    ):
        until(lambda: len(workers(two)) == 2, 20)
        yield one, two


def test_a_node_that_drains_loses_no_request(
    tmp_path: Path, nodes: tuple[Running, Running]
) -> None:
    one, two = nodes
    with balanced(tmp_path, one, two) as port, Load(port) as load:
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(30) == 0
        load.more(200)
    assert load.failed == []


def test_twenty_reloads_under_load_lose_no_request(
    tmp_path: Path, nodes: tuple[Running, Running]
) -> None:
    one, two = nodes
    with balanced(tmp_path, one, two) as port, Load(port) as load:
        for n in range(20):
            before = versions(two)
            edit(two, lambda text, n=n: text + f"# edit {n}\n")  # type: ignore[misc]
            until(lambda before=before: versions(two).isdisjoint(before), 10)  # type: ignore[misc]
        load.more(100)
    assert load.failed == []


def test_a_killed_worker_takes_only_its_own_requests_along(
    tmp_path: Path, nodes: tuple[Running, Running]
) -> None:
    one, two = nodes
    with balanced(tmp_path, one, two) as port, Load(port) as load:
        victim = next(iter(workers(two)))
        signalled = workers(two)
        subprocess.run(["kill", "-9", str(victim)], check=True)
        until(lambda: len(workers(two)) == 2 and workers(two) != signalled, 20)
        load.more(200)
    # At most one request of each caller was in its hands or in its accept queue.
    assert len(load.failed) <= load.callers


def test_nodes_that_answer_their_checks_late_are_kept(
    tmp_path: Path, nodes: tuple[Running, Running]
) -> None:
    """A machine that is busy for a moment is no machine that is away: its callers wait."""
    one, two = nodes
    stopped = [*workers(one), *workers(two)]
    came: list[int] = []
    with balanced(tmp_path, one, two) as port:
        until(lambda: status_of(port, "/public/x") == 200, 10)
        for worker in stopped:
            os.kill(worker, signal.SIGSTOP)
        try:
            threading.Event().wait(0.8)
            caller = threading.Thread(target=lambda: came.append(status_of(port, "/public/x")))
            caller.start()
            caller.join(0.2)
        finally:
            for worker in stopped:
                os.kill(worker, signal.SIGCONT)
        caller.join(15)
    assert came == [200]


def test_a_node_that_is_lost_takes_no_call_along_that_may_be_repeated(
    tmp_path: Path, nodes: tuple[Running, Running]
) -> None:
    one, two = nodes
    with balanced(tmp_path, one, two) as port, Load(port) as load:
        for pid in (one.process.pid, *children(one.process.pid)):
            os.kill(pid, signal.SIGKILL)
        load.more(200)
    assert load.failed == []


@dataclass
class Silent:
    """A node whose checks are good, and that hangs up on whoever calls it."""

    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    heads: list[bytes] = field(default_factory=list)
    """First lines of what came."""

    def __enter__(self) -> Silent:
        self._listening = [socket.create_server(("127.0.0.1", p)) for p in self._ports]
        for place, serve in zip(self._listening, (self._hang_up, self._be_well), strict=True):
            threading.Thread(target=self._accept, args=(place, serve), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for place in self._listening:
            place.shutdown(socket.SHUT_RDWR)
            place.close()

    @property
    def _ports(self) -> tuple[int, int]:
        return self.port, self.admin_port

    def _accept(self, listening: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            with sock:
                serve(sock)

    def _hang_up(self, sock: socket.socket) -> None:
        self.heads.append(sock.recv(65_536).partition(b"\r\n")[0])

    def _be_well(self, sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(("method", "repeated"), [("GET", True), ("POST", False), ("PUT", False)])
def test_only_what_changes_nothing_is_sent_to_a_second_node(
    tmp_path: Path, method: str, repeated: bool
) -> None:
    with Silent() as one, Silent() as two, balanced(tmp_path, one, two) as port:
        with connected(port) as sock:
            sock.sendall(f"{method} /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
            assert b" 502 " in sock.makefile("rb").readline()
        met = [node for node in (one, two) if node.heads]
    assert (len(met) == 2) is repeated
    assert sum(len(node.heads) for node in met) == 1 or repeated


def test_public_routes_go_on_behind_the_balancer_while_redis_is_away(
    tmp_path: Path, postgres_url: str
) -> None:
    """No node is ready then; HAProxy must not take that for nobody being there."""
    valkey = ValkeyServer(tmp_path / "valkey").start()
    shared = {
        "GATEWAY_REDIS_URL": valkey.url,
        "GATEWAY_DATABASE_URL": postgres_url,
        "GATEWAY_KEY_SECRET": base64.b64encode(os.urandom(32)).decode(),
        "GATEWAY_PUBLIC_URL": "http://127.0.0.1:8080",
        "GATEWAY_MAX_STALENESS_S": "2",
    }
    with (
        started(tmp_path / "one", **shared) as one,
        started(tmp_path / "two", **shared) as two,
        balanced(tmp_path, one, two) as port,
    ):
        token = one.sign_in("ada@example.com")["access_token"]
        assert status_of(port, "/me", token) == 200
        valkey.freeze()
        until(lambda: not ready(one)["ready"] and not ready(two)["ready"], 20)
        until(lambda: status_of(port, "/me", token) == 503, 20)
        assert [status_of(port, "/public/x") for _ in range(20)] == [200] * 20
        valkey.thaw()
        until(lambda: status_of(port, "/me", token) == 200, 20)
    valkey.kill()


def test_no_word_of_a_client_on_how_it_came_passes_the_balancer(
    tmp_path: Path, nodes: tuple[Running, Running]
) -> None:
    one, two = nodes
    with balanced(tmp_path, one, two) as port, connected(port) as sock:
        sock.sendall(
            b"GET /public/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
            b"Forwarded: for=203.0.113.9;host=evil.example\r\nX-Forwarded-Host: evil.example\r\n"
            b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\n"
            b"X-Forwarded-User: evil\r\nX-Forwarded-Prefix: /evil\r\n\r\n"
        )
        answer = sock.makefile("rb").read()
    assert b"203.0.113.9" not in answer
    assert b"evil" not in answer
