"""`python -m bench.sessions`: many sessions signed in, used and refreshed at the same time."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from bench.client import Caller, Signed, Times
from bench.cluster import PASSWORD, Cluster, percentile
from bench.rig import HERE

console = Console()
USERS = 20
AT_ONCE = 32


async def measure(cluster: Cluster, sessions: int, turns: int, progress: Progress) -> Times:
    times = Times()
    urls = [node.url for node in cluster.nodes]
    callers = [Caller(urls[i % len(urls)], times) for i in range(AT_ONCE)]
    signed: list[Signed] = []

    async def sign_in(caller: Caller, numbers: range, task: TaskID) -> None:
        for number in numbers:
            signed.append(await caller.login(f"user{number % USERS}@example.com", PASSWORD))
            progress.advance(task)

    async def use(caller: Caller, own: list[Signed], task: TaskID) -> None:
        for _ in range(turns):
            for place, session in enumerate(own):
                if await caller.call(session.access_token) != 200:
                    raise RuntimeError("a live session was refused")
                own[place] = await caller.refresh(session.refresh_token)
                progress.advance(task)

    try:
        task = progress.add_task("sign in", total=sessions)
        shares = [range(i, sessions, AT_ONCE) for i in range(AT_ONCE)]
        async with asyncio.TaskGroup() as group:
            for caller, numbers in zip(callers, shares, strict=True):
                group.create_task(sign_in(caller, numbers, task))
        task = progress.add_task("call and refresh", total=sessions * turns)
        async with asyncio.TaskGroup() as group:
            for place, caller in enumerate(callers):
                group.create_task(use(caller, signed[place::AT_ONCE], task))
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
    try:
        cluster.start(nodes=nodes, workers=workers)
        for number in range(USERS):
            cluster.add_user(f"user{number}@example.com")
        before = sum(node.memory_bytes() for node in cluster.nodes)
        with Progress(console=console) as progress:
            times = asyncio.run(measure(cluster, sessions, turns, progress))
        grown = sum(node.memory_bytes() for node in cluster.nodes) - before
    finally:
        cluster.stop()
    figures: dict[str, float] = {"memory_before_mb": before / 1e6, "memory_grown_mb": grown / 1e6}
    table = Table(title=f"{sessions:,} sessions on {nodes} nodes with {workers} workers each")
    for name in ("", "calls", "median ms", "p99 ms"):
        table.add_column(name, justify="right")
    for kind in ("login", "check", "refresh"):
        took = times.seconds[kind]
        median, p99 = percentile(took, 0.5) * 1000, percentile(took, 0.99) * 1000
        figures |= {f"{kind}_median_ms": median, f"{kind}_p99_ms": p99}
        table.add_row(kind, f"{len(took):,}", f"{median:.1f}", f"{p99:.1f}")
    console.print(table)
    console.print(
        f"memory of all processes: {before / 1e6:.0f} MB before, {grown / 1e6:+.1f} MB with all"
        f" sessions signed in ({grown / sessions:,.0f} bytes each)"
    )
    (HERE / ".rig" / "sessions.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
