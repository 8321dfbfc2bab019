"""`python -m bench`: the gateway and its peers, interleaved, with ratios.

Without more it measures the main table; `--list` names the scenarios, `--scenario NAME` runs one
or several (separated by commas), `--all` the main table and all of them.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report
from bench.load import check, load
from bench.peers import PEERS, Peer
from bench.peers.builds import Build, prepare, pure_beside
from bench.processes import Started, run_bench
from bench.results import US, Results, machine, show
from bench.rig import HERE, Rig, found
from bench.scenarios import command

# Wide enough for the table where there is no terminal to ask.
console = Console(width=None if Console().is_terminal else 120)
TOOLS = {"wrk": "apt-get install wrk", "nginx": "apt-get install nginx"}


def chosen(only: str, *, quick: bool, pure_too: bool) -> tuple[Peer, ...]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    if not names and quick:
        names = ["gateway", "naive", "haproxy"]
    unknown = sorted(set(names) - {peer.name for peer in PEERS})
    if unknown:
        console.print(f"[red]no such peer: {', '.join(unknown)}[/]")
        console.print("there are: " + ", ".join(peer.name for peer in PEERS))
        raise typer.Exit(2)
    peers = [peer for peer in PEERS if not names or peer.name in names]
    if pure_too:
        pure = [pure_beside(peer) for peer in peers if peer.name == US]
        peers += [peer for peer in pure if peer is not None]
    return tuple(peers)


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


def main_table(
    peers: tuple[Peer, ...], rounds: int, seconds: float, json_file: Path | None, build: str
) -> Results:
    about = machine() | {"rounds": rounds, "seconds": seconds, "build": build}
    results = Results(about=about)
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
    return results


def main(
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Measured rounds of each peer: 5, of a scenario 3.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Length of one round: 5, of most scenarios 2.")
    ] = None,
    only: Annotated[str, typer.Option(help="Peers by name, separated by commas.")] = "",
    scenario: Annotated[
        str,
        typer.Option(help="Scenarios by name, separated by commas, in place of the main table."),
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="The main table in 5 rounds of 2 s, and all scenarios.")
    ] = False,
    list_them: Annotated[bool, typer.Option("--list", help="Name the scenarios.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Three short rounds of gateway, naive and haproxy.")
    ] = False,
    check_goals: Annotated[
        bool, typer.Option("--check", help="Exit 1 when a goal is missed.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Where to write the figures too; with --all two files."),
    ] = None,
    build: Annotated[
        Build | None,
        typer.Option(help="Of the gateway: compiled (where it can be), pure, or both."),
    ] = None,
    write: Annotated[
        str, typer.Option(help="`docs` puts the figures and plots into docs/performance.md.")
    ] = "",
) -> None:
    """Measures the gateway beside its peers: one core for the proxy, the other for the load."""
    if list_them:
        command.show_list(console)
        return
    if write not in ("", "docs"):
        raise typer.BadParameter("can be `docs`", param_hint="--write")
    for tool, cure in TOOLS.items():
        if not found(tool):
            console.print(f"[red]{tool} is missing[/]; to have it: [bold]{cure}[/]")
            raise typer.Exit(3)
    built, why = prepare(build)
    if why:
        console.print(f"the gateway is not compiled: {why}", style="yellow", highlight=False)
        if build is not None:
            raise typer.Exit(3)
    pure_too = build is Build.BOTH
    good = True
    if every or not scenario:
        peers = chosen(only, quick=quick, pure_too=pure_too)
        count, length = rounds or 5, seconds or (2 if every else 5)
        if quick:
            count, length = min(count, 3), min(length, 2)
        results = main_table(peers, count, length, json_file, built)
        reached = not any(verdict.missed for verdict in results.goals())
        good = not results.faults.get(US) and (reached or not check_goals)
        if write:
            report.main(HERE / ".rig" / "results.json")
    if every or scenario:
        scenarios = command.named("all" if every else scenario, console)
        figures_file = json_file
        if json_file is not None and every:
            figures_file = json_file.with_stem(f"{json_file.stem}-scenarios")
        reached = command.measure(
            scenarios,
            console,
            rounds=rounds or command.ROUNDS,
            seconds=seconds,
            only=only,
            document_file=figures_file,
            write=bool(write),
            build=built,
            pure_too=pure_too,
        )
        good = good and (reached or not check_goals)
    if not good:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
