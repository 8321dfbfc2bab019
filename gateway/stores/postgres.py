"""PostgreSQL through aiopg, with its traps closed.

- aiopg runs in autocommit: BEGIN and COMMIT are written here.
- Its connections are `postgres_sessions.PostgresSession`: aiopg's own have traps, described there.
- A cancelled caller leaves the query running on the server: the connection is thrown
  away, and `statement_timeout` ends the query.
- Settings are `SET LOCAL` and locks `pg_advisory_xact_lock`, so that PgBouncer may pool by
  transaction.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions

from gateway.stores import causes
from gateway.stores.connection_slots import ConnectionSlots
from gateway.stores.postgres_sessions import connected
from gateway.stores.protocols import Conflict, Row, StoreUnavailable, Transaction

TIMEOUT_S = 1.5
SLOT_TIMEOUT_S = 1.0
"""Of those, for one of our own sessions."""
STATEMENT_TIMEOUT_MS = 1200
ROWS_A_MESSAGE = 500
_UNREADABLE = "an answer that cannot be read"
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
        transaction = PostgresTransaction(session, timeout_s)
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

    def __init__(self, session: aiopg.Connection, timeout_s: float) -> None:
        self._session = session
        self._timeout_s = timeout_s

    async def all(self, sql: str, /, **parameters: Any) -> list[Row]:
        answer = await self._ask(sql, parameters)
        return [dict(zip(answer.columns, values, strict=True)) for values in answer.rows]

    async def one(self, sql: str, /, **parameters: Any) -> Row | None:
        rows = await self.all(sql, **parameters)
        return rows[0] if rows else None

    async def run(self, sql: str, /, **parameters: Any) -> int:
        return max((await self._ask(sql, parameters)).rowcount, 0)

    async def many(self, sql: str, rows: Sequence[Mapping[str, Any]], /) -> None:
        # executemany does not exist in asynchronous mode; joined statements are one round trip.
        text = _to_pyformat(sql)
        for start in range(0, len(rows), ROWS_A_MESSAGE):
            with self._session.raw.cursor() as cursor:
                parts = [cursor.mogrify(text, row) for row in rows[start : start + ROWS_A_MESSAGE]]
            await self.command(b";".join(parts))

    async def now(self) -> float:
        row = await self.one("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
        if row is None or not isinstance(row.get("now"), float):
            raise StoreUnavailable("sql", _UNREADABLE)
        return float(row["now"])

    async def command(self, sql: str | bytes) -> None:
        await _asked(self._session, sql, None, self._timeout_s)

    async def _ask(self, sql: str, parameters: Mapping[str, Any]) -> _Result:
        # Without parameters psycopg2 interpolates nothing: a `%` is then a `%`.
        text = _to_pyformat(sql) if parameters else sql
        return await _asked(self._session, text, parameters or None, self._timeout_s)


class _SessionPool:
    """At most `pool_size` sessions; the one used last is used next.

    A session goes back only after a COMMIT or ROLLBACK that was answered.  One that the
    server closed while it rested is found at its next BEGIN, before anything was done with
    it: all that rest are then thrown away and a new one is opened, once.
    """

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._slots = ConnectionSlots("sql", options.pool_size)
        self._free: list[aiopg.Connection] = []
        self._closed = False

    async def acquire(self, opening: str) -> aiopg.Connection:
        """A session in a transaction, within `TIMEOUT_S`."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        await self._slots.acquire(SLOT_TIMEOUT_S)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._begun(opening)
        except TimeoutError as error:
            self._slots.release()
            raise StoreUnavailable("sql", "no answer in time") from error
        except BaseException:
            self._slots.release()
            raise

    def release(self, session: aiopg.Connection, *, clean: bool) -> None:
        if clean and not self._closed and not session.closed:
            self._free.append(session)
        else:
            session.close()
        self._slots.release()

    def close(self) -> None:
        self._closed = True
        while self._free:
            self._free.pop().close()

    async def _begun(self, opening: str) -> aiopg.Connection:
        while self._free:
            session = self._free.pop()
            try:
                if not session.closed:
                    # Half the time: the other half is for a new one, where a firewall has
                    # silently dropped those that rested.
                    await _asked(session, opening, None, TIMEOUT_S / 2)
                    return session
            except StoreUnavailable:
                session.close()
                while self._free:
                    self._free.pop().close()
            except BaseException:
                session.close()
                raise
        session = await connected(self._options.url, TIMEOUT_S)
        try:
            await _asked(session, opening, None, TIMEOUT_S)
        except BaseException:
            session.close()
            raise
        return session


