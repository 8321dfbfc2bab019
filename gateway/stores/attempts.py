"""The login throttle's counters: in Redis for all workers, in memory while it is away.

`SharedAttempts` is what the rooms are given.  While Redis is away a worker counts alone, to
max(1, limit / N) where N workers are live: never more than the limit together, but for the
few workers past it, and never nobody at all.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.model import Clock
from gateway.stores.protocols import Attempt, StoreUnavailable
from gateway.stores.redis import RedisStore, Script

LONGEST_WAIT_S = 900.0
COUNTERS = 100_000


class RedisAttempts:
    """Meets `protocols.Attempts`; raises StoreUnavailable."""

    def __init__(self, redis: RedisStore) -> None:
        self._redis = redis
        self._reserve = Script.shipped("reserve")
        self._give_back = Script.shipped("give_back")

    async def reserve(self, attempts: Sequence[Attempt]) -> float:
        keys: list[str] = []
        words: list[Any] = []
        for attempt in attempts:
            keys += (f"attempts:{attempt.key}", f"waits:{attempt.key}")
            words += (attempt.limit, attempt.window_s)
        return float(await self._redis.script(self._reserve, keys, [*words, secrets.token_hex(4)]))

    async def give_back(self, attempts: Sequence[Attempt]) -> None:
        keys = [f"attempts:{attempt.key}" for attempt in attempts]
        await self._redis.script(self._give_back, keys, [])

    async def clear(self, keys: Sequence[str]) -> None:
        if keys:
            named = [f"{kind}:{key}" for key in keys for kind in ("attempts", "waits")]
            await self._redis.call("DEL", *(self._redis.prefix + name for name in named))


class LocalAttempts:
    """Meets `protocols.Attempts`, for this process alone.

    `share` of a counter's limit is what this process may let in.
    """

    def __init__(self, clock: Clock, share: Callable[[int], int] = lambda limit: limit) -> None:
        self._steady = clock.steady
        self._share = share
        self._counters: dict[str, _Counter] = {}

    async def reserve(self, attempts: Sequence[Attempt]) -> float:
        now = self._steady()
        counters = [self._counter(attempt, now) for attempt in attempts]
        full = [
            counter
            for counter, attempt in zip(counters, attempts, strict=True)
            if len(counter.failed_at) >= self._share(attempt.limit)
        ]
        wait_s = max(
            (counter.refuse(now) for counter in full if not counter.is_open(now)), default=0.0
        )
        if wait_s:
            return wait_s
        for counter in counters:
            counter.failed_at.append(now)
        for counter in full:
            counter.open_at = 0.0
        return 0.0

    async def give_back(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            counter = self._counters.get(attempt.key)
            if counter and counter.failed_at:
                counter.failed_at.pop()

    async def clear(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._counters.pop(key, None)

    def _counter(self, attempt: Attempt, now: float) -> _Counter:
        counter = self._counters.pop(attempt.key, None) or _Counter()
        # The most recently used stand last; a stranger with many keys pushes out the first.
        self._counters[attempt.key] = counter
        if len(self._counters) > COUNTERS:
            del self._counters[next(iter(self._counters))]
        counter.failed_at = [at for at in counter.failed_at if at > now - attempt.window_s]
        if not counter.failed_at and now > counter.open_at + attempt.window_s:
            counter.refused = 0
        return counter


@dataclass(slots=True)
class _Counter:
    failed_at: list[float] = field(default_factory=list)
    open_at: float = 0.0
    """When one more attempt is let in; 0 while none was refused since the last one."""
    refused: int = 0

    def is_open(self, now: float) -> bool:
        return 0 < self.open_at <= now

    def refuse(self, now: float) -> float:
        wait_s = min(2.0**self.refused, LONGEST_WAIT_S)
        self.refused = min(self.refused + 1, 16)
        self.open_at = now + wait_s
        return wait_s


class SharedAttempts:
    """Meets `protocols.Attempts`: counts with all workers, or alone while Redis is away.

    Never raises StoreUnavailable.  `workers` tells how many are live (`Replica.live_workers`).
    """

    def __init__(self, redis: RedisStore, clock: Clock, workers: Callable[[], int]) -> None:
        self._shared = RedisAttempts(redis)
        self._alone = LocalAttempts(clock, lambda limit: max(1, limit // max(workers(), 1)))

    async def reserve(self, attempts: Sequence[Attempt]) -> float:
        try:
            return await self._shared.reserve(attempts)
        except StoreUnavailable:
            return await self._alone.reserve(attempts)

    async def give_back(self, attempts: Sequence[Attempt]) -> None:
        await self._alone.give_back(attempts)
        try:
            await self._shared.give_back(attempts)
        except StoreUnavailable:
            # It stays counted until its window has passed: the safe side.
            return

    async def clear(self, keys: Sequence[str]) -> None:
        await self._alone.clear(keys)
        try:
            await self._shared.clear(keys)
        except StoreUnavailable:
            return
