"""A gateway on a database that a newer version has moved on: it goes on, or says why not."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.stores.migrations import shipped
from tests.contract.running import Running, started, wait_until_ready
from tests.e2e.processes import until, workers
from tests.forked import GATEWAY, serve

pytestmark = pytest.mark.slow

NEWEST = shipped()[-1].number
EMAIL = "ada@example.com"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with started(tmp_path / "g", "--workers", "2") as running:
        until(lambda: len(workers(running)) == 2, 20)
        yield running


def move_on(running: Running, *, needs: int) -> None:
    """What a newer version leaves: a row of its own, and a column that nobody here knows."""
    with closing(sqlite3.connect(running.folder / "data" / "gateway.db", timeout=10)) as database:
        database.execute("ALTER TABLE accounts ADD COLUMN colour TEXT")
        database.execute(
            "INSERT INTO schema_migrations VALUES (?, '9000_colour.sql', 'x', 0, ?)", (9000, needs)
        )
        database.commit()


def kill_one(running: Running) -> None:
    before = workers(running)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: before[0] not in workers(running), 20)


def test_what_only_adds_keeps_no_worker_and_no_node_of_this_version_from_starting(
    running: Running,
) -> None:
    token = running.sign_in(EMAIL)["access_token"]
    move_on(running, needs=NEWEST)
    kill_one(running)
    until(lambda: len(workers(running)) == 2, 30)
    assert running.call("GET", "/me", token=token).status == 200
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(40) == 0
    with running.log.open("ab") as log:
        again = serve(running.folder, running.environment, (log, log))
        try:
            wait_until_ready(again, running.admin_port, running.log)
            assert running.sign_in(EMAIL)["access_token"]
            assert running.call("GET", "/me", token=token).status == 200
        finally:
            again.send_signal(signal.SIGTERM)
            again.wait(40)
    text = running.log.read_text()
    assert '"migrations": ["9000_colour.sql"], "event": "schema-is-ahead"' in text
    status = running.cli("db", "status")
    assert status.returncode == 0
    assert "9000_colour.sql" in status.stdout
    backup = running.cli("db", "backup", "kept")
    assert backup.returncode == 1
    assert "9000_colour.sql of a newer version" in backup.stderr


def test_what_needs_more_is_refused_at_a_start_and_told_by_a_worker_that_is_replaced(
    running: Running,
) -> None:
    running.sign_in(EMAIL)
    move_on(running, needs=9000)
    # The workers that run go on.
    assert running.sign_in(EMAIL)["access_token"]
    kill_one(running)
    until(lambda: '"event": "schema-refused"' in running.log.read_text(), 30)
    assert len(workers(running)) == 1
    assert running.call("GET", "/public/x").status == 200
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(40) == 0
    refused = subprocess.run(
        [str(GATEWAY), "serve"],
        cwd=running.folder,
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert "9000_colour.sql, which this version does not know: it was upgraded by a newer" in (
        refused.stderr
    )
