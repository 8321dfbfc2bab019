"""What a transaction costs a worker in each SQL store, and how soon it hears of one that is gone.

`python -m bench.sql [--count 3000] [--json]`: processor time of this process for a transaction
that writes a row and reads it, alone and ten at a time, and for each of a thousand rows that are
written together; and how long a server takes to be missed that refuses.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from bench.processes import run_bench
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database, StoreUnavailable
from tests.ports import free_port
from tests.servers import PostgresServer

AT_ONCE = 10
ROWS = 1_000


async def cpu_us(work: Callable[[], Awaitable[None]], count: int) -> float:
    """Microseconds of processor time for each of `count`."""
    began_s = time.process_time()
    await work()
    return (time.process_time() - began_s) / count * 1e6


async def figures(database: Database, count: int) -> dict[str, Any]:
    async with database.transaction() as tx:
        await tx.run("CREATE TABLE costs (id TEXT PRIMARY KEY, n BIGINT)")

    async def put(number: int) -> None:
        async with database.transaction() as tx:
            await tx.run("INSERT INTO costs (id, n) VALUES (:id, :n)", id=f"k{number}", n=number)
            assert await tx.one("SELECT n FROM costs WHERE id = :id", id=f"k{number}")

    async def alone() -> None:
        for number in range(count):
            await put(number)

    async def together() -> None:
        for start in range(count, 2 * count, AT_ONCE):
            await asyncio.gather(*(put(start + number) for number in range(AT_ONCE)))

    async def many() -> None:
        rows = [{"id": f"m{number}", "n": number} for number in range(ROWS)]
        for _ in range(10):
            async with database.transaction() as tx:
                await tx.many("INSERT INTO costs (id, n) VALUES (:id, :n)", rows)
                await tx.run("DELETE FROM costs WHERE id LIKE 'm%'")

    await put(-1)
    return {
        "alone_us": await cpu_us(alone, count),
        "together_us": await cpu_us(together, count),
        "row_us": await cpu_us(many, 10 * ROWS),
    }


async def refused_ms() -> float:
    """Until a caller hears that nobody listens."""
    database = open_database(f"postgresql://u@127.0.0.1:{free_port()}/d")
    began_at = time.perf_counter()
    try:
        async with database.read_transaction():
            raise AssertionError("somebody listens")
    except StoreUnavailable:
        return (time.perf_counter() - began_at) * 1e3


async def measured(postgres_url: str, sqlite: Path, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {"refused_ms": await refused_ms()}
    for url in (postgres_url, f"sqlite:///{sqlite}"):
        database = open_database(url)
        found[database.dialect] = await figures(database, count)
        await database.close()
    return found


def main(
    count: Annotated[int, typer.Option(min=1, help="Transactions of each kind.")] = 3_000,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Times transactions of both SQL stores, and a server that refuses."""
    folder = Path(tempfile.mkdtemp(prefix="authgate-sql-"))
    folder.chmod(0o755)
    server = PostgresServer(folder / "postgres").start()
    try:
        result = uvloop.run(measured(server.url, folder / "gateway.db", count))
    finally:
        server.stop()
        shutil.rmtree(folder)
    if as_json:
        print(json.dumps(result))
        return
    print(f"a server that refuses is missed after {result.pop('refused_ms'):.1f} ms")
    for dialect, costs in result.items():
        print(
            f"{dialect}: {costs['alone_us']:.0f} us a transaction alone,"
            f" {costs['together_us']:.0f} us among {AT_ONCE},"
            f" {costs['row_us']:.1f} us a row of many"
        )


if __name__ == "__main__":
    run_bench(main)