async def _asked(
    session: aiopg.Connection,
    sql: str | bytes,
    parameters: Mapping[str, Any] | None,
    timeout_s: float,
) -> _Result:
    statement = _statement(session, sql, parameters)
    try:
        async with session.cursor(timeout=timeout_s) as cursor:
            await cursor.execute(statement)  # type: ignore[arg-type]
            return _answer(cursor.raw, _verb(sql))
    except (psycopg2.errors.UniqueViolation, psycopg2.errors.ForeignKeyViolation) as error:
        raise Conflict(error.diag.constraint_name or "") from error
    except psycopg2.Error as error:
        if _is_defect(error):
            raise
        raise StoreUnavailable("sql", causes.of_postgres(error)) from error
    except TimeoutError as error:
        raise StoreUnavailable("sql", "no answer in time") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled us: it was the query (an aiopg that has its own way again).
        raise StoreUnavailable("sql", "the query was cancelled") from error
    except StoreUnavailable:
        raise
    except Exception as error:
        # Bytes that no server of ours sends, and whatever the libraries make of them.
        raise StoreUnavailable("sql", _UNREADABLE) from error


def _statement(
    session: aiopg.Connection, sql: str | bytes, parameters: Mapping[str, Any] | None
) -> str | bytes:
    """With its parameters: what is wrong with those is a defect of ours, not an answer."""
    if parameters is None:
        return sql
    try:
        with session.raw.cursor() as cursor:
            return bytes(cursor.mogrify(sql, parameters))
    except psycopg2.InterfaceError as error:
        raise StoreUnavailable("sql", causes.of_postgres(error)) from error


@dataclass(frozen=True, slots=True)
class _Result:
    """What a cursor held when it was closed."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    rowcount: int


_TAG = re.compile(r"[A-Z]+(?: [A-Z]+)*(?: \d+){0,2}", re.ASCII)


def _answer(cursor: Any, verb: str) -> _Result:
    """What the server says it did is held against what it was asked: a COMMIT may be answered
    ROLLBACK, and bytes that were changed on their way rarely spell both."""
    tag = cursor.statusmessage or ""
    if not _TAG.fullmatch(tag) or (verb and tag.partition(" ")[0] != verb):
        raise StoreUnavailable("sql", _UNREADABLE)
    if cursor.description is None:
        return _Result((), [], cursor.rowcount)
    rows = cursor.fetchall()
    if verb == "SELECT" and tag != f"SELECT {len(rows)}":
        raise StoreUnavailable("sql", _UNREADABLE)
    return _Result(tuple(column[0] for column in cursor.description), rows, cursor.rowcount)


_VERBS = {word: word for word in ("SELECT", "INSERT", "UPDATE", "DELETE", "COMMIT", "ROLLBACK")} | {
    "BEGIN": "SET"
}
"""A statement's first word → that of the last answer to it (`_begun` sets after it begins)."""


def _verb(sql: str | bytes) -> str:
    first = sql[:16].split(None, 1)[0] if sql else ""
    word = first.decode("latin-1") if isinstance(first, bytes) else first
    return _VERBS.get(word.rstrip(";").upper(), "")


_STATE_OF_THE_DATABASE = (
    psycopg2.errors.ReadOnlySqlTransaction,
    psycopg2.errors.UndefinedTable,
    psycopg2.errors.InsufficientPrivilege,
)


def _is_defect(error: psycopg2.Error) -> bool:
    """Whether the statement itself is wrong, rather than its surroundings.

    Class 25006 is a server that became a standby: reconnecting finds the new primary.  A table or
    a right that is missing is the database's state, as after a restore: nothing here mends it.
    """
    if isinstance(error, _STATE_OF_THE_DATABASE):
        return False
    return isinstance(
        error,
        (
            psycopg2.ProgrammingError,
            psycopg2.DataError,
            psycopg2.IntegrityError,
            psycopg2.NotSupportedError,
            psycopg2.InternalError,
        ),
    )


_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|::|:([A-Za-z_][A-Za-z0-9_]*)|%")


@lru_cache(maxsize=1024)
def _to_pyformat(sql: str) -> str:
    """`:name` as psycopg2 wants it, `%(name)s`; texts, casts and comments stay."""

    def replaced(match: re.Match[str]) -> str:
        if match[1]:
            return f"%({match[1]})s"
        return match[0].replace("%", "%%")

    return _TOKEN.sub(replaced, sql)
