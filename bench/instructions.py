"""`python -m bench.instructions`: how many instructions the gateway spends on a whole request.

A gateway with one worker runs under callgrind; nginx is its upstream.  One connection asks for one
thing after the other, so that each request wakes the loop by itself, which costs more than the same
request among others.  Each kind has two figures: what is executed in the
callbacks of the loop for what a socket brings, and all, with tasks that go on later and the thread
of the access log.  What the worker does while nobody asks is taken off; of the first that is next
to nothing, so that it is the same to within a percent on a busy machine.  There are several slices
of each kind, taken in turns.  Of the first the figure is their median, of the second the least: the
lines of the access log, which only refused calls have here, may be written in the slice of the kind
that is next.

Counted is what the process itself executes, libraries included: sockets and TCP are the kernel's,
which callgrind does not see.  A count does not vary with the machine's mood, as a clock does; it
varies with the processor's kind, for which libraries choose their code.  Exits 3 without valgrind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.decide import free_ports
from bench.kept_connection import KeptConnection
from bench.peers import gateway_environment, make_database
from bench.processes import Started, await_ready, children, run_bench
from bench.results import machine
from bench.rig import LOAD_CPU, Rig, found

console = Console(width=None if Console().is_terminal else 120)
PROGRAMS = ("valgrind", "vgdb")
START_WITHIN_S = 300.0
"""Valgrind takes some twenty times as long as the processor alone."""
MISSING = 3
AGAIN = 5
"""Requests before each slice but the first, which has its warm-up."""
BODY = b'{"n":"' + b"x" * 4_086 + b'"}\r\n'
"""Of 4 KiB."""

ROUTES = """
  - id: owned
    match: {path: "/owned/{user_id}/orders/{order_id}"}
    policy: owned
    action: orders:read
    resource: {type: order, id: "{order_id}", owner: "{user_id}"}
    limits: [per-user]
    upstream: app
