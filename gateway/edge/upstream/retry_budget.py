"""How many calls of an upstream may be tried again.

Law: over the last WINDOW_S, the tries that follow a first one are at most `share` of the calls
that were begun, or LEAST_PER_S a second where that is more.  So an upstream that fails at every
call is sent little more than its calls, while a quiet one is still tried again.  A reused
connection that ended before its first byte is no try: nothing reached the upstream.
Each worker counts for itself.
"""

from __future__ import annotations

from collections import deque

from gateway.telemetry.metrics import Tally

WINDOW_S = 10
LEAST_PER_S = 3


class RetryBudget:
    """Counts only; `turn` is called once in a while, and says what time it is."""

    __slots__ = ("_calls", "_least", "_retries", "_second", "_seconds", "_share", "calls",
                 "refused", "sent")  # fmt: skip

    def __init__(self, share: float, sent: Tally, refused: Tally) -> None:
        self._share = share
        self._least = LEAST_PER_S * WINDOW_S
        self.calls = 0
        """Of this second: stepped for each call that is begun."""
        self.sent = sent
        self.refused = refused
        self._second = 0
        self._seconds: deque[tuple[int, int]] = deque(maxlen=WINDOW_S - 1)
        """Calls and retries of the seconds before this one."""
        self._calls = 0
        """Calls of those seconds."""
        self._retries = 0
        """Retries of the whole window."""

    def take(self) -> bool:
        """Whether one more try may be sent; if so, it is counted."""
        allowed = max(self._least, self._share * (self._calls + self.calls))
        if self._retries >= allowed:
            self.refused.n += 1
            return False
        self._retries += 1
        self.sent.n += 1
        return True

    def turn(self, now: float) -> None:
        """A second that has passed moves into the window, and the oldest out of it."""
        second = int(now)
        passed, self._second = second - self._second, second
        if passed <= 0:
            return
        before = sum(retries for _, retries in self._seconds)
        self._seconds.append((self.calls, self._retries - before))
        self._seconds.extend([(0, 0)] * min(passed - 1, WINDOW_S))
        self.calls = 0
        self._calls = sum(calls for calls, _ in self._seconds)
        self._retries = sum(retries for _, retries in self._seconds)
