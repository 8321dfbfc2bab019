"""`python -m bench.memory`: what does a worker hold at rest, and what do connections and sessions
cost?

One node with one worker on PostgreSQL and Valkey, everything installed.  At rest it has served
nothing.  RSS counts every page of the process; PSS a page that several processes share by the
share of each, so that those of master and workers can be added up: a worker is forked from the
master, and most of what it holds was there before.  Then keep-alive connections that ask once and
stay, and on a node of its own accounts that sign in, call and refresh.  Exits 1 where a worker at
rest is over 70 MB of PSS, or an idle connection over 4 KB.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import sessions as sign_ins
from bench.cluster import Cluster
from bench.processes import children, run_bench
from bench.rig import HERE
from bench.sockets import SPARE_DESCRIPTORS, descriptors, measure_idle

console = Console()
WORKER_GOAL_MB, CONNECTION_GOAL_KB = 70.0, 4.0
WARMING_UP = 50


@dataclass
class Held:
    """Megabytes of one process."""

    rss: float
    pss: float
    private: float

    @classmethod
    def by(cls, pid: int) -> Held:
        found = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, amount = line.split(":")
            found[name] = int(amount.split()[0]) * 1024 / 1e6
        return cls(found["Rss"], found["Pss"], found["Private_Dirty"])


def main(
    connections: Annotated[int, typer.Option(min=1)] = 10_000,
    sessions: Annotated[int, typer.Option(min=1)] = 1_000,
    database_url: Annotated[str, typer.Option(help="Else a PostgreSQL is started.")] = "",
    redis_url: Annotated[str, typer.Option(help="Else a Valkey is started.")] = "",
) -> None:
    """A worker at rest, an idle connection, a session."""
    connections = min(connections, descriptors() - SPARE_DESCRIPTORS)
    os.environ["GATEWAY_MAX_CONNECTIONS"] = str(connections + 1_000)
    os.environ["GATEWAY_MAX_CONNECTIONS_PER_ADDRESS"] = "0"  # they are all of this machine
    os.environ["GATEWAY_KEEPALIVE_S"] = "600"
    cluster = Cluster.build(database_url, redis_url)
    try:
        cluster.start(nodes=2, workers=1)
        idle, busy = cluster.nodes
        master, worker = (Held.by(pid) for pid in (idle.process.pid, children(idle.process.pid)[0]))
        cluster.add_users([sign_ins.address(number) for number in range(sessions)])
        cluster.add_user("stays@example.com")
        kept, connection_kb = asyncio.run(measure_idle(idle, connections))
        cluster.nodes = [busy]
        with Progress(console=console) as progress:
            # What the first sign-ins bring into memory is nobody's session.
            asyncio.run(sign_ins.measure(cluster, min(WARMING_UP, sessions), 1, progress))
            before = busy.memory_bytes()
            asyncio.run(sign_ins.measure(cluster, sessions, 1, progress))
        session_kb = (busy.memory_bytes() - before) / sessions / 1024
    finally:
        cluster.stop()
    table = Table(title=f"{kept:,} idle connections, {sessions:,} sessions")
    for column in ("", "measured", "goal"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("worker at rest, PSS", f"{worker.pss:.1f} MB", f"{WORKER_GOAL_MB:.0f} MB")
    table.add_row("worker at rest, RSS", f"{worker.rss:.1f} MB", "")
    table.add_row("worker at rest, its own pages", f"{worker.private:.1f} MB", "")
    table.add_row("its master, PSS", f"{master.pss:.1f} MB", "")
    table.add_row("both, PSS", f"{worker.pss + master.pss:.1f} MB", "")
    table.add_row("an idle connection", f"{connection_kb:.2f} KB", f"{CONNECTION_GOAL_KB:.0f} KB")
    table.add_row("a session, signed in, used and refreshed", f"{session_kb:.1f} KB", "")
    console.print(table)
    figures = {
        "worker": vars(worker),
        "master": vars(master),
        "connections": kept,
        "connection_kb": connection_kb,
        "session_kb": session_kb,
    }
    (HERE / ".rig" / "memory.json").write_text(json.dumps(figures, indent=1) + "\n")
    good = worker.pss < WORKER_GOAL_MB and connection_kb < CONNECTION_GOAL_KB
    raise typer.Exit(0 if good and kept == connections else 1)


if __name__ == "__main__":
    run_bench(main)
