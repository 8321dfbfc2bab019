"""A migration never has callers wait behind it, whatever it waits for itself."""

from __future__ import annotations

import asyncio
from contextlib import closing
from time import monotonic

import psycopg
import pytest

from gateway.stores import migrations
from gateway.stores.migrations import Migration, status, upgrade
from gateway.stores.open_database import open_database
from gateway.stores.postgres import STATEMENT_TIMEOUT_MS
from gateway.stores.protocols import StoreUnavailable

FIRST = Migration(1, "0001_first.sql", "CREATE TABLE a (id TEXT);\n")
SECOND = Migration(2, "0002_second.sql", "CREATE TABLE b (id TEXT);\nALTER TABLE a ADD x TEXT;\n")
TABLES = Migration(1, "0001_tables.sql", "CREATE TABLE a (id TEXT);\nCREATE TABLE b (id TEXT);\n")
INDEXES = Migration(
    2,
    "0002_indexes.sql",
    "-- Of both.\nCREATE INDEX a_by_id ON a (id);\nCREATE INDEX b_by_id ON b (id);\n",
)
SURELY_STUCK = "SET lock_timeout = '15s'"
"""A call would wait for as long as the migration does."""


def test_a_migration_waits_for_less_than_a_call_may_take() -> None:
    """Who stands behind it in a queue waits as long as it does, and has work of its own to do."""
    assert 2 * migrations.LOCK_TIMEOUT_MS <= STATEMENT_TIMEOUT_MS


async def test_nobody_waits_for_a_migration_that_waits_for_a_dump(postgres_url: str) -> None:
    """An ALTER TABLE stands in a queue behind who reads the table, and all others behind it."""
    database = open_database(postgres_url)
    await upgrade(database, [FIRST])
    with (
        closing(psycopg.connect(postgres_url)) as dump,
        closing(psycopg.connect(postgres_url, autocommit=True)) as caller,
    ):
        dump.execute("SELECT * FROM a")
        caller.execute(SURELY_STUCK)
        upgrading = asyncio.create_task(upgrade(database, [FIRST, SECOND]))
        until = monotonic() + 2.5  # it tries several times meanwhile
        while monotonic() < until:
            await asyncio.to_thread(caller.execute, "SELECT * FROM a")
            await asyncio.sleep(0.02)
        assert not upgrading.done()
        dump.rollback()
    assert await asyncio.wait_for(upgrading, 60) == (SECOND.name,)
    await database.close()


async def test_a_migration_that_gets_no_table_leaves_nothing_and_says_what_to_do(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "WAIT_S", 1.0)
    database = open_database(postgres_url)
    await upgrade(database, [FIRST])
    with closing(psycopg.connect(postgres_url)) as dump:
        dump.execute("SELECT * FROM a")
        with pytest.raises(StoreUnavailable, match="another transaction uses a table"):
            await upgrade(database, [FIRST, SECOND])
    assert (await status(database, [FIRST, SECOND])).pending == (SECOND.name,)
    assert await upgrade(database, [FIRST, SECOND]) == (SECOND.name,)
    await database.close()


async def test_an_index_that_waits_leaves_those_that_are_built_and_holds_no_other_table(
    postgres_url: str,
) -> None:
    """Else a table could not be written to while the index of another one is built."""
    database = open_database(postgres_url)
    await upgrade(database, [TABLES])
    with closing(psycopg.connect(postgres_url)) as writer:
        writer.execute("INSERT INTO b (id) VALUES ('1')")
        upgrading = asyncio.create_task(upgrade(database, [TABLES, INDEXES]))
        with closing(psycopg.connect(postgres_url, autocommit=True)) as other:
            found = "SELECT 1 FROM pg_indexes WHERE indexname = 'a_by_id'"
            async with asyncio.timeout(60):
                while other.execute(found).fetchone() is None:
                    await asyncio.sleep(0.02)
            other.execute(SURELY_STUCK)
            for _number in range(10):
                other.execute("INSERT INTO a (id) VALUES ('1')")
                await asyncio.sleep(0.1)
        assert not upgrading.done()
        writer.rollback()
    assert await asyncio.wait_for(upgrading, 60) == (INDEXES.name,)
    assert await upgrade(database, [TABLES, INDEXES]) == ()
    await database.close()


async def test_nodes_that_start_at_once_build_each_index_once(postgres_url: str) -> None:
    nodes = [open_database(postgres_url, pool_size=2) for _ in range(5)]
    await upgrade(nodes[0], [TABLES])
    done = await asyncio.gather(*(upgrade(node, [TABLES, INDEXES]) for node in nodes))
    assert [name for names in done for name in names] == [INDEXES.name]
    for node in nodes:
        await node.close()
