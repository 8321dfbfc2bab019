"""Numbered files bring either store to one shape, once, whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from gateway.stores.migrations import Migration, SchemaProblem, shipped, status, upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from gateway.stores.schema_dump import schema_text
from tests.databases import write_schema

FIRST = Migration(1, "0001_first.sql", "CREATE TABLE a (id TEXT);\nCREATE TABLE b (id TEXT);\n")
SECOND = Migration(
    2, "0002_second.sql", "-- A remark; with a semicolon\nALTER TABLE a ADD x TEXT;\n"
)
NEEDY = Migration(3, "0003_needy.sql", "-- needs: 0002\nALTER TABLE a ADD y TEXT;\n")
BROKEN = Migration(2, "0002_broken.sql", "CREATE TABLE c (id TEXT);\nCREATE TABLE a (id TEXT);\n")


@pytest.fixture
async def ten(database_url: str) -> AsyncIterator[list[Database]]:
    """Ten nodes that open the same store."""
    nodes = [open_database(database_url, pool_size=2) for _ in range(10)]
    yield nodes
    for node in nodes:
        await node.close()


async def test_an_empty_database_has_everything_pending(empty_database: Database) -> None:
    found = await status(empty_database)
    assert found.applied == ()
    assert found.pending == tuple(migration.name for migration in shipped())


async def test_each_file_runs_once_and_in_order(empty_database: Database) -> None:
    assert await upgrade(empty_database, [FIRST]) == (FIRST.name,)
    assert await upgrade(empty_database, [FIRST, SECOND]) == (SECOND.name,)
    assert await upgrade(empty_database, [FIRST, SECOND]) == ()
    assert (await status(empty_database, [FIRST, SECOND])).pending == ()


async def test_ten_nodes_may_start_at_once(ten: list[Database]) -> None:
    done = await asyncio.gather(*(upgrade(node) for node in ten))
    ran = [name for names in done for name in names]
    assert sorted(ran) == [migration.name for migration in shipped()]
    assert (await status(ten[0])).pending == ()


async def test_a_file_that_fails_half_way_leaves_nothing_of_itself(
    empty_database: Database,
) -> None:
    await upgrade(empty_database, [FIRST])
    with pytest.raises(Exception, match="a"):
        await upgrade(empty_database, [FIRST, BROKEN])
    assert await upgrade(empty_database, [FIRST, SECOND]) == (SECOND.name,)
    with pytest.raises(Exception, match="missing"):
        async with empty_database.read_transaction() as tx:
            await tx.all("SELECT * FROM c")


async def test_an_empty_database_is_made_whole_or_not_at_all(empty_database: Database) -> None:
    with pytest.raises(Exception, match="a"):
        await upgrade(empty_database, [FIRST, BROKEN])
    assert (await status(empty_database, [FIRST])).applied == ()
    assert await upgrade(empty_database, [FIRST, SECOND]) == (FIRST.name, SECOND.name)


async def test_a_schema_that_a_newer_version_only_added_to_is_taken(
    empty_database: Database,
) -> None:
    await upgrade(empty_database, [FIRST, SECOND])
    found = await status(empty_database, [FIRST])
    assert (found.applied, found.pending, found.ahead) == ((FIRST.name,), (), (SECOND.name,))
    assert await upgrade(empty_database, [FIRST]) == ()


async def test_a_schema_that_needs_more_than_a_version_has_is_refused_by_name(
    empty_database: Database,
) -> None:
    await upgrade(empty_database, [FIRST, SECOND, NEEDY])
    assert (await status(empty_database, [FIRST, SECOND])).ahead == (NEEDY.name,)
    for work in (status, upgrade):
        with pytest.raises(SchemaProblem, match=r"0003_needy\.sql.*newer version"):
            await work(empty_database, [FIRST])


async def test_what_an_older_version_wrote_of_a_file_that_nobody_knows_is_refused(
    empty_database: Database,
) -> None:
    """The ledger of a version that did not write what a file needs."""
    await upgrade(empty_database, [FIRST, SECOND])
    async with empty_database.transaction() as tx:
        await tx.run("ALTER TABLE schema_migrations DROP COLUMN needs")
    with pytest.raises(SchemaProblem, match=r"0002_second\.sql.*newer version"):
        await status(empty_database, [FIRST])
    assert (await status(empty_database, [FIRST, SECOND])).pending == ()
    assert await upgrade(empty_database, [FIRST, SECOND, NEEDY]) == (NEEDY.name,)
    with pytest.raises(SchemaProblem, match=r"0002_second\.sql.*newer version"):
        await status(empty_database, [FIRST])


async def test_a_version_that_lacks_some_and_has_others_is_refused(
    empty_database: Database,
) -> None:
    await upgrade(empty_database, [FIRST, NEEDY])
    with pytest.raises(SchemaProblem, match=r"0003_needy\.sql.*lacks 0002_second\.sql"):
        await upgrade(empty_database, [FIRST, SECOND])


async def test_a_file_that_was_edited_after_it_ran_is_refused(empty_database: Database) -> None:
    await upgrade(empty_database, [FIRST])
    edited = Migration(1, FIRST.name, FIRST.text.replace("b (id", "b (key"))
    with pytest.raises(SchemaProblem, match=r"0001_first\.sql was changed"):
        await status(empty_database, [edited])


def test_the_numbers_of_the_shipped_files_have_no_gaps() -> None:
    assert [m.number for m in shipped()] == list(range(1, len(shipped()) + 1))


def test_what_a_file_needs_is_a_line_of_its_own() -> None:
    assert (NEEDY.needs, FIRST.needs) == (2, 0)
    assert Migration(3, "0003_told.sql", "-- it needs: 0002\n").needs == 0


def test_the_schema_file_of_the_repository_is_current() -> None:
    """Write it anew with `python -m gateway.stores.schema_dump > db/schema.sql`."""
    path = Path(__file__).parents[2] / "db" / "schema.sql"
    assert path.read_text("utf-8") == schema_text()


async def test_what_the_tests_begin_with_is_what_an_upgrade_gives(
    postgres_url: str, other_postgres_url: str, tmp_path: Path
) -> None:
    sqlite_url = f"sqlite:///{tmp_path}/gateway.db"
    for url in (postgres_url, sqlite_url):
        await write_schema(url)
        database = open_database(url)
        assert await upgrade(database) == ()
        await database.close()
    upgraded = open_database(other_postgres_url)
    await upgrade(upgraded)
    await upgraded.close()
    assert catalogue(postgres_url) == catalogue(other_postgres_url)


def catalogue(url: str) -> list[tuple[str, ...]]:
    """Every column, index and constraint of the schema, without the schema's name."""
    with closing(psycopg.connect(url)) as connection:
        return connection.execute(
            """
            SELECT 'column', table_name, column_name, data_type, is_nullable,
                   coalesce(column_default, '')
              FROM information_schema.columns WHERE table_schema = current_schema()
            UNION ALL
            SELECT 'index', tablename, indexname,
                   replace(indexdef, current_schema() || '.', ''), '', ''
              FROM pg_indexes WHERE schemaname = current_schema()
            UNION ALL
            SELECT 'constraint', conrelid::regclass::text, conname,
                   pg_get_constraintdef(oid), '', ''
              FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
            ORDER BY 1, 2, 3
            """
        ).fetchall()
