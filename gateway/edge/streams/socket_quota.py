"""Who has how many sockets open, in this worker."""

from __future__ import annotations

QuotaKey = tuple[str, str]
"""A route's id, and whom its sockets are counted for."""


class SocketQuota:
    def __init__(self) -> None:
        self._used: dict[QuotaKey, int] = {}

    def __len__(self) -> int:
        """Callers that have any."""
        return len(self._used)

    def acquire(self, key: QuotaKey, limit: int) -> Slot | None:
        """None where the caller has `limit` already; 0 is without a limit."""
        used = self._used.get(key, 0)
        if limit and used >= limit:
            return None
        self._used[key] = used + 1
        return Slot(self._used, key)


class Slot:
    """A socket that counts; it is released once."""

    __slots__ = ("_key", "_used")

    def __init__(self, used: dict[QuotaKey, int], key: QuotaKey) -> None:
        self._used = used
        self._key = key

    def release(self) -> None:
        used = self._used[self._key] - 1
        if used:
            self._used[self._key] = used
        else:
            del self._used[self._key]
