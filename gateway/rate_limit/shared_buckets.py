"""Buckets that all workers share, spent from prefetched tokens (decision 0005).

Prefetched tokens are units that this worker has already taken from the shared bucket: spending
them needs no request, and since they were paid for in advance, all workers together never
exceed the limit, however late they hear of each other.  What a worker no longer needs goes back
within a second.  How many units it prefetches follows the key's own pace, and is never more
than burst / N, nor more than an Nth of what is left: the last units of a bucket are not locked
up by workers that do not need them.  A key that is asked about again within REST_S prefetches a
hundredth of its burst, divided among the workers, however slow it is, and may leave that unspent
for as long: of many callers each is slow, and each of their calls would ask.

While Redis is unavailable a worker requests nothing: it spends its share, rate / N and
burst / N, and reports that once Redis is back.  A worker that merely sees no other requests all
the same: another may have started a moment ago, and would not hear of what was spent here.
Only the one worker of an installation, by its settings (`SharedBucketClient.alone`), never does.

A call waits for the shared bucket for `TIMEOUT_S` and no longer: a server that hangs must not
hold up routes that need nothing of it but a count.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.access.definitions import Limit, Scope
from gateway.model import Clock
from gateway.rate_limit.recent_keys import RecentKeys
from gateway.stores.protocols import (
    BucketGrant,
    BucketRequest,
    Counters,
    StoreBusy,
    StoreUnavailable,
)

Answer = asyncio.Future[list[BucketGrant] | float]

SYNC_S = 0.1
TIMEOUT_S = 0.04
"""Longer than a healthy server takes, shorter than a caller notices."""
_STALL_S = 0.01
_FADE = 0.9  # of the pace, each sync: a pace remembers about one second
_IDLE = 0.5  # a pace below this is a key that nobody uses any more
_REQUESTS_A_ROUND_TRIP = 500
REST_S = 10.0
"""For so long units may rest unspent, while they are few beside the burst."""
_RESTING_PART = 100


class PrefetchedTokens:
    """The units of one key that this worker has taken and not yet spent."""

    __slots__ = (
        "asked_at",
        "full_at",
        "key",
        "left",
        "pace",
        "queued",
        "refused_until",
        "sharers",
        "units",
        "unreported",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.units = 0
        self.pace = 0.0
        """Units spent in about the last second."""
        self.left = 0
        """Units in the shared bucket when it last answered."""
        self.refused_until = 0.0
        self.full_at = 0.0
        """When this worker's own share is full again, by the steady clock."""
        self.sharers = 1
        """Among how many workers the bucket was shared when the share was last spent from."""
        self.unreported = 0
        """Units spent of the share and not yet reported to the shared bucket."""
        self.queued = False
        """Whether the next sync visits these tokens."""
        self.asked_at = -math.inf
        """When a call last had to ask for units."""


class SlowAnswer(StoreUnavailable):
    """The answer did not come in time; `late` will have it, or fail with StoreUnavailable."""

    def __init__(self, late: Answer) -> None:
        super().__init__("redis", "the shared limits take too long")
        self.late = late


@dataclass(slots=True)
class _Pending:
    """A group of requests and the future that its answer goes to."""

    group: Sequence[BucketRequest]
    answer: Answer


