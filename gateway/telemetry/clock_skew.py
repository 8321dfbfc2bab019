"""Measures how far the clocks of the stores are from this machine's.

Tokens bear SQL's time and are judged by this machine's: a clock that is off refuses every token,
or believes them for longer, and nothing else shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from gateway.model import Clock
from gateway.stores.protocols import StoreUnavailable

log = structlog.get_logger(__name__)

MEASURE_EVERY_S = 5.0
MOST_S = 5.0
"""A token from further in the future is refused; see `access_tokens.FUTURE_IAT_S`."""
_TIMEOUT_S = 1.0
"""A slower answer does not tell when it was given."""

Read = Callable[[], Awaitable[float]]
"""Seconds since the epoch by a store's clock.  Raises StoreUnavailable."""


class ClockMonitor:
    """Measures again and again, and logs when a clock differs."""

    def __init__(self, clock: Clock, stores: Mapping[str, Read]) -> None:
        self._clock = clock
        self._stores = stores
        self._offsets: dict[str, float] = {}
        self._differs = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.measure()
            await asyncio.sleep(MEASURE_EVERY_S)

    async def measure(self) -> None:
        for store, read in self._stores.items():
            began_at = self._clock.steady()
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    store_now = await read()
            except (StoreUnavailable, TimeoutError):
                self._offsets.pop(store, None)
                continue
            took_s = self._clock.steady() - began_at
            self._offsets[store] = store_now - (self._clock.now() - took_s / 2)
        self._log()

    @property
    def offset_s(self) -> float:
        """Of the clock that is furthest off, positive where the store's is ahead; 0.0 while no
        store answers."""
        return max(self._offsets.values(), key=abs, default=0.0)

    def state(self) -> str:
        """For `/readyz`."""
        off = {s: seconds for s, seconds in self._offsets.items() if abs(seconds) > MOST_S}
        if not off:
            return "in step"
        return ", ".join(f"{store}'s is {seconds:+.0f} s off" for store, seconds in off.items())

    def _log(self) -> None:
        differs = abs(self.offset_s) > MOST_S
        if differs and not self._differs:
            log.error(
                "clock-differs",
                offset_s=round(self.offset_s, 1),
                effect="tokens are refused, or believed for longer: keep the clocks in step (NTP)",
            )
        elif self._differs and not differs:
            log.info("clock-agrees")
        self._differs = differs
