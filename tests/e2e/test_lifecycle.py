"""What a gateway tells of its life: to its log, and to systemd."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import until, workers
from tests.forked import GATEWAY
from tests.ports import free_port
from tests.servers import ValkeyServer

pytestmark = pytest.mark.slow


class Notified:
    """What systemd would be told, on a socket as it makes one."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)
        self._told: list[str] = []

    def told(self) -> list[str]:
        try:
            while True:
                self._told += self._socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self._told


@pytest.fixture
def systemd() -> Iterator[Notified]:
    folder = Path(tempfile.mkdtemp())
    yield Notified(folder)
    shutil.rmtree(folder)


def lines(running: Running) -> list[dict[str, Any]]:
    """The log; whatever is no JSON would be a line that nobody reads by its event."""
    return [json.loads(line) for line in running.log.read_text().splitlines()]


def told(running: Running, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(running) if line["event"] == event]


def test_a_whole_life_is_told_and_each_line_names_who_wrote_it(
    tmp_path: Path, systemd: Notified
) -> None:
    settings = {"NOTIFY_SOCKET": systemd.path, "GATEWAY_DRAIN_S": "1"}
    with started(tmp_path / "g", "--workers", "2", **settings) as one:
        until(lambda: len(told(one, "ready")) == 1, 20)
        until(lambda: "READY=1" in systemd.told(), 5)
        pids = sorted(workers(one))
        one.process.send_signal(signal.SIGTERM)
        until(lambda: "STOPPING=1" in systemd.told(), 5)
        assert one.process.wait(20) == 0
    (starting,) = told(one, "starting")
    assert starting["version"] == version("authgate")
    assert starting["GATEWAY_LISTEN"] == f"127.0.0.1:{one.port}"
    assert starting["GATEWAY_ADMIN_LISTEN"] == f"127.0.0.1:{one.admin_port}"
    assert (starting["workers"], starting["redis"]) == (2, "embedded")
    assert starting["database"] == f"{one.folder}/data/gateway.db"
    for event in ("worker-started", "worker-ready", "worker-draining", "worker-stopped"):
        assert sorted(line["worker"] for line in told(one, event)) == pids, event
    (stopping,) = told(one, "stopping")
    assert (stopping["signal"], stopping["drain_s"], stopping["worker"]) == ("SIGTERM", 1, "master")
    assert lines(one)[-1]["event"] == "stopped"
    assert all("worker" in line and "level" in line for line in lines(one))


def test_systemd_is_told_ready_with_readyz_and_asked_for_patience_until_then(
    tmp_path: Path, systemd: Notified
) -> None:
    port = free_port()
    with started(
        tmp_path / "g",
        "--workers",
        "2",
        until="/healthz",
        GATEWAY_REDIS_URL=f"redis://:hunter2@127.0.0.1:{port}",
        NOTIFY_SOCKET=systemd.path,
    ) as one:
        until(lambda: "STATUS=0 of 2 workers can decide" in systemd.told(), 10)
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in systemd.told())
        assert one.admin("/readyz").status == 503
        assert "READY=1" not in systemd.told()
        (stale, *_) = told(one, "waiting-for-store") or told(one, "task-waits-for-store")
        assert "nobody listens there" in stale["why"]
        valkey = ValkeyServer(tmp_path / "valkey", port).start()
        valkey.ask(b"CONFIG SET requirepass hunter2")
        try:
            until(lambda: "READY=1" in systemd.told(), 20)
            assert one.admin("/readyz").status == 200
        finally:
            valkey.kill()
    assert "hunter2" not in one.log.read_text()


def test_a_worker_that_was_killed_is_told_by_the_name_that_its_own_lines_bear(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "g", "--workers", "2") as one:
        until(lambda: len(workers(one)) == 2, 20)
        victim = workers(one)[0]
        assert victim in [line["worker"] for line in told(one, "worker-started")]
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(told(one, "worker-died")) == 1, 10)
        (died,) = told(one, "worker-died")
        assert (died["worker"], died["ended"], died["level"]) == (victim, "SIGKILL", "error")
        until(lambda: len(told(one, "worker-ready")) == 3, 20)
    assert [line for line in lines(one) if line["event"] == "library-remark"] == []


def test_a_schema_that_is_gone_is_told_in_lines_and_answered_503(tmp_path: Path) -> None:
    with started(tmp_path / "g") as one:
        with closing(sqlite3.connect(one.folder / "data" / "gateway.db")) as database:
            names = [
                row[0]
                for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            database.execute("PRAGMA foreign_keys = OFF")
            for name in names:
                database.execute(f'DROP TABLE "{name}"')
            database.commit()
        body = {"email": "a@b.example", "password": "correct horse 7 battery"}
        answer = one.call("POST", "/auth/login", json_body=body)
        assert (answer.status, answer.reason) == (503, "store_unavailable")
        until(lambda: "a table is missing" in one.log.read_text(), 10)
    assert "Traceback" not in one.log.read_text()
    assert "exception" not in {name for line in lines(one) for name in line}


def test_a_level_hides_what_is_below_it(tmp_path: Path) -> None:
    with started(tmp_path / "g", GATEWAY_LOG_LEVEL="error") as one:
        os.kill(workers(one)[0], signal.SIGKILL)
        until(lambda: len(told(one, "worker-died")) == 1, 10)
    assert {line["level"] for line in lines(one)} == {"error"}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lock").mkdir()
    done = subprocess.run(
        [str(GATEWAY), "serve"],
        env={**kept, "GATEWAY_DATA_DIR": str(tmp_path / "data")},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "data" / "lock") in done.stderr


def test_a_backend_that_nobody_reaches_is_told_once_and_not_for_each_call(tmp_path: Path) -> None:
    with started(tmp_path / "g") as one:
        for _ in range(20):
            assert one.call("GET", "/down").status == 502
        until(lambda: bool(told(one, "upstream-unreachable")), 5)
    (line,) = told(one, "upstream-unreachable")
    assert line["target"].startswith("http://127.0.0.1:")
    assert (line["why"], line["calls"], line["level"]) == ("Connection refused", 1, "warning")
