"""Each line of a started gateway's log: its event, its level, its worker, and its trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.collector import Collector
from tests.contract.running import Running, started
from tests.e2e.processes import edit, ready, until
from tests.e2e.test_traces import parent, traced
from tests.log_events import described

pytestmark = pytest.mark.slow

LEVELS = ("debug", "info", "warning", "error")


def lines(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.log.read_text().splitlines()]


def events(running: Running) -> set[str]:
    return {line["event"] for line in lines(running)}


def break_the_configuration(running: Running) -> None:
    edit(running, lambda text: text + "\nroots: []\n")
    until(lambda: "reload-rejected" in events(running), 10)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Collector]]:
    folder = tmp_path_factory.mktemp("lines") / "g"
    with traced(folder, "--workers", "2", GATEWAY_TRACES_SAMPLE="0") as both:
        break_the_configuration(both[0])
        yield both


def test_each_line_has_a_described_event_its_level_its_time_and_its_worker(
    both: tuple[Running, Collector],
) -> None:
    running, _ = both
    # One that is busy for a second is left out of what is told meanwhile.
    until(lambda: len(ready(running)["workers"]) == 2, 20)
    known, workers = described(), {one["worker"] for one in ready(running)["workers"]}
    told = lines(running)
    assert {line["worker"] for line in told} == {"master", *workers}
    for line in told:
        assert line["level"] in known[line["event"]]
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None


def test_what_is_logged_in_a_call_names_its_trace_and_what_is_not_names_none(
    both: tuple[Running, Collector],
) -> None:
    running, _ = both
    field, trace_id = parent(1, flags="00")
    assert running.call("GET", "/down", field).status == 502
    until(lambda: "upstream-unreachable" in events(running), 10)
    named = {line["event"]: line.get("trace_id") for line in lines(running)}
    assert named.pop("upstream-unreachable") == trace_id
    assert set(named.values()) == {None}


@pytest.mark.parametrize("level", ["warning", "error"])
def test_what_is_below_the_level_is_not_logged(tmp_path: Path, level: str) -> None:
    with started(tmp_path / "g", GATEWAY_LOG_LEVEL=level) as running:
        running.call("GET", "/down")
        break_the_configuration(running)
        told = {line["level"] for line in lines(running)}
    assert told <= set(LEVELS[LEVELS.index(level) :])
    assert "error" in told
