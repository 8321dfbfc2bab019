"""`python -m bench.budget`: what a request may cost, in instructions, kept in a file.

Counts what `python -m bench.instructions` counts, of eight kinds of requests, and compares it with
`bench/budget.json`.  Exits 1 where a kind costs 3 % more than the file says, in two counts; 6 %,
where tasks go on with it, of which less is sure.  Who makes a request cheaper, or knows why it
costs more, runs it with `--write` and commits the file with the change.

A count is of one minor version of Python on one kind of processor, which the file names.
Elsewhere the counts say nothing, and that is what is printed; compared is then what each kind
costs beside a public route, counted on the spot, to within a tenth.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.instructions import ALL, IN_TASKS, MISSING, Size, counted, own_program, require_valgrind
from bench.peers.builds import SWITCH, Build
from bench.processes import run_bench
from bench.results import machine
from bench.rig import HERE

console = Console(width=None if Console().is_terminal else 120)
BUDGET = HERE / "budget.json"
ABOUT = "Instructions of a whole request. Written by: python -m bench.budget --write"
ANCHOR = "public route"
MOST_APART = 0.03
MOST_APART_IN_TASKS = 0.06
MOST_APART_ELSEWHERE = 0.1

Figures = dict[str, int]


@dataclass(frozen=True, slots=True)
class Judged:
    """One kind beside its budget: `share` of it was used, 1.0 for all of it.  What tasks and the
    thread of the log do is shown and not judged, but of kinds that are done in tasks."""

    kind: str
    budget: int
    counted: int
    share: float
    most_apart: float | None
    """None where it is not judged."""

    @property
    def verdict(self) -> str:
        if self.most_apart is None:
            return ""
        if self.share > 1 + self.most_apart:
            return "costs more"
        return "costs less" if self.share < 1 - self.most_apart else ""


def here() -> dict[str, str]:
    """What counts can be compared on."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, "machine": platform.machine(), "cpu": machine()["cpu"]}


def judged(budget: Figures, figures: Figures, *, elsewhere: bool) -> list[Judged]:
    """Every kind of either; ValueError where they are not of the same kinds."""
    if budget.keys() != figures.keys():
        raise ValueError(f"not the same kinds: {sorted(budget.keys() ^ figures.keys())}")
    scale = figures[ANCHOR] / budget[ANCHOR] if elsewhere else 1.0
    rows = []
    for kind, allowed in budget.items():
        in_tasks = kind.removesuffix(ALL) in IN_TASKS
        most_apart: float | None = MOST_APART_IN_TASKS if in_tasks else MOST_APART
        if elsewhere:
            most_apart = MOST_APART_ELSEWHERE
        if kind.endswith(ALL) != in_tasks:
            most_apart = None
        share = figures[kind] / (allowed * scale)
        rows.append(Judged(kind, allowed, figures[kind], share, most_apart))
    return rows


def code_of(build: Build) -> dict[str, str]:
    """The settings of a `gateway` that runs this build and no other."""
    return {SWITCH: "always" if build is Build.COMPILED else "never"}


def build_of(code: dict[str, str]) -> Build | None:
    """Which build a `gateway` with these settings is; None where there is none."""
    said = subprocess.run(
        [str(own_program()), "version", "--json"],
        env=os.environ | code,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if said.returncode else Build(json.loads(said.stdout)["build"])


def require(build: Build) -> None:
    """Leaves with 3 where this build is not here."""
    if build_of(code_of(build)) is not build:
        console.print(f"no {build} build of the gateway is here: see docs/performance.md")
        raise typer.Exit(MISSING)


def show(build: Build, rows: list[Judged]) -> None:
    table = Table("request", "budget", "counted", "share", "", title=f"{build} build")
    for row in rows:
        share = f"{row.share:.3f}"
        table.add_row(row.kind, f"{row.budget:,}", f"{row.counted:,}", share, row.verdict)
    console.print(table)


def compare(document: dict[str, Any], figures: dict[Build, Figures]) -> bool:
    """Whether every build keeps to its budget."""
    elsewhere = document["counted_on"] != here()
    if elsewhere:
        console.print(
            f"The budget was counted on {document['counted_on']}, and this is {here()}: its counts"
            f" say nothing here. Compared is what each kind costs beside “{ANCHOR}”, which itself"
            " is not judged."
        )
    kept = True
    for build, counts in figures.items():
        budget = document["builds"].get(build)
        if budget is None:
            console.print(f"the {build} build has no budget: run with --write")
            kept = False
            continue
        try:
            rows = judged(budget, counts, elsewhere=elsewhere)
        except ValueError as error:
            console.print(f"the {build} build: {error}: run with --write")
            kept = False
            continue
        show(build, rows)
        verdicts = {row.verdict for row in rows}
        kept = kept and "costs more" not in verdicts
        if "costs less" in verdicts:
            console.print("--write lowers the budget: else the next change has room to cost more.")
    if not kept:
        console.print(
            "If that is meant: python -m bench.budget --write, in the commit that changes it."
        )
    return kept


def smaller(one: Figures, other: Figures) -> Figures:
    """What was counted besides a request, in one of two counts, is left out."""
    return {kind: min(count, other[kind]) for kind, count in one.items()}


def main(
    build: Annotated[Build, typer.Option(help="Which build of the gateway.")] = Build.PURE,
    budget: Annotated[Path, typer.Option(help="The file of the budget.")] = BUDGET,
    write: Annotated[bool, typer.Option("--write", help="What is counted is the budget.")] = False,
    figures_from: Annotated[
        Path | None, typer.Option(help="Figures of `bench.instructions --out`: counts nothing.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Of each kind in each slice.")] = 60,
    slices: Annotated[int, typer.Option(min=1, help="The figure is their median.")] = 9,
    warm_up: Annotated[int, typer.Option(min=1, help="Of each kind, before.")] = 120,
    idle_s: Annotated[float, typer.Option(min=1, help="Of rest, in all.")] = 9.0,
) -> None:
    """Counts instructions and compares them with the budget."""
    builds = [Build.PURE, Build.COMPILED] if build is Build.BOTH else [build]
    figures: dict[Build, Figures]
    if figures_from is not None:
        figures = {one: json.loads(figures_from.read_text()) for one in builds}
    else:
        require_valgrind()
        for one in builds:
            require(one)
        size = Size(requests, slices, warm_up, idle_s)
        figures = {one: counted(size, code_of(one)) for one in builds}
    if write:
        held = json.loads(budget.read_text()) if budget.exists() else {}
        # Counts of another machine are not kept beside these.
        others = held.get("builds", {}) if held.get("counted_on") == here() else {}
        document = {"about": ABOUT, "counted_on": here(), "builds": {**others, **figures}}
        budget.write_text(json.dumps(document, indent=1) + "\n")
        console.print(f"written: {budget}")
    held = json.loads(budget.read_text())
    kept = compare(held, figures)
    if not kept and figures_from is None:
        console.print("It is counted once more.")
        figures = {one: smaller(figures[one], counted(size, code_of(one))) for one in builds}
        kept = compare(held, figures)
    if not kept:
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    run_bench(main)
