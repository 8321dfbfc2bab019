"""Who has how many sockets open, in this worker."""

from __future__ import annotations

Caller = tuple[str, str]
"""A route's id, and whom its sockets are counted for."""


class Seats:
    def __init__(self) -> None:
        self._taken: dict[Caller, int] = {}

    def __len__(self) -> int:
        """Callers that have any."""
        return len(self._taken)

    def take(self, caller: Caller, most: int) -> Seat | None:
        """None where the caller has `most` already; 0 is without a limit."""
        taken = self._taken.get(caller, 0)
        if most and taken >= most:
            return None
        self._taken[caller] = taken + 1
        return Seat(self._taken, caller)


class Seat:
    """One that was taken; it is left once."""

    __slots__ = ("_caller", "_taken")

    def __init__(self, taken: dict[Caller, int], caller: Caller) -> None:
        self._taken = taken
        self._caller = caller

    def leave(self) -> None:
        left = self._taken[self._caller] - 1
        if left:
            self._taken[self._caller] = left
        else:
            del self._taken[self._caller]
