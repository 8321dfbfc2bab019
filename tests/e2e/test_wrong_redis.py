"""A command that has come to the right SQL and to a Redis that is not the gateways'."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import until, workers
from tests.forked import GATEWAY
from tests.servers import ValkeyServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("right")).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyServer) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("wrong-redis")
    with started(folder / "g", "--workers", "2", GATEWAY_REDIS_URL=valkey.url) as one:
        until(lambda: len(workers(one)) == 2, 20)
        yield one


@pytest.fixture(scope="module", params=["empty", "another installation's"])
def wrong(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, running: Running
) -> Iterator[tuple[ValkeyServer, Running]]:
    """The Redis that was not meant, and the command line of who means it.  Whatever that does
    must leave the Redis as it is, so that one serves for all tests."""
    folder = tmp_path_factory.mktemp("wrong")
    server = ValkeyServer(folder / "valkey").start()
    mistaken = dataclasses.replace(
        running, environment={**running.environment, "GATEWAY_REDIS_URL": server.url}
    )
    try:
        if request.param == "empty":
            yield server, mistaken
        else:
            with started(folder / "other", GATEWAY_REDIS_URL=server.url):
                yield server, mistaken
    finally:
        server.kill()


def entries(server: ValkeyServer) -> bytes:
    return server.ask(b"XLEN {authgate}:changes")


def epoch(server: ValkeyServer) -> bytes:
    return server.ask(b"HGET {authgate}:state epoch")


def kept(running: Running) -> str:
    """The incarnation that SQL knows."""
    with sqlite3.connect(running.folder / "data" / "gateway.db") as database:
        (row,) = database.execute(
            "SELECT value FROM installation WHERE name = 'stream.incarnation'"
        )
    return str(row[0])


def test_a_revocation_is_told_to_nobody_there_and_reaches_the_gateways_all_the_same(
    running: Running, wrong: tuple[ValkeyServer, Running]
) -> None:
    server, mistaken = wrong
    signed = running.sign_in("somebody@example.com")
    token = signed["access_token"]
    session = running.call("GET", "/auth/me", token=token).json["session_id"]
    before = (entries(server), epoch(server), kept(running))
    done = mistaken.cli("revoke", "session", session)
    assert done.returncode == 3, done
    assert "this Redis" in done.stderr
    assert "GATEWAY_REDIS_URL" in done.stderr
    assert done.stdout == ""
    assert (entries(server), epoch(server), kept(running)) == before
    until(lambda: running.call("GET", "/me", token=token).status == 401, 15)


def test_the_exit_code_tells_although_nobody_reads_what_is_said(
    running: Running, wrong: tuple[ValkeyServer, Running]
) -> None:
    _, mistaken = wrong
    running.sign_in("unread@example.com")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [str(GATEWAY), "revoke", "user", "unread@example.com"],
            cwd=mistaken.folder,
            env=mistaken.environment,
            stderr=writer,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 3


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_what_a_command_did_that_was_ended_is_in_the_audit_log(
    running: Running, wrong: tuple[ValkeyServer, Running], signum: signal.Signals
) -> None:
    """It waits for workers that it does not find."""
    _, mistaken = wrong
    running.sign_in("ended@example.com")

    def revocations() -> int:
        with sqlite3.connect(running.folder / "data" / "gateway.db") as database:
            query = "SELECT COUNT(*) FROM changes WHERE kind = 'subject'"
            return int(database.execute(query).fetchone()[0])

    before = revocations()
    command = subprocess.Popen(
        [str(GATEWAY), "revoke", "user", "ended@example.com"],
        cwd=mistaken.folder,
        env=mistaken.environment,
        stderr=subprocess.PIPE,
    )
    until(lambda: revocations() > before, 20)
    command.send_signal(signum)
    _, said = command.communicate(timeout=20)
    assert command.returncode == 3, said
    # A call that was refused meanwhile may be written after it.
    newest = running.cli("audit", "tail", "-n", "3").stdout.splitlines()
    assert any("revoked" in line and "actor=cli:" in line for line in newest), newest


def test_doctor_tells_and_what_is_counted_elsewhere_is_not_said_to_be_forgotten(
    running: Running, wrong: tuple[ValkeyServer, Running]
) -> None:
    server, mistaken = wrong
    running.sign_in("locked@example.com")
    before = entries(server)
    done = mistaken.cli("doctor", "--json")
    assert done.returncode == 1
    found = {line["check"]: line["state"] for line in json.loads(done.stdout)}
    assert found["stream"] == "bad"
    assert mistaken.cli("users", "unlock", "locked@example.com").returncode == 3
    assert entries(server) == before


def test_with_the_right_one_a_revocation_is_confirmed_and_doctor_is_content(
    running: Running, valkey: ValkeyServer
) -> None:
    token = running.sign_in("gone@example.com")["access_token"]
    assert running.confirmed("revoke", "user", "gone@example.com").returncode == 0
    assert running.call("GET", "/me", token=token).status == 401
    found = json.loads(running.cli("doctor", "--json").stdout)
    assert {line["check"]: line["state"] for line in found}["stream"] == "good"


def test_a_revocation_right_after_the_gateways_redis_was_emptied_is_confirmed_by_itself(
    running: Running, valkey: ValkeyServer
) -> None:
    token = running.sign_in("emptied@example.com")["access_token"]
    before = kept(running)
    valkey.ask(b"FLUSHALL")
    assert running.confirmed("revoke", "user", "emptied@example.com").returncode == 0
    assert kept(running) != before
    assert running.call("GET", "/me", token=token).status == 401
