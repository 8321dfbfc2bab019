"""A database of the shape that this version knows, and a clock that tests can turn."""

from __future__ import annotations

import secrets
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg

from gateway.identity.accounts.accounts import replace_password
from gateway.model import Change
from gateway.stores.backup import tables
from gateway.stores.migrations import shipped, upgrade
from gateway.stores.open_database import open_database, sqlite_path
from gateway.stores.protocols import Database

NOON = 1_800_000_000


class Hands:
    """Meets `model.Clock`; both hands move only when they are moved."""

    def __init__(self, at: float = NOON) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def steady(self) -> float:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += seconds


@dataclass(frozen=True)
class Upgraded:
    """What `upgrade` makes of an empty database: SQLite's file, and one message to PostgreSQL."""

    file: bytes
    script: str


_UPGRADED: list[Upgraded] = []
"""Made once a process: each of the some fifty statements is synced, and each file locked for."""


async def write_schema(url: str) -> None:
    """Gives an empty database the shape that `upgrade` would, which then finds nothing to do."""
    if not _UPGRADED:
        _UPGRADED.append(await _upgraded())
    if url.startswith("sqlite:"):
        sqlite_path(url).write_bytes(_UPGRADED[0].file)
    else:
        with closing(psycopg.connect(url)) as connection, connection.transaction():
            connection.cursor().execute(_UPGRADED[0].script.encode())


async def _upgraded() -> Upgraded:
    with tempfile.TemporaryDirectory(prefix="authgate-schema-") as folder:
        path = Path(folder) / "gateway.db"
        database = open_database(f"sqlite:///{path}")
        await upgrade(database)
        await database.close()  # which brings the write-ahead log into the file
        with closing(sqlite3.connect(path)) as reading:
            [(ledger,)] = reading.execute(
                "SELECT sql FROM sqlite_master WHERE name = 'schema_migrations'"
            )
            rows = reading.execute(
                "SELECT format('(%d, ''%s'', ''%s'', %d, %d)', number, name, checksum, applied_at,"
                " needs)"
                " FROM schema_migrations"
            ).fetchall()
        statements = [
            text for migration in shipped() for text in migration.statements("postgresql")
        ]
        written = f"INSERT INTO schema_migrations VALUES {', '.join(row for (row,) in rows)}"
        return Upgraded(path.read_bytes(), ";\n".join([*statements, ledger, written]))


_EMPTY = ";".join(f"DELETE FROM {table.name}" for table in reversed(tables()))
_SHAPE = """
WITH ours AS (SELECT oid, xmin FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
SELECT 'table', oid::text, xmin::text FROM ours
UNION ALL SELECT 'column', attrelid || '.' || attnum, xmin::text FROM pg_attribute
 WHERE attrelid IN (SELECT oid FROM ours)
UNION ALL SELECT 'constraint', oid::text, xmin::text FROM pg_constraint
 WHERE connamespace = current_schema()::regnamespace
UNION ALL SELECT 'trigger', oid::text, xmin::text FROM pg_trigger
 WHERE tgrelid IN (SELECT oid FROM ours)
UNION ALL SELECT 'function', oid::text, xmin::text FROM pg_proc
 WHERE pronamespace = current_schema()::regnamespace
UNION ALL SELECT 'migration', row::text, '' FROM schema_migrations row
"""
"""Each row of the catalogue that is of the schema, with the transaction that wrote it last."""


@dataclass
class KeptSchema:
    """A schema of PostgreSQL that is emptied for the next test: to make its tables takes the
    server ten times as long.  One whose shape a test has changed, or which cannot be emptied
    because somebody holds a lock in it, is left, and the next test has a new one."""

    database_url: str
    url: str = ""
    shape: set[tuple[str, ...]] = field(default_factory=set)

    @contextmanager
    def lent(self) -> Iterator[str]:
        if not self.url:
            name = f"k_{secrets.token_hex(6)}"
            with closing(psycopg.connect(self.database_url, autocommit=True)) as connection:
                connection.execute(f"CREATE SCHEMA {name}".encode())
            self.url = f"{self.database_url}?options={quote(f'-csearch_path={name}')}"
        yield self.url
        if not self._emptied():
            self.url, self.shape = "", set()

    async def write(self) -> None:
        if not self.shape:
            await write_schema(self.url)
            with closing(psycopg.connect(self.url)) as connection:
                self.shape = set(connection.execute(_SHAPE).fetchall())

    def _emptied(self) -> bool:
        try:
            with closing(psycopg.connect(self.url)) as connection, connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '1s'")
                connection.cursor().execute(_EMPTY.encode())
                return set(connection.execute(_SHAPE).fetchall()) == self.shape
        except psycopg.Error:
            return False


@asynccontextmanager
async def fresh_database(folder: Path, clock: Hands | None = None) -> AsyncIterator[Database]:
    url = f"sqlite:///{folder}/gateway.db"
    await write_schema(url)
    database = open_database(url, clock=clock)
    try:
        yield database
    finally:
        await database.close()


async def add_account(
    database: Database, email: str, *, verified: bool = False, disabled: bool = False
) -> str:
    """Its id.  The address stands for its own key: give it in lower case."""
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO accounts (id, email, email_key, email_verified, disabled, password_hash,"
            " created_at, updated_at) VALUES (:id, :email, :email, :verified, :disabled, 'old',"
            " 0, 0)",
            id=f"id-of-{email}",
            email=email,
            verified=int(verified),
            disabled=int(disabled),
        )
    return f"id-of-{email}"


async def reset_password(
    database: Database, account_id: str, password_hash: str
) -> Sequence[Change]:
    """As a link in a mail does."""
    async with database.transaction() as tx:
        return await replace_password(tx, account_id, password_hash)
