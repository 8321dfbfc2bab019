"""The decision log loses lines before it holds up a request."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.access.decision_record import read_record
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.edge.replies.observers import DecisionObservers
from gateway.model import Reason
from gateway.telemetry import decision_log
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.decision_log import DecisionLog, DecisionLogOptions
from gateway.telemetry.exposition import exposition
from gateway.telemetry.metrics import Metrics
from tests.access.worlds import NOW, rule_world, snapshot, who
from tests.databases import Hands

WORLD = rule_world("- {id: own, allow: ['*'], when: resource.owner == user.id}")

READS_BODY = snapshot(
    """
    - id: orders
      match: {path: "/orders/{id}", methods: [POST]}
      policy: p
      action: orders:write
      resource: {x: "{body.x}"}
      upstream: api
    """,
    "policy: p\nrules:\n  - {id: b, allow: ['*'], when: resource.x == 'yes'}\n",
)


def log_of(folder: Path, **options: Any) -> DecisionLog:
    chance = options.pop("chance", lambda: 0.5)
    return DecisionLog(
        DecisionLogOptions(folder, **options),
        FixedClock(NOW),
        lambda: "v1",
        name="1",
        chance=chance,
    )


def tell(
    to: DecisionLog | DecisionObservers, url: str = "/orders/u1", request_id: str = "r1"
) -> None:
    answer = simulate(SimulatedRequest("GET", url, who("u1"), clock=FixedClock(NOW)), WORLD)
    to.decided(answer.call, answer.decision, 200, request_id)


def lines(folder: Path) -> list[Any]:
    return [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]


async def test_what_was_decided_is_written_and_can_be_read(tmp_path: Path) -> None:
    log = log_of(tmp_path / "d")
    tell(log)
    await log.flush()
    (record,) = lines(tmp_path / "d")
    recorded = read_record(record)
    assert recorded is not None
    assert (recorded.request_id, recorded.version, recorded.allowed) == ("r1", "v1", True)
    assert ((tmp_path / "d").stat().st_mode & 0o777) == 0o700
    assert ((tmp_path / "d" / "decisions-1.jsonl").stat().st_mode & 0o777) == 0o600


@pytest.mark.parametrize(("sample", "written"), [(1.0, 2), (0.6, 2), (0.4, 1), (0.0, 1)])
async def test_allowed_calls_are_sampled_and_denials_are_not(
    tmp_path: Path, sample: float, written: int
) -> None:
    log = log_of(tmp_path, sample=sample)
    tell(log)
    tell(log, "/orders/u2")
    await log.flush()
    assert len(lines(tmp_path)) == written


async def test_files_are_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    clock = Hands(NOW)
    options = DecisionLogOptions(tmp_path, total_bytes=2_000, total_files=4)
    log = DecisionLog(options, clock, lambda: "v1", name=str(os.getpid()))
    for number in range(12):
        clock.at = NOW + number
        tell(log, request_id=f"r{number}")
        await log.flush()
        (tmp_path / f"decisions-{os.getpid()}.jsonl").touch()
    held = [record["id"] for record in lines(tmp_path)]
    assert len(list(tmp_path.iterdir())) <= 4
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2_000 + 500
    assert "r11" in held
    assert "r0" not in held


async def test_files_of_workers_that_ended_are_bounded(tmp_path: Path) -> None:
    """As many as have died: each has left a file that nobody writes any more."""
    folder = tmp_path / "d"
    folder.mkdir()
    for number in range(40):
        file = folder / f"decisions-{1000 + number}.jsonl"
        file.write_text("{}\n")
        os.utime(file, (number, number))
    log = log_of(folder, workers=2)
    tell(log)
    await log.flush()
    left = {file.name for file in folder.iterdir()}
    assert left == {"decisions-1.jsonl", *(f"decisions-{1000 + n}.jsonl" for n in range(25, 40))}


async def test_however_many_workers_write_the_folder_stays_within_its_bytes(tmp_path: Path) -> None:
    options = DecisionLogOptions(tmp_path, workers=3, total_bytes=12_000, total_files=16)
    clock = Hands(NOW)
    logs = [DecisionLog(options, clock, lambda: "v1", name=f"{n}") for n in range(3)]
    for turn in range(60):
        clock.at += 1
        log = logs[turn % 3 if turn > 30 else 0]
        tell(log)
        await log.flush()
        held = sum(file.stat().st_size for file in tmp_path.iterdir())
        # A file is begun anew when it is full: by the last line it may be over.
        assert held <= 12_000 + 3 * 500
        assert len(list(tmp_path.iterdir())) <= 16


async def test_what_was_not_written_is_counted_in_a_metric(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file, where a folder should be")
    metrics = Metrics()
    tally = metrics.tally("decision_log_dropped", "About.")
    log = DecisionLog(
        DecisionLogOptions(tmp_path / "d"), FixedClock(NOW), lambda: "v1", dropped=tally
    )
    tell(log)
    await log.flush()
    assert b"authgate_decision_log_dropped_total 1.0" in exposition([metrics.state()])


async def test_a_full_queue_drops_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "MAX_WAITING", 2)
    log = log_of(tmp_path)
    for _ in range(5):
        tell(log)
    await log.flush()
    assert (len(lines(tmp_path)), log.dropped) == (2, 3)


async def test_a_folder_that_cannot_be_written_loses_lines_only(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file, where a folder should be")
    log = log_of(tmp_path / "d")
    tell(log)
    await log.flush()
    assert log.dropped == 1


async def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    task = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    tell(log)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(lines(tmp_path)) == 1


async def test_several_journals_are_told_of_everything(tmp_path: Path) -> None:
    one, two = log_of(tmp_path / "1"), log_of(tmp_path / "2")
    both = DecisionObservers(one, two)
    tell(both)
    both.refused(Reason.REQUEST_MALFORMED, "", AnsweredRequest("r2", 400))
    await one.flush()
    await two.flush()
    assert len(lines(tmp_path / "1")) == len(lines(tmp_path / "2")) == 1


async def test_bodies_that_wait_for_a_slow_disk_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "MAX_BODY_CHARACTERS", 10)
    log = log_of(tmp_path / "d")

    def tell_of(text: str, request_id: str) -> None:
        body = {"x": text, "y": ["what no policy reads"] * 100}
        asked = SimulatedRequest("POST", "/orders/u1", who("u1"), body=body)
        answer = simulate(asked, READS_BODY)
        log.decided(answer.call, answer.decision, 403, request_id)

    for number, text in enumerate(("12345", "12345", "1")):
        tell_of(text, f"r{number}")
    assert log.dropped == 1
    await log.flush()
    tell_of("1234567890", "r3")
    await log.flush()
    told = {record["id"]: record["body"]["values"] for record in lines(tmp_path / "d")}
    assert told == {"r0": {"x": "12345"}, "r1": {"x": "12345"}, "r3": {"x": "1234567890"}}
