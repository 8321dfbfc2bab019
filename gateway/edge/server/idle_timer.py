"""The time that a connection may be idle: one timer, however many requests it serves meanwhile.

Timers that are due within the same step share one of the event loop: the loop's own take 0.6 KB,
which is a sixth of what an idle connection takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from time import monotonic

STEP_S = 1.0
"""So much later than it may be a connection is closed at most; an eighth of `idle_s` where that is
less."""


def _do_nothing() -> None:
    """Nobody is told."""


class IdleTimers:
    """Those of one listener."""

    __slots__ = ("_due", "_step_s", "idle_s")

    def __init__(self, idle_s: float) -> None:
        self.idle_s = idle_s
        self._step_s = min(STEP_S, idle_s / 8)
        self._due: dict[int, set[IdleTimer]] = {}
        """By the number of the step at whose end they are looked at."""

    def add(self, timer: IdleTimer, at: float) -> int:
        """Looks at it soon after `at`; `remove` knows it by the number."""
        step = ceil(at / self._step_s)
        due = self._due.get(step)
        if due is None:
            due = self._due[step] = set()
            loop = asyncio.get_running_loop()
            loop.call_at(step * self._step_s, self._look, step)
        due.add(timer)
        return step

    def remove(self, timer: IdleTimer, step: int) -> None:
        due = self._due.get(step)
        if due is not None:
            due.discard(timer)

    def _look(self, step: int) -> None:
        due = self._due.pop(step)
        try:
            while due:
                due.pop().look()
        finally:
            if due:  # one has failed, and the others are looked at all the same
                self._due[step] = due
                asyncio.get_running_loop().call_soon(self._look, step)


class IdleTimer:
    """`since` is set at each answer's end; `on_idle` is told once that was `idle_s` ago."""

    __slots__ = ("_on_idle", "_timers", "running", "since")

    def __init__(self, timers: IdleTimers, on_idle: Callable[[], None]) -> None:
        self._timers = timers
        self._on_idle = on_idle
        self.running: int | None = None
        """The step at whose end it is looked at."""
        self.since = 0.0
        """By the monotonic clock, which is that of both event loops."""

    def start(self) -> None:
        timers = self._timers
        self.running = timers.add(self, self.since + timers.idle_s)

    def look(self) -> None:
        """Too early where `since` was set again meanwhile."""
        self.running = None
        if monotonic() < self.since + self._timers.idle_s:
            self.start()
        else:
            self._on_idle()

    def cancel(self) -> None:
        """For good: `on_idle` is forgotten, and with it whose timer it was."""
        self._on_idle = _do_nothing
        if self.running is not None:
            self._timers.remove(self, self.running)
