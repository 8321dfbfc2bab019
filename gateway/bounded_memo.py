"""A dict that remembers, and never grows past its limit."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

MINUTE_S = 60.0


class BoundedMemo(dict[K, V]):
    """At most `most` entries: one that finds it full empties it first.

    It belongs to a listener or to a worker.  What is asked for again and again is soon back, and
    a client that sends something new each time costs what it would cost without a memo, and a
    little.  `keep` is how an entry comes in; to look one up is a dict's own `get`.

    With `kept_s` an entry that comes so long after the first empties it too.  Where entries go
    out of use, as tokens and paths do, a memo without it grows to its limit however few are in
    use at a time, for as long as an hour where calls are few.
    """

    __slots__ = ("_clock", "_emptied_at", "_kept_s", "most")

    def __init__(
        self,
        most: int,
        *,
        kept_s: float | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__()
        self.most = most
        self._kept_s = kept_s
        self._clock = clock
        self._emptied_at = clock()

    def keep(self, key: K, value: V) -> None:
        if len(self) >= self.most:
            self.clear()
        elif self._kept_s is not None:
            now = self._clock()
            if now - self._emptied_at >= self._kept_s:
                self.clear()
                self._emptied_at = now
        self[key] = value
