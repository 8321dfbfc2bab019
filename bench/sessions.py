"""`python -m bench.sessions`: many sessions signed in, used and refreshed at the same time.

Each session is of an account of its own.  The accounts are brought in with one hash that was
made beforehand; every sign-in is a real one, with its own bcrypt check.  Latency is measured
closed-loop: so many callers at once, each asks again when it has its answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.client import Caller, Signed, Times
from bench.cluster import PASSWORD, Cluster, Node, percentile
from bench.processes import run_bench
from bench.rig import HERE

console = Console()

# Each worker hashes in as many threads as half its cores, and lets 64 more wait; the throttle
# has room for 50 attempts at once from one address.  Below both, nobody is refused.
AT_ONCE = 32


@dataclass
class Memory:
    """Bytes of what the nodes hold: of each worker, and of all processes together."""

    workers: list[int]
    total: int

    @classmethod
    def of(cls, nodes: list[Node]) -> Memory:
        workers = [rss for node in nodes for rss in node.workers_rss_bytes()]
        return cls(sorted(workers), sum(node.memory_bytes() for node in nodes))

    @property
    def told(self) -> str:
        return (
            f"{self.workers[0] / 1e6:.0f} to {self.workers[-1] / 1e6:.0f} MB RSS a worker,"
            f" {self.total / 1e6:.0f} MB in all (shared pages counted once)"
        )


def address(number: int) -> str:
    return f"user{number}@example.com"


async def measure(cluster: Cluster, sessions: int, turns: int, progress: Progress) -> Times:
    times = Times()
    urls = [node.url for node in cluster.nodes]
    callers = [Caller(urls[i % len(urls)], times) for i in range(AT_ONCE)]
    signed: list[Signed] = []

    async def sign_in(caller: Caller, number: int) -> None:
        signed.append(await caller.login(address(number), PASSWORD))

    async def check(caller: Caller, number: int) -> None:
        status = await caller.call(signed[number].access_token)
        if status != 200:
            raise RuntimeError(f"a live session was answered {status}")

    async def refresh(caller: Caller, number: int) -> None:
        signed[number] = await caller.refresh(signed[number].refresh_token)

    async def everyone(what: str, step: Callable[[Caller, int], Awaitable[None]]) -> None:
        """Each session once, `AT_ONCE` at a time."""
        task = progress.add_task(what, total=sessions)
        waiting = iter(range(sessions))

        async def work(caller: Caller) -> None:
            for number in waiting:
                await step(caller, number)
                progress.advance(task)

        async with asyncio.TaskGroup() as group:
            for caller in callers:
                group.create_task(work(caller))

    try:
        await everyone("sign in", sign_in)
        for _ in range(turns):
            await everyone("call", check)
            await everyone("refresh", refresh)
        # Every session is still alive at the end, with what its last refresh gave it.
        await everyone("call again", check)
    finally:
        await asyncio.gather(*(caller.close() for caller in callers))
    return times


def main(
    sessions: Annotated[int, typer.Option(min=1, help="All alive at the same time.")] = 10_000,
    turns: Annotated[int, typer.Option(min=1, help="Calls and refreshes of each.")] = 1,
    nodes: Annotated[int, typer.Option(min=1)] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Of each node.")] = 2,
    database_url: Annotated[str, typer.Option(help="Else a PostgreSQL is started.")] = "",
    redis_url: Annotated[str, typer.Option(help="Else a Valkey is started.")] = "",
) -> None:
    """Latency of login, check and refresh, and what the sessions cost in memory."""
    cluster = Cluster.build(database_url, redis_url)
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        cluster.start(nodes=nodes, workers=workers)
        cluster.add_users([address(number) for number in range(sessions)])
        before = Memory.of(cluster.nodes)
        with Progress(*columns, console=console) as progress:
            times = asyncio.run(measure(cluster, sessions, turns, progress))
        after = Memory.of(cluster.nodes)
    finally:
        cluster.stop()
    figures: dict[str, float | list[int]] = {
        "workers_rss_before": before.workers,
        "workers_rss_after": after.workers,
        "total_before": before.total,
        "total_after": after.total,
    }
    table = Table(title=f"{sessions:,} sessions on {nodes} nodes with {workers} workers each")
    for name in ("", "calls", "median ms", "p99 ms"):
        table.add_column(name, justify="right")
    for kind in ("login", "check", "refresh"):
        took = times.seconds[kind]
        median, p99 = percentile(took, 0.5) * 1000, percentile(took, 0.99) * 1000
        figures |= {f"{kind}_median_ms": median, f"{kind}_p99_ms": p99}
        table.add_row(kind, f"{len(took):,}", f"{median:.1f}", f"{p99:.1f}")
    console.print(table)
    console.print(f"before: {before.told}")
    console.print(f"with all sessions: {after.told}")
    grown = after.total - before.total
    console.print(f"grown by {grown / 1e6:+.1f} MB, {grown / sessions:,.0f} bytes a session")
    (HERE / ".rig" / "sessions.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run_bench(main)
