"""Work that many may ask for at once, and that is done once for all of them.

Law: however many ask, and whoever they are, it takes a part of the time of one thread: who comes
while it is done has what comes of it, and behind it there is a rest that grows with what it took.
Who asks alone waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

REST = 4.0
"""Times what it took: so it is done for a fifth of the time at most."""
REST_MOST_S = 2.0
"""A scraper waits for ten seconds."""


class SharedRun(Generic[T]):
    def __init__(
        self,
        make: Callable[[str], Awaitable[T]],
        *,
        now: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`make` makes what is asked for, of a kind; of kinds there are few."""
        self._now = now
        self._sleep = sleep
        self._make = make
        self._running: dict[str, asyncio.Task[T]] = {}
        self._turn = asyncio.Lock()
        self._rests_until = 0.0

    async def of(self, kind: str) -> T:
        running = self._running.get(kind)
        if running is None:
            running = self._running[kind] = asyncio.create_task(self._run(kind))
        # Who goes away takes nothing from the others.
        return await asyncio.shield(running)

    async def _run(self, kind: str) -> T:
        try:
            async with self._turn:
                await self._sleep(self._rests_until - self._now())
                began_at = self._now()
                try:
                    return await self._make(kind)
                finally:
                    now = self._now()
                    self._rests_until = now + min(REST * (now - began_at), REST_MOST_S)
        finally:
            del self._running[kind]
