"""What this worker knows of revocations, and whether it may still believe it (decision 0004).

The order is the law: lease, then the stream's end, then load SQL, then follow from that
end.  A renewal counts only if everything up to the end read in its round trip is applied;
the deadline runs from when it was sent, on a clock that goes on while the machine sleeps.
Past it the worker is fenced, whatever else works.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from gateway.background_tasks import Tasks
from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Clock, Principal, Reason
from gateway.revocation.lease import Tenure, good_for_s
from gateway.revocation.process_id import lease_name
from gateway.revocation.publisher import CONFIRM_WITHIN_S, Announcements
from gateway.revocation.revocation_list import Revoked
from gateway.stores.protocols import ChangeStream, Database, StoreUnavailable, View

log = structlog.get_logger()

RENEW_EVERY_S = 0.5
RETRY_EVERY_S = 0.1
NEWS_WAIT_S = 0.7
"""Less than the second within which a connection must have answered."""
MARK_EVERY_S = 0.25
RELAY_EVERY_S = 1.0
RELAY_AFTER_S = 2
"""Whoever wrote a change announces it at once: only what was left behind is relayed."""
HOUSEKEEPING_EVERY_S = 60.0
LARGEST_CLOCK_JUMP_S = 3600.0


_KEY_KINDS = (ChangeKind.KEY, ChangeKind.KEYS)


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    max_staleness_s: float = 5.0
    max_token_life_s: float = 86_400.0
    confirm_within_s: float = CONFIRM_WITHIN_S
    workers: int = 1
    """That this node is to have: so many share what is shared before anybody has been seen."""

    @property
    def keep_s(self) -> float:
        """How long a change is kept: a wall clock set back by an hour makes tokens that much
        older, so twice the longest life alone would not do where that is short."""
        life_s = self.max_token_life_s
        return max(2 * life_s, life_s + 2 * LARGEST_CLOCK_JUMP_S)


async def _no_keys() -> None:
    """For who has no signing keys to read."""


class Replica:
    """Meets `verified.Revocations` and `protocols.Announcer`.

    `keys_changed` reads the signing keys again; until it has returned, this worker does not
    confirm the change of keys that called for it.
    """

    def __init__(
        self,
        database: Database,
        stream: ChangeStream,
        clock: Clock,
        options: ReplicaOptions,
        *,
        keys_changed: Callable[[], Awaitable[None]] = _no_keys,
    ) -> None:
        self._database = database
        self._stream = stream
        self._steady = clock.steady
        self._options = options
        self._read_keys = keys_changed
        self._revoked = Revoked()
        self.on_change: list[Callable[[Change], None]] = []
        """Told of each change once `refusal` knows it, loading included; they must not raise."""
        self._tasks = Tasks()
        self._announcements = Announcements(
            database,
            stream,
            clock,
            max_staleness_s=options.max_staleness_s,
            confirm_within_s=options.confirm_within_s,
            marks_at_once=False,
            own_leases=self._own_leases,
        )
        self._stopped = False
        self._live_until = -math.inf
        self._confirmed_at = -math.inf
        self._tenure: Tenure | None = None
        self._given_up: list[str] = []
        """Leases of ours that a newer one replaces, to be withdrawn once that holds."""
        self._wake = asyncio.Event()
        self._renewed = asyncio.Event()
        self._was_live = False
        self._keys_due = asyncio.Event()
        self._keys_asked = 0
        self._keys_behind: int | None = None
        """The entry up to which the signing keys are surely read; None when all are."""
        self.confirms_nothing: Callable[[], bool] = lambda: False
        """Whether nobody can say now that every node has a change (see `one_stream`)."""
        self.live_workers = options.workers
        """Of all nodes, this one included, and never fewer than this node is to have; the last
        known while Redis is away."""

    def refusal(self, principal: Principal) -> Reason | None:
        """Why a token whose signature was good must not pass; asked on every request."""
        if self._steady() >= self._live_until:
            return Reason.REPLICA_STALE
        return self._revoked.refusal(principal)

    def refuses_key(self, kid: str) -> bool:
        """Whether this worker refuses what the key has signed."""
        return self._revoked.refuses_key(kid)

    def is_live(self) -> bool:
        """Whether calls with a credential may be judged now."""
        return self._steady() < self._live_until

    @property
    def staleness_s(self) -> float:
        """Seconds since the last renewal that counted was sent; infinite before the first."""
        return max(self._steady() - self._confirmed_at, 0.0)

    def __len__(self) -> int:
        """How many revocations are held."""
        return len(self._revoked)

    async def announce(self, changes: Sequence[Change]) -> bool:
        """As `protocols.Announcer`; this worker knows them at once, whatever else fails."""
        for change in changes:
            self._apply(change)
            if change.kind in _KEY_KINDS:
                self._keys_asked += 1
                self._keys_due.set()
        if self.confirms_nothing():
            # Not marked in SQL: whoever follows the other stream relays it there.
            with suppress(StoreUnavailable):
                await self._stream.append(changes)
            return False
        return await self._announcements.announce(changes)

    @property
    def incarnation(self) -> str:
        """Of the stream that this worker follows; empty while it follows none."""
        return self._tenure.incarnation if self._tenure else ""

    def start(self) -> None:
        """Begins to follow; never raises for want of a store."""
        self._tasks.start("revocations-lease", self._keep_lease)
        self._tasks.start("revocations-news", self._listen)
        self._tasks.start("revocations-keys", self._keep_keys)
        self._tasks.every("revocations-marks", MARK_EVERY_S, self._announcements.mark)
        self._tasks.every("revocations-relay", RELAY_EVERY_S, self._relay)
        self._tasks.every("revocations-housekeeping", HOUSEKEEPING_EVERY_S, self._tidy)

    async def stop(self) -> None:
        """Fences this worker and gives its lease up, so that nobody waits for it."""
        self._stopped = True
        self._live_until = -math.inf
        await self._tasks.stop()
        names, self._tenure, self._given_up = self._own_leases(), None, []
        try:
            for name in names:
                await self._stream.withdraw(name)
        except StoreUnavailable:
            # Others will see that it is not renewed.
            log.info("lease-not-released", leases=names)

    def _own_leases(self) -> list[str]:
        return [*self._given_up, *([self._tenure.name] if self._tenure else [])]

    def _apply(self, change: Change, keep_s: float | None = None) -> None:
        keep_s = self._options.keep_s if keep_s is None else keep_s
        self._revoked.apply(change, self._steady() + keep_s)
        for told in self.on_change:
            told(change)

    # The lease.

    async def _keep_lease(self) -> None:
        while True:
            try:
                tenure = await self._begin()
                await self._renew(tenure)
                log.info("revocations-unconfirmed", lease=tenure.name)
            except StoreUnavailable:
                self._tell_standing()
                await asyncio.sleep(RETRY_EVERY_S)

    async def _begin(self) -> Tenure:
        """A new lease, and then all that SQL knows; an older lease goes on meanwhile."""
        name = lease_name()
        tenure = Tenure(name, await self._stream.register(name))
        if self._tenure:
            self._given_up.append(self._tenure.name)
        self._tenure = tenure
        loading = asyncio.create_task(self._load(tenure.incarnation))
        try:
            while not (await asyncio.wait({loading}, timeout=RENEW_EVERY_S))[0]:
                if await self._stream.renew(name, tenure.next_beat(), -1, -1) is None:
                    raise StoreUnavailable("redis", "the lease was lost while loading")
            await loading
        finally:
            loading.cancel()
            await asyncio.wait({loading})
        self._want_keys(-1)
        return tenure

    async def _load(self, incarnation: str) -> None:
        await self._announcements.kept(incarnation)
        async for change, keep_s in revocations.every(self._database, self._options.keep_s):
            self._apply(change, keep_s)

    async def _renew(self, tenure: Tenure) -> None:
        """Renews until the lease is lost, or the stream is not the one that it began with."""
        while True:
            sent_at, position = self._steady(), tenure.position
            keys = position if self._keys_behind is None else min(self._keys_behind, position)
            self._wake.clear()
            try:
                view = await self._stream.renew(tenure.name, tenure.next_beat(), position, keys)
            except StoreUnavailable:
                self._tell_standing()
                await asyncio.sleep(RETRY_EVERY_S)
                continue
            if view is None or not tenure.follows(position, view):
                return
            self._take(tenure, view.entries)
            self._renewed.set()
            if tenure.counts(position, view):
                await self._confirm(sent_at, view)
            self._tell_standing()
            if tenure.position == position:
                await self._pause()

    async def _confirm(self, sent_at: float, view: View) -> None:
        if self._stopped:
            # A renewal that was answered while we stop must not lift the fence again.
            return
        self._confirmed_at = sent_at
        self._live_until = sent_at + good_for_s(self._options.max_staleness_s)
        live = sum(held.position >= 0 for held in view.leases.values())
        self.live_workers = max(self._options.workers, live)
        with suppress(StoreUnavailable):
            await self._announcements.see(view)
            while self._given_up:
                await self._stream.withdraw(self._given_up[-1])
                self._given_up.pop()

    async def _pause(self) -> None:
        """Until the next renewal is due, or there is something to tell or to learn."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEW_EVERY_S):
                await self._wake.wait()

    def _tell_standing(self) -> None:
        if self.is_live() == self._was_live:
            return
        self._was_live = not self._was_live
        if self._was_live:
            log.info("revocations-live", held=len(self))
        else:
            log.error(
                "revocations-stale",
                staleness_s=round(self.staleness_s, 1),
                effect="calls with a credential are refused (503 replica_stale)",
            )

    def _take(self, tenure: Tenure, entries: Sequence[tuple[int, Change | None]]) -> None:
        for number, change in tenure.news(entries):
            self._apply(change)
            tenure.position = number
            if change.kind in _KEY_KINDS:
                self._want_keys(number - 1)

    async def _listen(self) -> None:
        """Applies what the stream has new, and has it told at once by the lease's renewal.

        It only makes haste: what it does not see or cannot take, the renewal judges.
        """
        while True:
            tenure = self._tenure
            if tenure is None or not self._was_live:
                await asyncio.sleep(RETRY_EVERY_S)
                continue
            entries = await self._stream.news(tenure.position, NEWS_WAIT_S)
            if not entries:
                continue
            self._renewed.clear()
            if tenure is self._tenure and tenure.continues(entries):
                self._take(tenure, entries)
            self._wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(NEWS_WAIT_S):
                    await self._renewed.wait()

    # Keys, relay, housekeeping.

    def _want_keys(self, behind: int) -> None:
        self._keys_behind = behind if self._keys_behind is None else min(self._keys_behind, behind)
        self._keys_asked += 1
        self._keys_due.set()

    async def _keep_keys(self) -> None:
        while True:
            await self._keys_due.wait()
            asked = self._keys_asked
            await self._read_keys()
            if asked == self._keys_asked:
                self._keys_due.clear()
                self._keys_behind = None
                self._wake.set()

    async def _relay(self) -> None:
        if self.is_live():
            await self._announcements.settle()
        relayed = await self._announcements.relay(RELAY_AFTER_S)
        if relayed:
            log.info("revocations-relayed", changes=relayed)

    async def _tidy(self) -> None:
        self._revoked.expire(self._steady())
        await self._stream.trim(self._options.keep_s)
        while await revocations.prune(self._database, self._options.keep_s):
            pass
