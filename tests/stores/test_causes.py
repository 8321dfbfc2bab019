"""Why a store is away is told in words, whatever it is, and never with a password."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import psycopg.errors
import pytest
from redis.exceptions import ResponseError

from gateway.model import SystemClock
from gateway.stores import causes, postgres_causes
from gateway.stores.migrations import upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database, StoreUnavailable
from gateway.stores.redis import open_redis
from gateway.stores.sqlite import SqliteDatabase
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer


async def why(url: str) -> str:
    """What is told of an SQL store that does not answer."""
    database = open_database(url)
    try:
        return await why_of(database)
    finally:
        await database.close()


async def why_of(database: Database) -> str:
    with pytest.raises(StoreUnavailable) as raised:
        async with database.transaction() as tx:
            await tx.run("INSERT INTO ids (id) VALUES ('x')")
    return raised.value.detail


async def why_redis(url: str) -> str:
    redis = open_redis(url)
    try:
        with pytest.raises(StoreUnavailable) as raised:
            await redis.call("PING")
        return raised.value.detail
    finally:
        await redis.close()


@pytest.fixture(scope="module")
def guarded() -> Iterator[PostgresServer]:
    """A PostgreSQL that asks one user for a password."""
    # It runs as another user, who may not enter pytest's own folder.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    server = PostgresServer(folder / "postgres").start()
    try:
        with closing(psycopg.connect(server.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
                cursor.execute("CREATE TABLE ids (id TEXT)")
                hba = folder / "postgres" / "cluster" / "pg_hba.conf"
                hba.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
                cursor.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


async def test_a_wrong_password_of_postgresql_is_told(guarded: PostgresServer) -> None:
    told = await why(f"postgresql://guarded:hunter2@127.0.0.1:{guarded.port}/postgres")
    assert (
        told == f'password authentication failed for user "guarded" (at 127.0.0.1:{guarded.port})'
    )


async def test_a_database_that_is_missing_is_told(guarded: PostgresServer) -> None:
    told = await why(guarded.url.replace("/postgres", "/none"))
    assert told.startswith('database "none" does not exist')


async def test_a_right_that_is_missing_is_told(guarded: PostgresServer) -> None:
    told = await why(f"postgresql://guarded:right@127.0.0.1:{guarded.port}/postgres")
    assert told == "its user may not use the tables: grant it to"


async def test_a_table_that_is_missing_is_told(postgres_url: str) -> None:
    assert await why(postgres_url) == "a table is missing: run `gateway db upgrade`"


async def test_an_unknown_host_and_a_closed_port_are_told_apart() -> None:
    port = free_port()
    for told in (
        await why("postgresql://u:hunter2@name.invalid/d"),
        await why_redis("redis://:hunter2@name.invalid"),
    ):
        assert "the name of the host is not known" in told
        assert "hunter2" not in told
    assert f"(at 127.0.0.1:{port})" in await why(f"postgresql://u:x@127.0.0.1:{port}/d")
    assert "refused" in await why(f"postgresql://u:x@127.0.0.1:{port}/d")
    assert "nobody listens there" in await why_redis(f"redis://127.0.0.1:{port}")


async def test_a_url_that_cannot_be_read_is_not_shown() -> None:
    told = await why("postgresql://u:hunter2@127.0.0.1:5432/d?no_such_option=1")
    assert told == "GATEWAY_DATABASE_URL cannot be read"


async def test_a_wrong_password_of_redis_is_told(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey").start()
    try:
        server.ask(b"CONFIG SET requirepass right")
        told = await why_redis(f"redis://:hunter2@127.0.0.1:{server.port}")
        assert "invalid username-password pair" in told
        assert "GATEWAY_REDIS_URL" in told
        assert "hunter2" not in told
        assert "Authentication required" in await why_redis(server.url)
    finally:
        server.kill()


async def test_a_master_that_sentinel_does_not_find_is_told_in_one_line() -> None:
    told = await why_redis(f"redis+sentinel://:hunter2@127.0.0.1:{free_port()}/main")
    assert told == "No master found for 'main'"


async def test_whoever_is_refused_at_once_is_told_the_same_cause(tmp_path: Path) -> None:
    redis = open_redis(f"redis://127.0.0.1:{free_port()}")
    told = []
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as raised:
            await redis.call("PING")
        told.append(raised.value.detail)
    await redis.close()
    assert told[0] == told[1]


async def test_a_full_disk_and_a_missing_table_of_sqlite_are_told(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "db", SystemClock())
    assert await why_of(database) == "a table is missing: run `gateway db upgrade`"
    await upgrade(database)
    async with database.transaction() as tx:
        await tx.all("PRAGMA max_page_count = 1")
        with pytest.raises(StoreUnavailable) as raised:
            await tx.run("CREATE TABLE big AS SELECT hex(zeroblob(1000000)) AS x")
        assert raised.value.detail == "the disk is full: make room"
        await tx.all("PRAGMA max_page_count = 1000000")
    await database.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (psycopg.errors.DiskFull("could not extend file"), "the server's disk is full"),
        (psycopg.errors.QueryCanceled("x"), "no answer in time"),
        (OSError(errno.ENETUNREACH, "x"), "Network is unreachable"),
        (psycopg.OperationalError(""), "OperationalError"),
    ],
)
def test_what_a_driver_tells_by_a_class_or_a_number_is_put_into_words(
    error: Exception, told: str
) -> None:
    """A server's disk is not filled here: the class is what the driver makes of 53100."""
    assert postgres_causes.of_postgres(error).startswith(told)


def test_a_full_disk_of_redis_is_told_in_the_words_of_the_server() -> None:
    refused = ResponseError("MISCONF Errors writing to the AOF file: No space left on device")
    assert causes.of_redis(refused).endswith("No space left on device")


def test_the_code_of_a_full_disk_is_the_class_that_is_looked_for() -> None:
    assert psycopg.errors.lookup("53100") is psycopg.errors.DiskFull
