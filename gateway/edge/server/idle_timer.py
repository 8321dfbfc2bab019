"""The time that a connection may be idle: one timer, however many requests it serves meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic


class IdleTimer:
    """`since` is set at each answer's end; `on_idle` is told once that was `idle_s` ago."""

    __slots__ = ("_idle_s", "_loop", "_on_idle", "running", "since")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, idle_s: float, on_idle: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._idle_s = idle_s
        self._on_idle = on_idle
        self.running: asyncio.TimerHandle | None = None
        self.since = 0.0
        """By the monotonic clock, which is that of both event loops."""

    def start(self) -> None:
        self.running = self._loop.call_at(self.since + self._idle_s, self.look)

    def look(self) -> None:
        """Too early where `since` was set again meanwhile."""
        self.running = None
        if monotonic() < self.since + self._idle_s:
            self.start()
        else:
            self._on_idle()

    def cancel(self) -> None:
        if self.running is not None:
            self.running.cancel()
