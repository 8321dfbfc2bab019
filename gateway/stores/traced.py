"""Stores whose every question is a span of the call that asks; taken where traces are on.

Law: a span names what was done and to which table, never a statement's text or a value.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from gateway.call_trace import Attribute, ChildSpan, Traced
from gateway.stores.protocols import Database, Row, Transaction
from gateway.stores.redis import RedisStore, Script

_STATEMENT = re.compile(
    r"\s*(?P<verb>[A-Za-z]+)(?:.*?\b(?:FROM|INTO|UPDATE|TABLE)\s+(?P<table>[a-z_]+))?",
    re.DOTALL | re.IGNORECASE,
)
_UPDATE = re.compile(r"\s*(?P<verb>UPDATE)\s+(?P<table>[a-z_]+)", re.IGNORECASE)


class TracedDatabase:
    """Meets `protocols.Database`: a span a transaction, from the wait for a connection to the
    commit, and one for each statement in it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._traced(self._database.transaction())

    def read_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._traced(self._database.read_transaction())

    def migration_transaction(self, wait_s: float) -> AbstractAsyncContextManager[Transaction]:
        return self._database.migration_transaction(wait_s)

    async def close(self) -> None:
        await self._database.close()

    @asynccontextmanager
    async def _traced(
        self, begun: AbstractAsyncContextManager[Transaction]
    ) -> AsyncIterator[Transaction]:
        with Traced("transaction", {"db.system.name": self.dialect}, is_client=True) as span:
            async with begun as transaction:
                if span is None:
                    yield transaction
                else:
                    yield TracedTransaction(transaction, self.dialect, span)


class TracedTransaction:
    """Meets `protocols.Transaction`."""

    def __init__(self, transaction: Transaction, dialect: str, span: ChildSpan) -> None:
        self._transaction = transaction
        self._dialect = dialect
        self._span = span

    async def all(self, sql: str, /, **parameters: Any) -> list[Row]:
        with self._statement(sql):
            return await self._transaction.all(sql, **parameters)

    async def one(self, sql: str, /, **parameters: Any) -> Row | None:
        with self._statement(sql):
            return await self._transaction.one(sql, **parameters)

    async def run(self, sql: str, /, **parameters: Any) -> int:
        with self._statement(sql):
            return await self._transaction.run(sql, **parameters)

    async def many(self, sql: str, rows: Sequence[Mapping[str, Any]], /) -> None:
        with self._statement(sql):
            await self._transaction.many(sql, rows)

    async def now(self) -> float:
        return await self._transaction.now()

    def _statement(self, sql: str) -> Traced:
        verb, table = verb_and_table(sql)
        attributes: dict[str, Attribute] = {
            "db.system.name": self._dialect,
            "db.operation.name": verb,
        }
        if table:
            attributes["db.collection.name"] = table
        return Traced(f"{verb} {table}".rstrip(), attributes, is_client=True, parent=self._span)


class TracedRedis(RedisStore):
    """A span for each command or script; what waits for news in the background has none."""

    async def call(self, *words: str | int | float) -> Any:
        with _command(str(words[0])):
            return await super().call(*words)

    async def script(self, script: Script, keys: Sequence[str], words: Sequence[Any]) -> Any:
        with _command("EVALSHA", script):
            return await super().script(script, keys, words)

    async def replicated(self, script: Script, keys: Sequence[str], words: Sequence[Any]) -> Any:
        with _command("EVALSHA", script):
            return await super().replicated(script, keys, words)


def verb_and_table(sql: str) -> tuple[str, str]:
    """The statement's verb, and the first table that it names; of what is no plain statement,
    the verb alone."""
    match = _UPDATE.match(sql) or _STATEMENT.match(sql)
    if match is None:
        return "SQL", ""
    return match["verb"].upper(), (match["table"] or "").lower()


def _command(verb: str, script: Script | None = None) -> Traced:
    attributes: dict[str, Attribute] = {
        "db.system.name": "redis",
        "db.operation.name": verb.upper(),
    }
    if script is not None:
        attributes["db.stored_procedure.name"] = script.name
    return Traced(verb.upper(), attributes, is_client=True)
