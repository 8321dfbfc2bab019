"""Time as an event loop lives it: what the machine gives to others meanwhile is not counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_STEP_S = 0.01


@dataclass
class OwnTime:
    """Never more than what a clock shows; as much, where the loop has nothing to do but wait."""

    seconds: float = 0.0

    async def count(self) -> None:
        while True:
            await asyncio.sleep(_STEP_S)
            self.seconds += _STEP_S  # once, for however long nobody turned the loop


@asynccontextmanager
async def own_time() -> AsyncIterator[OwnTime]:
    """What passes while the block runs."""
    passed = OwnTime()
    counting = asyncio.create_task(passed.count())
    try:
        yield passed
    finally:
        counting.cancel()
