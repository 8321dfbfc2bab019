"""`python -m bench.floods`: what grows when a stranger asks for one thing again and again.

Each endpoint of the gateway's own, and each way in which a proxied call is refused, is flooded for
a while from one address.  Before, half-way and after it is read what there is: rows in SQL, keys
and memory in Redis, the memory of the workers, the ordinary log.  Beside each flood somebody with
a good token calls the backend at a person's pace; how much longer their slowest calls take than
between the floods, in the mean of the run, is told too.  Exits 1 where something has grown past its
bound.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated

import redis
import typer
from rich.console import Console
from rich.table import Table

from bench.cluster import PASSWORD, Cluster, Node, percentile
from bench.flood_requests import (
    CALLER,
    FLOODS,
    GUARDED,
    ISSUERS,
    PROVIDER_SECRET,
    Flood,
    request,
)
from bench.flood_sender import read_answer
from bench.processes import children, resident_bytes, run_bench
from bench.rig import HERE
from gateway.stores.open_database import open_database

# Wide enough for the table where there is no terminal to ask.
console = Console(width=None if Console().is_terminal else 130)
ROOT = HERE.parent
CALLERS = 4
ALONE_S = 5.0
"""How long the others are timed before each flood, at most: some 900 calls.  What the slowest
hundredth of so few takes says little, so that of the stretches of the whole run is compared."""
KEYS_BESIDE = 5
"""Leases, the stream, and buckets of callers: what comes and goes without a flood."""
AUDIT_ROWS = 2 * len(FLOODS)
"""What is counted is told each minute, a row for each reason and route: of all floods that were
sent in that minute, each of which is refused for its own reason, and then for its rate."""
_TABLE = re.compile(r"^CREATE TABLE (\w+)", re.M)


@dataclass(slots=True)
class Standing:
    """What there is at one moment."""

    rows: int
    keys: int
    redis_bytes: int
    worker_bytes: int
    log_bytes: int

    def since(self, before: Standing) -> Standing:
        return Standing(
            self.rows - before.rows,
            self.keys - before.keys,
            self.redis_bytes - before.redis_bytes,
            self.worker_bytes - before.worker_bytes,
            self.log_bytes - before.log_bytes,
        )


async def standing(database_url: str, redis_url: str, pids: list[int], log: Path) -> Standing:
    server = redis.Redis.from_url(redis_url)
    try:
        keys = int(server.dbsize())
        used = int(server.info("memory")["used_memory"])
    finally:
        server.close()
    database, rows = open_database(database_url), 0
    try:
        async with database.read_transaction() as tx:
            for table in tables():
                found = await tx.one(f"SELECT COUNT(*) AS n FROM {table}")
                rows += int(found["n"]) if found else 0
    finally:
        await database.close()
    return Standing(rows, keys, used, sum(map(resident_bytes, pids)), log.stat().st_size)


def tables() -> list[str]:
    folder = resources.files("gateway.stores").joinpath("schema")
    texts = [found.read_text("utf-8") for found in folder.iterdir() if found.name.endswith(".sql")]
    return sorted({name for text in texts for name in _TABLE.findall(text)})


async def timed_call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytes
) -> float:
    """How many seconds a good call took; RuntimeError where it was not answered 200."""
    began = time.monotonic()
    writer.write(asked)
    status, _ = await read_answer(reader)
    if status != 200:
        raise RuntimeError(f"a good call was answered {status}")
    return time.monotonic() - began


@dataclass
class Outcome:
    floods: Sequence[Flood]
    """Those that were sent at once."""
    statuses: Counter[int]
    grown: Standing
    grown_later: Standing
    """In the second half: what goes on growing."""
    p99_s: float
    """Of the others beside it."""

    @property
    def name(self) -> str:
        return " + ".join(flood.name for flood in self.floods)

    @property
    def wrong(self) -> list[str]:
        found = []
        if self.grown.rows > sum(flood.rows for flood in self.floods) + AUDIT_ROWS:
            found.append(f"{self.grown.rows} rows")
        if self.grown.keys > sum(flood.keys for flood in self.floods) + KEYS_BESIDE:
            found.append(f"{self.grown.keys} keys")
        if set(self.statuses) & {0, 500}:
            found.append(f"answers {dict(self.statuses)}")
        return found


@dataclass
class Bench:
    cluster: Cluster
    node: Node
    seconds: float
    per_s: float
    token: str = ""
    alone: list[float] = field(default_factory=list)
    """How many seconds each call of the others took between the floods."""
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def alone_p99_s(self) -> float:
        return percentile(self.alone, 0.99)

    async def run(self, floods: Sequence[Flood], at_once: int) -> None:
        session = await self._session("login", {"email": CALLER, "password": PASSWORD})
        for first in range(0, len(floods), at_once):
            # Nobody signs in any more from the address that the floods come from, and a token
            # ends before they do.
            fields = {"refresh_token": session["refresh_token"]}
            session = await self._session("refresh", fields)
            self.token = session["access_token"]
            self.alone += await self._calls(min(self.seconds, ALONE_S))
            outcome = await self._flooded(floods[first : first + at_once])
            self.outcomes.append(outcome)
            shown = ", ".join(f"{n} × {status}" for status, n in outcome.statuses.most_common(3))
            ratio = outcome.p99_s / self.alone_p99_s
            console.print(f"{outcome.name}: {shown}; others {ratio:.1f} ×", style="dim")

    async def _flooded(self, floods: Sequence[Flood]) -> Outcome:
        before = await self._standing()
        words = (str(self.node.port), *(flood.name for flood in floods), "--per-s", str(self.per_s))
        sender = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.flood_sender", *words, cwd=ROOT, stdin=PIPE, stdout=PIPE
        )
        took = await self._calls(self.seconds / 2)
        half = await self._standing()
        took += await self._calls(self.seconds / 2)
        told, _ = await sender.communicate()
        statuses = Counter({int(status): n for status, n in json.loads(told).items()})
        after = await self._standing()
        return Outcome(
            floods,
            statuses,
            after.since(before),
            after.since(half),
            percentile(took, 0.99),
        )

    async def _session(self, endpoint: str, fields: Mapping[str, str]) -> dict[str, str]:
        body = json.dumps(fields).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.node.port)
        writer.write(request("POST", f"/auth/{endpoint}", "Connection: close", body=body))
        text = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        found: dict[str, str] = json.loads(text)
        return found

    async def _calls(self, seconds: float) -> list[float]:
        took: list[float] = []
        until = time.monotonic() + seconds
        asked = request("GET", GUARDED, f"Authorization: Bearer {self.token}")

        async def caller() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.node.port)
            while time.monotonic() < until:
                took.append(await timed_call(reader, writer, asked))
                await asyncio.sleep(0.02)
            writer.close()

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return took

    async def _standing(self) -> Standing:
        process, cluster = self.node.process, self.cluster
        workers = children(process.pid)
        return await standing(cluster.database_url, cluster.redis_url, workers, process.log)


def table(outcomes: list[Outcome], alone_p99_s: float) -> Table:
    """`alone_p99_s` is that of the others between the floods."""
    made = Table(
        "flood", "calls", "rows", "later", "keys", "later", "workers", "log", "others' p99"
    )
    for one in outcomes:
        made.add_row(
            one.name,
            f"{one.statuses.total():,}",
            f"{one.grown.rows:+}",
            f"{one.grown_later.rows:+}",
            f"{one.grown.keys:+}",
            f"{one.grown_later.keys:+}",
            f"{one.grown.worker_bytes / 1e6:+.1f} MB",
            f"{one.grown.log_bytes / 1e3:+.1f} KB",
            f"{one.p99_s * 1e3:.1f} ms, {one.p99_s / alone_p99_s:.1f} ×",
        )
    made.caption = f"The others' p99 between the floods: {alone_p99_s * 1e3:.1f} ms"
    return made


def main(
    seconds: Annotated[float, typer.Option(min=1)] = 60.0,
    per_s: Annotated[
        float, typer.Option(help="calls a second of each flood; 0: all it can")
    ] = 500.0,
    at_once: Annotated[
        int, typer.Option(min=1, help="floods beside each other, which share the calls a second")
    ] = 1,
    only: Annotated[str, typer.Option(help="which floods: a regular expression")] = "",
    database_url: str = "",
    redis_url: str = "",
) -> None:
    """Floods each endpoint for so many seconds; tells what grew, and what others felt."""
    cluster = Cluster.build(database_url, redis_url)
    try:
        routes = cluster.rig.fill("gateway/routes.yaml")
        text = routes.read_text("utf-8")
        taken = text.replace("routes:\n", "defaults: {issuers: [own, company]}\nroutes:\n", 1)
        routes.write_text(taken + ISSUERS, "utf-8")
        settings = {
            "GATEWAY_EMAIL_VERIFICATION": "required",
            f"GATEWAY_SECRET_{PROVIDER_SECRET.upper()}": "s",
        }
        cluster.start(nodes=1, workers=2, settings=settings, routes=routes)
        cluster.add_user(CALLER)
        bench = Bench(cluster, cluster.nodes[0], seconds, per_s)
        with suppress(KeyboardInterrupt):
            floods = [flood for flood in FLOODS if re.search(only, flood.name)]
            asyncio.run(bench.run(floods, at_once))
    finally:
        cluster.stop()
    if bench.outcomes:
        console.print(table(bench.outcomes, bench.alone_p99_s))
    wrong = [f"{one.name}: {', '.join(one.wrong)}" for one in bench.outcomes if one.wrong]
    for line in wrong:
        console.print(line, style="red")
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    run_bench(main)
