"""A gateway whose disk is full, or that has no file descriptor left: a clear answer, and it heals."""

from __future__ import annotations

import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.contract.answers import Answer, read_answer
from tests.contract.running import Running, started
from tests.e2e.processes import metric, ready, until, workers
from tests.forked import GATEWAY

pytestmark = pytest.mark.slow

DISK = "size=24m"
DESCRIPTORS = 90


def login(running: Running, email: str) -> Answer:
    body = {"email": email, "password": "correct horse 7 battery"}
    return running.call("POST", "/auth/login", json_body=body)


def namespace() -> list[str]:
    """A command that runs another where it may mount; skips where nobody may."""
    command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare: apt-get install util-linux")
    probe = [*command, "mount", "-t", "tmpfs", "none", "/mnt"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs root that may mount, or user namespaces for everybody (sysctl)")
    return command


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Iterator[Running]:
    """Its data folder is a file system of its own, seen through /proc/PID/root."""
    data = tmp_path / "g" / "data"
    data.mkdir(parents=True)
    mounts = f"mount -t tmpfs -o {DISK},mode=700 none '{data}' && exec \"$@\""
    within = [*namespace(), "sh", "-c", mounts, "sh"]
    with started(tmp_path / "g", "--workers", "2", within=within) as running:
        until(lambda: len(workers(running)) == 2, 20)
        yield running


def fill(folder: Path) -> Path:
    """A file that leaves no room for another byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as sink:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while sink.write(b"x" * size):
                    pass
    return ballast


def is_well(running: Running, email: str) -> bool:
    """Somebody signs in, is let through and signs out for good, on every worker."""
    answer = login(running, email)
    if answer.status != 200:
        return False
    token = answer.json["access_token"]
    if running.call("GET", "/me", token=token).status != 200:
        return False
    if running.call("POST", "/auth/logout", token=token).status != 204:
        return False
    assert {running.call("GET", "/me", token=token).status for _ in range(6)} == {401}
    return True


def expect_no_trace(running: Running) -> None:
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "request-failed" not in log


def test_a_full_disk_is_a_clear_error_accepts_nobody_and_heals(on_a_small_disk: Running) -> None:
    one = on_a_small_disk
    before = sorted(workers(one))
    live = one.sign_in("live@example.com")["access_token"]
    leaving = one.sign_in("leaving@example.com")["access_token"]
    ended = one.sign_in("ended@example.com")["access_token"]
    assert one.call("POST", "/auth/logout", token=ended).status == 204
    # Until then SQLite may still have room in the log that it has.
    ballast = fill(Path(f"/proc/{one.process.pid}/root{one.folder}/data"))
    until(lambda: login(one, "live@example.com").status != 200, 20)
    body = {"email": "new@example.com", "password": "correct horse 7 battery"}
    for _ in range(6):
        for answer in (
            login(one, "live@example.com"),
            one.call("POST", "/auth/register", json_body=body),
        ):
            assert (answer.status, answer.reason) == (503, "store_unavailable")
            assert answer.get("retry-after") is not None
        assert one.call("POST", "/auth/logout", token=leaving).status == 503
        assert one.call("GET", "/public/x").status == 200
        assert one.call("GET", "/me", token=ended).status in (401, 503)
        assert one.call("GET", "/me", token=live).status in (200, 503)
    ballast.unlink()
    until(lambda: is_well(one, "live@example.com"), 20)
    assert sorted(workers(one)) == before
    assert one.call("GET", "/me", token=ended).reason == "token_revoked"
    assert one.call("GET", "/me", token=live).status == 200
    expect_no_trace(one)


def test_a_first_start_on_a_full_disk_says_so_and_is_exit_3(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    full = (
        f"mount -t tmpfs -o size=64k,mode=700 none '{data}'"
        f" && (dd if=/dev/zero of='{data}/ballast' bs=1k 2>/dev/null || true)"
        ' && exec "$@"'
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    done = subprocess.run(
        [*namespace(), "sh", "-c", full, "sh", str(GATEWAY), "serve"],
        env={**kept, "GATEWAY_DATA_DIR": str(data)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == f"error: No space left on device (the data folder is {data})"


def test_nothing_but_the_data_folder_need_be_writable(tmp_path: Path) -> None:
    """As in a container with a read-only root, and no /tmp."""
    data = tmp_path / "g" / "data"
    data.mkdir(parents=True)
    read_only = (
        "mount --make-rprivate / && for at in / /tmp /var/tmp /dev/shm /run; do"
        ' mount -o remount,ro,bind "$at" 2>/dev/null || true; done'
        f" && mount -t tmpfs -o size=64m,mode=700 none '{data}' && exec \"$@\""
    )
    with started(
        tmp_path / "g", "--workers", "2", within=[*namespace(), "sh", "-c", read_only, "sh"]
    ) as one:
        until(lambda: len(workers(one)) == 2, 20)
        root = Path(f"/proc/{one.process.pid}/root")
        for folder in ("/tmp", str(tmp_path)):
            with pytest.raises(OSError, match="Read-only"):
                (root / folder[1:] / "file").touch()
        one.sign_in("live@example.com")
        assert is_well(one, "live@example.com")
        os.kill(workers(one)[0], signal.SIGKILL)
        until(lambda: len(workers(one)) == 2, 20)
        expect_no_trace(one)


@contextmanager
def held(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that ask for nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(count)
        ]


def ask(sock: socket.socket, running: Running, path: str, token: str) -> tuple[int, str | None]:
    """What a call over a connection that is open already is answered, and the reason."""
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    answer = read_answer(sock.makefile("rb"), "GET")
    return answer.status, None if answer.status == 200 else answer.reason


def _not_busy(answer: tuple[int, str | None]) -> tuple[int, str | None]:
    assert answer in ((200, None), (503, "upstream_busy"))
    return answer


def test_silent_connections_shut_nobody_out(tmp_path: Path) -> None:
    """However few descriptors there are, calls find one for their upstream, and who asks finds
    the place of somebody who does not."""
    within = ["sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh"]
    with started(tmp_path / "g", within=within) as one:
        before = sorted(workers(one))
        live = one.sign_in("live@example.com")["access_token"]
        ended = one.sign_in("ended@example.com")["access_token"]
        assert one.call("POST", "/auth/logout", token=ended).status == 204
        with held(one.port, 1) as (early,), held(one.port, DESCRIPTORS):
            # The loop takes all that wait at once, before the first of them can be closed: for
            # that moment there may be no descriptor for an upstream.
            until(lambda: _not_busy(ask(early, one, "/me", live)) == (200, None), 10)
            for _ in range(3):
                assert one.call("GET", "/me", token=live).status == 200
                assert one.call("GET", "/me", token=ended).reason == "token_revoked"
            assert metric(one, "authgate_connections_evicted_total")[0] > 0
            assert ready(one)["ready"] is True
        assert sorted(workers(one)) == before
        expect_no_trace(one)


SLOW = """\
version: 1
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
  slow: {{targets: ["http://127.0.0.1:%d"]}}
routes:
  - {{id: me, match: {{path: /me}}, policy: signed-in, upstream: echo}}
  - {{id: slow, match: {{path: /slow}}, auth: public, upstream: slow}}
"""


def test_calls_that_wait_for_their_upstream_leave_descriptors_to_stores_and_files(
    tmp_path: Path,
) -> None:
    """A client and its call take two: as many as may come took all that there are."""
    limit = 400
    within = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh"]
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=limit))
        one = stack.enter_context(
            started(tmp_path / "g", routes=SLOW % silent.getsockname()[1], within=within)
        )
        (worker,) = workers(one)
        live = one.sign_in("live@example.com")["access_token"]
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=10))
            for _ in range((limit - limit // 4) * 2 // 3 - 3)
        ]
        for sock in waiting:
            sock.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: metric(one, "authgate_requests_total") != [], 10)
        refused = read_answer(waiting[-1].makefile("rb"), "GET")
        assert (refused.status, refused.reason) == (503, "upstream_busy")
        assert len(os.listdir(f"/proc/{worker}/fd")) < limit
        assert ready(one)["ready"] is True
        assert login(one, "live@example.com").status == 200
        assert one.call("GET", "/me", token=live).status in (200, 503)
        assert "Too many open files" not in one.log.read_text()
        assert "EMFILE" not in one.log.read_text()
        expect_no_trace(one)


def test_who_asks_at_once_is_answered_late_where_descriptors_are_few(tmp_path: Path) -> None:
    """Each call of a burst wanted a connection of its own, and those past the last one got 503."""
    limit = 200
    within = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh"]
    with ExitStack() as stack:
        backend = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=limit))
        routes = SLOW % backend.getsockname()[1]
        one = stack.enter_context(started(tmp_path / "g", routes=routes, within=within))
        callers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=10))
            for _ in range((limit - limit // 4) * 2 // 3 - 3)
        ]
        for sock in callers:
            sock.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        answering = threading.Thread(target=answer_each, args=(backend, len(callers)))
        answering.start()
        statuses = [read_answer(sock.makefile("rb"), "GET").status for sock in callers]
        answering.join()
        assert statuses == [200] * len(callers)


def answer_each(backend: socket.socket, count: int) -> None:
    """Over whatever connections come: nothing until no more of them do."""
    backend.settimeout(0.3)
    with selectors.DefaultSelector() as selector:
        with suppress(TimeoutError):
            while True:
                selector.register(backend.accept()[0], selectors.EVENT_READ)
        backend.settimeout(0)
        selector.register(backend, selectors.EVENT_READ)
        while count and (ready := selector.select(10)):
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj is backend:
                    selector.register(backend.accept()[0], selectors.EVENT_READ)
                elif key.fileobj.recv(65_536):
                    key.fileobj.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    count -= 1
                else:
                    selector.unregister(key.fileobj)


def test_without_a_file_descriptor_nobody_is_let_in_and_it_heals(tmp_path: Path) -> None:
    with started(tmp_path / "g") as one:
        (worker,) = workers(one)
        live = one.sign_in("live@example.com")["access_token"]
        ended = one.sign_in("ended@example.com")["access_token"]
        assert one.call("POST", "/auth/logout", token=ended).status == 204
        with held(one.port, 1) as (early,):
            assert ask(early, one, "/public/x", live) == (200, None)
            # What it keeps for the next call to the upstream ends by itself, after 4 s.
            until(lambda: established(worker, one.echo.server_address[1]) == 0, 10)
            limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
            # It keeps what it has, and gets none besides.
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, limits[1]))
            # The upstream would need a connection, and there is none to be had.
            assert ask(early, one, "/me", live) == (503, "upstream_busy")
            assert ask(early, one, "/me", ended) == (401, "token_revoked")
            with socket.create_connection(("127.0.0.1", one.port), timeout=10) as late:
                until(lambda: "connections-wait" in one.log.read_text(), 10)
                resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
                assert ask(late, one, "/me", ended) == (401, "token_revoked")
                assert ask(late, one, "/me", live) == (200, None)
        until(lambda: is_well(one, "live@example.com"), 20)
        assert workers(one) == [worker]
        expect_no_trace(one)


def test_a_worker_has_as_many_descriptors_as_the_machine_allows(tmp_path: Path) -> None:
    within = ["sh", "-c", 'ulimit -Sn 256 && exec "$@"', "sh"]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with started(tmp_path / "g", within=within) as one:
        (worker,) = workers(one)
        assert resource.prlimit(worker, resource.RLIMIT_NOFILE) == (hard, hard)


def established(pid: int, port: int) -> int:
    """TCP connections of a process to this port, by /proc."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    to = f":{port:04X}"
    return sum(line.split()[2].endswith(to) and line.split()[3] == "01" for line in lines)
