"""Both SQL stores keep the same promises."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.model import SystemClock
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Conflict, Database, StoreUnavailable
from gateway.stores.sqlite import SqliteDatabase
from tests.own_time import own_time
from tests.stores.failed_calls import is_let_go

PUT = "INSERT INTO installation (name, value) VALUES (:name, :value)"
GET = "SELECT value FROM installation WHERE name = :name"


@pytest.fixture
async def neighbour(database_url: str, database: Database) -> AsyncIterator[Database]:
    """Another process's view of the same store."""
    other = open_database(database_url)
    yield other
    await other.close()


async def value_of(database: Database, name: str) -> str | None:
    async with database.read_transaction() as tx:
        row = await tx.one(GET, name=name)
    return str(row["value"]) if row else None


async def test_what_a_transaction_wrote_is_there_for_others_once_it_ended(
    database: Database, neighbour: Database
) -> None:
    async with database.transaction() as tx:
        assert await tx.run(PUT, name="a", value="1") == 1
        assert await value_of(neighbour, "a") is None
    assert await value_of(neighbour, "a") == "1"


async def test_an_exception_takes_everything_back(database: Database) -> None:
    with pytest.raises(LookupError):  # noqa: PT012
        async with database.transaction() as tx:
            await tx.run(PUT, name="a", value="1")
            raise LookupError
    assert await value_of(database, "a") is None


async def test_a_taken_key_is_a_conflict_and_rolls_back(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.run(PUT, name="a", value="1")
    with pytest.raises(Conflict):  # noqa: PT012
        async with database.transaction() as tx:
            await tx.run(PUT, name="b", value="1")
            await tx.run(PUT, name="a", value="2")
    assert await value_of(database, "b") is None
    assert await value_of(database, "a") == "1"


async def test_a_row_that_refers_to_nothing_is_a_conflict(database: Database) -> None:
    with pytest.raises(Conflict):
        async with database.transaction() as tx:
            await tx.run(
                "INSERT INTO account_roles (account_id, role, granted_at) VALUES (:id, 'r', 0)",
                id="nobody",
            )


async def test_a_wrong_statement_is_a_defect_not_an_outage(database: Database) -> None:
    with pytest.raises(Exception, match="nowhere") as raised:
        async with database.transaction() as tx:
            await tx.all("SELECT nowhere FROM installation")
    assert not isinstance(raised.value, StoreUnavailable)
    assert await value_of(database, "a") is None


async def test_returning_and_on_conflict_read_the_same(database: Database) -> None:
    upsert = PUT + " ON CONFLICT (name) DO UPDATE SET value = excluded.value RETURNING value"
    async with database.transaction() as tx:
        assert await tx.one(upsert, name="a", value="1") == {"value": "1"}
        assert await tx.one(upsert, name="a", value="2") == {"value": "2"}
        assert await tx.run("UPDATE installation SET value = '3' WHERE name = :n", n="b") == 0


async def test_texts_with_percents_colons_and_quotes_are_left_alone(database: Database) -> None:
    async with database.transaction() as tx:
        row = await tx.one("SELECT '%s :name ''x' AS a, CAST(:b AS TEXT) AS b", b="%(b)s :c")
        bare = await tx.one("SELECT '50% :off' AS a")
    assert row == {"a": "%s :name 'x", "b": "%(b)s :c"}
    assert bare == {"a": "50% :off"}


async def test_many_rows_go_in_at_once(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.many(PUT, [{"name": f"n{i}", "value": str(i)} for i in range(1200)])
        await tx.many(PUT, [])
        row = await tx.one("SELECT count(*) AS n FROM installation")
    assert row == {"n": 1200}


async def test_reading_refuses_to_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)read.?only|StoreUnavailable|sql"):
        async with database.read_transaction() as tx:
            await tx.run(PUT, name="a", value="1")
    assert await value_of(database, "a") is None


async def test_the_statements_of_one_reading_hold_together(
    database: Database, neighbour: Database
) -> None:
    async with database.read_transaction() as tx:
        assert await tx.one(GET, name="a") is None
        async with neighbour.transaction() as other:
            await other.run(PUT, name="a", value="1")
        assert await tx.one(GET, name="a") is None
    assert await value_of(database, "a") == "1"


async def test_a_row_lock_makes_the_second_writer_see_the_first(
    database: Database, neighbour: Database
) -> None:
    async with database.transaction() as tx:
        await tx.run(PUT, name="a", value="0")

    async def add_one(to: Database) -> None:
        async with to.transaction() as tx:
            row = await tx.one(
                "UPDATE installation SET name = name WHERE name = :name RETURNING value", name="a"
            )
            assert row
            await asyncio.sleep(0)
            await tx.run(
                "UPDATE installation SET value = :value WHERE name = :name",
                name="a",
                value=str(int(row["value"]) + 1),
            )

    await asyncio.gather(*(add_one(to) for to in [database, neighbour] * 10))
    assert await value_of(database, "a") == "20"


async def test_a_cancelled_transaction_leaves_nothing_and_no_lock(
    database: Database, neighbour: Database
) -> None:
    written = asyncio.Event()

    async def write_and_wait() -> None:
        async with database.transaction() as tx:
            await tx.run(PUT, name="a", value="1")
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_wait())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with neighbour.transaction() as tx:
        await tx.run(PUT, name="a", value="2")
    assert await value_of(database, "a") == "2"


