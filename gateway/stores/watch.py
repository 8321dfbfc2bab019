"""Asks beside the traffic whether the SQL store answers.

Calls with live tokens ask SQL for nothing, so that nobody would notice for hours that it is
gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.stores.protocols import Database, StoreUnavailable

POLL_EVERY_S = 0.75
TIMEOUT_S = 1.0
"""Together under two seconds, within which an outage is logged."""


class StoreWatch:
    """Polls the store; `database` is its own, so that it never waits in a queue."""

    def __init__(self, database: Database, *, on_change: Callable[[bool, str], None]) -> None:
        """Calls `on_change` with whether the store is unavailable, and why, when that changes."""
        self._database = database
        self._on_change = on_change
        self.unavailable = False
        self.why = ""

    async def run(self) -> None:
        """Polls until it is cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(POLL_EVERY_S)

    async def poll(self) -> None:
        outage = await self._outage()
        changed = self.unavailable != (outage is not None)
        self.unavailable, self.why = outage is not None, outage or ""
        if changed:
            self._on_change(self.unavailable, self.why)

    async def close(self) -> None:
        await self._database.close()

    async def _outage(self) -> str | None:
        """Why the store does not answer; None where it does."""
        try:
            async with asyncio.timeout(TIMEOUT_S), self._database.read_transaction() as tx:
                await tx.now()
        except TimeoutError:
            return "no answer in time"
        except StoreUnavailable as error:
            return error.detail or "no answer"
        return None
