"""`python -m bench.logout`: is a token that was signed out refused everywhere, at once?

After each 204 of a logout on one node, 1,000 requests go out over 50 connections to all
workers of all nodes.  Not one of them may be accepted.  Exits 1 if one is.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.client import Caller, Times
from bench.cluster import PASSWORD, Cluster, percentile
from bench.processes import run_bench
from bench.rig import HERE

console = Console()
EMAIL = "bench@example.com"
CONNECTIONS = 50
REQUESTS = 1_000


async def one_round(callers: list[Caller]) -> int:
    """Accepted requests after the logout; raises when the token was not good before it."""
    signed = await callers[0].login(EMAIL, PASSWORD)
    before = await asyncio.gather(*(caller.call(signed.access_token) for caller in callers))
    if set(before) != {200}:
        raise RuntimeError(f"a fresh token was answered {sorted(set(before))}")
    status = await callers[0].logout(signed.access_token)
    if status != 204:
        raise RuntimeError(f"logout was answered {status}")

    async def hammer(caller: Caller) -> list[int]:
        return [await caller.call(signed.access_token) for _ in range(REQUESTS // CONNECTIONS)]

    answers = await asyncio.gather(*map(hammer, callers))
    return sum(status < 400 for each in answers for status in each)


async def measure(cluster: Cluster, rounds: int, logouts: int) -> dict[str, float]:
    times = Times()
    urls = [node.url for node in cluster.nodes]
    callers = [Caller(urls[i % len(urls)], times) for i in range(CONNECTIONS)]
    try:
        accepted = 0
        for number in range(rounds):
            accepted += await one_round(callers)
            console.print(f"round {number + 1}: {accepted} accepted", style="dim")
        for _ in range(logouts):
            signed = await callers[0].login(EMAIL, PASSWORD)
            await callers[1].logout(signed.access_token)
    finally:
        await asyncio.gather(*(caller.close() for caller in callers))
    took = times.seconds["logout"]
    return {
        "accepted": accepted,
        "asked": rounds * REQUESTS,
        "logouts": len(took),
        "logout_median_ms": percentile(took, 0.5) * 1000,
        "logout_p99_ms": percentile(took, 0.99) * 1000,
    }


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Logouts, each with 1,000 requests.")] = 10,
    logouts: Annotated[int, typer.Option(min=0, help="More of them, for the latency.")] = 200,
    nodes: Annotated[int, typer.Option(min=1)] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Of each node.")] = 2,
    database_url: Annotated[str, typer.Option(help="Else a PostgreSQL is started.")] = "",
    redis_url: Annotated[str, typer.Option(help="Else a Valkey is started.")] = "",
) -> None:
    """Counts accepted requests after a logout, and says how long a logout takes."""
    cluster = Cluster.build(database_url, redis_url)
    try:
        cluster.start(nodes=nodes, workers=workers)
        cluster.add_user(EMAIL)
        figures = asyncio.run(measure(cluster, rounds, logouts))
    finally:
        cluster.stop()
    table = Table(title=f"Logout on {nodes} nodes with {workers} workers each")
    for name in figures:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*(f"{value:,.1f}".removesuffix(".0") for value in figures.values()))
    console.print(table)
    (HERE / ".rig" / "logout.json").write_text(json.dumps(figures, indent=1) + "\n")
    if figures["accepted"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
