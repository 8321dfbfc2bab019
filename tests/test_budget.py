"""The guard of what a request costs: it fails where a kind grows, and never passes by silence."""

from __future__ import annotations

import json
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner, Result

from bench.budget import ANCHOR, BUDGET, build_of, code_of, here, judged, main, smaller
from bench.instructions import ALL, IN_TASKS, inclusive
from bench.peers.builds import Build

HELD = {ANCHOR: 100_000, "allowed": 150_000}


def guard(
    folder: Path, figures: dict[str, int], *words: str, on: dict[str, str] | None = None
) -> Result:
    """What it says of figures that were counted, where HELD was counted `on`."""
    budget, counted = folder / "budget.json", folder / "figures.json"
    if on is not None:
        budget.write_text(json.dumps({"counted_on": on, "builds": {"pure": HELD}}))
    counted.write_text(json.dumps(figures))
    files = ("--budget", str(budget), "--figures-from", str(counted))
    command = Typer()
    command.command()(main)
    return CliRunner().invoke(command, [*files, *words])


def test_a_kind_that_costs_more_than_three_percent_more_fails(tmp_path: Path) -> None:
    done = guard(tmp_path, HELD | {"allowed": 154_600}, on=here())
    assert done.exit_code == 1
    assert "costs more" in done.stdout
    assert "--write" in done.stdout


def test_a_kind_that_costs_less_is_told_and_may_be_kept(tmp_path: Path) -> None:
    cheaper = HELD | {"allowed": 140_000}
    done = guard(tmp_path, cheaper, on=here())
    assert done.exit_code == 0
    assert "costs less" in done.stdout
    assert "--write" in done.stdout
    assert guard(tmp_path, cheaper, "--write").exit_code == 0
    assert "costs less" not in guard(tmp_path, cheaper).stdout


def test_tasks_and_threads_are_judged_of_kinds_that_are_done_in_tasks(tmp_path: Path) -> None:
    [task] = IN_TASKS
    held = HELD | {"allowed" + ALL: 200_000, task: 100_000, task + ALL: 300_000}
    assert guard(tmp_path, held, "--write").exit_code == 0
    for kind, count in (("allowed" + ALL, 400_000), (task, 200_000), (task + ALL, 315_000)):
        assert guard(tmp_path, held | {kind: count}).exit_code == 0
    assert guard(tmp_path, held | {task + ALL: 320_000}).exit_code == 1


def test_what_one_of_two_counts_had_besides_is_left_out() -> None:
    assert smaller({"a": 1, "b": 4}, {"a": 2, "b": 3}) == {"a": 1, "b": 3}


def test_what_a_function_calls_is_counted_with_it() -> None:
    dump = """\
fn=(1) main
5 10
cfn=(2) uv__stream_io
calls=3 7
6 1200
cfn=(3) other
calls=1 9
6 50
fn=(2)
7 200
cfn=(3)
calls=3 9
8 1000
fn=(4) again
cfn=(2)
calls=1 7
+2 34
totals: 1244
""".splitlines()
    assert inclusive(dump, "uv__stream_io") == 1_234
    assert inclusive(dump, "nowhere") == 0


def test_noise_passes(tmp_path: Path) -> None:
    assert guard(tmp_path, {ANCHOR: 101_500, "allowed": 148_000}, on=here()).exit_code == 0


def test_a_kind_without_a_budget_fails(tmp_path: Path) -> None:
    assert guard(tmp_path, HELD | {"more": 1}, on=here()).exit_code == 1
    assert guard(tmp_path, HELD, "--build", "both", on=here()).exit_code == 1


def test_elsewhere_it_says_so_and_compares_with_a_public_route(tmp_path: Path) -> None:
    elsewhere = here() | {"python": "3.99"}
    twice = {kind: 2 * count for kind, count in HELD.items()}
    done = guard(tmp_path, twice, on=elsewhere)
    assert done.exit_code == 0
    assert "3.99" in done.stdout
    assert "say nothing here" in " ".join(done.stdout.split())
    done = guard(tmp_path, twice | {"allowed": 340_000}, on=elsewhere)
    assert done.exit_code == 1
    assert "costs more" in done.stdout


def test_counts_of_another_machine_are_not_kept_beside_new_ones(tmp_path: Path) -> None:
    assert guard(tmp_path, HELD, "--write", on=here() | {"cpu": "another"}).exit_code == 0
    written = json.loads((tmp_path / "budget.json").read_text())
    assert written["counted_on"] == here()
    assert written["builds"] == {"pure": HELD}


def test_the_budget_of_the_repository_is_of_eight_kinds() -> None:
    document = json.loads(BUDGET.read_text())
    for figures in document["builds"].values():
        assert len(figures) == 16
        assert not any(row.verdict for row in judged(figures, figures, elsewhere=False))


def test_the_pure_build_is_asked_for_by_its_setting() -> None:
    assert build_of(code_of(Build.PURE)) is Build.PURE
