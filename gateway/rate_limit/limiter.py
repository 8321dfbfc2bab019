"""How many calls a caller may make: GCRA, counted here or shared between workers.

GCRA keeps one number for each key, the moment at which its bucket is full again.  A call
takes one unit, which moves that moment one interval (1 / rate) on; it may pass while the
moment is no further away than `burst` intervals.

The scopes (decision 0005): `local`: this worker counts alone.  `leased` and `shared`:
see `shared_buckets.py`.  Counters outlive a reload as long as the limit's own numbers stay.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.definitions import Limit, Scope
from gateway.limit_state import LimitState
from gateway.model import Call, Clock, Principal
from gateway.rate_limit.keys import LimitKeys
from gateway.rate_limit.nearness import NearLimit, nearest
from gateway.rate_limit.recent_keys import RecentKeys
from gateway.rate_limit.shared_buckets import (
    SYNC_S,
    Answer,
    SharedBucketClient,
    SharedCounts,
    SlowAnswer,
)
from gateway.stores.protocols import BucketRequest, Counters, StoreUnavailable

CAPACITY = 100_000
"""Keys that one limit remembers in one worker: about 20 MB.  When a stranger brings more
addresses, those that were not used for the longest time are forgotten."""


class LocalCounts:
    """The keys of one `local` limit; the value is the moment at which the bucket is full."""

    __slots__ = ("_interval_s", "_keys", "_per_s", "_slack_s", "limit")

    def __init__(self, limit: Limit, *, capacity: int = CAPACITY) -> None:
        self.limit = limit
        self._per_s = limit.per_s
        self._interval_s = 1 / limit.per_s
        # A billionth of a second covers the rounding of a clock that counts days.
        self._slack_s = (limit.burst - 1) * self._interval_s + 1e-9
        self._keys: RecentKeys[float] = RecentKeys(capacity, limit.burst * self._interval_s)

    def take(self, key: str, now: float) -> float:
        """Units left after this one; below 0, the seconds to wait."""
        full_at = self._keys.young.get(key)
        if full_at is None:
            full_at = self._keys.recall(key, now) or 0.0
        backlog_s = full_at - now
        if backlog_s > self._slack_s:
            return self._slack_s - backlog_s
        if backlog_s < 0.0:
            backlog_s = 0.0
        self._keys.young[key] = now + backlog_s + self._interval_s
        return int((self._slack_s - backlog_s) * self._per_s + 1e-6)

    def give_back(self, key: str, now: float) -> None:
        """Returns a unit that was taken for a call which another limit then refused."""
        full_at = self._keys.recall(key, now)
        if full_at is not None:
            self._keys.young[key] = full_at - self._interval_s

    def full_at(self) -> Iterator[tuple[str, float]]:
        """Each key, and when its bucket is full again."""
        return self._keys.items()

    def __len__(self) -> int:
        return len(self._keys)


_STATES_MAX = 1_024


class _Standings:
    """How callers are told of limits with these names and numbers, whichever routes have them."""

    __slots__ = ("admitted", "named", "policy")

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.named = tuple((limit.name, limit.per_s) for limit in limits)
        self.admitted: dict[float, LimitState] = {}
        """The state of an admitted caller, by the units left: most callers have the same."""
        # The window is the time in which a bucket fills: q units may come at once, and
        # q in each w after that.
        self.policy = ", ".join(
            f'"{limit.name}";q={limit.burst};w={math.ceil(limit.burst / limit.per_s)}'
            for limit in limits
        )

    def admit(self, left: int) -> LimitState:
        if len(self.admitted) >= _STATES_MAX:
            self.admitted.clear()
        state = self.admitted[left] = LimitState(0.0, self.policy, self.named, (left,))
        return state

    def told(self, wait_s: float, left: tuple[int, ...]) -> LimitState:
        return LimitState(wait_s, self.policy, self.named, left)


class _RouteLimits:
    """The limits of one route, ready to be charged."""

    __slots__ = ("counts", "first", "first_key", "keys", "limits", "standings")

    def __init__(
        self,
        limits: Sequence[Limit],
        counts: list[LocalCounts | SharedCounts],
        keys: LimitKeys,
        standings: _Standings,
    ) -> None:
        self.limits = limits
        self.counts = counts
        self.keys = [keys.of(limit) for limit in limits]
        self.first = counts[0] if len(counts) == 1 else None
        self.first_key = self.keys[0]
        self.standings = standings


class RateLimiter:
    """Meets `access.authorizer.Limiter`."""

    def __init__(
        self,
        clock: Clock,
        counters: Counters | None = None,
        *,
        live: Callable[[], int] | None = None,
        alone: bool = False,
        capacity: int = CAPACITY,
    ) -> None:
        """`live` returns how many workers of all nodes hold a lease, this one included.
        `alone`: there is no other worker, ever, and `live` is not called."""
        self._clock = clock
        self._steady = clock.steady
        self._client = SharedBucketClient(counters)
        self._client.alone = alone
        self._live = live if not alone else None
        if self._live is not None:
            self.workers = self._live()
        self._capacity = capacity
        self._keys = LimitKeys(clock, capacity // 2)
        self._routes: dict[int, _RouteLimits] = {}
        self._standings: dict[tuple[object, ...], _Standings] = {}
        self._counts: dict[tuple[object, ...], LocalCounts | SharedCounts] = {}

    @property
    def workers(self) -> int:
        """Live workers of all nodes, between whom the limits are shared."""
        return self._client.workers

    @workers.setter
    def workers(self, count: int) -> None:
        self._client.workers = max(count, 1)

    @property
    def unavailable(self) -> bool:
        """Whether the last request to the shared buckets failed."""
        return self._client.unavailable

    def take_now(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState | None:
        """As `take`, of one limit that is in memory; else None, and nothing is charged."""
        # By identity: to hash a Limit costs more than the whole decision.  The entry keeps the
        # sequence alive, so nothing else can take its address.
        route = self._routes.get(id(limits)) or self._route_limits(limits)
        counts = route.first
        if counts is None:
            return None
        left = counts.take(route.first_key(call, principal, requested), self._steady())
        if left is None:
            return None
        standings = route.standings
        if left >= 0:
            return standings.admitted.get(left) or standings.admit(int(left))
        return standings.told(-left, (0,))

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        """Charges one unit of each, or none at all and says how long to wait.

        `requested` is for keys that are expressions.
        """
        route = self._routes.get(id(limits)) or self._route_limits(limits)
        keys = [key_of(call, principal, requested) for key_of in route.keys]
        return await self._take_all(route, keys, self._steady())

    async def take_for(self, limits: Sequence[Limit], key: str, *others: str) -> LimitState:
        """As `take`, for a caller that knows whose call it is, whatever the limits count by; with
        `others` each limit has a key of its own."""
        route = self._routes.get(id(limits)) or self._route_limits(limits)
        keys = [key, *others] if others else [key] * len(route.counts)
        return await self._take_all(route, keys, self._steady())

    def adopt(self, limits: Iterable[Limit]) -> None:
        """Drops the counts of limits that a reload has removed; `limits` are all that are in
        force, for whatever route."""
        self._routes.clear()
        self._standings.clear()
        self._keys.forget()
        wanted = {_numbers(limit) for limit in limits}
        self._counts = {known: c for known, c in self._counts.items() if known[1:] in wanted}

    def nearest(self) -> list[NearLimit]:
        """Each limit with the callers that are nearest to it, as far as this worker knows."""
        return nearest(list(self._counts.values()), self._steady())

    async def _take_all(self, route: _RouteLimits, keys: list[str], now: float) -> LimitState:
        taken = [counts.take(key, now) for counts, key in zip(route.counts, keys, strict=True)]
        if None in taken and all(left is None or left >= 0 for left in taken):
            return await self._request(route, taken, keys, now)
        return self._combine(route, taken, keys, now)

    def _combine(
        self, route: _RouteLimits, taken: Sequence[float | None], keys: Sequence[str], now: float
    ) -> LimitState:
        """Combines the answers of all limits: one refusal gives back what the others took."""
        wait_s = max((-left for left in taken if left is not None and left < 0), default=0.0)
        left_of = tuple(max(int(left), 0) if left is not None else 0 for left in taken)
        if wait_s > 0:
            left_of = self._give_back(route, taken, keys, now)
        return route.standings.told(wait_s, left_of)

    def _give_back(
        self, route: _RouteLimits, taken: Sequence[float | None], keys: Sequence[str], now: float
    ) -> tuple[int, ...]:
        """Gives back what `take` took; returns what is left of each limit then."""
        left_of = []
        for counts, key, left in zip(route.counts, keys, taken, strict=True):
            if left is None or left < 0:
                left_of.append(0)
            else:
                counts.give_back(key, now)
                left_of.append(int(left) + 1)
        return tuple(left_of)

    async def _request(
        self, route: _RouteLimits, taken: list[float | None], keys: Sequence[str], now: float
    ) -> LimitState:
        """Requests from the shared buckets what `take` could not tell: all of them, or none."""
        asked = [
            (at, counts)
            for at, counts in enumerate(route.counts)
            if taken[at] is None and isinstance(counts, SharedCounts)
        ]
        requests = [counts.request(keys[at], now) for at, counts in asked]
        asking = self._client.request(requests)
        try:
            answer = await asyncio.shield(asking)
        except (asyncio.CancelledError, GeneratorExit):
            # The client left, perhaps before a task took this over; the next caller can use what
            # is granted to it.
            asking.add_done_callback(lambda done: _keep(done, asked, requests, keys, now))
            self._give_back(route, taken, keys, now)
            raise
        except StoreUnavailable:
            _keep(asking, asked, requests, keys, now)
            for at, counts in asked:
                taken[at] = counts.take_share(keys[at], now)
            return self._combine(route, taken, keys, now)
        if isinstance(answer, float):
            for at, counts in asked:
                taken[at] = -answer
                if len(asked) == 1:
                    counts.refused(keys[at], now, answer)
        else:
            for (at, counts), grant in zip(asked, answer, strict=True):
                taken[at] = counts.granted(keys[at], now, grant)
        return self._combine(route, taken, keys, now)

    async def run(self) -> None:
        """Keeps the prefetched tokens in step with the shared buckets, until it is cancelled."""
        with suppress(StoreUnavailable):
            # The first caller does not wait for a connection to be made.
            await self._client.spend([])
        while True:
            await asyncio.sleep(SYNC_S)
            if self._live is not None:
                self.workers = self._live()
            await self.sync()

    async def sync(self) -> None:
        """One round of `run`; while Redis is unavailable, only tries whether it is back."""
        try:
            if self._client.unavailable:
                await self._client.spend([])
            for counts in self._shared():
                await counts.sync()
        except StoreUnavailable:
            return

    def _shared(self) -> list[SharedCounts]:
        return [counts for counts in self._counts.values() if isinstance(counts, SharedCounts)]

    def _route_limits(self, limits: Sequence[Limit]) -> _RouteLimits:
        numbers = tuple((limit.name, limit.per_s, limit.burst) for limit in limits)
        standings = self._standings.get(numbers)
        if standings is None:
            standings = self._standings[numbers] = _Standings(limits)
        counts = [self._counts_of(limit) for limit in limits]
        route = _RouteLimits(limits, counts, self._keys, standings)
        if len(self._routes) >= 20_000:
            self._routes.clear()
        self._routes[id(limits)] = route
        return route

    def _counts_of(self, limit: Limit) -> LocalCounts | SharedCounts:
        identity = _identity(limit)
        counts = self._counts.get(identity)
        if counts is None:
            if limit.scope is Scope.LOCAL:
                counts = LocalCounts(limit, capacity=self._capacity)
            else:
                counts = SharedCounts(limit, self._client, self._clock, capacity=self._capacity)
            self._counts[identity] = counts
        return counts


def _identity(limit: Limit) -> tuple[object, ...]:
    return limit.route_id, *_numbers(limit)


def _numbers(limit: Limit) -> tuple[object, ...]:
    source = limit.expression.source if limit.expression is not None else ""
    numbers = limit.per_s, limit.burst, limit.scope
    return limit.name, limit.key, source, *numbers


def _keep(
    done: Answer,
    asked: Sequence[tuple[int, SharedCounts]],
    requests: Sequence[BucketRequest],
    keys: Sequence[str],
    now: float,
) -> None:
    """Keeps an answer that nobody waits for: what it grants pays for what was spent of the share,
    or is the next caller's; and what did not arrive is still owed."""
    if done.cancelled():
        return
    error = done.exception()
    if isinstance(error, SlowAnswer):
        error.late.add_done_callback(lambda late: _keep(late, asked, requests, keys, now))
    elif error is not None:
        for (at, counts), request in zip(asked, requests, strict=True):
            counts.not_sent(keys[at], now, request)
    else:
        answer = done.result()
        if isinstance(answer, list):
            for (at, counts), grant in zip(asked, answer, strict=True):
                counts.granted_late(keys[at], now, grant)
        elif len(asked) == 1:
            at, counts = asked[0]
            counts.refused(keys[at], now, answer)
