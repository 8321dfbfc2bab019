"""`python -m bench.start`: how soon does a command answer, and a gateway that is started?

`gateway --help`, `gateway validate` of the shipped configuration, and `gateway serve` of 1,000
routes on embedded stores, with a data folder that is made and with the one of the start before,
in turns.  A command is one process that waits for nobody: its goal is for the CPU time that it
takes, which on a machine that does nothing else is what its user waits for.  Ready is the first
200 of `/readyz`, asked for every few milliseconds from the start of the process on.  Exits 1
where a goal is missed.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.cluster import program
from bench.processes import Started, run_bench
from bench.rig import BASE_PORT, HERE

console = Console()
ROOT = HERE.parent
LISTEN, ADMIN = BASE_PORT + 190, BASE_PORT + 191
COMMAND_GOAL_S, READY_GOAL_S = 0.3, 1.0
WITHIN_S = 120.0
ASK_EVERY_S = 0.005
STEPS = (
    ("configuration-loaded", "Python, imports, settings and configuration"),
    ("starting", "stores opened, and made where there are none"),
    ("worker-started", "the worker forked"),
    ("", "what it holds read, until the first 200"),
)
"""By the event of the log that ends each."""


@dataclass
class Runs:
    """Seconds, of every run."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def write_configuration(folder: Path, routes: int) -> None:
    lines = [
        "version: 1",
        "upstreams: {api: {targets: ['http://127.0.0.1:9000']}}",
        "limits: {per-user: {key: user, rate: 6000/1m, burst: 1000}}",
        "routes:",
    ]
    for number in range(routes):
        lines += [
            f"  - id: r{number}",
            f"    match: {{path: '/s{number}/users/{{user}}/orders/{{order}}', methods: [GET]}}",
            "    resource: {type: order, id: '{order}', owner: '{user}'}",
            "    policy: api",
            "    action: api:read",
            "    limits: [per-user]",
            "    upstream: api",
        ]
    (folder / "policies").mkdir()
    (folder / "routes.yaml").write_text("\n".join(lines) + "\n")
    (folder / "policies" / "api.yaml").write_text(
        "version: 1\npolicy: api\nroles: {user: [api:read]}\nrules:\n"
        "  - {id: own, allow: [api:read], when: resource.owner == user.id}\n"
        "  - {id: by-role, allow: role-permissions}\n"
    )


def clean_environment() -> dict[str, str]:
    """Without the settings of another gateway, and with bytecode kept as an installation has it."""
    left_out = ("GATEWAY_", "PYTHONDONTWRITEBYTECODE")
    return {name: text for name, text in os.environ.items() if not name.startswith(left_out)}


def run_command(command: list[str], folder: Path, runs: Runs) -> None:
    before, began_at = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        command, cwd=folder, env=clean_environment(), stdout=subprocess.DEVNULL, check=True
    )
    runs.wall.append(time.monotonic() - began_at)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    runs.cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def is_ready() -> bool:
    asked = http.client.HTTPConnection("127.0.0.1", ADMIN, timeout=1)
    try:
        asked.request("GET", "/readyz")
        return asked.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()


def run_gateway(folder: Path, log: Path, runs: Runs, *, fresh: bool) -> None:
    if fresh:
        shutil.rmtree(folder / "data", ignore_errors=True)
    log.unlink(missing_ok=True)
    settings = {
        "GATEWAY_LISTEN": f"127.0.0.1:{LISTEN}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{ADMIN}",
        "GATEWAY_DATA_DIR": str(folder / "data"),
        "GATEWAY_DRAIN_S": "0",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    began_at = time.time()
    gateway = Started([program(), "serve"], cpu=None, log=log, cwd=folder, env=settings)
    try:
        while not is_ready():
            if gateway.ended or time.time() > began_at + WITHIN_S:
                raise RuntimeError(f"the gateway did not become ready:\n{log.read_text()[-2000:]}")
            time.sleep(ASK_EVERY_S)
        ready_at = time.time()
        runs.wall.append(ready_at - began_at)
        runs.cpu.append(gateway.cpu_s())
    finally:
        gateway.stop()
    at, last = dict(events(log)), began_at
    for event, what in STEPS:
        ended_at = at.get(event, ready_at)
        runs.steps[what].append(ended_at - last)
        last = ended_at


def events(log: Path) -> Iterator[tuple[str, float]]:
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            told = json.loads(line)
            yield told["event"], datetime.fromisoformat(told["timestamp"]).timestamp()


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    routes: Annotated[int, typer.Option(min=1, help="Of the gateway that is started.")] = 1_000,
) -> None:
    """Commands and starts in turns; the medians, and 1 where a goal is missed."""
    if is_ready():
        raise RuntimeError(f"something listens on {ADMIN} already: set BENCH_PORT")
    everything: dict[str, Runs] = defaultdict(Runs)
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), Path(name) / "log"
        write_configuration(folder, routes)
        steps: dict[str, Callable[[Runs], None]] = {
            "an empty Python": lambda runs: run_command([sys.executable, "-c", ""], ROOT, runs),
            "gateway --help": lambda runs: run_command([program(), "--help"], ROOT, runs),
            "gateway validate": lambda runs: run_command([program(), "validate"], ROOT, runs),
            "gateway serve, a new folder": lambda runs: run_gateway(folder, log, runs, fresh=True),
            "gateway serve again": lambda runs: run_gateway(folder, log, runs, fresh=False),
        }
        for step in steps.values():
            step(Runs())  # bytecode is written, files are in memory
        for _ in range(rounds):
            for what, step in steps.items():
                step(everything[what])
    table = Table(title=f"Medians of {rounds} interleaved rounds, {routes:,} routes")
    for column in ("", "s", "CPU s", "goal"):
        table.add_column(column, justify="left" if not column else "right")
    missed = []
    for what, runs in everything.items():
        goal, reached = goal_of(what, runs)
        table.add_row(
            what,
            f"{median(runs.wall):.3f}",
            f"{median(runs.cpu):.3f}",
            "" if goal is None else f"{goal:g}",
        )
        for part, seconds in runs.steps.items():
            table.add_row(f"  {part}", f"{median(seconds):.3f}", "", "")
        if goal is not None and reached > goal:
            missed.append(f"{what}: {reached:.3f} s, more than {goal:g}")
    console.print(table)
    for told in missed:
        console.print(f"missed: {told}")
    raise typer.Exit(1 if missed else 0)


def goal_of(what: str, runs: Runs) -> tuple[float | None, float]:
    """The goal, and what is held against it."""
    if what.startswith("gateway serve"):
        return READY_GOAL_S, median(runs.wall)
    return COMMAND_GOAL_S if what.startswith("gateway") else None, median(runs.cpu)


if __name__ == "__main__":
    run_bench(main)
