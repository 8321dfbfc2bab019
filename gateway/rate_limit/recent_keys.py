"""A bounded table of recently used keys, without a sweep.

Two generations: what is used lives in `young`; from time to time `young` becomes `old` and
`old` is dropped whole.  A key that is used moves back into `young`, so only what nobody
touched for a whole generation is forgotten, in one step, whatever a stranger sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class RecentKeys(Generic[V]):
    """At most `capacity` keys; none is forgotten within `keep_s` of its last use, unless
    more than half of `capacity` others came in between."""

    def __init__(self, capacity: int, keep_s: float) -> None:
        self.young: dict[str, V] = {}
        self._old: dict[str, V] = {}
        self._half = max(capacity // 2, 1)
        self._keep_s = max(keep_s, 1.0)
        self._turn_at = 0.0

    def recall(self, key: str, now: float) -> V | None:
        """The value of a key; from here on it is young.  `now` is a steady clock's."""
        value = self.young.get(key)
        if value is not None:
            return value
        if now >= self._turn_at or len(self.young) >= self._half:
            if self._turn_at or self.young:
                self._old, self.young = self.young, {}
            self._turn_at = now + self._keep_s
        value = self._old.pop(key, None)
        if value is not None:
            self.young[key] = value
        return value

    def values(self) -> Iterator[V]:
        yield from self.young.values()
        yield from self._old.values()

    def items(self) -> Iterator[tuple[str, V]]:
        yield from self.young.items()
        yield from self._old.items()

    def __len__(self) -> int:
        return len(self.young) + len(self._old)
