"""How fast the body of a request comes."""

from __future__ import annotations

from gateway.edge.server.limits import ListenerLimits


class BodyPace:
    """Of one connection: begun anew for each body, and looked at by every sweep."""

    __slots__ = ("_due_at", "_last_at", "_last_bytes", "_window_at", "_window_bytes")

    def __init__(self) -> None:
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """A body begins; `now` is the loop's clock, here as everywhere."""
        self._last_at = self._window_at = now
        self._last_bytes = self._window_bytes = 0
        self._due_at = 0.0

    def expect_by(self, at: float) -> None:
        """It must be whole by then, however steadily it comes."""
        self._due_at = at

    def hold_back(self, now: float, received: int) -> None:
        """Nobody reads it now: it is not the client that is slow."""
        self._last_at = self._window_at = now
        self._last_bytes = self._window_bytes = received

    def is_too_slow(self, now: float, received: int, limits: ListenerLimits) -> bool:
        """Whether it has stopped coming, or comes more slowly than is allowed."""
        if received != self._last_bytes:
            self._last_at, self._last_bytes = now, received
        slow = False
        if now - self._window_at > limits.body_rate_window_s:
            wanted = limits.body_bytes_per_s * limits.body_rate_window_s
            slow = received - self._window_bytes < wanted
            self._window_at, self._window_bytes = now, received
        late = 0.0 < self._due_at < now
        return slow or late or now - self._last_at > limits.body_idle_s
