"""What waits in memory for those who are slow, bounded for a worker as a whole.

Law: whoever holds more than a transport should is counted.  Past the budget nothing more is
read from upstreams, and whoever has taken too little for longest is cut, until all is within it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from gateway.telemetry.metrics import Tally

GO_ON_AT = 0.5
"""Of the budget: upstreams are read again once no more than that is held."""


class Holder(Protocol):
    """A connection, or one side of a tunnel."""

    def buffered(self) -> int:
        """Bytes that wait in its buffers now."""

    def cut_off(self) -> None:
        """End it: what it held is free then."""


class Buffers:
    """`stop` and `go_on` are told when reading from upstreams must stop, and when it may go on.

    Who has held something for less than `patience_s` is not cut: for a moment everybody is slow.
    """

    def __init__(
        self,
        most_bytes: int,
        patience_s: float,
        cut: Tally,
        stop: Callable[[], None],
        go_on: Callable[[], None],
    ) -> None:
        self._most_bytes = most_bytes
        self._patience_s = patience_s
        self._cut = cut
        self._stop = stop
        self._go_on = go_on
        self._held: dict[Holder, tuple[int, float]] = {}
        """Bytes, and since when; who has been slow for longest stands first."""
        self.total_bytes = 0
        self.full = False

    def hold(self, holder: Holder) -> None:
        """It is slow: its bytes count, as they are now and at each sweep."""
        now = monotonic()
        before, since = self._held.get(holder, (0, now))
        size = holder.buffered()
        self._held[holder] = size, since
        self.total_bytes += size - before
        if self.total_bytes > self._most_bytes:
            self._relieve(now)

    def release(self, holder: Holder) -> None:
        """It has caught up, or is gone."""
        held = self._held.pop(holder, None)
        if held is None:
            return
        self.total_bytes -= held[0]
        if self.full and self.total_bytes <= self._most_bytes * GO_ON_AT:
            self.full = False
            self._go_on()

    def sweep(self) -> None:
        if not self._held:
            return
        self._held = {one: (one.buffered(), since) for one, (_, since) in self._held.items()}
        self.total_bytes = sum(size for size, _ in self._held.values())
        if self.full or self.total_bytes > self._most_bytes:
            self._relieve(monotonic())

    def _relieve(self, now: float) -> None:
        # Upstreams are not left unread because of those who take nothing at all.
        goal = self._most_bytes * GO_ON_AT if self.full else self._most_bytes
        while self.total_bytes > goal:
            holder, (size, since) = next(iter(self._held.items()))
            if now - since < self._patience_s:
                break
            del self._held[holder]
            self.total_bytes -= size
            self._cut.n += 1
            holder.cut_off()
        if not self.full and self.total_bytes > self._most_bytes:
            self.full = True
            self._stop()
        elif self.full and self.total_bytes <= self._most_bytes * GO_ON_AT:
            self.full = False
            self._go_on()