decision_api: {trusted_peers: [127.0.0.1/32]}
"""
"""Behind those of the peers: an ownership, and the decision API."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One request, and how it is answered.  `tokens` gives that of each call, None for none."""

    name: str
    path: str
    status: int
    tokens: Iterator[str | None]
    method: str = "GET"
    body: bytes = b""
    decides: bool = False
    """It is asked of the decision API, about this path."""

    def request(self, port: int) -> bytes:
        """The bytes, with the header fields of a browser."""
        target = "/decide/nginx" if self.decides else self.path
        lines = [
            f"{self.method} {target} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Connection: keep-alive",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Accept: application/json, text/plain, */*",
            "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
            "Accept-Encoding: gzip, deflate, br, zstd",
            "Sec-Fetch-Dest: empty",
            "Sec-Fetch-Mode: cors",
            "Sec-Fetch-Site: same-origin",
        ]
        if self.decides:
            lines += [
                f"X-Original-Method: {self.method}",
                f"X-Original-URI: {self.path}",
                f"X-Original-Host: 127.0.0.1:{port}",
                "X-Original-Proto: http",
                "X-Original-IP: 203.0.113.7",
            ]
        token = next(self.tokens)
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        if self.body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Size:
    """How much is counted: `slices` of `requests` of each kind, and `idle_s` of rest in all."""

    requests: int
    slices: int
    warm_up: int
    idle_s: float

    @property
    def of_each(self) -> int:
        return self.requests * self.slices + self.warm_up + AGAIN * self.slices


@dataclass(frozen=True, slots=True)
class Count:
    in_callbacks: int
    all: int
    seconds: float


CALLBACK = "uv__stream_io"
"""Of the loop: all that is done at once for what a socket brings happens in it."""
ALL = ", all of it"
"""Behind the name of a kind: with its tasks and threads."""
_NAMED = re.compile(r"c?fn=\((\d+)\)(?: (.*))?")


def inclusive(dump: Iterable[str], function: str) -> int:
    """What was executed in a function and all that it calls (Callgrind's format, version 1: a
    function is named once, and is a number after that)."""
    number, callee, total, cost_follows = "", "", 0, False
    for line in dump:
        if cost_follows:
            total += int(line.split()[1]) if callee == number else 0
            cost_follows = False
        elif line.startswith("calls="):
            cost_follows = True
        elif (named := _NAMED.match(line)) is not None:
            if named[2] is not None and named[2].strip() == function:
                number = named[1]
            if line.startswith("cfn="):
                callee = named[1]
    return total


class Worker:
    """A process under callgrind whose instructions are counted while something is done."""

    def __init__(self, pid: int, counts: Path) -> None:
        self._pid, self._counts = pid, counts
        self._order("instrumentation", "on")

    def count(self, do: Callable[[], None]) -> Count:
        self._order("zero")
        began_at = time.perf_counter()
        do()
        seconds = time.perf_counter() - began_at
        self._order("dump")
        newest = max(self._counts.glob(f"{self._pid}.*"), key=lambda path: int(path.suffix[1:]))
        lines = newest.read_text().splitlines()
        totals = [line for line in lines if line.startswith("totals:")]
        return Count(inclusive(lines, CALLBACK), int(totals[-1].split()[1]), seconds)

    def _order(self, *words: str) -> None:
        subprocess.run(
            [found("vgdb"), f"--vgdb-prefix={self._counts}/vgdb", f"--pid={self._pid}", *words],
            check=True,
            capture_output=True,
            timeout=120,
        )


IN_TASKS = frozenset(("POST of 4 KiB with a token",))
"""Kinds that a task goes on with: what is done in callbacks varies with how the body arrives."""


def kinds(rig: Rig) -> tuple[Kind, ...]:
    good, guest = repeat(rig.credentials.good), repeat(rig.credentials.without_role)
    new = iter(rig.credentials.tokens.read_text().split())
    path, nobody = "/api/users/1?fields=name,email&lang=en", repeat(None)
    owned = "/owned/user-000001/orders/7?fields=name"
    return (
        Kind("allowed: token, policy, limit", path, 200, good),
        Kind("public route", "/public/users/1?fields=name,email&lang=en", 200, nobody),
        Kind("refused by the policy (403)", path, 403, guest),
        Kind("refused without a token (401)", path, 401, nobody),
        Kind("POST of 4 KiB with a token", path, 200, good, "POST", BODY),
        Kind("allowed by an ownership in CEL", owned, 200, good),
        Kind("allowed: a token that is new", path, 200, new),
        Kind("asked of /decide/nginx", path, 200, good, decides=True),
    )


def ask(line: KeptConnection, kind: Kind, requests: int) -> None:
    """So many times over one connection."""
    for _ in range(requests):
        status = line.ask(kind.request(line.port))
        if status != kind.status:
            raise RuntimeError(f"{kind.name}: answered {status}")


def start_gateway(
    rig: Rig, port: int, admin: int, backend: int, code: Mapping[str, str]
) -> tuple[Started, Path]:
    """The gateway under callgrind, and the folder in which it writes what it has counted; `code`
    are the settings by which it takes one build or the other."""
    counts = rig.folder / "counts"
    counts.mkdir()
    program = own_program()
    environment = gateway_environment(rig, port) | {
        **code,
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        # A worker that is this slow may well be late to confirm what was revoked.
        "GATEWAY_MAX_STALENESS_S": "60",
        "PYTHONHASHSEED": "0",
    }
    routes = rig.fill("gateway/routes.yaml", BACKEND=backend)
    routes.write_text(routes.read_text() + ROUTES)
    rig.fill("gateway/policies/owned.yaml")
    policies = rig.fill("gateway/policies/users.yaml").parent
    files = ["--config", str(routes), "--policies", str(policies)]
    make_database(rig, environment, rig.credentials.public_pem)
    # A fork can be told to count only where what is executed is followed too.
    command = [
        *(found("valgrind"), "--tool=callgrind", "--instr-atstart=no"),
        *("--trace-children=yes", "--trace-children-skip=*valkey-server"),
        *(f"--vgdb-prefix={counts}/vgdb", f"--callgrind-out-file={counts}/%p"),
        f"--log-file={rig.folder}/log/valgrind.%p",
        *(str(program.with_name("python")), str(program), "serve", *files),
    ]
    log = rig.folder / "log" / "gateway.log"
    gateway = Started(command, cpu=None, log=log, cwd=rig.folder, env=environment)
    rig.started.append(gateway)
    await_ready(admin, START_WITHIN_S)
    return gateway, counts


def worker_of(gateway: Started) -> int:
    """Its one worker: the child that is the same program (the other is the embedded Valkey)."""
    own = os.readlink(f"/proc/{gateway.pid}/exe")
    [worker] = [pid for pid in children(gateway.pid) if os.readlink(f"/proc/{pid}/exe") == own]
    return worker


def counted(size: Size, code: Mapping[str, str]) -> dict[str, int]:
    """The instructions of one request of each kind, by the build that `code` names."""
    folder = Path(tempfile.mkdtemp(prefix="authgate-instructions-"))
    rig = Rig.build(folder, size.of_each)
    try:
        backend, port, admin = free_ports(3)
        config = rig.fill("backend.conf", BACKEND=backend)
        nginx = [found("nginx"), "-p", str(folder), "-c", str(config)]
        rig.start("backend", nginx, backend, cpu=LOAD_CPU)
        gateway, counts = start_gateway(rig, port, admin, backend, code)
        worker = Worker(worker_of(gateway), counts)
        await_ready(admin, START_WITHIN_S)
        return _counted(worker, size, kinds(rig), port, admin)
    finally:
        rig.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _counted(
    worker: Worker, size: Size, asked: tuple[Kind, ...], port: int, admin: int
) -> dict[str, int]:
    slices: dict[str, list[Count]] = {kind.name: [] for kind in asked}
    rests = []
    for turn in range(size.slices):
        rests.append(worker.count(lambda: time.sleep(size.idle_s / size.slices)))
        for kind in asked:
            # Connections end where nobody asks for long: both legs begin before it counts.
            line = KeptConnection(admin if kind.decides else port)
            ask(line, kind, AGAIN if turn else size.warm_up)
            taken = worker.count(lambda line=line, kind=kind: ask(line, kind, size.requests))  # type: ignore[misc]
            slices[kind.name].append(taken)
            line.close()
    figures = {}
    for name, each in slices.items():
        for suffix, field, typical in (("", "in_callbacks", median), (ALL, "all", min)):
            idle_a_s = median(getattr(rest, field) / rest.seconds for rest in rests)
            taken_off = (getattr(one, field) - idle_a_s * one.seconds for one in each)
            figures[name + suffix] = round(typical(taken_off) / size.requests)
    return figures


def own_program() -> Path:
    return Path(sys.executable).with_name("gateway")


def require_valgrind() -> None:
    """Leaves with 3 where it is not here."""
    if missing := [name for name in PROGRAMS if not found(name)]:
        console.print(f"{' and '.join(missing)} is not here: apt-get install valgrind")
        raise typer.Exit(MISSING)


def main(
    requests: Annotated[int, typer.Option(min=1, help="Of each kind in each slice.")] = 150,
    slices: Annotated[int, typer.Option(min=1, help="Of each kind, in turns.")] = 7,
    warm_up: Annotated[int, typer.Option(min=1, help="Of each kind, before they count.")] = 200,
    idle_s: Annotated[float, typer.Option(min=1, help="To count what is done unasked.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="A file for the figures, as JSON.")] = None,
) -> None:
    """Counts the instructions of whole requests."""
    require_valgrind()
    figures = counted(Size(requests, slices, warm_up, idle_s), {})
    on = machine()
    table = Table("request", "instructions", title=f"{on['cpu']}, Python {on['python']}")
    for name, instructions in figures.items():
        table.add_row(name, f"{instructions:,}")
    console.print(table)
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run_bench(main)
