"""One token that has ended is signed out again and again: the stores do not grow, nobody is hurt."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import until, workers
from tests.servers import ValkeyServer

pytestmark = pytest.mark.slow

REPEATS = 120


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path / "valkey").start()
    yield server
    server.kill()


def audited(running: Running) -> int:
    lines = running.cli("audit", "tail", "--all", "--json").stdout.splitlines()
    return sum(json.loads(line)["event"] == "signed_out" for line in lines)


def entries(valkey: ValkeyServer) -> bytes:
    return valkey.ask(b"XLEN {authgate}:changes")


def test_repeating_a_sign_out_fills_no_store_and_costs_no_worker_its_lease(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    with started(tmp_path / "g", "--workers", "2", GATEWAY_REDIS_URL=valkey.url) as running:
        until(lambda: len(workers(running)) == 2, 20)
        other = running.sign_in("other@example.com")["access_token"]
        ended = running.sign_in("ended@example.com")["access_token"]
        until(lambda: running.call("POST", "/auth/logout", token=ended).status == 204, 10)
        until(lambda: audited(running) >= 1, 10)
        events, length = audited(running), entries(valkey)
        seen: Counter[int] = Counter()
        others: Counter[int] = Counter()

        def repeat() -> None:
            for _ in range(REPEATS // 4):
                answer = running.call("POST", "/auth/logout", token=ended)
                seen[answer.status] += 1
                assert answer.status == 204 or answer.get("retry-after") is not None

        repeating = [threading.Thread(target=repeat) for _ in range(4)]
        for thread in repeating:
            thread.start()
        while any(thread.is_alive() for thread in repeating):
            others[running.call("GET", "/me", token=other).status] += 1
        assert set(seen) == {204, 429}
        assert set(others) == {200}
        assert entries(valkey) == length
        assert audited(running) == events
        assert "revocations-unconfirmed" not in running.log.read_text()
