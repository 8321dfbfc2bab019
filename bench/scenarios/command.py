"""What `python -m bench` does with `--scenario`, `--all` and `--list`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from bench.results import US, machine
from bench.rig import HERE
from bench.scenarios import page
from bench.scenarios.catalogue import SCENARIOS
from bench.scenarios.figures import as_document, errors, show, verdicts
from bench.scenarios.model import Scenario
from bench.scenarios.run import run

ROUNDS = 3
PAGE = HERE.parent / "docs" / "performance.md"


def named(names: str, console: Console) -> tuple[Scenario, ...]:
    """Those of a list with commas; all of them where it says `all`."""
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    unknown = wanted - {scenario.name for scenario in SCENARIOS} - {"all"}
    if unknown:
        console.print(f"[red]no such scenario: {', '.join(sorted(unknown))}[/]")
        show_list(console)
        raise typer.Exit(2)
    return tuple(one for one in SCENARIOS if "all" in wanted or one.name in wanted)


def show_list(console: Console) -> None:
    table = Table("scenario", "what", "takes about")
    for one in SCENARIOS:
        table.add_row(one.name, one.title, f"{one.takes_s} s")
    console.print(table)
    console.print(f"all: {sum(one.takes_s for one in SCENARIOS) / 60:.0f} minutes")


def measure(
    scenarios: tuple[Scenario, ...],
    console: Console,
    *,
    rounds: int = ROUNDS,
    seconds: float | None = None,
    only: str = "",
    document_file: Path | None = None,
    write: bool = False,
    build: str = "pure",
    pure_too: bool = False,
) -> bool:
    """Whether no goal was missed, and the gateway did its work in each."""
    peers = frozenset(name.strip() for name in only.split(",") if name.strip())
    document: dict[str, Any] = {
        "about": machine() | {"rounds": rounds, "build": build},
        "scenarios": {},
    }
    good = True
    for scenario in scenarios:
        length = scenario.seconds if seconds is None else seconds
        figures = run(
            scenario,
            HERE / ".rig",
            console,
            rounds=rounds,
            seconds=length,
            only=peers,
            pure_too=pure_too,
        )
        show(scenario, figures, console)
        document["scenarios"][scenario.name] = as_document(scenario, figures) | {"seconds": length}
        missed = [verdict for verdict in verdicts(scenario, figures) if verdict.missed]
        ours = [rounds for (_, peer), rounds in figures.rounds.items() if peer == US]
        good = good and not missed and US not in figures.faults and not sum(map(errors, ours))
        # Kept after each: a run of twenty minutes may be ended in its last one.
        for path in (HERE / ".rig" / "scenarios.json", document_file):
            if path is not None:
                path.write_text(json.dumps(document, indent=1) + "\n")
    if write:
        page.write(PAGE, SCENARIOS, document, f"{datetime.now(UTC):%Y-%m-%d}")
    return good
