"""`python -m bench.bodies`: large bodies through the gateway and through HAProxy, and memory.

Bodies of 64 KiB, 1 MiB and 1 GiB, up and down.  One core for the proxy, the other for the backend
and the clients; rounds are interleaved in random order, and the ratio is the median of the ratios
of each round.  The last size is received by a side that does not read at first: what a proxy would
hoard, it hoards there.  Exits 1 where the gateway carries less than 0.8 times what HAProxy does, or
where the memory of all its processes grows by 10 MB or more.
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.peers import PEERS, Peer
from bench.processes import Started, family, run_bench
from bench.results import machine
from bench.rig import BASE_PORT, HERE, LOAD_CPU, Rig
from bench.streams import Task, run

console = Console(width=None if Console().is_terminal else 120)
US, THEM = "gateway", "haproxy"
SLOW = "300 MB slow"
GOAL_TIMES = 0.8
GOAL_GROWTH_MB = 10.0
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Kind:
    """One body size, and over how many connections it comes."""

    name: str
    size: int
    connections: int
    slow: bool = False


KINDS = (
    Kind("64 KiB", 65_536, 16),
    Kind("1 MiB", MIB, 8),
    Kind("1 GiB", 1 << 30, 1),
    Kind(SLOW, 300_000_000, 1, slow=True),
)


@dataclass
class Figures:
    """One kind in one direction: MB/s and CPU seconds a GB of each round, by peer."""

    mb_a_s: dict[str, list[float]] = field(default_factory=dict)
    cpu_s_a_gb: dict[str, list[float]] = field(default_factory=dict)
    growth_mb: dict[str, float] = field(default_factory=dict)
    """The most that a round took above what the peer had before its first."""

    def times(self, figure: dict[str, list[float]]) -> float:
        return median(a / b for a, b in zip(figure[US], figure[THEM], strict=True))

    def misses(self, size: str) -> bool:
        slow = size != SLOW and self.times(self.mb_a_s) < GOAL_TIMES
        return slow or self.growth_mb[US] >= GOAL_GROWTH_MB


def measure(
    rig: Rig, started: dict[Peer, Started], kind: Kind, *, upload: bool, rounds: int, seconds: float
) -> Figures:
    figures = Figures()
    for turn in range(rounds + 1):
        # The first turn warms up; only its memory counts.
        for peer in random.sample(list(started), len(started)):
            process = started[peer]
            task = Task(
                peer.port,
                upload,
                kind.size,
                rig.credentials.good,
                kind.slow,
                seconds if turn else 0.2,
            )
            before_kb, before_s = _memory_kb(process), process.cpu_s()
            _forget_peaks(process)
            count, took_s = run(task, kind.connections)
            cpu_s, gb = process.cpu_s() - before_s, count * kind.size / 1e9
            growth = (_memory_kb(process, peak=True) - before_kb) / 1000
            figures.growth_mb[peer.name] = max(figures.growth_mb.get(peer.name, 0.0), growth)
            if turn:
                figures.mb_a_s.setdefault(peer.name, []).append(gb * 1000 / took_s)
                figures.cpu_s_a_gb.setdefault(peer.name, []).append(cpu_s / gb)
    return figures


def _memory_kb(process: Started, *, peak: bool = False) -> int:
    """Resident memory of all its processes; `peak` since `_forget_peaks` (proc(5), VmHWM)."""
    name = "VmHWM:" if peak else "VmRSS:"
    total = 0
    for pid in family(process.pid):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(name))
    return total


def _forget_peaks(process: Started) -> None:
    for pid in family(process.pid):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def show(all_figures: dict[tuple[str, str], Figures], peers: list[str]) -> None:
    table = Table("body", "way")
    for name in peers:
        table.add_column(f"{name}\nMB/s", justify="right")
    table.add_column("the gateway\nis", justify="right")
    for name in peers:
        table.add_column(f"{name}\nCPU s/GB", justify="right")
    table.add_column("gateway grew\nMB", justify="right")
    for (size, way), figures in all_figures.items():
        table.add_row(
            size,
            way,
            *(f"{median(figures.mb_a_s[name]):,.0f}" for name in peers),
            "" if size == SLOW else f"{figures.times(figures.mb_a_s):.2f} ×",
            *(f"{median(figures.cpu_s_a_gb[name]):.2f}" for name in peers),
            f"{figures.growth_mb[US]:.1f}",
        )
    console.print(table)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds of each peer.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of one round.")] = 2,
    only: Annotated[str, typer.Option(help="Sizes, such as `64 KiB,1 GiB`.")] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the figures too.")
    ] = None,
) -> None:
    """Carries large bodies through the gateway and through HAProxy."""
    peers = [peer for peer in PEERS if peer.name in (US, THEM)]
    sizes = {size.strip() for size in only.split(",") if size.strip()}
    kinds = [kind for kind in KINDS if not sizes or kind.name in sizes]
    if not kinds:
        console.print("there are: " + ", ".join(kind.name for kind in KINDS))
        raise typer.Exit(2)
    rig = Rig.build(HERE / ".rig", users=1)
    for peer in peers:
        if cure := peer.lacks(rig):
            console.print(f"[red]{peer.name} is missing[/]; to have it: [bold]{cure}[/]")
            raise typer.Exit(3)
    found: dict[tuple[str, str], Figures] = {}
    try:
        backend = [sys.executable, "-m", "bench.streams", str(BASE_PORT)]
        environment = {"PYTHONPATH": str(HERE.parent)}
        rig.start("bodies-backend", backend, BASE_PORT, cpu=LOAD_CPU, env=environment)
        started = {peer: peer.start(rig, peer) for peer in peers}
        os.sched_setaffinity(0, {LOAD_CPU} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
        for kind in kinds:
            for upload in (False, True):
                way = "up" if upload else "down"
                with console.status(f"{kind.name} {way}"):
                    found[kind.name, way] = measure(
                        rig, started, kind, upload=upload, rounds=rounds, seconds=seconds
                    )
    finally:
        rig.stop()
    show(found, [peer.name for peer in peers])
    about = machine()
    console.print(f"{about}; medians of {rounds} rounds; load {os.getloadavg()[0]:.1f}")
    if json_file is not None:
        document = {f"{size} {way}": vars(figures) for (size, way), figures in found.items()}
        json_file.write_text(json.dumps({"about": about, "figures": document}, indent=1) + "\n")
    missed = [key for key, figures in found.items() if figures.misses(key[0])]
    if missed:
        console.print("[red]missed:[/] " + ", ".join(" ".join(key) for key in missed))
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
