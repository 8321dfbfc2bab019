"""What every worker asks before it takes what may be used once: in memory."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.stores.protocols import StoreUnavailable


class Moments:
    """Meets `providers.ended_sessions.Moments`: each question comes later than the one before."""

    def __init__(self) -> None:
        self._at = 0
        self._since = 0
        self.noted: dict[tuple[str, str], int] = {}

    def forget(self) -> None:
        """As a Redis that comes back empty."""
        self.noted.clear()
        self._at += 1
        self._since = self._at

    async def now(self, kind: str) -> int:
        del kind
        self._at += 1
        return self._at

    async def note(self, kind: str, names: Sequence[str]) -> None:
        for name in names:
            self.noted[kind, name] = await self.now(kind)

    async def has_come(self, kind: str, names: Sequence[str], since: int | None) -> bool:
        found = [self.noted[kind, name] for name in names if (kind, name) in self.noted]
        if since is None:
            return bool(found)
        return since < self._since or any(at > since for at in found)


class Once:
    """Meets `stores.protocols.NonceStore`."""

    def __init__(self) -> None:
        self.claimed: dict[str, int] = {}
        """Keys, and for how many seconds each was to be known."""
        self.away = False

    async def claim(self, key: str, ttl_s: int) -> bool:
        if self.away:
            raise StoreUnavailable("redis", "away")
        if key in self.claimed:
            return False
        self.claimed[key] = ttl_s
        return True

    async def is_claimed(self, key: str) -> bool:
        if self.away:
            raise StoreUnavailable("redis", "away")
        return key in self.claimed
