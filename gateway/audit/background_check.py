"""The chains of the audit log checked beside the traffic, and what came of it kept for all workers.

Law: it takes no more of a worker than half of its time, and a page of the console waits for none of
it.  One runs at a time; one whose worker has ended is told as such, and may be begun anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from gateway.audit.chain import ChainKey
from gateway.audit.verification import verify
from gateway.model import Clock
from gateway.stores.protocols import Database, StoreUnavailable, Transaction

log = structlog.get_logger()

_ROW = "audit.check"
_PAGE_ROWS = 200
_TOLD_EVERY_S = 2.0
_LOST_S = 30.0
_PROBLEMS_KEPT = 50


@dataclass(frozen=True, slots=True)
class CheckState:
    """Times are seconds since the epoch."""

    began_at: float
    seen_at: float
    """When it last said how far it was."""
    events: int = 0
    """Read so far, or in all."""
    ended_at: float | None = None
    writers: int = 0
    problem_count: int = 0
    problems: Sequence[str] = ()
    """The first of them."""
    notes: Sequence[str] = ()
    pruned_before: str | None = None
    failure: str = ""
    """Why it came to no end."""

    def is_running(self, now: float) -> bool:
        return self.ended_at is None and now - self.seen_at < _LOST_S


@dataclass(slots=True)
class BackgroundCheck:
    """`run` is a task of a worker; `begin` may be called of any."""

    database: Database
    clock: Clock
    keys: Callable[[], Awaitable[Iterable[ChainKey]]]
    _begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, asked: Database | None = None) -> bool:
        """False where one runs already.  `asked` is the store as whoever asks for it has it."""
        now = self.clock.now()
        async with (asked or self.database).transaction() as tx:
            await tx.run(
                "INSERT INTO installation (name, value) VALUES (:name, '{}')"
                " ON CONFLICT (name) DO NOTHING",
                name=_ROW,
            )
            row = await tx.one(
                "UPDATE installation SET value = value WHERE name = :name RETURNING value",
                name=_ROW,
            )
            state = None if row is None else _state(str(row["value"]))
            if state is not None and state.is_running(now):
                return False
            await _put(tx, CheckState(now, now))
        self._begun.set()
        return True

    async def state(self) -> CheckState | None:
        """None before the first."""
        async with self.database.read_transaction() as tx:
            row = await tx.one("SELECT value FROM installation WHERE name = :name", name=_ROW)
        return None if row is None else _state(str(row["value"]))

    async def run(self) -> None:
        while True:
            await self._begun.wait()
            self._begun.clear()
            began_at = self.clock.now()
            try:
                await self._check(began_at)
            except StoreUnavailable as error:
                log.warning("audit-check-ended", store=error.store, why=error.detail)

    async def _check(self, began_at: float) -> None:
        told_at = page_at = self.clock.steady()
        events = 0

        async def progress(read: int) -> None:
            nonlocal told_at, page_at, events
            events, now = read, self.clock.steady()
            if now - told_at >= _TOLD_EVERY_S:
                told_at = now
                await self._keep(CheckState(began_at, self.clock.now(), read))
            # As long as the page took, the worker does something else.
            await asyncio.sleep(min(max(now - page_at, 0.0), 1.0))
            page_at = self.clock.steady()

        try:
            found = await verify(
                self.database, await self.keys(), page_rows=_PAGE_ROWS, progress=progress
            )
        except StoreUnavailable as error:
            now = self.clock.now()
            why = f"{error.store} could not be reached: {error.detail}"
            await self._keep(CheckState(began_at, now, events, now, failure=why))
            return
        now = self.clock.now()
        log.info("audit-checked", events=found.events, problems=len(found.problems))
        await self._keep(
            CheckState(
                began_at,
                now,
                found.events,
                now,
                writers=found.writers,
                problem_count=len(found.problems),
                problems=[text[:300] for text in found.problems[:_PROBLEMS_KEPT]],
                notes=[text[:300] for text in found.notes[:_PROBLEMS_KEPT]],
                pruned_before=found.pruned_before,
            )
        )

    async def _keep(self, state: CheckState) -> None:
        async with self.database.transaction() as tx:
            await _put(tx, state)


async def _put(tx: Transaction, state: CheckState) -> None:
    await tx.run(
        "UPDATE installation SET value = :value WHERE name = :name",
        name=_ROW,
        value=json.dumps(asdict(state)),
    )


def _state(text: str) -> CheckState | None:
    """None for what no version of ours has written."""
    try:
        values: dict[str, Any] = json.loads(text)
        return CheckState(**values) if values else None
    except (ValueError, TypeError):
        return None
