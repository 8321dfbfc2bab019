"""Bounds how many callers use a store at once: whoever finds no free slot waits a bounded while.

A queue before our own connections says nothing of the server behind them: a caller that gives up
in it raises StoreBusy, and the store does not count as unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.stores.protocols import StoreBusy

WAITING_MAX = 500
WAIT_S = 0.5


class ConnectionSlots:
    """At most `count` callers at once, and `waiting_max` behind them for `wait_s`."""

    def __init__(
        self, store: str, count: int, *, waiting_max: int = WAITING_MAX, wait_s: float = WAIT_S
    ) -> None:
        self._store = store
        self._free = asyncio.Semaphore(count)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._wait_s = wait_s

    async def acquire(self, wait_s: float | None = None) -> None:
        """Takes a slot, which the caller releases; raises StoreBusy."""
        if not self._free.locked():
            await self._free.acquire()
            return
        if self._waiting >= self._waiting_max:
            raise StoreBusy(self._store, "too many are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s if wait_s is None else wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise StoreBusy(self._store, "no place in time") from None
        finally:
            self._waiting -= 1

    def release(self) -> None:
        self._free.release()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds a slot while the block runs."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()
