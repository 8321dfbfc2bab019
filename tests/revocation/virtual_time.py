"""Time that passes only where everybody waits: a test of seconds takes none.

The loop's timers and the `clock` of what is tested are one.  Whoever waits for a thread (SQLite has
threads of its own) is waited for, and meanwhile no time passes.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.stores.protocols import Database, StoreUnavailable, Transaction
from tests.databases import NOON, Hands


class VirtualClock(Hands):
    """Meets `model.Clock`; its steady hand begins at 0."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.threads_waited_for = 0

    def now(self) -> float:
        return NOON + self.at

    @contextmanager
    def waiting_for_a_thread(self) -> Iterator[None]:
        self.threads_waited_for += 1
        try:
            yield
        finally:
            self.threads_waited_for -= 1


class _VirtualSelector(selectors.DefaultSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._clock.threads_waited_for:
            return super().select(None)
        if timeout is None:
            raise RuntimeError("everybody waits for what will never happen")
        self._clock.move(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = VirtualClock()
        super().__init__(_VirtualSelector(self.clock))

    def time(self) -> float:
        return self.clock.at


def virtual_clock() -> VirtualClock:
    """That of the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.clock


class VirtualTimeDatabase:
    """Meets `protocols.Database`: no time passes while a transaction is under way."""

    def __init__(self, database: Database, clock: VirtualClock) -> None:
        self._database = database
        self._clock = clock
        self.dialect = database.dialect
        self.migration_transaction = database.migration_transaction
        self.close = database.close
        self.away = False
        """Every transaction fails."""
        self.answers = asyncio.Event()
        """While it is not set, readings wait, as those of a large table do."""
        self.answers.set()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        self._reach()
        with self._clock.waiting_for_a_thread():
            async with self._database.transaction() as tx:
                yield tx

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        self._reach()
        await self.answers.wait()
        with self._clock.waiting_for_a_thread():
            async with self._database.read_transaction() as tx:
                yield tx

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("sql", "refused")
