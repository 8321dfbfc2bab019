"""What large bodies cost the gateway in memory (SECURITY: 300 MB under 10 MB).

`python -m bench.bodies` measures more of it: several sizes, and sides that do not read.
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.streams import Block, Stream
from tests.contract.running import Running, started
from tests.e2e.processes import metric, until, workers
from tests.upstreams.started import Upstreams

pytestmark = pytest.mark.slow

SIZE = 300_000_000
MOST_KB = 10_000

BOMB = gzip.compress(bytes(1_000_000)) * 300
"""300 MB once it is decompressed: RFC 1952 lets members follow each other."""


@pytest.fixture
def grown_kb(front: Running, upstreams: Upstreams) -> Callable[[], int]:
    """By how much the worker's resident memory has been above what it is now (proc(5))."""
    upstreams.start("sink")
    return growth(front)


def growth(running: Running) -> Callable[[], int]:
    (pid,) = workers(running)
    status = Path(f"/proc/{pid}/status")

    def read(name: str) -> int:
        (line,) = [line for line in status.read_text().splitlines() if line.startswith(name)]
        return int(line.split()[1])

    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = read("VmRSS:")
    return lambda: read("VmHWM:") - before


def head_for(front: Running, method: str, path: str, token: str, *lines: str) -> bytes:
    first = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{front.port}\r\n"
    return (first + "\r\n".join([f"Authorization: Bearer {token}", *lines, "", ""])).encode()


def test_an_upload_of_300_mb_takes_less_than_10(
    front: Running, token: str, grown_kb: Callable[[], int]
) -> None:
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as sock:
        sock.sendall(head_for(front, "POST", "/sink/up", token, f"Content-Length: {SIZE}"))
        sock.settimeout(None)
        Block().send(sock, SIZE)
        assert Stream(sock).head().startswith(b"HTTP/1.1 200 ")
    assert grown_kb() < MOST_KB


def test_a_download_of_300_mb_takes_less_than_10(
    front: Running, token: str, grown_kb: Callable[[], int]
) -> None:
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as sock:
        sock.sendall(head_for(front, "GET", f"/sink/{SIZE}", token))
        stream = Stream(sock)
        assert stream.head().startswith(b"HTTP/1.1 200 ")
        stream.discard(SIZE)
    assert grown_kb() < MOST_KB


@pytest.mark.parametrize(("path", "status"), [("/sink/up", 200), ("/auth/login", 413)])
def test_what_300_mb_were_pressed_into_is_not_unpacked(
    front: Running, token: str, grown_kb: Callable[[], int], path: str, status: int
) -> None:
    lines = ["Content-Encoding: gzip", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(BOMB)}"]
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as sock:
        sock.sendall(head_for(front, "POST", path, token, *lines) + BOMB)
        assert Stream(sock).head().startswith(b"HTTP/1.1 %d " % status)
    assert grown_kb() < MOST_KB


def test_a_small_bomb_for_an_endpoint_of_ours_is_no_json(
    front: Running, grown_kb: Callable[[], int]
) -> None:
    body = gzip.compress(bytes(40_000_000))
    assert len(body) < 65_536
    answer = front.call(
        "POST",
        "/auth/login",
        ("Content-Type", "application/json"),
        ("Content-Encoding", "gzip"),
        body=body,
    )
    assert (answer.status, answer.reason) == (415, "media_type_unsupported")
    assert grown_kb() < MOST_KB


def test_an_idle_connection_takes_less_than_60_kb(
    front: Running, token: str, grown_kb: Callable[[], int]
) -> None:
    """Each was used once, by a caller that is known, and waits for the next call."""
    count = 300
    with ExitStack() as held:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", front.port), timeout=30)
            held.enter_context(sock)
            sock.sendall(head_for(front, "GET", "/sink/100", token))
            stream = Stream(sock)
            assert stream.head().startswith(b"HTTP/1.1 200 ")
            stream.discard(100)
        assert grown_kb() / count < 60


def test_slow_readers_take_no_more_than_the_budget(tmp_path: Path, upstreams: Upstreams) -> None:
    """400 of them; without one each took 270 KB, over 100 MB together."""
    upstreams.start("sink")
    budget = 8_388_608
    settings = {"GATEWAY_MAX_BUFFERED_BYTES": str(budget)}
    with (
        started(tmp_path / "g", routes=upstreams.routes, **settings) as one,
        ExitStack() as held,
    ):
        token = str(one.sign_in("ada@example.com")["access_token"])
        grown_kb = growth(one)
        request = head_for(one, "GET", f"/sink/{SIZE}", token)
        for _ in range(400):
            sock = held.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.connect(("127.0.0.1", one.port))
            sock.sendall(request)
        until(lambda: metric(one, "authgate_slow_clients_cut_total")[0] >= 100, 60)
        # What comes while the slowest are being cut may lie above it for a moment.
        until(lambda: metric(one, "authgate_buffered_bytes")[0] <= budget, 20)
        # The most that it ever took (measured: 28 to 47 MB): the budget, for each connection its own
        # 60 KB, and what is read before the slowest are cut.
        assert grown_kb() < 64_000
