"""PostgreSQL through psycopg.

- Sessions are in autocommit: BEGIN and COMMIT are written here.
- A statement's values are put into its text here (`AsyncClientCursor`), so that a transaction is
  begun, and many rows are written, in one message.
- The session of a cancelled caller is thrown away; `statement_timeout` ends the query.
- Settings are `SET LOCAL`, locks `pg_advisory_xact_lock`, and nothing is prepared, so that
  PgBouncer may pool by transaction.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import psycopg.errors

from gateway.stores import causes, postgres_causes
from gateway.stores.connection_slots import ConnectionSlots
from gateway.stores.postgres_sessions import PostgresSession, open_session
from gateway.stores.protocols import Conflict, LockBusy, Row, StoreUnavailable, Transaction
from gateway.stores.translation import Translated, forget_frames

TIMEOUT_S = 1.5
SLOT_TIMEOUT_S = 1.0
"""Of those, for one of our own sessions."""
STATEMENT_TIMEOUT_MS = 1200
ROWS_A_MESSAGE = 500
_UNREADABLE = "an answer that cannot be read"
Cursor = psycopg.AsyncClientCursor[tuple[Any, ...]]

_MIGRATING_LOCK = 0x6175746867617465  # "authgate"


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    url: str
    pool_size: int = 10


class PostgresDatabase:
    """Meets `protocols.Database`."""

    dialect = "postgresql"

    def __init__(self, options: PostgresOptions) -> None:
        self._pool = _SessionPool(options)
        self._statements = _Statements()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self._begun("BEGIN", STATEMENT_TIMEOUT_MS) as transaction:
            yield transaction

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        async with self._begun(begin, STATEMENT_TIMEOUT_MS) as transaction:
            yield transaction

    @asynccontextmanager
    async def migration_transaction(self, wait_s: float) -> AsyncIterator[Transaction]:
        async with self._begun("BEGIN", round(wait_s * 1000)) as transaction:
            await transaction.all(f"SELECT pg_advisory_xact_lock({_MIGRATING_LOCK})")
            yield transaction

    async def close(self) -> None:
        self._pool.close()

    @asynccontextmanager
    async def _begun(self, begin: str, timeout_ms: int) -> AsyncIterator[PostgresTransaction]:
        timeout_s = timeout_ms / 1000 + 0.3
        opening = (
            f"{begin}; SET LOCAL statement_timeout = {timeout_ms};"
            f" SET LOCAL idle_in_transaction_session_timeout = {max(timeout_ms, 10_000)}"
        )
        session = await self._pool.acquire(opening)
        transaction = PostgresTransaction(session, self._statements, timeout_s)
        clean = False
        try:
            yield transaction
            await transaction.command("COMMIT")
            clean = True
        except (asyncio.CancelledError, StoreUnavailable):
            raise
        except Exception:
            # The statement's own error, or the caller's: the session is good once rolled back.
            with suppress(StoreUnavailable):
                await transaction.command("ROLLBACK")
                clean = True
            raise
        finally:
            self._pool.release(session, clean=clean)


class PostgresTransaction:
    """Meets `protocols.Transaction`."""

    def __init__(self, session: PostgresSession, statements: _Statements, timeout_s: float) -> None:
        self._cursor = psycopg.AsyncClientCursor(session)
        self._statements = statements
        self._timeout_s = timeout_s

    async def all(self, sql: str, /, **parameters: Any) -> list[Row]:
        result = await self._execute(sql, parameters)
        return [dict(zip(result.columns, values, strict=True)) for values in result.rows]

    async def one(self, sql: str, /, **parameters: Any) -> Row | None:
        rows = await self.all(sql, **parameters)
        return rows[0] if rows else None

    async def run(self, sql: str, /, **parameters: Any) -> int:
        return max((await self._execute(sql, parameters)).rowcount, 0)

    async def many(self, sql: str, rows: Sequence[Mapping[str, Any]], /) -> None:
        text = self._statements.pyformat(sql)
        for start in range(0, len(rows), ROWS_A_MESSAGE):
            part = rows[start : start + ROWS_A_MESSAGE]
            await self.command(";".join(_bound(self._cursor, text, row) for row in part))

    async def now(self) -> float:
        row = await self.one("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
        if row is None or not isinstance(row.get("now"), float):
            raise StoreUnavailable("sql", _UNREADABLE)
        return float(row["now"])

    async def command(self, sql: str) -> None:
        await _execute(self._cursor, sql, self._timeout_s)

    async def _execute(self, sql: str, parameters: Mapping[str, Any]) -> _Result:
        if parameters:
            sql = _bound(self._cursor, self._statements.pyformat(sql), parameters)
        return await _execute(self._cursor, sql, self._timeout_s)


class _SessionPool:
    """At most `pool_size` sessions; the one used last is used next.

    A session goes back only after a COMMIT or ROLLBACK that was answered.  One that the
    server closed while it was idle is found at its next BEGIN, before anything was done with
    it: all idle ones are then closed and a new one is opened, once.
    """

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._slots = ConnectionSlots("sql", options.pool_size)
        self._idle: list[PostgresSession] = []
        self._closed = False

    async def acquire(self, opening: str) -> PostgresSession:
        """A session in a transaction, within `TIMEOUT_S`."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        await self._slots.acquire(SLOT_TIMEOUT_S)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._begun(opening)
        except TimeoutError as error:
            self._slots.release()
            forget_frames(error)
            raise StoreUnavailable("sql", causes.NO_ANSWER) from error
        except BaseException:
            self._slots.release()
            raise

    def release(self, session: PostgresSession, *, clean: bool) -> None:
        if clean and not self._closed and not session.closed:
            self._idle.append(session)
        else:
            session.pgconn.finish()
        self._slots.release()

    def close(self) -> None:
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().pgconn.finish()

    async def _begun(self, opening: str) -> PostgresSession:
        while self._idle:
            session = self._idle.pop()
            try:
                # Half the time: the other half is for a new one, where a firewall has silently
                # dropped the idle ones.
                await _execute(psycopg.AsyncClientCursor(session), opening, TIMEOUT_S / 2)
                return session
            except StoreUnavailable:
                session.pgconn.finish()
                self._close_idle()
            except BaseException:
                session.pgconn.finish()
                raise
        session = await open_session(self._options.url, TIMEOUT_S)
        try:
            await _execute(psycopg.AsyncClientCursor(session), opening, TIMEOUT_S)
        except BaseException:
            session.pgconn.finish()
            raise
        return session


