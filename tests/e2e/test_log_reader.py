"""Whoever reads the log goes away: lines are lost, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import public_works, until, workers
from tests.servers import ValkeyServer


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path / "valkey").start()
    yield server
    server.kill()


@pytest.fixture
def unread(tmp_path: Path, valkey: ValkeyServer) -> Iterator[Running]:
    """A gateway whose standard error is a pipe that nobody reads any more."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    within = ["sh", "-c", f"exec \"$@\" 2>'{pipe}'", "sh"]
    settings = {"GATEWAY_REDIS_URL": valkey.url, "GATEWAY_MAX_STALENESS_S": "2"}
    with started(tmp_path / "g", "--workers", "2", within=within, **settings) as running:
        until(lambda: len(workers(running)) == 2, 20)
        os.close(reader)
        yield running


def test_an_outage_heals_although_nobody_reads_of_it(unread: Running, valkey: ValkeyServer) -> None:
    token = unread.sign_in("somebody@example.com")["access_token"]
    valkey.freeze()
    until(lambda: unread.call("GET", "/me", token=token).status == 503, 40)
    valkey.thaw()
    until(lambda: unread.call("GET", "/me", token=token).status == 200, 40)
    until(lambda: len(workers(unread)) == 2, 40)
    # 503 where a worker of a machine this busy has not confirmed it in time.
    until(lambda: unread.call("POST", "/auth/logout", token=token).status == 204, 40)


def test_a_worker_that_dies_is_replaced_although_nobody_reads_of_it(unread: Running) -> None:
    victim = workers(unread)[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers(unread)) == 2 and victim not in workers(unread), 40)
    assert unread.process.poll() is None
    until(lambda: public_works(unread), 40)
