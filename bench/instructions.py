"""`python -m bench.instructions`: how many instructions the gateway spends on a whole request.

A gateway with one worker runs under callgrind; nginx is its upstream.  One connection asks for one
thing after the other, so that each request wakes the loop by itself, which costs more than the same
request among others.  What the worker does while nobody asks is counted too, and taken off.

Counted is what the process itself executes, libraries included: sockets and TCP are the kernel's,
which callgrind does not see.  A count does not vary with the machine's mood, as a clock does; it
varies with the processor's kind, for which libraries choose their code.  Exits 3 without valgrind.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.decide import free_ports
from bench.peers import gateway_environment
from bench.processes import Started, await_ready, children, run_bench
from bench.results import machine
from bench.rig import LOAD_CPU, PROXY_CPU, Rig, found

console = Console(width=None if Console().is_terminal else 120)
PROGRAMS = ("valgrind", "vgdb")
START_WITHIN_S = 300.0
"""Valgrind takes some twenty times as long as the processor alone."""
MISSING = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """One request, and how it is answered."""

    name: str
    path: str
    token: str | None
    status: int


@dataclass(frozen=True, slots=True)
class Count:
    requests: int
    instructions: int
    seconds: float

    def a_request(self, idle: Count) -> float:
        """Without what would have been done in the same time had nobody asked."""
        idle_a_s = idle.instructions / idle.seconds
        return (self.instructions - idle_a_s * self.seconds) / self.requests


class Worker:
    """A process under callgrind whose instructions are counted while something is done."""

    def __init__(self, pid: int, counts: Path) -> None:
        self._pid, self._counts = pid, counts
        self._order("instrumentation", "on")

    def count(self, requests: int, do: Callable[[], None]) -> Count:
        self._order("zero")
        began_at = time.perf_counter()
        do()
        seconds = time.perf_counter() - began_at
        self._order("dump")
        newest = max(self._counts.glob(f"{self._pid}.*"), key=lambda path: int(path.suffix[1:]))
        totals = [line for line in newest.read_text().splitlines() if line.startswith("totals:")]
        return Count(requests, int(totals[-1].split()[1]), seconds)

    def _order(self, *words: str) -> None:
        subprocess.run(
            [found("vgdb"), f"--vgdb-prefix={self._counts}/vgdb", f"--pid={self._pid}", *words],
            check=True,
            capture_output=True,
            timeout=120,
        )


def kinds(rig: Rig) -> tuple[Kind, ...]:
    good, guest = rig.credentials.good, rig.credentials.without_role
    return (
        Kind("allowed: token, policy, limit", "/api/users/1?fields=name", good, 200),
        Kind("public route", "/public/users/1?fields=name", None, 200),
        Kind("refused by the policy", "/api/users/1?fields=name", guest, 403),
        Kind("refused without a token", "/api/users/1?fields=name", None, 401),
    )


def ask(port: int, kind: Kind, requests: int) -> None:
    """So many times over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    fields = {} if kind.token is None else {"Authorization": f"Bearer {kind.token}"}
    try:
        for _ in range(requests):
            connection.request("GET", kind.path, headers=fields)
            answer = connection.getresponse()
            answer.read()
            if answer.status != kind.status:
                raise RuntimeError(f"{kind.name}: answered {answer.status}")
    finally:
        connection.close()


def start_gateway(rig: Rig, port: int, admin: int, backend: int) -> tuple[Started, Path]:
    """The gateway under callgrind, and the folder in which it writes what it has counted."""
    counts = rig.folder / "counts"
    counts.mkdir()
    environment = gateway_environment(rig, port) | {
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        # A worker that is this slow may well be late to confirm what was revoked.
        "GATEWAY_MAX_STALENESS_S": "60",
        "PYTHONHASHSEED": "0",
    }
    files = [
        *("--config", str(rig.fill("gateway/routes.yaml", BACKEND=backend))),
        *("--policies", str(rig.fill("gateway/policies/users.yaml").parent)),
    ]
    program = str(Path(sys.executable).with_name("gateway"))
    for words in (
        ["db", "upgrade"],
        ["keys", "import", str(rig.credentials.public_pem), "--verify-only"],
    ):
        subprocess.run(
            [program, *words],
            env=os.environ | environment,
            cwd=rig.folder,
            check=True,
            capture_output=True,
        )
    # A fork can be told to count only where what is executed is followed too.
    command = [
        *(found("valgrind"), "--tool=callgrind", "--instr-atstart=no"),
        *("--trace-children=yes", "--trace-children-skip=*valkey-server"),
        *(f"--vgdb-prefix={counts}/vgdb", f"--callgrind-out-file={counts}/%p"),
        f"--log-file={rig.folder}/log/valgrind.%p",
        *(sys.executable, program, "serve", *files),
    ]
    log = rig.folder / "log" / "gateway.log"
    gateway = Started(command, cpu=PROXY_CPU, log=log, cwd=rig.folder, env=environment)
    rig.started.append(gateway)
    await_ready(admin, START_WITHIN_S)
    return gateway, counts


def worker_of(gateway: Started) -> int:
    """Its one worker: the child that is the same program (the other is the embedded Valkey)."""
    own = os.readlink(f"/proc/{gateway.pid}/exe")
    [worker] = [pid for pid in children(gateway.pid) if os.readlink(f"/proc/{pid}/exe") == own]
    return worker


def main(
    requests: Annotated[int, typer.Option(min=10, help="Of each kind.")] = 1_000,
    warm_up: Annotated[int, typer.Option(min=1, help="Of each kind, before they count.")] = 200,
    idle_s: Annotated[float, typer.Option(min=1, help="To count what is done unasked.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="A file for the figures, as JSON.")] = None,
) -> None:
    """Counts the instructions of whole requests."""
    if missing := [name for name in PROGRAMS if not found(name)]:
        console.print(f"{' and '.join(missing)} is not here: apt-get install valgrind")
        raise typer.Exit(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="authgate-instructions-"))
    rig = Rig.build(folder, 10)
    try:
        backend, port, admin = free_ports(3)
        config = rig.fill("backend.conf", BACKEND=backend)
        nginx = [found("nginx"), "-p", str(folder), "-c", str(config)]
        rig.start("backend", nginx, backend, cpu=LOAD_CPU)
        gateway, counts = start_gateway(rig, port, admin, backend)
        worker = Worker(worker_of(gateway), counts)
        await_ready(admin, START_WITHIN_S)
        for kind in kinds(rig):
            ask(port, kind, warm_up)
        idle = worker.count(0, lambda: time.sleep(idle_s))
        figures = {}
        for kind in kinds(rig):
            # Whoever has to begin with a new connection begins before it counts.
            count = worker.count(requests, lambda kind=kind: ask(port, kind, requests))  # type: ignore[misc]
            figures[kind.name] = round(count.a_request(idle))
    finally:
        rig.stop()
        shutil.rmtree(folder, ignore_errors=True)
    on = machine()
    table = Table("request", "instructions", title=f"{on['cpu']}, Python {on['python']}")
    for name, instructions in figures.items():
        table.add_row(name, f"{instructions:,}")
    console.print(table)
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run_bench(main)
