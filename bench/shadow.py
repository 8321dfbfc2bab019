"""`python -m bench.shadow`: what a configuration in shadow costs those that are served.

Two gateways, one with `--shadow` and one without, are loaded in turn, in random order, on one
core: the same load as `make bench`.  What is told is the median of the ratios of each round.
Exits 1 when more than 15 % of the throughput is lost, or when nothing was judged in shadow.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.load import Round, check, load
from bench.peers import PEERS, Peer, start_gateway
from bench.processes import Started, run_bench
from bench.rig import HERE, Rig

# Wide enough for the table where there is no terminal to ask.
console = Console(width=None if Console().is_terminal else 110)
MOST_LOST = 0.15


def shadowed(rig: Rig) -> Path:
    """A folder as `--shadow` takes it: the same routes, and a policy that denies some of what
    the one that serves allows."""
    folder = rig.folder / "shadow"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "policies").mkdir(parents=True)
    shutil.copy(rig.folder / "cfg" / "gateway" / "routes.yaml", folder / "routes.yaml")
    served = (rig.folder / "cfg" / "gateway" / "policies" / "users.yaml").read_text()
    denied = "  - id: odd-one\n    deny: ['*']\n    when: user.id == 'user-000007'\n"
    (folder / "policies" / "users.yaml").write_text(served + denied)
    return folder


def judged(port: int) -> dict[str, int]:
    """Calls by what the configuration in shadow made of them, from /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = re.findall(r'authgate_shadow_configuration_total\{outcome="(\w+)"\} (\S+)', text)
    return {outcome: int(float(count)) for outcome, count in lines}


def measure(
    rig: Rig, running: dict[Peer, Started], rounds: int, seconds: float
) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {peer.name: [] for peer in running}
    for turn in range(rounds + 1):
        # The first turn warms up and is not counted; the order changes each time.
        for peer in random.sample(list(running), len(running)):
            one = load(rig, peer, running[peer], 1 if turn == 0 else seconds)
            if turn:
                found[peer.name].append(one)
                console.print(
                    f"round {turn}, {peer.name}: {one.requests_a_s:,.0f} a second, "
                    f"{one.cpu_us:.1f} µs each",
                    style="dim",
                )
    return found


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds of each.")] = 7,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one round.")] = 4,
) -> None:
    """Measure the gateway with and without a configuration in shadow."""
    (ours,) = (peer for peer in PEERS if peer.name == "gateway")
    plain = replace(ours, name="gateway")
    beside = replace(ours, name="gateway --shadow", port=ours.port + 7)
    rig = Rig.build(HERE / ".rig", users=1000)
    try:
        rig.start_backend()
        running = {plain: start_gateway(rig, plain)}
        running[beside] = start_gateway(rig, beside, "--shadow", str(shadowed(rig)))
        for peer in running:
            for fault in check(rig, peer):
                console.print(f"[red]{peer.name}: {fault}[/]")
                raise typer.Exit(1)
        found = measure(rig, running, rounds, seconds)
        outcomes = judged(beside.port + 100)
    finally:
        rig.stop()
    _show(found, outcomes)
    lost = 1 - _ratio(found, plain, beside)
    compared = sum(n for outcome, n in outcomes.items() if outcome != "not_judged")
    wrong = sum(one.refused + one.broken for each in found.values() for one in each)
    told = {"lost": lost, "outcomes": outcomes, "wrong_answers": wrong}
    (HERE / ".rig" / "shadow.json").write_text(json.dumps(told, indent=1) + "\n")
    if lost > MOST_LOST or not compared or wrong:
        raise typer.Exit(1)


def _ratio(found: dict[str, list[Round]], plain: Peer, beside: Peer) -> float:
    pairs = zip(found[plain.name], found[beside.name], strict=True)
    return median(theirs.requests_a_s / ours.requests_a_s for ours, theirs in pairs)


def _show(found: dict[str, list[Round]], outcomes: dict[str, int]) -> None:
    names = list(found)
    table = Table(title="One core, authenticated GET of 200 bytes, 64 connections, 1,000 tokens")
    table.add_column("")
    for name in ("req/s", "of the plain", "CPU µs/req", "of the plain", "p99 ms"):
        table.add_column(name, justify="right")
    for name in names:
        pairs = list(zip(found[names[0]], found[name], strict=True))
        ratio = median(theirs.requests_a_s / ours.requests_a_s for ours, theirs in pairs)
        dearer = median(theirs.cpu_us / ours.cpu_us for ours, theirs in pairs)
        table.add_row(
            name,
            f"{median(one.requests_a_s for one in found[name]):,.0f}",
            f"{ratio:.3f}",
            f"{median(one.cpu_us for one in found[name]):.1f}",
            f"{dearer:.3f}",
            f"{median(one.p99_ms for one in found[name]):.1f}",
        )
    console.print(table)
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
    console.print(f"in shadow: {said or 'nothing was judged'}")


if __name__ == "__main__":
    run_bench(main)
