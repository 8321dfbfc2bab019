"""Holds the revocations in this worker's memory and knows whether they may still be relied on
(decision 0004).

The order is the law: take a lease, read the stream's end, load SQL, then follow from that end.
A renewal counts only if everything up to the end read in its round trip is applied; the
deadline runs from when it was sent, on a clock that goes on while the machine sleeps.  Past it
the worker is fenced, whatever else works.
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
from gateway.revocation.lease import Lease, valid_for_s
from gateway.revocation.process_id import lease_name
from gateway.revocation.publisher import CONFIRM_TIMEOUT_S, StreamPublisher
from gateway.revocation.revocation_list import RevocationList
from gateway.stores.protocols import ChangeStream, Database, Entry, StoreUnavailable, StreamView

log = structlog.get_logger()

RENEW_EVERY_S = 0.5
RETRY_EVERY_S = 0.1
READ_WAIT_S = 0.7
"""Less than the second within which a connection must have answered."""
MARK_EVERY_S = 0.25
RELAY_EVERY_S = 1.0
RELAY_AFTER_S = 2
"""Whoever wrote a change publishes it at once: only what was left behind is relayed."""
HOUSEKEEPING_EVERY_S = 60.0
LARGEST_CLOCK_JUMP_S = 3600.0

_KEY_KINDS = (ChangeKind.KEY, ChangeKind.KEYS)


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    max_staleness_s: float = 5.0
    max_token_life_s: float = 86_400.0
    confirm_timeout_s: float = CONFIRM_TIMEOUT_S
    workers: int = 1
    """Of this node: so many share what is shared before other workers have been seen."""

    @property
    def keep_s(self) -> float:
        """How long a change is kept: a wall clock set back by an hour makes tokens that much
        older, so twice the longest life alone would not do where that is short."""
        life_s = self.max_token_life_s
        return max(2 * life_s, life_s + 2 * LARGEST_CLOCK_JUMP_S)


async def _no_keys() -> None:
    """For a process that has no signing keys to read."""


class Replica:
    """Meets `authenticator.Revocations` and `protocols.RevocationPublisher`.

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
        self._revocations = RevocationList()
        self.on_change: list[Callable[[Change], None]] = []
        """Called with each change once `refusal` knows it, loading included; they never raise."""
        self._tasks = Tasks()
        self._publisher = StreamPublisher(
            database,
            stream,
            clock,
            max_staleness_s=options.max_staleness_s,
            confirm_timeout_s=options.confirm_timeout_s,
            marks_at_once=False,
            own_leases=self._own_leases,
        )
        self._stopped = False
        self._live_until = -math.inf
        self._confirmed_at = -math.inf
        self._lease: Lease | None = None
        self._replaced: list[str] = []
        """Leases of ours that a newer one replaces, to be withdrawn once that one counts."""
        self._wake = asyncio.Event()
        self._renewed = asyncio.Event()
        self._was_live = False
        self._keys_due = asyncio.Event()
        self._keys_asked = 0
        self._keys_behind: int | None = None
        """The entry up to which the signing keys are surely read; None when all are."""
        self.confirms_nothing: Callable[[], bool] = lambda: False
        """Whether no worker can confirm now that every node has a change (`stream_identity`), or
        another node may need what this one would forget (`app.settings_watch`)."""
        self.live_workers = options.workers
        """Of all nodes, this one included, and never fewer than this node is to have; the last
        known number while Redis is unavailable."""

    def refusal(self, principal: Principal) -> Reason | None:
        """Why a token whose signature was good must not pass; asked on every request."""
        if self._steady() >= self._live_until:
            return Reason.REPLICA_STALE
        return self._revocations.refusal(principal)

    def refuses_key(self, kid: str) -> bool:
        """Whether this worker refuses what the key has signed."""
        return self._revocations.refuses_key(kid)

    def is_live(self) -> bool:
        """Whether calls with a credential may be judged now."""
        return self._steady() < self._live_until

    @property
    def staleness_s(self) -> float:
        """Seconds since the last renewal that counted was sent; infinite before the first."""
        return max(self._steady() - self._confirmed_at, 0.0)

    def __len__(self) -> int:
        """How many revocations are held."""
        return len(self._revocations)

    async def publish(self, changes: Sequence[Change]) -> bool:
        """As `protocols.RevocationPublisher`; this worker applies them at once, whatever else
        fails."""
        for change in changes:
            self._apply(change)
            if change.kind in _KEY_KINDS:
                self._keys_asked += 1
                self._keys_due.set()
        if self.confirms_nothing():
            # Not marked in SQL: a worker that follows the other stream relays it there.
            with suppress(StoreUnavailable):
                await self._stream.append(changes)
            return False
        return await self._publisher.publish(changes)

    @property
    def incarnation(self) -> str:
        """Of the stream that this worker follows; empty while it follows none."""
        return self._lease.incarnation if self._lease else ""

    def start(self) -> None:
        """Begins to follow the stream; an unavailable store raises nothing."""
        self._tasks.start("revocations-lease", self._keep_lease)
        self._tasks.start("revocations-read", self._follow)
        self._tasks.start("revocations-keys", self._refresh_keys)
        self._tasks.every("revocations-marks", MARK_EVERY_S, self._publisher.mark)
        self._tasks.every("revocations-relay", RELAY_EVERY_S, self._relay)
        self._tasks.start("revocations-housekeeping", self._prune)

    async def stop(self) -> None:
        """Fences this worker and withdraws its lease, so that nobody waits for it."""
        self._stopped = True
        self._live_until = -math.inf
        await self._tasks.stop()
        names, self._lease, self._replaced = self._own_leases(), None, []
        try:
            for name in names:
                await self._stream.withdraw(name)
        except StoreUnavailable:
            # The others see that it is not renewed.
            log.info("lease-not-released", leases=names)

    def _own_leases(self) -> list[str]:
        return [*self._replaced, *([self._lease.name] if self._lease else [])]

    def _apply(self, change: Change, keep_s: float | None = None) -> None:
        keep_s = self._options.keep_s if keep_s is None else keep_s
        self._revocations.apply(change, self._steady() + keep_s)
        for notify in self.on_change:
            notify(change)

    # The lease.

    async def _keep_lease(self) -> None:
        while True:
            try:
                lease = await self._begin()
                await self._renew(lease)
                log.info("revocations-unconfirmed", lease=lease.name)
            except StoreUnavailable:
                self._log_liveness()
                await asyncio.sleep(RETRY_EVERY_S)

    async def _begin(self) -> Lease:
        """Takes a new lease, then loads all that SQL knows; an older lease goes on meanwhile."""
        name = lease_name()
        lease = Lease(name, await self._stream.register(name))
        if self._lease:
            self._replaced.append(self._lease.name)
        self._lease = lease
        loading = asyncio.create_task(self._load(lease.incarnation))
        try:
            while not (await asyncio.wait({loading}, timeout=RENEW_EVERY_S))[0]:
                if await self._stream.renew(name, lease.next_heartbeat(), -1, -1) is None:
                    raise StoreUnavailable("redis", "the lease was lost while loading")
            await loading
        finally:
            loading.cancel()
            await asyncio.wait({loading})
        self._schedule_keys(-1)
        return lease

    async def _load(self, incarnation: str) -> None:
        await self._publisher.saved_or_first(incarnation)
        async for change, keep_s in revocations.every(self._database, self._options.keep_s):
            self._apply(change, keep_s)

    async def _renew(self, lease: Lease) -> None:
        """Renews the lease until it is lost, or the stream is not the one that it began with."""
        while True:
            sent_at, position = self._steady(), lease.position
            keys = position if self._keys_behind is None else min(self._keys_behind, position)
            self._wake.clear()
            try:
                view = await self._stream.renew(lease.name, lease.next_heartbeat(), position, keys)
            except StoreUnavailable:
                self._log_liveness()
                await asyncio.sleep(RETRY_EVERY_S)
                continue
            if view is None or not lease.follows(position, view):
                return
            self._apply_new(lease, view.entries)
            self._renewed.set()
            if lease.confirms(position, view):
                await self._confirm(sent_at, view)
            self._log_liveness()
            if lease.position == position:
                await self._pause()

    async def _confirm(self, sent_at: float, view: StreamView) -> None:
        if self._stopped:
            # A renewal that was answered while we stop must not lift the fence again.
            return
        self._confirmed_at = sent_at
        self._live_until = sent_at + valid_for_s(self._options.max_staleness_s)
        live = sum(state.position >= 0 for state in view.leases.values())
        self.live_workers = max(self._options.workers, live)
        with suppress(StoreUnavailable):
            await self._publisher.observe(view)
            while self._replaced:
                await self._stream.withdraw(self._replaced[-1])
                self._replaced.pop()

    async def _pause(self) -> None:
        """Waits until the next renewal is due, or there are changes to confirm or to read."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEW_EVERY_S):
                await self._wake.wait()

    def _log_liveness(self) -> None:
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

    def _apply_new(self, lease: Lease, entries: Sequence[Entry]) -> None:
        for number, change in lease.unapplied(entries):
            self._apply(change)
            lease.position = number
            if change.kind in _KEY_KINDS:
                self._schedule_keys(number - 1)

    async def _follow(self) -> None:
        """Applies new entries as they come, and has the lease renewed at once.

        It only makes haste: the renewal judges what this does not see or cannot apply.
        """
        while True:
            lease = self._lease
            if lease is None or not self._was_live:
                await asyncio.sleep(RETRY_EVERY_S)
                continue
            entries = await self._stream.read_new(lease.position, READ_WAIT_S)
            if not entries:
                continue
            self._renewed.clear()
            if lease is self._lease and lease.continues(entries):
                self._apply_new(lease, entries)
            self._wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(READ_WAIT_S):
                    await self._renewed.wait()

    # Keys, relay, housekeeping.

    def _schedule_keys(self, behind: int) -> None:
        self._keys_behind = behind if self._keys_behind is None else min(self._keys_behind, behind)
        self._keys_asked += 1
        self._keys_due.set()

    async def _refresh_keys(self) -> None:
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
            await self._publisher.save_followed()
        relayed = await self._publisher.relay(RELAY_AFTER_S)
        if relayed:
            log.info("revocations-relayed", changes=relayed)

    async def _prune(self) -> None:
        while True:
            # Not at once: by then it is known whether another node keeps them for longer.
            await asyncio.sleep(HOUSEKEEPING_EVERY_S)
            self._revocations.expire(self._steady())
            if self.confirms_nothing():
                continue
            await self._stream.trim(self._options.keep_s)
            while await revocations.prune(self._database, self._options.keep_s):
                pass
