"""A command of the shell comes and goes while the gateway has the SQLite file open."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.model import SystemClock
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database, StoreUnavailable
from gateway.stores.sqlite import SqliteDatabase

READ_IN_A_PROCESS_OF_ITS_OWN = """
import asyncio, sys
from pathlib import Path
from gateway.model import SystemClock
from gateway.stores.sqlite import SqliteDatabase

async def main():
    database = SqliteDatabase(Path(sys.argv[1]), SystemClock())
    async with database.transaction() as tx:
        rows = await tx.all("SELECT n FROM t ORDER BY n")
    await database.close()
    print([row["n"] for row in rows])

asyncio.run(main())
"""


async def seen_by_another_process(path: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        READ_IN_A_PROCESS_OF_ITS_OWN,
        str(path),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return out.decode().strip()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    one = SqliteDatabase(path, SystemClock())
    async with one.transaction() as tx:
        await tx.run("CREATE TABLE t (n BIGINT)")
    yield one
    await one.close()


async def put(database: Database, n: int) -> None:
    async with database.transaction() as tx:
        await tx.run("INSERT INTO t (n) VALUES (:n)", n=n)


async def test_what_is_written_after_a_command_has_ended_is_not_lost(
    database: Database, path: Path
) -> None:
    """Its end used to delete the write-ahead log, as our own locks had been dropped."""
    await put(database, 1)
    async with database.read_transaction(), database.read_transaction():
        pass  # opens every connection there is
    assert await seen_by_another_process(path) == "[1]"
    await put(database, 2)
    assert await seen_by_another_process(path) == "[1, 2]"


async def test_a_database_that_is_moved_away_is_not_made_anew_by_who_only_uses_it(
    tmp_path: Path,
) -> None:
    data, away = tmp_path / "data", tmp_path / "away"
    url = f"sqlite:///{data}/gateway.db"
    made = open_database(url)
    async with made.transaction() as tx:
        await tx.run("CREATE TABLE kept (id TEXT)")
    await made.close()
    data.rename(away)
    used = open_database(url, create=False)
    with pytest.raises(StoreUnavailable):
        async with used.read_transaction() as tx:
            await tx.all("SELECT id FROM kept")
    assert not data.exists()
    away.rename(data)
    async with used.read_transaction() as tx:
        assert await tx.all("SELECT id FROM kept") == []
    await used.close()