class SharedBucketClient:
    """Sends requests to the shared buckets, in one round trip for all of a turn of the loop."""

    def __init__(self, counters: Counters | None) -> None:
        self._counters = counters
        self._waiting: list[_Pending] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.alone = False
        """Whether no other worker can ever spend from these buckets."""
        self.workers = 1
        """Live workers of all nodes, this one included; the last known number while Redis is
        unavailable."""
        self.unavailable = counters is None

    def request(self, group: Sequence[BucketRequest]) -> Answer:
        """A grant for each, or the seconds to wait; fails with StoreUnavailable, and with
        SlowAnswer after `TIMEOUT_S`."""
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        self._waiting.append(_Pending(group, answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        return answer

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._spend(batch))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        due_at = loop.time() + TIMEOUT_S
        loop.call_at(due_at, self._time_out, batch, task, due_at)

    async def _spend(self, batch: Sequence[_Pending]) -> None:
        try:
            answers = await self.spend([pending.group for pending in batch])
        except StoreUnavailable as error:
            for pending in batch:
                if not pending.answer.done():
                    pending.answer.set_exception(error)
            return
        for pending, answer in zip(batch, answers, strict=True):
            if not pending.answer.done():
                pending.answer.set_result(answer)

    def _time_out(self, batch: Sequence[_Pending], task: asyncio.Task[None], due_at: float) -> None:
        if task.done():
            return
        loop = asyncio.get_running_loop()
        if due_at and loop.time() - due_at > _STALL_S:
            # This worker itself was stalled: the answer may be here, and not yet read.
            loop.call_later(TIMEOUT_S / 2, self._time_out, batch, task, 0.0)
            return
        self.unavailable = True
        for pending in batch:
            if not pending.answer.done():
                waiting, pending.answer = pending.answer, loop.create_future()
                waiting.set_exception(SlowAnswer(pending.answer))

    async def spend(
        self, groups: Sequence[Sequence[BucketRequest]]
    ) -> list[list[BucketGrant] | float]:
        """Sends the requests at once, and records whether Redis is available."""
        if self._counters is None:
            raise StoreUnavailable("redis", "no shared limits")
        try:
            answers = await self._counters.spend(groups, self.workers)
        except StoreBusy:
            raise  # Redis was not asked: it may well be available
        except StoreUnavailable:
            self.unavailable = True
            raise
        self.unavailable = False
        return answers


class SharedCounts:
    """The keys of one `leased` or `shared` limit."""

    def __init__(
        self, limit: Limit, client: SharedBucketClient, clock: Clock, *, capacity: int
    ) -> None:
        self.limit = limit
        # Buckets of the same name are one in Redis, but for limits that count each route alone.
        self._prefix = f"{limit.name}/{limit.route_id}:" if limit.route_id else f"{limit.name}:"
        self._interval_s = 1 / limit.per_s
        self._burst = limit.burst
        self._prefetches = limit.scope is Scope.LEASED
        self._client = client
        self._steady = clock.steady
        self._keys: RecentKeys[PrefetchedTokens] = RecentKeys(capacity, limit.burst / limit.per_s)
        self._queued: list[PrefetchedTokens] = []
        self._resting: deque[tuple[float, PrefetchedTokens]] = deque()
        """Until when the units of idle keys may rest."""
        self._resting_most = capacity // 2
        self._share = (0, 0.0, 0.0)
        """Of this worker alone: among how many it shares, its interval, and its slack."""

    def take(self, key: str, now: float) -> float | None:
        """Units left after this one; below 0, the seconds to wait; None: only the shared bucket
        knows."""
        tokens = self._keys.young.get(key) or self._tokens(key, now)
        if tokens.units:
            tokens.units -= 1
            tokens.pace += 1
            return tokens.units + tokens.left
        if self._client.unavailable or (self._prefetches and self._client.alone):
            return self._take_share(tokens, now)
        if self._prefetches and now < tokens.refused_until:
            return now - tokens.refused_until
        return None

    def request(self, key: str, now: float) -> BucketRequest:
        """The request to the shared bucket, where `take` could not tell."""
        tokens = self._tokens(key, now)
        # What was spent of resting units was spent at no known pace.
        tokens.pace = tokens.pace + 1 if tokens.queued else 1.0
        ahead = min(int(tokens.pace) - 1, self._most_prefetched())
        if now - tokens.asked_at < REST_S:
            ahead = max(ahead, self._most_resting())
        tokens.asked_at = now
        return self._request(tokens, now, least=1, most=1 + max(ahead, 0))

    def granted(self, key: str, now: float, grant: BucketGrant) -> int:
        """Keeps the units that were prefetched; returns how many are left after the one taken."""
        tokens = self._tokens(key, now)
        tokens.left = grant.left
        tokens.units += grant.units - 1
        self._queue(tokens)
        self._learn(tokens, now + (self._burst - grant.left) * self._interval_s)
        return tokens.units + tokens.left

    def refused(self, key: str, now: float, wait_s: float) -> None:
        tokens = self._tokens(key, now)
        tokens.refused_until = now + wait_s
        self._learn(tokens, tokens.refused_until + (self._burst - 1) * self._interval_s)

    def _learn(self, tokens: PrefetchedTokens, full_at: float) -> None:
        """Records when the shared bucket is full.  A worker's share of it, of which all numbers
        are an Nth, is full no sooner: a caller that has just spent everything does not get the
        shares as well when Redis then becomes unavailable."""
        if full_at > tokens.full_at:
            tokens.full_at = full_at

    def not_sent(self, key: str, now: float, request: BucketRequest) -> None:
        """Takes a request back that did not arrive, as far as is known: what it reported is
        still owed."""
        self._tokens(key, now).unreported += max(request.owed, 0)

    def granted_late(self, key: str, now: float, grant: BucketGrant) -> None:
        """As `granted`, of an answer that nobody waits for.  Its unit pays for one that was spent
        of the share meanwhile; where none was, the next caller has it."""
        self.granted(key, now, grant)
        tokens = self._tokens(key, now)
        if tokens.unreported:
            tokens.unreported -= 1
        else:
            tokens.units += 1

    def give_back(self, key: str, now: float) -> None:
        """Returns a unit that was taken for a call which another limit then refused."""
        tokens = self._tokens(key, now)
        tokens.units += 1
        self._queue(tokens)

    def full_at(self) -> Iterator[tuple[str, float]]:
        """Each key, and when its bucket is full again, as the shared one last answered."""
        return ((key, tokens.full_at) for key, tokens in self._keys.items())

    def take_share(self, key: str, now: float) -> float:
        """As `take`, while the shared bucket is unavailable."""
        return self._take_share(self._tokens(key, now), now)

    def _take_share(self, tokens: PrefetchedTokens, now: float) -> float:
        workers = self._client.workers
        if workers != self._share[0]:
            interval_s = self._interval_s * workers
            self._share = (workers, interval_s, (max(self._burst // workers, 1) - 1) * interval_s)
        _, interval_s, slack_s = self._share
        backlog_s = tokens.full_at - now
        if backlog_s > slack_s + 1e-9:
            return slack_s - backlog_s
        if backlog_s < 0.0:
            backlog_s = 0.0
        tokens.full_at = now + backlog_s + interval_s
        tokens.sharers = workers
        tokens.unreported += 1
        if not self._client.alone:
            self._queue(tokens)
        return int((slack_s - backlog_s) / interval_s + 1e-6)

    def _most_prefetched(self) -> int:
        """Units that may be held unspent; none of a small burst, which is `shared` of itself."""
        workers = self._client.workers
        if not self._prefetches or self._burst < 4 * workers:
            return 0
        return self._burst // workers

    def _most_resting(self) -> int:
        """Units of an idle key that may be held unspent; by all workers a 100th of the burst."""
        return self._burst // (_RESTING_PART * self._client.workers) if self._prefetches else 0

    def _request(
        self, tokens: PrefetchedTokens, now: float, *, least: int, most: int, back: int = 0
    ) -> BucketRequest:
        # Units that have come back meanwhile are owed no more.
        unpaid = math.ceil(max(tokens.full_at - now, 0.0) / (self._interval_s * tokens.sharers))
        owed = min(tokens.unreported, unpaid)
        tokens.unreported = 0
        return BucketRequest(
            f"{self._prefix}{tokens.key}", self._interval_s, self._burst, least, most, owed - back
        )

    def _tokens(self, key: str, now: float) -> PrefetchedTokens:
        tokens = self._keys.recall(key, now)
        if tokens is None:
            tokens = PrefetchedTokens(key)
            self._keys.young[key] = tokens
        return tokens

    def _queue(self, tokens: PrefetchedTokens) -> None:
        if not tokens.queued:
            tokens.queued = True
            self._queued.append(tokens)

    async def sync(self) -> None:
        """Prefetches for keys in use, gives back the units of others, and reports what is owed."""
        due = self._due()
        for start in range(0, len(due), _REQUESTS_A_ROUND_TRIP):
            part = due[start : start + _REQUESTS_A_ROUND_TRIP]
            try:
                answers = await self._client.spend([[request] for _, request in part])
            except StoreUnavailable:
                for tokens, request in due[start:]:
                    tokens.unreported += max(request.owed, 0)
                    self._queue(tokens)
                raise
            for (tokens, _), answer in zip(part, answers, strict=True):
                if isinstance(answer, list):
                    tokens.units += answer[0].units
                    tokens.left = answer[0].left

    def _due(self) -> list[tuple[PrefetchedTokens, BucketRequest]]:
        now = self._steady()
        ceiling = self._most_prefetched()
        due: list[tuple[PrefetchedTokens, BucketRequest]] = []
        queued, self._queued = self._queued, []
        for tokens in queued:
            tokens.queued = False
            tokens.pace *= _FADE
            if tokens.pace < _IDLE:
                kept = self._rested(tokens, now)
                if tokens.units > kept or tokens.unreported:
                    back, tokens.units = tokens.units - kept, kept
                    due.append((tokens, self._request(tokens, now, least=0, most=0, back=back)))
                continue
            self._queue(tokens)
            want = min(int(tokens.pace), ceiling)
            more = want - tokens.units if want > 1 and tokens.units * 3 < want else 0
            if tokens.unreported or (more and now >= tokens.refused_until):
                due.append((tokens, self._request(tokens, now, least=0, most=max(more, 0))))
        due += self._rested_long(now)
        return due

    def _rested(self, tokens: PrefetchedTokens, now: float) -> int:
        """How many units an idle key may keep for a while."""
        kept = min(tokens.units, self._most_resting())
        if not kept or len(self._resting) >= self._resting_most:
            return 0
        self._rest(tokens, now)
        return kept

    def _rest(self, tokens: PrefetchedTokens, now: float) -> None:
        tokens.pace = 0.0  # from here on it tells whether they were used
        self._resting.append((now + REST_S, tokens))

    def _rested_long(self, now: float) -> Iterator[tuple[PrefetchedTokens, BucketRequest]]:
        """What was used meanwhile is filled up and rests again, what was not goes back."""
        while self._resting and self._resting[0][0] <= now:
            _, tokens = self._resting.popleft()
            if tokens.queued or not tokens.units:
                continue
            if tokens.pace:
                self._rest(tokens, now)
                more = max(self._most_resting() - tokens.units, 0)
                yield tokens, self._request(tokens, now, least=0, most=more)
            else:
                back, tokens.units = tokens.units, 0
                yield tokens, self._request(tokens, now, least=0, most=0, back=back)
