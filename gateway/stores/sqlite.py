"""SQLite as the SQL store: one writer, two readers, and no acknowledged write lost.

`synchronous = FULL` with a write-ahead log: a COMMIT has reached the disk before it
answers, so that kill -9 (or the power) takes back nothing that was answered.  Every
statement runs in the connection's own thread (`SqliteThread`), in order: what a cancelled
caller left behind is finished and rolled back before the connection serves the next one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.model import Clock
from gateway.stores import causes
from gateway.stores.connection_slots import ConnectionSlots
from gateway.stores.protocols import Conflict, Row, StoreUnavailable, Transaction
from gateway.stores.sqlite_thread import SqliteThread
from gateway.stores.translation import Translated

TIMEOUT_S = 1.8
LOCK_TIMEOUT_S = 1.2
"""How long SQLite itself waits for another process's write lock."""
READERS = 2
_AGAIN_S = 0.02

_CONFLICTS = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
}


class SqliteDatabase:
    """Meets `protocols.Database`.  With `create`, a file that is not there is made at the first
    use, readable by its owner."""

    dialect = "sqlite"

    def __init__(self, path: Path, clock: Clock, *, create: bool = True) -> None:
        self.path = path
        self._clock = clock
        file = _File(path, create=create)
        self._writer = _SqlitePool(file, 1, read_only=False)
        self._readers = _SqlitePool(file, READERS, read_only=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self._transaction(self._writer, "BEGIN IMMEDIATE", TIMEOUT_S) as transaction:
            yield transaction

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        async with self._transaction(self._readers, "BEGIN", TIMEOUT_S) as transaction:
            yield transaction

    @asynccontextmanager
    async def migration_transaction(self, wait_s: float) -> AsyncIterator[Transaction]:
        async with self._transaction(self._writer, "BEGIN IMMEDIATE", wait_s) as transaction:
            yield transaction

    async def close(self) -> None:
        await self._writer.close()
        await self._readers.close()

    @asynccontextmanager
    async def _transaction(
        self, pool: _SqlitePool, begin: str, wait_s: float
    ) -> AsyncIterator[SqliteTransaction]:
        connection = await pool.acquire(wait_s)
        try:
            await _begin(connection, begin, wait_s)
            yield SqliteTransaction(connection, self._clock)
            with _TRANSLATED:
                await connection.run(sqlite3.Connection.commit)
        except BaseException:
            # The rollback stands in the queue behind whatever was cancelled half-way.
            await asyncio.shield(_roll_back(connection))
            raise
        finally:
            pool.release(connection)


class SqliteTransaction:
    """Meets `protocols.Transaction`."""

    def __init__(self, connection: SqliteThread, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    async def all(self, sql: str, /, **parameters: Any) -> list[Row]:
        with _TRANSLATED:
            return await self._connection.run(lambda c: c.execute(sql, parameters).fetchall())

    async def one(self, sql: str, /, **parameters: Any) -> Row | None:
        rows = await self.all(sql, **parameters)
        return rows[0] if rows else None

    async def run(self, sql: str, /, **parameters: Any) -> int:
        with _TRANSLATED:
            changed = await self._connection.run(lambda c: c.execute(sql, parameters).rowcount)
            return max(changed, 0)

    async def many(self, sql: str, rows: Sequence[Mapping[str, Any]], /) -> None:
        if rows:
            with _TRANSLATED:
                await self._connection.run(lambda c: c.executemany(sql, rows).rowcount)

    async def now(self) -> float:
        # The store lives on this machine: its clock is the machine's.
        return self._clock.now()


def _known(error: Exception) -> Conflict | StoreUnavailable | None:
    """What the rooms know of it; a wrong statement stays a defect."""
    if isinstance(error, sqlite3.IntegrityError):
        conflicts = error.sqlite_errorcode in _CONFLICTS
        return Conflict(error.sqlite_errorname) if conflicts else None
    if isinstance(error, sqlite3.ProgrammingError):
        return None
    if isinstance(error, sqlite3.OperationalError):
        wrong = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        if wrong and not causes.is_missing_table(error):
            return None
        return StoreUnavailable("sql", causes.of_sqlite(error))
    if isinstance(error, sqlite3.DatabaseError):
        return StoreUnavailable("sql", "the database file is damaged")
    return None


_TRANSLATED = Translated(_known)


class _File:
    def __init__(self, path: Path, *, create: bool) -> None:
        self._path = path
        self._create = create

    def prepare(self) -> None:
        """An owner-only file; its `-wal` and `-shm` take their modes from it.

        A file that is there is not opened: to close it again would drop the locks of every
        connection of this process (POSIX), and the next process to close its own would take
        itself for the last one and delete the log under us.
        """
        if not self._create:
            return
        path = self._path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            raise StoreUnavailable("sql", f"{path}: {error.strerror}") from error

    def connect(self) -> sqlite3.Connection:
        """One that makes no file: what was moved away comes back, and an empty database in its
        place would pass for it."""
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_TIMEOUT_S)
        connection.row_factory = _as_dict
        return connection


class _SqlitePool:
    """Connections of one kind, opened as they are needed, each used by one caller at a time."""

    def __init__(self, file: _File, size: int, *, read_only: bool) -> None:
        self._file = file
        self._read_only = read_only
        self._slots = ConnectionSlots("sql", size)
        self._free: list[SqliteThread] = []
        self._opened: list[SqliteThread] = []

    async def acquire(self, wait_s: float) -> SqliteThread:
        await self._slots.acquire(wait_s)
        try:
            return self._free.pop() if self._free else await self._open()
        except BaseException:
            self._slots.release()
            raise

    def release(self, connection: SqliteThread) -> None:
        self._free.append(connection)
        self._slots.release()

    async def close(self) -> None:
        opened, self._opened, self._free = self._opened, [], []
        for connection in opened:
            await connection.close()

    async def _open(self) -> SqliteThread:
        self._file.prepare()
        connection = SqliteThread(self._file.connect)
        try:
            await _write_ahead(connection)
            with _TRANSLATED:
                await connection.run(self._configure)
        except BaseException:
            await connection.close()
            raise
        self._opened.append(connection)
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if self._read_only:
            connection.execute("PRAGMA query_only = ON")


async def _write_ahead(connection: SqliteThread) -> None:
    """A file becomes one with a write-ahead log once, for good, and while nobody else opens it:
    several that start at once must not fail for that.  SQLite waits for no lock here."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    while True:
        try:
            with _TRANSLATED:
                await connection.run(lambda c: c.execute("PRAGMA journal_mode = WAL").fetchall())
            return
        except StoreUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_AGAIN_S)


async def _begin(connection: SqliteThread, begin: str, wait_s: float) -> None:
    """SQLite waits up to LOCK_TIMEOUT_S for another process; longer waits are asked for again."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            with _TRANSLATED:
                await connection.run(lambda c: c.execute(begin).fetchall())
            return
        except StoreUnavailable:
            if asyncio.get_running_loop().time() + LOCK_TIMEOUT_S > deadline:
                raise


async def _roll_back(connection: SqliteThread) -> None:
    with _TRANSLATED:
        await connection.run(sqlite3.Connection.rollback)


def _as_dict(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}
