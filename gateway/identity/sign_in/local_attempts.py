"""The login throttle's counters in this worker's memory, for when the shared ones are away.

They judge as `stores/scripts/reserve.lua` does; what stands there of windows and of waits
stands here again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.model import Clock
from gateway.stores.protocols import HOUR_S, PENDING_S, Attempt, ReserveResult


@dataclass(slots=True)
class _CountedAttempt:
    at: float
    """Counts until its window has passed since.  Of what is not settled yet, so far back that
    it is forgotten after `PENDING_S`."""
    kind: str
    """`pending`, `spent` or `failed`."""


@dataclass(slots=True)
class _Counter:
    entries: dict[str, _CountedAttempt] = field(default_factory=dict)
    forget_at: float = 0.0


class LocalAttempts:
    """Meets `protocols.Attempts`.  Bounded, and gone when the worker ends."""

    def __init__(self, clock: Clock, *, most: int = 50_000) -> None:
        self._clock = clock
        self._most = most
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    async def reserve(self, attempts: Sequence[Attempt], mark: str) -> ReserveResult:
        now = self._clock.steady()
        counters = [self._current(attempt, now) for attempt in attempts]
        wait_s, failures = 0.0, 0
        for attempt, counter in zip(attempts, counters, strict=True):
            wait_s = max(wait_s, _wait_s(attempt, counter, now))
            if attempt.paced:
                failed = _failed(attempt, counter, now)
                failures = max(failures, len(failed))
                if failed:
                    wait_s = max(wait_s, max(failed) + 2.0 ** (len(failed) - 1) - now)
        if wait_s > 0:
            return ReserveResult(wait_s, failures)
        for attempt, counter in zip(attempts, counters, strict=True):
            at = now - attempt.window_s + min(PENDING_S, attempt.window_s)
            counter.entries[mark] = _CountedAttempt(at, "pending")
            _keep(attempt, counter, now)
        return ReserveResult(0.0, failures)

    async def settle(self, attempts: Sequence[Attempt], mark: str, *, failed: bool) -> None:
        now = self._clock.steady()
        for attempt in attempts:
            counter = self._current(attempt, now)
            counter.entries[mark] = _CountedAttempt(now, "failed" if failed else "spent")
            _keep(attempt, counter, now)

    async def give_back(self, attempts: Sequence[Attempt], mark: str) -> None:
        for attempt in attempts:
            counter = self._counters.get(attempt.key)
            if counter is not None:
                counter.entries.pop(mark, None)

    async def clear(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._counters.pop(key, None)

    async def keys_under(self, prefix: str) -> Sequence[str]:
        return [key for key in self._counters if key.startswith(prefix)]

    def __len__(self) -> int:
        return len(self._counters)

    def _current(self, attempt: Attempt, now: float) -> _Counter:
        """The counter without what is older than its window; the newest of all."""
        counter = self._counters.pop(attempt.key, None)
        if counter is None or counter.forget_at <= now:
            counter = _Counter()
        self._counters[attempt.key] = counter
        while len(self._counters) > self._most:
            self._counters.popitem(last=False)
        oldest = now - (HOUR_S if attempt.an_hour else attempt.window_s)
        # What was never settled is forgotten with its window, and not kept for the hour.
        counter.entries = {
            mark: entry
            for mark, entry in counter.entries.items()
            if entry.at > (now - attempt.window_s if entry.kind == "pending" else oldest)
        }
        return counter


def _wait_s(attempt: Attempt, counter: _Counter, now: float) -> float:
    """Until the counter has room; 0.0 or less where it has."""
    newest = sorted(counter.entries.values(), key=lambda entry: entry.at, reverse=True)
    wait_s = 0.0
    for limit, window_s in ((attempt.limit, attempt.window_s), (attempt.an_hour, HOUR_S)):
        if limit and len(newest) >= limit:
            first = newest[limit - 1]
            left_s = first.at + window_s - now
            if left_s > 0:
                # What is under way is done in a moment, and may have been right.
                wait_s = max(wait_s, 1.0 if first.kind == "pending" else left_s)
    return wait_s


def _failed(attempt: Attempt, counter: _Counter, now: float) -> list[float]:
    oldest = now - attempt.window_s
    return [e.at for e in counter.entries.values() if e.kind == "failed" and e.at > oldest]


def _keep(attempt: Attempt, counter: _Counter, now: float) -> None:
    long = attempt.an_hour and len(counter.entries) >= attempt.limit
    counter.forget_at = now + (HOUR_S if long else attempt.window_s)
