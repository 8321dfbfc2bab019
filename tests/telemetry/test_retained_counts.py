"""The counts of a node never go back while it runs, whatever becomes of its workers."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.telemetry.exposition import exposition
from gateway.telemetry.metrics import Metrics, State
from gateway.telemetry.retained_counts import RetainedCounts


def gone() -> str:
    """The number of a process that was."""
    with subprocess.Popen(["true"]) as ended:
        pass
    return str(ended.pid)


def worker(calls: int, pid: str | None = None) -> dict[str, Any]:
    """What a worker tells after so many calls, as it travels."""
    metrics = Metrics()
    for _ in range(calls):
        metrics.route("orders").record("rule_allowed", 200, 0.001, 0.01)
        metrics.record_endpoint("/auth/login", "ok", 200, 0.1)
    metrics.route("never-called")
    told = dict(json.loads(json.dumps(metrics.state())))
    told["worker"] = str(os.getpid()) if pid is None else pid
    return told


def count(states: Sequence[State]) -> set[int]:
    """The calls that these add up to, by each family that counts them."""
    wanted = ("authgate_requests_total", "authgate_endpoint_requests_total", "seconds_count")
    lines = [line for line in exposition(states).decode().splitlines() if line[0] != "#"]
    return {
        int(float(line.rpartition(" ")[2]))
        for line in lines
        if any(name in line for name in wanted) and "never" not in line
    }


@pytest.fixture
def kept(tmp_path: Path) -> RetainedCounts:
    return RetainedCounts(tmp_path)


def test_what_a_dead_worker_had_counted_stays(kept: RetainedCounts) -> None:
    one, dead = worker(3), worker(4, gone())
    assert count(kept.completed([one, dead])) == {7}
    assert count(kept.completed([one])) == {7}
    assert count(kept.completed([one, worker(2)])) == {9}


def test_each_of_many_that_die_is_counted_once(kept: RetainedCounts) -> None:
    for n in range(1, 6):
        kept.completed([worker(1, gone())])
        assert count(kept.completed([])) == {n}


def test_a_worker_that_is_silent_counts_as_it_last_told(kept: RetainedCounts) -> None:
    one, silent = worker(3), worker(4)
    kept.completed([one, silent])
    assert count(kept.completed([one])) == {7}
    assert count(kept.completed([one, silent])) == {7}


def test_who_tells_late_of_a_worker_that_is_gone_counts_it_once(kept: RetainedCounts) -> None:
    one, dead = worker(3), worker(4, gone())
    kept.completed([one, dead])
    kept.completed([one])
    assert count(kept.completed([one, dead])) == {7}
    assert count(kept.completed([one])) == {7}


def test_what_is_shown_of_a_dead_worker_is_its_counts_alone(kept: RetainedCounts) -> None:
    dead = worker(1, gone())
    dead["gauges"] = [["ready", "", 0.0]]
    kept.completed([dead])
    assert "authgate_ready" not in exposition(kept.completed([])).decode()


def test_a_gateway_that_is_started_begins_anew(kept: RetainedCounts, tmp_path: Path) -> None:
    kept.completed([worker(4, gone())])
    RetainedCounts(tmp_path).begin_anew()
    assert count(kept.completed([worker(1)])) == {1}


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b'{"gone": 1}', b"\xff"])
def test_a_damaged_file_is_begun_anew(kept: RetainedCounts, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "counts.json").write_bytes(damage)
    assert count(kept.completed([worker(1)])) == {1}
    assert count(kept.completed([worker(2)])) == {3}


def test_a_folder_that_is_not_there_loses_nothing_of_who_lives(tmp_path: Path) -> None:
    assert count(RetainedCounts(tmp_path / "none").completed([worker(2)])) == {2}


def test_a_worker_that_stands_still_with_the_file_in_hand_holds_nobody_up(
    kept: RetainedCounts, tmp_path: Path
) -> None:
    one, dead = worker(3), worker(4, gone())
    kept.completed([one, dead])
    with (tmp_path / "counts.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert count(kept.completed([one])) == {7}
    assert count(kept.completed([one])) == {7}
