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

    Where most keys are never met again, as paths with the number of a thing in them, whoever asks
    `comes_again` first keeps none of those: what would be freed much later, far from what the
    processor has at hand, costs more than to read a path.

    With `kept_s` an entry that comes so long after the first empties it too.  Where entries go
    out of use, as tokens and paths do, a memo without it grows to its limit however few are in
    use at a time, for as long as an hour where calls are few.
    """

    __slots__ = ("_clock", "_emptied_at", "_kept_s", "_met_once", "most")

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
        self._met_once: set[int] = set()
        """The hashes of keys that were met once: of `most` at most."""

    def comes_again(self, key: K) -> bool:
        """Whether this key was asked for before, and not long ago: one that shares its hash is
        taken for it."""
        met_once, mark = self._met_once, hash(key)
        if mark in met_once:
            met_once.discard(mark)
            return True
        if len(met_once) >= self.most:
            met_once.clear()
        met_once.add(mark)
        return False

    def keep(self, key: K, value: V) -> None:
        if len(self) >= self.most:
            self.clear()
        elif self._kept_s is not None:
            now = self._clock()
            if now - self._emptied_at >= self._kept_s:
                self.clear()
                self._emptied_at = now
        self[key] = value
