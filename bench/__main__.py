"""`python -m bench`: the gateway and its peers, interleaved, with ratios."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.load import check, load
from bench.peers import PEERS, Peer
from bench.processes import Started, run_bench
from bench.results import US, Results, machine, show
from bench.rig import HERE, Rig, found

# Wide enough for the table where there is no terminal to ask.
console = Console(width=None if Console().is_terminal else 120)
TOOLS = {"wrk": "apt-get install wrk", "nginx": "apt-get install nginx"}


def chosen(only: str, *, quick: bool) -> tuple[Peer, ...]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    if not names and quick:
        names = ["gateway", "naive", "haproxy"]
    unknown = sorted(set(names) - {peer.name for peer in PEERS})
    if unknown:
        console.print(f"[red]no such peer: {', '.join(unknown)}[/]")
        console.print("there are: " + ", ".join(peer.name for peer in PEERS))
        raise typer.Exit(2)
    return tuple(peer for peer in PEERS if not names or peer.name in names)


def start(rig: Rig, peers: tuple[Peer, ...], results: Results) -> dict[Peer, Started]:
    """Starts what can be started, and lets each prove that it does the work."""
    running = {}
    for peer in peers:
        with console.status(f"starting {peer.name}"):
            cure = peer.lacks(rig)
            if cure:
                results.missing[peer.name] = cure
                continue
            try:
                process = peer.start(rig, peer)
            except RuntimeError as error:
                results.faults[peer.name] = [str(error)]
                continue
            faults = check(rig, peer)
            if faults:
                results.faults[peer.name] = faults
            if not faults or peer.name == US:
                running[peer] = process
            results.about.setdefault("versions", {})[peer.name] = peer.version(rig)
    return running


def measure(
    rig: Rig, running: dict[Peer, Started], results: Results, rounds: int, seconds: float
) -> None:
    columns = (
        TextColumn("{task.description:>20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=(rounds + 1) * len(running))
        for turn in range(rounds + 1):
            # The first turn warms up and is not counted; the order changes each time.
            order = random.sample(list(running), len(running))
            for peer in order:
                progress.update(task, description=peer.name)
                measured = load(rig, peer, running[peer], 1 if turn == 0 else seconds)
                if turn:
                    results.add(peer.name, measured)
                progress.advance(task)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds of each peer.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one round.")] = 5,
    only: Annotated[str, typer.Option(help="Peers by name, separated by commas.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Three short rounds of gateway, naive and haproxy.")
    ] = False,
    check_goals: Annotated[
        bool, typer.Option("--check", help="Exit 1 when a goal is missed.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the figures too.")
    ] = None,
) -> None:
    """Measures the gateway beside its peers: one core for the proxy, the other for the load."""
    for tool, cure in TOOLS.items():
        if not found(tool):
            console.print(f"[red]{tool} is missing[/]; to have it: [bold]{cure}[/]")
            raise typer.Exit(3)
    peers = chosen(only, quick=quick)
    if quick:
        rounds, seconds = min(rounds, 3), min(seconds, 2)
    results = Results(about=machine() | {"rounds": rounds, "seconds": seconds})
    rig = Rig.build(HERE / ".rig", users=1000)
    try:
        rig.start_backend()
        running = start(rig, peers, results)
        measure(rig, running, results, rounds, seconds)
    finally:
        rig.stop()
    show(results, peers, console)
    for path in (rig.folder / "results.json", json_file):
        if path is not None:
            path.write_text(results.as_json() + "\n")
    missed = [peer for peer, goal, ratio in results.goals() if ratio is not None and ratio < goal]
    if results.faults.get(US) or (check_goals and missed):
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
