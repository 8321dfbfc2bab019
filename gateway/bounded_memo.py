"""A dict that remembers, and never grows past its limit."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedMemo(dict[K, V]):
    """At most `most` entries: one that finds it full empties it first.

    It belongs to a listener or to a worker.  What is asked for again and again is soon back, and
    a client that sends something new each time costs what it would cost without a memo, and a
    little.  `keep` is how an entry comes in; to look one up is a dict's own `get`.
    """

    __slots__ = ("most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def keep(self, key: K, value: V) -> None:
        if len(self) >= self.most:
            self.clear()
        self[key] = value