def _bound(cursor: Cursor, text: str, parameters: Mapping[str, Any]) -> str:
    """The statement with its values: what is wrong with those is a defect of ours, no outage."""
    try:
        return cursor.mogrify(text, parameters)
    except (psycopg.InterfaceError, psycopg.OperationalError) as error:
        raise StoreUnavailable("sql", postgres_causes.of_postgres(error)) from error


async def _execute(cursor: Cursor, sql: str, timeout_s: float) -> _Result:
    with _TRANSLATED:
        async with asyncio.timeout(timeout_s):
            # Without parameters psycopg interpolates nothing: a `%` is a `%`.
            await cursor.execute(sql)
        return await _result(cursor, _verb(sql))


def _known(error: Exception) -> Conflict | StoreUnavailable | None:
    """What the rooms know of it; a wrong statement stays a defect."""
    if isinstance(error, (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation)):
        return Conflict(error.diag.constraint_name or "")
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return LockBusy("sql", postgres_causes.of_postgres(error))
    if isinstance(error, StoreUnavailable):
        return None
    if isinstance(error, psycopg.Error):
        if _is_defect(error):
            return None
        return StoreUnavailable("sql", postgres_causes.of_postgres(error))
    if isinstance(error, TimeoutError):
        return StoreUnavailable("sql", causes.NO_ANSWER)
    # Bytes that no server of ours sends, and whatever the library makes of them.
    return StoreUnavailable("sql", _UNREADABLE)


_TRANSLATED = Translated(_known)


@dataclass(frozen=True, slots=True)
class _Result:
    """What the server answered to one statement."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    rowcount: int


_TAG = re.compile(r"[A-Z]+(?: [A-Z]+)*(?: \d+){0,2}", re.ASCII)


async def _result(cursor: Cursor, verb: str) -> _Result:
    """Holds what the server says it did against what it was asked: a COMMIT may be answered
    ROLLBACK, and bytes that were changed on their way rarely spell both."""
    tag = cursor.statusmessage or ""
    if not _TAG.fullmatch(tag) or (verb and tag.partition(" ")[0] != verb):
        raise StoreUnavailable("sql", _UNREADABLE)
    if cursor.description is None:
        return _Result((), [], cursor.rowcount)
    rows = await cursor.fetchall()
    if verb == "SELECT" and tag != f"SELECT {len(rows)}":
        raise StoreUnavailable("sql", _UNREADABLE)
    return _Result(tuple(column.name for column in cursor.description), rows, cursor.rowcount)


_VERBS = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "ROLLBACK"))
"""Statements whose answer begins with their own first word."""


def _verb(sql: str) -> str:
    first = sql[:16].split(None, 1)[0] if sql else ""
    word = first.rstrip(";").upper()
    return word if word in _VERBS else ""


_STATE_OF_THE_DATABASE = (
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InsufficientPrivilege,
)


def _is_defect(error: psycopg.Error) -> bool:
    """Whether the statement itself is wrong, rather than its surroundings.

    Class 25P03 is a session that the server ended as this worker stood still; 25006 is a server
    that became a standby: reconnecting finds the new primary.  A table or a right that is missing
    is the database's state, as after a restore: nothing here mends it.
    """
    if isinstance(error, _STATE_OF_THE_DATABASE):
        return False
    return isinstance(
        error,
        (
            psycopg.ProgrammingError,
            psycopg.DataError,
            psycopg.IntegrityError,
            psycopg.NotSupportedError,
            psycopg.InternalError,
        ),
    )


_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|::|:([A-Za-z_][A-Za-z0-9_]*)|%")


class _Statements:
    """The statements of one database as psycopg wants them, each translated once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def pyformat(self, sql: str) -> str:
        """`:name` becomes `%(name)s`; texts, casts and comments stay."""
        text = self._texts.get(sql)
        if text is None:
            if len(self._texts) >= 1_024:
                self._texts.clear()
            text = self._texts[sql] = _TOKEN.sub(_replaced, sql)
        return text


def _replaced(match: re.Match[str]) -> str:
    if match[1]:
        return f"%({match[1]})s"
    return match[0].replace("%", "%%")
