"""The SQL store as the actions of the console have it.

Law: what the console writes for an operator is written by a transaction that holds what they call
with, and has found that it still counts.  Who was signed out, disabled or refused while the action
waited, for a connection or for a row, has written nothing.  Who waits for their turn in this worker
has no session of the store: one of them waits there for the other workers, and is told that it was
they who were writing where its turn does not come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar

from gateway.edge.console.pages import Operator
from gateway.identity.clients.held_callers import hold, take_turn
from gateway.model import ChangeKind, Reason
from gateway.stores.protocols import Database, LockBusy, StoreBusy, Transaction

TURN_WITHIN_S = 5.0
"""So long an action waits for the others, of its worker and of all."""

_ASKED_AGAIN_MS = 800
"""So long PostgreSQL is asked for the turn at a time: less than it lets any statement take, as what
takes longer is an outage."""
_TURN_LOCK = 0x6F70657261746F72  # "operator"
_STANDS_STILL_MS = 2_000
"""So long PostgreSQL lets a worker that asks for nothing more have the turn of all."""
_BOUNDED = f"SET LOCAL idle_in_transaction_session_timeout = {_STANDS_STILL_MS}"

_acting: ContextVar[Operator | None] = ContextVar("acting", default=None)
_ending: ContextVar[frozenset[ChangeKind]] = ContextVar("ending", default=frozenset())


class OperatorGone(Exception):
    """What the operator calls with counts no more; the transaction is rolled back."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def acting_as(operator: Operator) -> Iterator[None]:
    """Until the block ends, what is written is written for them."""
    token = _acting.set(operator)
    try:
        yield
    finally:
        _acting.reset(token)


@contextmanager
def ending(*kinds: ChangeKind) -> Iterator[None]:
    """Until the block ends, what is written ends by these what the operator calls with: who does
    that has done it."""
    token = _ending.set(frozenset(kinds))
    try:
        yield
    finally:
        _ending.reset(token)


class OperatorDatabase:
    """Meets `protocols.Database`.  A transaction of it raises OperatorGone; outside of `acting_as`
    there is none, so that nothing is written that nobody asked for.  Raises StoreBusy where the
    turn does not come within `turn_within_s`; so it may take longer than other databases do.

    SQLite has no turn but that of all who write, which is waited for as it is anywhere."""

    def __init__(self, database: Database, *, turn_within_s: float = TURN_WITHIN_S) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        self._turn_within_s = turn_within_s
        self.dialect = database.dialect

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        operator = _acting.get()
        if operator is None:
            raise RuntimeError("the console writes for an operator alone")
        until = asyncio.get_running_loop().time() + self._turn_within_s
        async with self._in_turn(), self._database.transaction() as tx:
            if self.dialect == "postgresql":
                await tx.all(_BOUNDED)
                await _take_turn(tx, until)
            else:
                await take_turn(tx)
            if operator.caller is None:  # the local token itself: only its file ends it
                yield tx
                return
            held = await hold(tx, operator.caller)
            if isinstance(held, Reason):
                raise OperatorGone(held)
            yield tx
            refusal = await held.refusal(tx, ending=_ending.get())
            if refusal is not None:
                raise OperatorGone(refusal)

    def read_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._database.read_transaction()

    def migration_transaction(self, wait_s: float) -> AbstractAsyncContextManager[Transaction]:
        return self._database.migration_transaction(wait_s)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._turn_within_s):
                await self._turn.acquire()
        except TimeoutError:
            raise StoreBusy("sql", "other operators are writing") from None
        try:
            yield
        finally:
            self._turn.release()

    async def close(self) -> None:
        await self._database.close()


async def _take_turn(tx: Transaction, until: float) -> None:
    """Raises StoreBusy where others have it until then."""
    # A row that several wait for is waited for several times, each for as long as a lock may take,
    # by one statement: together they last longer than PostgreSQL lets it.  This lock has one queue.
    # The row behind it is the turn of nodes of earlier versions.
    await _locked(tx, until, _take_lock)
    await _locked(tx, until, take_turn)
    await tx.all("SET LOCAL lock_timeout TO DEFAULT")


async def _take_lock(tx: Transaction) -> None:
    """Of this installation: others may be in the same database, each in a schema of its own."""
    await tx.all(
        f"SELECT pg_advisory_xact_lock({_TURN_LOCK} + 'installation'::regclass::oid::bigint)"
    )


async def _locked(
    tx: Transaction, until: float, take: Callable[[Transaction], Awaitable[None]]
) -> None:
    """It is asked for in the session that there is: what was only waited for leaves the
    transaction as it was."""
    while True:
        left_s = until - asyncio.get_running_loop().time()
        wait_ms = min(_ASKED_AGAIN_MS, max(1, round(left_s * 1000)))
        await tx.all(f"SET LOCAL lock_timeout = {wait_ms}; SAVEPOINT turn")
        try:
            await take(tx)
        except LockBusy:
            if asyncio.get_running_loop().time() >= until:
                raise StoreBusy("sql", "operators of other workers are writing") from None
            await tx.all("ROLLBACK TO SAVEPOINT turn")
        else:
            await tx.all("RELEASE SAVEPOINT turn")
            return
