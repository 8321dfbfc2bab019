"""What a run of `make soak` breaks, and when."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from bench.soak.consequences import TABLE, Kind
from bench.soak.events import done_kinds
from bench.soak.plot import drawn
from bench.soak.report import consequences, filled, with_consequences
from bench.soak.schedule import ENDS_PROCESSES, ONCE, opening_s, schedule

HOUR_S = 3600.0


def test_each_kind_of_event_has_its_consequence_and_is_done() -> None:
    assert set(TABLE) == set(Kind) == done_kinds()


def test_one_seed_is_one_schedule() -> None:
    assert schedule(HOUR_S, 7) == schedule(HOUR_S, 7)
    assert schedule(HOUR_S, 7) != schedule(HOUR_S, 8)


@pytest.mark.parametrize("seed", range(20))
def test_an_hour_has_every_kind_and_repeats_what_costs_nobody_anything(seed: int) -> None:
    count = Counter(one.kind for one in schedule(HOUR_S, seed))
    assert set(count) == set(Kind)
    assert all(count[kind] == 1 for kind in ONCE)
    assert all(count[kind] >= 3 for kind in Kind if kind not in ONCE)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("seconds", [600.0, 900.0, HOUR_S])
def test_while_memory_is_measured_nothing_ends_the_first_node(seconds: float, seed: int) -> None:
    for one in schedule(seconds, seed):
        ends = one.kind is Kind.ROLLING_RESTART or (one.kind in ENDS_PROCESSES and one.node == 0)
        assert not ends or one.at_s < opening_s(seconds)


@pytest.mark.parametrize("seed", range(20))
def test_a_run_of_minutes_has_each_kind_once(seed: int) -> None:
    planned = schedule(90, seed)
    assert Counter(one.kind for one in planned) == Counter(set(Kind) - {Kind.NODE_RESTARTED})
    assert max(one.at_s for one in planned) < 90


def test_the_tables_go_between_the_marks_of_the_page() -> None:
    page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    once = filled(page, "x", "new")
    assert "old" not in once
    assert once.startswith("a\n")
    assert once.endswith("\nb\n")
    assert filled(once, "x", "new") == once
    with pytest.raises(ValueError, match="lacks the marks"):
        filled("a page without marks", "x", "new")
    assert consequences().count("\n") == len(Kind) + 1


def test_the_page_tells_what_each_event_may_cost() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text("utf-8")
    assert with_consequences(page) == page, "make docs writes it anew"


def test_a_plot_is_drawn_of_what_was_written() -> None:
    document = {
        "about": {"seconds": 120},
        "events": [
            {"kind": "redis killed", "what": "x", "at_s": 5.0, "healed_after_s": 2.0},
            {"kind": "sql <away>", "what": "y", "at_s": 50.0, "healed_after_s": 8.0},
        ],
        "plot": {
            "step_s": 1.0,
            "availability": [[0, 1.0], [60, 0.5], [119, 1.0]],
            "p50_ms": [[0, 3.0], [60, 4.0]],
            "p99_ms": [[0, 9.0], [60, 44.0]],
            "memory_mb": {"node 1, worker 7": [[0, 80.0], [119, 81.0]]},
        },
    }
    picture = drawn(json.loads(json.dumps(document)))
    assert picture.startswith("<svg ")
    assert "redis killed" in picture
    assert "sql &lt;away&gt;" in picture
    assert "node 1, worker 7" in picture
