"""`python -m bench.autobahn`: the cases of the Autobahn|Testsuite, with and without the gateway.

The fuzzing client runs each case against an echo server of the `websockets` library, once
directly and once through the gateway; the fuzzing server runs them against a client of that
library in the same two ways.  Through the gateway each case must end as it does without.
Exits 1 otherwise.

The testsuite is for Python 2.7, which Debian has no longer: give the path of its `wstest` in an
environment of its own (`virtualenv` with such a Python, `pip install autobahntestsuite==25.10.1`).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
import websockets
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from bench.processes import run_bench
from tests.contract.running import started
from tests.ports import free_port

console = Console()
AGENTS = ("direct", "gateway")
# Some cases send one frame of 16 MiB: here it is the peers that are tested, and not the limit.
ROUTES = """\
version: 1
defaults:
  auth: public
  websocket: {{max_frame: 64MiB, ping: off}}
upstreams:
  echo: {{targets: ["http://127.0.0.1:{echo}"]}}
  fuzzing: {{targets: ["http://127.0.0.1:{fuzzing}"], host: "127.0.0.1:{fuzzing}"}}
routes:
  - {{id: echo, match: {{path: /echo}}, upstream: echo}}
  - {{id: fuzzing, match: {{path: "/{{rest}}", except_reserved: true}}, upstream: fuzzing}}
"""
MOST = "1.*,2.*,3.*,4.*,5.*,6.*,7.*,9.*,10.*,12.1.*,13.1.*"
"""All but the longest of the compressed ones, which differ in sizes and windows only."""
# What a case is called in which both did as they should, or as they may.
FINE = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED")


async def echo(socket: ServerConnection | ClientConnection) -> None:
    with suppress(websockets.ConnectionClosed):
        async for message in socket:
            await socket.send(message)


@asynccontextmanager
async def wstest(
    program: Path, mode: str, spec: dict[str, Any], folder: Path
) -> AsyncIterator[Any]:
    file = folder / f"{mode}.json"
    file.write_text(json.dumps(spec))
    with (folder / f"{mode}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, "-m", mode, "-s", str(file), stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def by_client(
    program: Path, folder: Path, cases: list[str], echo_port: int, gateway: int
) -> dict[str, Any]:
    """The reports of the fuzzing client, by agent and case."""
    spec = {
        "outdir": str(folder / "client"),
        "servers": [
            {"agent": "direct", "url": f"ws://127.0.0.1:{echo_port}/echo"},
            {"agent": "gateway", "url": f"ws://127.0.0.1:{gateway}/echo"},
        ],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    async with (
        serve(echo, "127.0.0.1", echo_port, max_size=None, ping_interval=None),
        wstest(program, "fuzzingclient", spec, folder) as process,
    ):
        await process.wait()
    return dict(json.loads((folder / "client" / "index.json").read_text()))


async def by_server(
    program: Path, folder: Path, cases: list[str], fuzzing: int, gateway: int
) -> dict[str, Any]:
    """The reports of the fuzzing server, by agent and case."""
    spec = {
        "url": f"ws://127.0.0.1:{fuzzing}",
        "outdir": str(folder / "server"),
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    async with wstest(program, "fuzzingserver", spec, folder):
        while True:
            try:
                async with connect(f"ws://127.0.0.1:{fuzzing}/getCaseCount") as asked:
                    count = int(await asked.recv())
                break
            except OSError:
                await asyncio.sleep(0.1)  # another process: it has no event for us
        for agent, port in (("direct", fuzzing), ("gateway", gateway)):
            base = f"ws://127.0.0.1:{port}"
            for number in range(1, count + 1):
                url = f"{base}/runCase?case={number}&agent={agent}"
                with suppress(websockets.WebSocketException):
                    async with connect(url, max_size=None, ping_interval=None) as socket:
                        await echo(socket)
            async with connect(f"{base}/updateReports?agent={agent}") as told:
                await told.wait_closed()
    return dict(json.loads((folder / "server" / "index.json").read_text()))


def compared(title: str, reports: dict[str, Any], table: Table) -> list[str]:
    """The cases that end otherwise through the gateway; a row for each agent goes to `table`."""
    for agent in AGENTS:
        kinds = Counter(case["behavior"] for case in reports[agent].values())
        closes = Counter(case["behaviorClose"] for case in reports[agent].values())
        row = [str(kinds.pop(kind, 0)) for kind in FINE]
        closed = sum(closes[kind] for kind in FINE)
        table.add_row(title, agent, *row, str(sum(kinds.values())), str(closed))
    direct, through = (reports[agent] for agent in AGENTS)
    for case in direct:
        if direct[case]["behavior"] not in FINE:
            console.print(f"{title} {case}: {direct[case]['behavior']}, without the gateway too")
    return [
        f"{title} {case}: {outcome(direct[case])}, through the gateway {outcome(through[case])}"
        for case in direct
        if outcome(direct[case]) != outcome(through[case])
    ]


def outcome(case: dict[str, Any]) -> tuple[str, str, int | None]:
    """What must be the same.  Whether a peer still answers what came before a forbidden frame is
    a race that it may lose either way, which the testsuite calls non-strict."""
    behavior = "OK" if case["behavior"] == "NON-STRICT" else case["behavior"]
    return behavior, case["behaviorClose"], case["remoteCloseCode"]


def main(
    wstest: Annotated[Path, typer.Option(help="The testsuite's program.", exists=True)],
    cases: Annotated[str, typer.Option(help="* for all, which takes an hour.")] = MOST,
) -> None:
    """Prints how the cases ended, and those that ended otherwise through the gateway."""
    echo_port, fuzzing = free_port(), free_port()
    routes = ROUTES.format(echo=echo_port, fuzzing=fuzzing).replace("{", "{{").replace("}", "}}")
    named = cases.split(",")
    program = wstest.absolute()
    table = Table(title="Autobahn|Testsuite")
    for column in ("who fuzzes", "with whom", *(k.lower() for k in FINE), "failed", "closed well"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with started(folder / "gateway", routes=routes) as running:
            client = asyncio.run(by_client(program, folder, named, echo_port, running.port))
            server = asyncio.run(by_server(program, folder, named, fuzzing, running.port))
    differing = compared("client", client, table) + compared("server", server, table)
    console.print(table)
    for line in differing:
        console.print(line)
    if differing:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
