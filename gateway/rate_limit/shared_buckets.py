"""Buckets that all workers share, spent from leases (decision 0005).

A lease is units that this worker has already taken from the shared bucket: spending them
asks nobody, and since they were paid for in advance, all workers together never pass the
limit, however late they hear of each other.  What a worker no longer needs goes back within
a second.  How many units are taken ahead follows the key's own pace, and is never more than
burst / N, nor more than an Nth of what is left: the last units of a bucket are not locked up
by workers that do not need them.

While Redis is away nothing is asked: a worker spends its share, rate / N and burst / N, and
reports that when there is somebody to report it to.  A worker that merely sees nobody else asks
all the same: another may have started a moment ago, and would not hear of what was spent here.
Only who is the installation's one worker by its settings (`Office.alone`) never asks.

A call waits for the shared bucket for `PATIENCE_S` and no longer: a server that hangs must not
hold up routes that need nothing of it but a count.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.access.definitions import Limit, Scope
from gateway.model import Clock
from gateway.rate_limit.recent_keys import RecentKeys
from gateway.stores.protocols import Counters, Grant, Spend, StoreBusy, StoreUnavailable

Answer = asyncio.Future[list[Grant] | float]

SYNC_S = 0.1
PATIENCE_S = 0.04
"""Longer than a server that is there takes, shorter than a caller notices."""
_STALL_S = 0.01
_FADE = 0.9  # of the pace, each sync: a pace remembers about one second
_IDLE = 0.5  # a pace below this is a key that nobody uses any more
_SPENDS_A_ROUND_TRIP = 500


class Lease:
    """What this worker holds of one key."""

    __slots__ = (
        "full_at",
        "held",
        "key",
        "left",
        "pace",
        "refused_until",
        "sharers",
        "unasked",
        "units",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.units = 0
        self.pace = 0.0
        """Units spent in about the last second."""
        self.left = 0
        """Units in the shared bucket, when it last answered."""
        self.refused_until = 0.0
        self.full_at = 0.0
        """Of this worker's own share, by the steady clock: the bucket for when it is alone."""
        self.sharers = 1
        """How many workers the share was for, when it was last spent from."""
        self.unasked = 0
        """Units spent of the share, not yet reported."""
        self.held = False
        """Whether the next sync looks at this lease."""


class StillAsked(StoreUnavailable):
    """No answer yet; `late` will have it, or fail with StoreUnavailable."""

    def __init__(self, late: Answer) -> None:
        super().__init__("redis", "the shared limits take too long")
        self.late = late


@dataclass(slots=True)
class _Question:
    group: Sequence[Spend]
    answer: Answer


