"""How long a call has waited for its own client.

Law: waits are added up.  Who sends a byte, or takes one, ends the wait of a moment and not what it
has cost so far.
"""

from __future__ import annotations

SEND_ON, READ_ON = 1, 2
"""What is waited for: more of the request's body; that the client takes the answer."""


class ClientWait:
    """Of one call; each `now` is the monotonic clock."""

    __slots__ = ("_before_s", "_since", "waits_for")

    def __init__(self) -> None:
        self.waits_for = 0
        self._since = self._before_s = 0.0

    def begin(self, what: int, now: float) -> None:
        if not self.waits_for:
            self._since = now
        self.waits_for |= what

    def end(self, what: int, now: float) -> None:
        """Nothing where it was not waited for."""
        if self.waits_for == what:
            self._before_s += now - self._since
        self.waits_for &= ~what

    def in_all_s(self, now: float) -> float:
        """All its waits together; 0.0 where it does not wait now."""
        return self._before_s + now - self._since if self.waits_for else 0.0
