"""Whether the SQL store is there, asked beside the traffic.

What a worker does not need for a while it does not miss: calls with live tokens ask SQL for
nothing, so that nobody would notice for hours that it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.stores.protocols import Database, StoreUnavailable

LOOK_EVERY_S = 0.75
ANSWER_WITHIN_S = 1.0
"""Together under two seconds, within which an outage is told."""


class StoreWatch:
    """Looks again and again; `database` is its own, so that it never waits in a queue."""

    def __init__(self, database: Database, *, told: Callable[[bool, str], None]) -> None:
        """`told` hears of each change: whether the store is away, and why."""
        self._database = database
        self._told = told
        self.away = False
        self.why = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        why = await self._found()
        was_away, self.away, self.why = self.away, why is not None, why or ""
        if self.away != was_away:
            self._told(self.away, self.why)

    async def close(self) -> None:
        await self._database.close()

    async def _found(self) -> str | None:
        """Why it is away; None where it answers."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), self._database.read_transaction() as tx:
                await tx.now()
        except TimeoutError:
            return "no answer in time"
        except StoreUnavailable as error:
            return error.detail or "no answer"
        return None