class Office:
    """Asks the shared buckets: one round trip for all that a loop turn wants to know."""

    def __init__(self, counters: Counters | None) -> None:
        self._counters = counters
        self._waiting: list[_Question] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.alone = False
        """Whether no other worker can ever count in these buckets."""
        self.workers = 1
        """Live workers of all nodes, this one included; the last known while Redis is away."""
        self.away = counters is None

    def ask(self, group: Sequence[Spend]) -> Answer:
        """Grants for each, or the seconds to wait; fails with StoreUnavailable, and with
        StillAsked after `PATIENCE_S`."""
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        self._waiting.append(_Question(group, answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        return answer

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._spend(batch))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        due_at = loop.time() + PATIENCE_S
        loop.call_at(due_at, self._hurry, batch, task, due_at)

    async def _spend(self, batch: Sequence[_Question]) -> None:
        try:
            answers = await self.spend([question.group for question in batch])
        except StoreUnavailable as error:
            for question in batch:
                if not question.answer.done():
                    question.answer.set_exception(error)
            return
        for question, answered in zip(batch, answers, strict=True):
            if not question.answer.done():
                question.answer.set_result(answered)

    def _hurry(self, batch: Sequence[_Question], task: asyncio.Task[None], due_at: float) -> None:
        if task.done():
            return
        loop = asyncio.get_running_loop()
        if due_at and loop.time() - due_at > _STALL_S:
            # It was this worker that stood still: the answer may be here, and not yet read.
            loop.call_later(PATIENCE_S / 2, self._hurry, batch, task, 0.0)
            return
        self.away = True
        for question in batch:
            if not question.answer.done():
                waiting, question.answer = question.answer, loop.create_future()
                waiting.set_exception(StillAsked(question.answer))

    async def spend(self, groups: Sequence[Sequence[Spend]]) -> list[list[Grant] | float]:
        """Asks at once; notes whether Redis is there."""
        if self._counters is None:
            raise StoreUnavailable("redis", "no shared limits")
        try:
            answers = await self._counters.spend(groups, self.workers)
        except StoreBusy:
            raise  # it was not asked: it may well be there
        except StoreUnavailable:
            self.away = True
            raise
        self.away = False
        return answers


class SharedCounts:
    """The keys of one `leased` or `shared` limit."""

    def __init__(self, limit: Limit, office: Office, clock: Clock, *, capacity: int) -> None:
        # Buckets of the same name are one in Redis, but for limits that count each route alone.
        self._prefix = f"{limit.name}/{limit.route_id}:" if limit.route_id else f"{limit.name}:"
        self._interval_s = 1 / limit.per_s
        self._burst = limit.burst
        self._leased = limit.scope is Scope.LEASED
        self._office = office
        self._steady = clock.steady
        self._keys: RecentKeys[Lease] = RecentKeys(capacity, limit.burst / limit.per_s)
        self._held: list[Lease] = []
        self._share = (0, 0.0, 0.0)
        """Of a worker on its own: of how many it is one, its interval, and its slack."""

    def take(self, key: str, now: float) -> float | None:
        """Units left after this one; below 0, the seconds to wait; None: it must `ask`."""
        lease = self._keys.young.get(key) or self._lease(key, now)
        if lease.units:
            lease.units -= 1
            lease.pace += 1
            return lease.units + lease.left
        if self._office.away or (self._leased and self._office.alone):
            return self._take_share(lease, now)
        if self._leased and now < lease.refused_until:
            return now - lease.refused_until
        return None

    def wanted(self, key: str, now: float) -> Spend:
        """What to ask the shared bucket for, when `take` could not tell."""
        lease = self._lease(key, now)
        lease.pace += 1
        ahead = min(int(lease.pace) - 1, self._ahead())
        return self._spend(lease, now, least=1, most=1 + max(ahead, 0))

    def granted(self, key: str, now: float, grant: Grant) -> int:
        """Keeps what was taken ahead; how many units are left after the one asked for."""
        lease = self._lease(key, now)
        lease.left = grant.left
        lease.units += grant.units - 1
        self._hold(lease)
        self._learn(lease, now + (self._burst - grant.left) * self._interval_s)
        return lease.units + lease.left

    def refused(self, key: str, now: float, wait_s: float) -> None:
        lease = self._lease(key, now)
        lease.refused_until = now + wait_s
        self._learn(lease, lease.refused_until + (self._burst - 1) * self._interval_s)

    def _learn(self, lease: Lease, full_at: float) -> None:
        """The shared bucket is full at that moment.  A worker's share of it, of which all
        numbers are an Nth, is no sooner: who has just spent everything does not get the shares
        as well when Redis then goes away."""
        if full_at > lease.full_at:
            lease.full_at = full_at

    def unsent(self, key: str, now: float, spend: Spend) -> None:
        """What was asked did not arrive, as far as is known: what it reported is still owed."""
        self._lease(key, now).unasked += max(spend.owed, 0)

    def give_back(self, key: str, now: float) -> None:
        """A unit was taken for a call that another limit then refused."""
        lease = self._lease(key, now)
        lease.units += 1
        self._hold(lease)

    def take_share(self, key: str, now: float) -> float:
        """As `take`, while the shared bucket cannot be asked."""
        return self._take_share(self._lease(key, now), now)

    def _take_share(self, lease: Lease, now: float) -> float:
        workers = self._office.workers
        if workers != self._share[0]:
            interval_s = self._interval_s * workers
            self._share = (workers, interval_s, (max(self._burst // workers, 1) - 1) * interval_s)
        _, interval_s, slack_s = self._share
        backlog_s = lease.full_at - now
        if backlog_s > slack_s + 1e-9:
            return slack_s - backlog_s
        if backlog_s < 0.0:
            backlog_s = 0.0
        lease.full_at = now + backlog_s + interval_s
        lease.sharers = workers
        lease.unasked += 1
        if not self._office.alone:
            self._hold(lease)
        return int((slack_s - backlog_s) / interval_s + 1e-6)

    def _ahead(self) -> int:
        """Units that may be held unspent; none of a small burst, which is `shared` of itself."""
        workers = self._office.workers
        if not self._leased or self._burst < 4 * workers:
            return 0
        return self._burst // workers

    def _spend(self, lease: Lease, now: float, *, least: int, most: int, back: int = 0) -> Spend:
        # What has come back meanwhile is owed no more.
        unpaid = math.ceil(max(lease.full_at - now, 0.0) / (self._interval_s * lease.sharers))
        owed = min(lease.unasked, unpaid)
        lease.unasked = 0
        return Spend(
            f"{self._prefix}{lease.key}", self._interval_s, self._burst, least, most, owed - back
        )

    def _lease(self, key: str, now: float) -> Lease:
        lease = self._keys.recall(key, now)
        if lease is None:
            lease = Lease(key)
            self._keys.young[key] = lease
        return lease

    def _hold(self, lease: Lease) -> None:
        if not lease.held:
            lease.held = True
            self._held.append(lease)

    async def sync(self) -> None:
        """Tops up the leases that are used, gives back the others, reports what is owed."""
        asked = self._due()
        for start in range(0, len(asked), _SPENDS_A_ROUND_TRIP):
            part = asked[start : start + _SPENDS_A_ROUND_TRIP]
            try:
                answers = await self._office.spend([[spend] for _, spend in part])
            except StoreUnavailable:
                for lease, spend in asked[start:]:
                    lease.unasked += max(spend.owed, 0)
                    self._hold(lease)
                raise
            for (lease, _), answer in zip(part, answers, strict=True):
                if isinstance(answer, list):
                    lease.units += answer[0].units
                    lease.left = answer[0].left

    def _due(self) -> list[tuple[Lease, Spend]]:
        now = self._steady()
        ceiling = self._ahead()
        due: list[tuple[Lease, Spend]] = []
        held, self._held = self._held, []
        for lease in held:
            lease.held = False
            lease.pace *= _FADE
            if lease.pace < _IDLE:
                if lease.units or lease.unasked:
                    back, lease.units = lease.units, 0
                    due.append((lease, self._spend(lease, now, least=0, most=0, back=back)))
                continue
            self._hold(lease)
            want = min(int(lease.pace), ceiling)
            more = want - lease.units if want > 1 and lease.units * 3 < want else 0
            if lease.unasked or (more and now >= lease.refused_until):
                due.append((lease, self._spend(lease, now, least=0, most=max(more, 0))))
        return due