async def test_a_statement_cancelled_half_way_is_never_answered_to_the_next_caller(
    database: Database,
) -> None:
    async def ask(number: int) -> object:
        async with database.read_transaction() as tx:
            row = await tx.one("SELECT CAST(:n AS BIGINT) AS n", n=number)
            return row and row["n"]

    for delay in range(20):
        task = asyncio.create_task(ask(-1))
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        assert await ask(delay) == delay
        await asyncio.wait([task])


async def test_more_callers_than_connections_are_all_served(database: Database) -> None:
    async def put(number: int) -> None:
        async with database.transaction() as tx:
            await tx.run(PUT, name=str(number), value="")

    await asyncio.gather(*(put(number) for number in range(40)))
    async with database.read_transaction() as tx:
        assert await tx.one("SELECT count(*) AS n FROM installation") == {"n": 40}


async def test_a_lock_held_too_long_is_an_outage_within_two_seconds(
    database: Database, neighbour: Database
) -> None:
    async with database.transaction() as tx:
        await tx.run(PUT, name="a", value="1")
    async with database.transaction() as holder:
        await holder.run("UPDATE installation SET value = '2'")
        async with own_time() as passed:
            with pytest.raises(StoreUnavailable) as raised:
                async with neighbour.transaction() as tx:
                    await tx.run("UPDATE installation SET value = '3'")
        assert passed.seconds < 2.2
        assert raised.value.store == "sql"
    assert await value_of(neighbour, "a") == "2"


async def test_the_store_tells_the_time(database: Database) -> None:
    async with database.transaction() as tx:
        assert abs(await tx.now() - time.time()) < 60


async def test_a_closed_store_is_an_outage(database: Database) -> None:
    await value_of(database, "a")
    await database.close()
    if database.dialect == "sqlite":
        await value_of(database, "a")
        await database.close()


async def test_the_sqlite_file_and_its_log_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "gateway.db"
    database = SqliteDatabase(path, SystemClock())
    async with database.transaction() as tx:
        await tx.run("CREATE TABLE t (id TEXT)")
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    await database.close()
    assert modes
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_damaged_sqlite_file_is_an_outage_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_bytes(b"this is no database" * 400)
    database = SqliteDatabase(tmp_path / "gateway.db", SystemClock())

    async def read() -> None:
        async with database.read_transaction() as tx:
            await tx.all("SELECT 1")

    with pytest.raises(StoreUnavailable):
        await read()
    assert await is_let_go(read)
    await database.close()


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "sqlite://", "sqlite:///", "gateway.db"])
def test_a_url_that_names_no_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///") as raised:
        open_database(url)
    assert "secret" not in str(raised.value)
