"""Fixtures: both SQL stores, a Valkey, and servers of a test's own to be broken."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest

from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from gateway.stores.redis import RedisStore, open_redis
from tests import servers
from tests.databases import KeptSchema, fresh_database, write_schema
from tests.servers import PostgresServer, ValkeyServer


@pytest.fixture(scope="session")
def server_urls() -> servers.Urls:
    return servers.shared()


@pytest.fixture(scope="session")
def postgres_database_url(server_urls: servers.Urls) -> str:
    """A database of this process's own on the suite's server."""
    name = f"t_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{secrets.token_hex(4)}"
    with closing(psycopg.connect(server_urls.postgres)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    return urlunsplit(urlsplit(server_urls.postgres)._replace(path=f"/{name}"))


@pytest.fixture
def postgres_url(postgres_database_url: str) -> Iterator[str]:
    """A schema of the test's own: empty when it begins, dropped when it ends."""
    with schema_of(postgres_database_url) as url:
        yield url


@pytest.fixture
def other_postgres_url(postgres_database_url: str) -> Iterator[str]:
    """A second one, for tests that move things."""
    with schema_of(postgres_database_url) as url:
        yield url


@contextmanager
def schema_of(database_url: str) -> Iterator[str]:
    """The URL of a new schema, empty when the block begins and dropped when it ends."""
    name = f"s_{secrets.token_hex(6)}"
    with closing(psycopg.connect(database_url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE SCHEMA {name}")
        yield f"{database_url}?options={quote(f'-csearch_path={name}')}"
        connection.cursor().execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(scope="session")
def kept_schema(postgres_database_url: str) -> KeptSchema:
    return KeptSchema(postgres_database_url)


@pytest.fixture
def kept_schema_url(kept_schema: KeptSchema) -> Iterator[str]:
    with kept_schema.lent() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Runs its test once on each SQL store; nothing is in it yet, or what `database` gives."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gateway.db"
    kept = "database" in request.fixturenames
    return str(request.getfixturevalue("kept_schema_url" if kept else "postgres_url"))


@pytest.fixture
async def empty_database(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def database(
    request: pytest.FixtureRequest, empty_database: Database, database_url: str
) -> Database:
    """Both SQL stores, one after the other, with the schema in place."""
    if database_url.startswith("sqlite:"):
        await write_schema(database_url)
    else:
        await request.getfixturevalue("kept_schema").write()
    return empty_database


@pytest.fixture
async def sqlite_database(tmp_path: Path) -> AsyncIterator[Database]:
    """The quick one, for tests to which the SQL store is a means."""
    async with fresh_database(tmp_path) as database:
        yield database


@pytest.fixture
def redis_url(server_urls: servers.Urls) -> str:
    """The suite's Valkey; shared, so that a test uses a prefix of its own and empties nothing."""
    return server_urls.redis


@pytest.fixture
def key_prefix() -> str:
    return f"test-{secrets.token_hex(6)}:"


@pytest.fixture
async def redis(redis_url: str, key_prefix: str) -> AsyncIterator[RedisStore]:
    store = open_redis(redis_url, prefix=key_prefix)
    yield store
    await store.close()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Callable[..., ValkeyServer]]:
    """Starts Valkeys that the test may kill, freeze and empty."""
    started: list[ValkeyServer] = []

    def start(**options: str) -> ValkeyServer:
        server = ValkeyServer(tmp_path / f"valkey{len(started)}", None, **options)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that the test may kill and freeze."""
    with tempfile.TemporaryDirectory(prefix="authgate-postgres-") as folder:
        # pytest's own folders are closed to the user `nobody`.
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder) / "server").start()
        yield server
        server.kill()
