"""Runs a scenario: starts its peers, lets each prove its work, and loads them in turn."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.peers import Peer
from bench.peers.builds import PURE, pure_beside
from bench.processes import Started
from bench.results import US
from bench.rig import Rig
from bench.scenarios.model import Entry, Figures, Oracle, Scenario


def run(
    scenario: Scenario,
    folder: Path,
    console: Console,
    *,
    rounds: int,
    seconds: float,
    only: frozenset[str] = frozenset(),
    warm: bool = True,
    pure_too: bool = False,
) -> Figures:
    """`rounds` of so many seconds of each entry, behind one that warms up and is not counted."""
    began_at = time.monotonic()
    figures = Figures()
    rig = Rig.build(folder, scenario.users)
    try:
        scenario.backend(rig)
        entries = scenario.entries(rig)
        if pure_too:
            entries = _with_pure(entries)
        wanted = only | {PURE} if US in only else only
        entries = [entry for entry in entries if not wanted or entry.peer.name in wanted]
        figures.does = {entry.peer.name: entry.peer.does for entry in entries}
        running = _start(rig, entries, figures, console)
        entries = [entry for entry in entries if entry.peer in running]
        figures.rounds = {(entry.variant, entry.peer.name): [] for entry in entries}
        plan = [scenario.warm_s] * warm + [seconds] * rounds
        _measure(rig, scenario, entries, running, figures, console, plan, warm=warm)
    finally:
        rig.stop()
    figures.rounds = {row: done for row, done in figures.rounds.items() if done}
    figures.took_s = time.monotonic() - began_at
    return figures


def _with_pure(entries: list[Entry]) -> list[Entry]:
    """Behind each row of the gateway one of its sources."""
    rows = []
    for entry in entries:
        rows.append(entry)
        pure = pure_beside(entry.peer) if entry.peer.name == US else None
        if pure is not None:
            rows.append(replace(entry, peer=pure))
    return rows


def _start(
    rig: Rig, entries: list[Entry], figures: Figures, console: Console
) -> dict[Peer, Started]:
    """Starts what can be started.  Whoever fails the oracle of one row is in no table.

    Rows that share a peer and an oracle ask once: who has guessed a password wrong has to wait,
    and the same question again would be refused for that.
    """
    running: dict[Peer, Started] = {}
    asked: set[tuple[Peer, Oracle]] = set()
    for entry in entries:
        peer = entry.peer
        if peer.name in figures.missing:
            continue
        with console.status(f"starting {peer.name} {entry.variant}"):
            if peer not in running:
                if cure := peer.lacks(rig):
                    figures.missing[peer.name] = cure
                    continue
                try:
                    running[peer] = peer.start(rig, peer)
                except RuntimeError as error:
                    figures.faults.setdefault(peer.name, []).append(str(error))
                    continue
            if (peer, entry.oracle) in asked:
                continue
            asked.add((peer, entry.oracle))
            faults = entry.oracle(rig, peer)
        if faults:
            figures.faults.setdefault(peer.name, []).extend(faults)
    for peer in list(running):
        if peer.name in figures.faults and peer.name != US:
            del running[peer]
    return running


def _measure(
    rig: Rig,
    scenario: Scenario,
    entries: list[Entry],
    running: dict[Peer, Started],
    figures: Figures,
    console: Console,
    plan: list[float],
    *,
    warm: bool,
) -> None:
    columns = (
        TextColumn("{task.description:>36}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(plan) * len(entries))
        for turn, seconds in enumerate(plan):
            # The order changes each time.
            for entry in random.sample(entries, len(entries)):
                name = entry.peer.name
                what = f"{scenario.name} {entry.variant} {name}"
                progress.update(task, description=what)
                progress.advance(task)
                if name in figures.faults and name != US:
                    continue
                try:
                    measured = entry.load(rig, entry.peer, running[entry.peer], seconds)
                except RuntimeError as error:
                    # It ended, or says nothing any more: the others are measured all the same.
                    figures.faults.setdefault(name, []).append(str(error))
                    continue
                if turn or not warm:
                    figures.rounds[entry.variant, name].append(measured)
