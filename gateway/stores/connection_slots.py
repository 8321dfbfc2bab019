"""How many may ask a store at once: who finds no place waits, a bounded while, or is told so.

A queue before our own connections says nothing of the server behind them: who gives up in it
is answered StoreBusy, and the store is not taken for away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.stores.protocols import StoreBusy

WAITING_MAX = 500
WAIT_S = 0.5


class Places:
    """At most `count` at once, and `waiting_max` behind them for `wait_s`."""

    def __init__(
        self, store: str, count: int, *, waiting_max: int = WAITING_MAX, wait_s: float = WAIT_S
    ) -> None:
        self._store = store
        self._room = asyncio.Semaphore(count)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._wait_s = wait_s

    async def take(self, wait_s: float | None = None) -> None:
        """A place, to be given back; raises StoreBusy."""
        if not self._room.locked():
            await self._room.acquire()
            return
        if self._waiting >= self._waiting_max:
            raise StoreBusy(self._store, "too many are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s if wait_s is None else wait_s):
                await self._room.acquire()
        except TimeoutError:
            raise StoreBusy(self._store, "no place in time") from None
        finally:
            self._waiting -= 1

    def give(self) -> None:
        self._room.release()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        await self.take()
        try:
            yield
        finally:
            self.give()
