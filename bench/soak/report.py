"""The tables of a run: on the terminal, and in docs/reliability.md."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.soak.figures import Figures, consequences_rows
from bench.soak.plot import drawn
from bench.soak.probes import AGAIN, PLAIN, SHIPPED

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
LAST_RUN, CONSEQUENCES = "written by make soak", "written by make docs"
"""What the marks of docs/reliability.md say."""


def show(figures: Figures, console: Console) -> None:
    table = Table(
        title=f"{figures.seconds / 60:.1f} minutes, {figures.oracle.judged:,} answers judged"
    )
    for name in ("what", "measured", "promised"):
        table.add_column(name)
    for goal in figures.goals():
        style = "" if goal.reached else "red"
        table.add_row(goal.name, goal.figure, goal.wanted, style=style)
    console.print(table)
    table = Table(title="A probe each second with each credential")
    table.add_column("client")
    for name in ("all", *figures.credentials()):
        table.add_column(name, justify="right")
    for row in _availability(figures):
        table.add_row(*row)
    console.print(table)
    table = Table(title="Events")
    for name in ("event", "times", "healed, s", "failed probes", "not answered meanwhile"):
        table.add_column(name, justify="right" if name in ("times", "healed, s") else "left")
    for kind, times, healed_s, missed, told in figures.by_kind():
        table.add_row(kind.value, str(times), f"{healed_s:.1f}", str(missed), told)
    console.print(table)
    if figures.stalls.found:
        console.print(_stalls(figures), style="yellow")
    for title, lines in (
        ("wrong", figures.oracle.told),
        ("lost", figures.lost),
        ("broken", figures.oracle.broken),
        ("left out", [kind.value for kind in figures.left_out]),
        ("unexpected", [f"{name} × {count}" for name, count in figures.unexpected().items()]),
    ):
        for line in lines[:40]:
            console.print(f"{title}: {line}", style="red", markup=False)


def _stalls(figures: Figures) -> str:
    stalls = figures.stalls
    return (
        f"The machine stood still {len(stalls.found):,} times, {stalls.seconds():.0f} s together;"
        f" {figures.stalled():,} calls were not answered then that no event explains."
    )


def _availability(figures: Figures) -> list[list[str]]:
    return [
        [way]
        + [f"{figures.probes.availability(way, name):.3%}" for name in ("", *figures.credentials())]
        for way in (SHIPPED, PLAIN, AGAIN)
    ]


def write(figures: Figures, document: dict[str, Any], docs: Path) -> None:
    """The plot, and the tables between the marks of the page."""
    (docs / "reliability.svg").write_text(drawn(document))
    page = docs / "reliability.md"
    page.write_text(filled(page.read_text("utf-8"), LAST_RUN, _written(figures, document)), "utf-8")


def filled(text: str, mark: str, lines: str) -> str:
    """The page with `lines` between the two marks of that name, which it must have."""
    begin, end = BEGIN.format(mark), END.format(mark)
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page lacks the marks {begin!r} and {end!r}")
    return f"{before}{begin}\n{lines.strip()}\n{end}{after}"


def with_consequences(text: str) -> str:
    """The page with the table that `consequences` tells."""
    return filled(text, CONSEQUENCES, consequences())


def consequences() -> str:
    """The table of docs/reliability.md that tells what each event may cost."""
    rows = ["| event | what is done | what callers may see |", "|---|---|---|"]
    rows += [f"| {name} | {does} | {promise} |" for name, does, promise in consequences_rows()]
    return "\n".join(rows)


def _written(figures: Figures, document: dict[str, Any]) -> str:
    about = document["about"]
    lines = [
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {figures.seconds / 60:.0f} minutes,"
        f" {figures.oracle.judged:,} answers judged, {len(figures.events)} events, seed"
        f" {about['seed']}; two nodes with {about['workers']} workers each, {about['cpu']}, Python"
        f" {about['python']}. Calls with live credentials: median"
        f" {document['latency_ms']['p50']} ms, p99 {document['latency_ms']['p99']} ms.",
        "",
        "| | measured | promised | |",
        "|---|--:|--:|---|",
        *(
            f"| {goal.name} | {goal.figure} | {goal.wanted} | {'' if goal.reached else 'missed'} |"
            for goal in figures.goals()
        ),
        "",
        "| a probe each second | " + " | ".join(("all", *figures.credentials())) + " |",
        "|---|" + "--:|" * (1 + len(figures.credentials())),
        *("| " + " | ".join(row) + " |" for row in _availability(figures)),
        "",
        *([_stalls(figures), ""] if figures.stalls.found else []),
        "![Availability, latency and memory over time](reliability.svg)",
        "",
        "| event | times | healed after at most, s | failed probes | not answered meanwhile |",
        "|---|--:|--:|--:|---|",
        *(
            f"| {kind.value} | {times} | {healed_s:.1f} | {missed} | {told} |"
            for kind, times, healed_s, missed, told in figures.by_kind()
        ),
    ]
    return "\n".join(lines)
