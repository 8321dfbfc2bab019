"""When this machine did not get to run us: a clock that ticks, and how late its ticks were.

On a machine that does other work as well everybody waits at times, the nodes for their leases, the
callers for their answers.  What was not answered then says nothing of the gateway; it is counted
apart, and counts against availability all the same.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from bench.soak.oracle import Unavailable

TICK_S = 0.05
LATE_S = 0.4
"""A tick that is later was kept waiting."""
LINGERS_S = 8.0
"""As leases and connections do after an event."""


@dataclass
class Stalls:
    found: list[tuple[float, float]] = field(default_factory=list)
    """When each began and ended, on the steady clock."""

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            began_at = time.monotonic()
            await asyncio.sleep(TICK_S)
            ended_at = time.monotonic()
            if ended_at - began_at - TICK_S > LATE_S:
                self.found.append((began_at, ended_at))

    def seconds(self) -> float:
        return sum(ended_at - began_at for began_at, ended_at in self.found)

    def explains(self, one: Unavailable) -> bool:
        return any(
            one.at <= ended_at + LINGERS_S and one.until >= began_at
            for began_at, ended_at in self.found
        )
