"""`python -m bench.limits`: do two nodes with two workers each let more pass than the limit?

One user asks over many connections as fast as it can.  What passed is held against what the
limit allows for the time that it took: burst + rate x seconds.  Exits 1 above that + 5 %.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.client import Caller, Times
from bench.cluster import PASSWORD, Cluster
from bench.processes import run_bench
from bench.rig import HERE

console = Console()
EMAIL = "bench@example.com"
CONNECTIONS = 40
RATE_A_S, BURST = 50.0, 200
"""As `tight` in `peers/gateway/routes.yaml` has them."""
SPARE = 1.05


async def measure(cluster: Cluster, path: str, seconds: float) -> dict[str, float]:
    times = Times()
    urls = [node.url for node in cluster.nodes]
    callers = [Caller(urls[i % len(urls)], times) for i in range(CONNECTIONS)]
    answers: list[int] = []
    try:
        signed = await callers[0].login(EMAIL, PASSWORD)
        began = time.monotonic()

        async def hammer(caller: Caller) -> None:
            while time.monotonic() - began < seconds:
                answers.append(await caller.call(signed.access_token, path))

        await asyncio.gather(*map(hammer, callers))
        took = time.monotonic() - began
    finally:
        await asyncio.gather(*(caller.close() for caller in callers))
    passed, allowed = answers.count(200), BURST + RATE_A_S * took
    return {
        "asked": len(answers),
        "passed": passed,
        "allowed": allowed,
        "share_percent": 100 * passed / allowed,
        "strange": len(answers) - passed - answers.count(429),
    }


def main(
    seconds: Annotated[float, typer.Option(min=1, help="For each of the two scopes.")] = 10,
    nodes: Annotated[int, typer.Option(min=1)] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Of each node.")] = 2,
    database_url: Annotated[str, typer.Option(help="Else a PostgreSQL is started.")] = "",
    redis_url: Annotated[str, typer.Option(help="Else a Valkey is started.")] = "",
) -> None:
    """Counts what passes a limit that all workers share."""
    cluster = Cluster.build(database_url, redis_url)
    try:
        cluster.start(nodes=nodes, workers=workers)
        cluster.add_user(EMAIL)
        figures = {
            scope: asyncio.run(measure(cluster, path, seconds))
            for scope, path in (("leased", "/limited/a"), ("shared", "/limited-shared/a"))
        }
    finally:
        cluster.stop()
    table = Table(title=f"{RATE_A_S:.0f}/s, burst {BURST}, {nodes} nodes with {workers} workers")
    table.add_column("scope")
    for name in figures["leased"]:
        table.add_column(name.replace("_", " "), justify="right")
    for scope, each in figures.items():
        table.add_row(scope, *(f"{value:,.1f}".removesuffix(".0") for value in each.values()))
    console.print(table)
    (HERE / ".rig" / "limits.json").write_text(json.dumps(figures, indent=1) + "\n")
    if any(each["passed"] > each["allowed"] * SPARE for each in figures.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
