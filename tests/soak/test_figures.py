"""What a run of `make soak` reaches, and what it writes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from bench.soak.answers import CUT, Answer
from bench.soak.figures import Figures
from bench.soak.oracle import Oracle, Subject, allowed
from bench.soak.probes import SHIPPED, Probe, Probes
from bench.soak.report import write
from bench.soak.samples import Sample, Samples
from bench.soak.stalls import Stalls
from bench.soak.town import Town

DOCS = Path(__file__).parents[2] / "docs"
HOUR_S = 3600.0
MB = 2**20


def figures(tmp_path: Path, *, failed: int = 0, grown: float = 0.0) -> Figures:
    """Of an hour in which so many probes failed and each worker grew by that share."""
    oracle = Oracle(time.monotonic() - HOUR_S)
    oracle.judge(Answer(200), [allowed()], subject=Subject.CREDENTIAL, kind="api")
    probes = Probes(
        [
            Probe(float(second), SHIPPED, "token", good=second >= failed, took_s=0.01)
            for second in range(int(HOUR_S))
        ]
    )
    samples = Samples(Town(tmp_path, 2), oracle.began_at)
    for at in range(0, int(HOUR_S) + 1, 5):
        size = int(100 * MB * (1 + grown * at / HOUR_S))
        samples.found.append(Sample(float(at), "node 1", 7, size, size // 2, 40))
    about = {"nodes": 2, "workers": 2, "seed": 1}
    return Figures(HOUR_S, oracle, probes, samples, [], Stalls(), [], about)


def missed(found: Figures) -> set[str]:
    return {goal.name.split(",")[0].split(" from")[0] for goal in found.goals() if not goal.reached}


def test_an_hour_in_which_all_was_answered_reaches_every_figure(tmp_path: Path) -> None:
    assert missed(figures(tmp_path)) == set()


@pytest.mark.parametrize(("failed", "reached"), [(3, True), (4, False)])
def test_four_seconds_of_an_hour_are_too_many(tmp_path: Path, failed: int, reached: bool) -> None:
    assert ("availability" not in missed(figures(tmp_path, failed=failed))) is reached


def test_a_worker_that_grows_misses_its_figure(tmp_path: Path) -> None:
    assert missed(figures(tmp_path, grown=0.04)) == {
        "growth of RSS a worker",
        "growth of PSS a worker",
    }
    assert missed(figures(tmp_path, grown=0.01)) == set()


def test_a_run_that_asked_nobody_reaches_nothing(tmp_path: Path) -> None:
    empty = figures(tmp_path)
    empty.probes, empty.oracle = Probes(), Oracle()
    assert "availability" in missed(empty)


def test_one_answer_that_nothing_explains_is_too_many(tmp_path: Path) -> None:
    found = figures(tmp_path)
    answer = Answer(0, CUT, sent_at=1.0, received_at=2.0)
    found.oracle.judge(answer, [allowed()], subject=Subject.PUBLIC, kind="public")
    assert missed(found) == {"unexpected 5xx or cut"}


def test_one_command_writes_the_tables_and_the_plot(tmp_path: Path) -> None:
    shutil.copy(DOCS / "reliability.md", tmp_path)
    found = figures(tmp_path)
    write(found, found.as_json(), tmp_path)
    page = (tmp_path / "reliability.md").read_text("utf-8")
    assert "| wrong decisions | 0 | 0 |" in page
    assert "(reliability.svg)" in page
    assert (tmp_path / "reliability.svg").read_text().startswith("<svg ")
