"""`python -m bench.system_calls`: what a worker asks of the kernel for a request.

A gateway with one worker, nginx behind it, 16 kept connections of which each asks before any answer
is read; `strace -c -f` counts the worker's calls meanwhile.  The floor is one read and one write on
either side; how many connections one `epoll_pwait` tells of depends on how many ask at once.  What
the worker does besides, for its replica and its clocks, is counted too.  Exits 3 without strace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.decide import free_ports
from bench.instructions import MISSING, Kind, kinds, own_program, worker_of
from bench.kept_connection import KeptConnection
from bench.peers import gateway_environment
from bench.processes import Started, await_ready, run_bench
from bench.rig import LOAD_CPU, PROXY_CPU, Rig, found

console = Console(width=None if Console().is_terminal else 120)
CONNECTIONS = 16
WARM_UP = 5
SHOWN = ("read", "write", "epoll_pwait")
ATTACHES_WITHIN_S = 10.0
PLAIN = 5
"""Of the kinds of bench.instructions, those that need no other routes."""


def start_gateway(rig: Rig) -> tuple[Started, int]:
    """A gateway with its backend, and the port of its public listener."""
    backend, port, admin = free_ports(3)
    config = rig.fill("backend.conf", BACKEND=backend)
    nginx = [found("nginx"), "-p", str(rig.folder), "-c", str(config)]
    rig.start("backend", nginx, backend, cpu=LOAD_CPU)
    program = str(own_program())
    environment = gateway_environment(rig, port) | {"GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin}"}
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
    routes = rig.fill("gateway/routes.yaml", BACKEND=backend)
    policies = rig.fill("gateway/policies/users.yaml").parent
    command = [program, "serve", "--config", str(routes), "--policies", str(policies)]
    log = rig.folder / "log" / "gateway.log"
    gateway = Started(command, cpu=PROXY_CPU, log=log, cwd=rig.folder, env=environment)
    rig.started.append(gateway)
    await_ready(admin)
    return gateway, port


def ask(lines: list[KeptConnection], kind: Kind, rounds: int) -> None:
    """On every connection at once, so many times."""
    requests = [kind.request(line.port) for line in lines]
    for _ in range(rounds):
        for line, request in zip(lines, requests, strict=True):
            line.send(request)
        for line in lines:
            if (status := line.answered()) != kind.status:
                raise RuntimeError(f"{kind.name}: answered {status}")


def await_traced(worker: int, strace: subprocess.Popen[bytes]) -> None:
    """Until it follows every thread of the worker: the kernel says so, and it says nothing."""
    deadline = time.monotonic() + ATTACHES_WITHIN_S
    while not all(_tracer_of(thread) == strace.pid for thread in _threads(worker)):
        if strace.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("strace did not attach to the worker")
        time.sleep(0.01)


def _threads(worker: int) -> list[Path]:
    return list(Path(f"/proc/{worker}/task").iterdir())


def _tracer_of(thread: Path) -> int:
    """proc_pid_status(5); 0 for none."""
    try:
        lines = (thread / "status").read_text().splitlines()
    except FileNotFoundError:  # it has ended meanwhile, and others are looked at again
        return 0
    return int(next(line for line in lines if line.startswith("TracerPid:")).split()[1])


def counted(worker: int, lines: list[KeptConnection], kind: Kind, rounds: int) -> dict[str, int]:
    """The calls of the worker while it answers, by their name."""
    with tempfile.NamedTemporaryFile("r") as told:
        strace = subprocess.Popen(
            [found("strace"), "-c", "-f", "-qq", "-o", told.name, "-p", str(worker)],
            start_new_session=True,
        )
        try:
            await_traced(worker, strace)
            ask(lines, kind, rounds)
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(30)
        rows = [line.split() for line in told.read().splitlines()]
    return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit()}


def main(
    rounds: Annotated[int, typer.Option(min=1, help="On each of 16 connections.")] = 100,
) -> None:
    """Counts system calls."""
    if not found("strace"):
        console.print("strace is not here: apt-get install strace")
        raise typer.Exit(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="authgate-system-calls-"))
    rig = Rig.build(folder, 10)
    table = Table("request", *SHOWN, title="system calls a request")
    try:
        gateway, port = start_gateway(rig)
        for kind in kinds(rig)[:PLAIN]:
            lines = [KeptConnection(port) for _ in range(CONNECTIONS)]
            ask(lines, kind, WARM_UP)
            calls = counted(worker_of(gateway), lines, kind, rounds)
            asked = rounds * CONNECTIONS
            table.add_row(kind.name, *(f"{calls.get(name, 0) / asked:.2f}" for name in SHOWN))
            for line in lines:
                line.close()
    finally:
        rig.stop()
        shutil.rmtree(folder, ignore_errors=True)
    console.print(table)


if __name__ == "__main__":
    run_bench(main)
