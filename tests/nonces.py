"""What every worker asks before it takes what may be used once: in memory."""

from __future__ import annotations

from gateway.stores.protocols import StoreUnavailable


class Moments:
    """Meets `providers.ended_sessions.Moments`: each question comes later than the one before."""

    def __init__(self) -> None:
        self._at = 0
        self.noted: dict[str, int] = {}
        self._since: int | None = 0

    def forget(self) -> None:
        """As a Redis that comes back empty."""
        self.noted.clear()
        self._since = None

    async def now(self) -> int:
        self._at += 1
        if self._since is None:
            self._since = self._at
        return self._at

    async def known_since(self) -> int | None:
        return self._since

    async def note(self, key: str, ttl_s: int) -> None:
        del ttl_s
        self.noted[key] = await self.now()

    async def noted_at(self, key: str) -> int | None:
        return self.noted.get(key)


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
