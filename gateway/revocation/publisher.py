"""Publishes committed changes to every live worker, and says whether all of them have them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

from gateway.identity import revocations
from gateway.model import Change, Clock
from gateway.revocation.lease import LeaseMonitor, PendingConfirmation
from gateway.revocation.process_id import LocalProcesses
from gateway.stores.protocols import (
    INCARNATION,
    ChangeStream,
    Database,
    StoreUnavailable,
    StreamView,
)

CONFIRM_TIMEOUT_S = 1.5
_PAUSE_S = 0.001
_LONG_PAUSE_S = 0.01
_LONG_AFTER_S = 0.05
_CONFIRMED_MAX = 10_000


class StreamPublisher:
    """Meets `protocols.RevocationPublisher` by the stream that every worker follows.

    A worker has one beside its replica; a command of the shell uses one alone and waits longer,
    since it has watched nobody's lease before.
    """

    def __init__(
        self,
        database: Database,
        stream: ChangeStream,
        clock: Clock,
        *,
        max_staleness_s: float,
        confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
        marks_at_once: bool = True,
        own_leases: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._database = database
        self._stream = stream
        self._confirm_timeout_s = confirm_timeout_s
        self._marks_at_once = marks_at_once
        self._own_leases = own_leases
        self._monitor = LeaseMonitor(clock.steady, max_staleness_s, LocalProcesses().is_surely_dead)
        self._unmarked: dict[str, int] = {}
        self._confirmed: OrderedDict[str, None] = OrderedDict()
        """The ids of changes that every live worker had, as this process has seen."""
        self._next_view: asyncio.Task[StreamView] | None = None
        self._outlasting = ""
        """The incarnation that every lease of an older one has expired before."""
        self._saved = ""
        """The incarnation that this process has seen or saved in SQL."""

    async def publish(self, changes: Sequence[Change]) -> bool:
        # Whoever repeats a request must not fill the stream.  What every live worker once had
        # it still has, and a later worker has read it in SQL.
        changes = [c for c in changes if not c.confirmed and c.id not in self._confirmed]
        if not changes:
            return True
        try:
            async with asyncio.timeout(self._confirm_timeout_s):
                view = await self.append(changes)
                if self._marks_at_once:
                    await self.mark()
                pending = PendingConfirmation(view, changes, self._own_leases())
                if not await self._confirmed_everywhere(view, pending):
                    return False
                self._mark_confirmed(changes)
                if self._marks_at_once:
                    await self.mark()
        except (StoreUnavailable, TimeoutError):
            return False
        return True

    async def append(self, changes: Sequence[Change]) -> StreamView:
        """Appends them to the stream and waits for nobody; `mark` then records that in SQL."""
        view = await self._stream.append(changes)
        for change in changes:
            self._unmarked.setdefault(change.id, revocations.PUBLISHED)
        return view

    def _mark_confirmed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._unmarked[change.id] = revocations.CONFIRMED
            self._confirmed[change.id] = None
        while len(self._confirmed) > _CONFIRMED_MAX:
            self._confirmed.popitem(last=False)

    async def mark(self) -> None:
        """Marks the rows of what was appended or confirmed.  A change whose mark is lost with its
        process is appended once more by the relay of another, which changes nothing."""
        marks, self._unmarked = self._unmarked, {}
        if not marks:
            return
        try:
            await revocations.mark_published(self._database, marks)
        except BaseException:
            self._unmarked = {**marks, **self._unmarked}
            raise

    async def relay(self, older_than_s: int) -> int:
        """Appends the changes that nobody has appended yet; returns how many they were."""
        await self.mark()
        changes = await revocations.unpublished(self._database, older_than_s)
        if changes:
            await self.append(changes)
            await self.mark()
        return len(changes)

    async def observe(self, view: StreamView) -> None:
        """Takes in a view of the stream and removes the leases that have expired."""
        expired = self._monitor.observe(view)
        if view.incarnation != self._outlasting:
            self._outlasting = ""
        for name, heartbeat in expired:
            await self._stream.forget(name, heartbeat)

    async def _confirmed_everywhere(self, view: StreamView, pending: PendingConfirmation) -> bool:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        while True:
            await self.observe(view)
            if pending.lost(view):
                return False
            if pending.complete(view) and await self.outlasted(view.incarnation):
                return True
            long = loop.time() - began_at > _LONG_AFTER_S
            view = await self._view_after(_LONG_PAUSE_S if long else _PAUSE_S)

    async def _view_after(self, pause_s: float) -> StreamView:
        """A view that begins after this call; those who wait at the same time share it.

        An older one would not do: a lease that it does not show may be younger than it.
        """
        if self._next_view is None:
            self._next_view = asyncio.create_task(self._view_soon(pause_s))
            self._next_view.add_done_callback(_retrieve)
        return await asyncio.shield(self._next_view)

    async def _view_soon(self, pause_s: float) -> StreamView:
        await asyncio.sleep(pause_s)
        self._next_view = None
        return await self._stream.view()

    async def outlasted(self, incarnation: str) -> bool:
        """Whether every lease that this incarnation does not know of has expired.

        A server that was emptied, rewound or replaced by a replica may have forgotten leases
        that are valid for some seconds yet.  SQL keeps the last incarnation that somebody has
        watched for as long as a lease lasts; where SQL knows of none, this is the first, since
        every worker saves one before it goes live.
        """
        if incarnation == self._outlasting:
            return True
        if self._monitor.outlasted(incarnation):
            await self._save(incarnation)
            self._outlasting = incarnation
        elif not self._monitor.saw_change and await self.saved_or_first(incarnation) == incarnation:
            self._outlasting = incarnation
        return incarnation == self._outlasting

    async def save_followed(self) -> None:
        """Saves in SQL the incarnation that is followed here, once every lease of an older one
        has expired: by it a command of the shell knows whether it has come to the same server."""
        incarnation = self._monitor.incarnation
        saved = await self.saved_incarnation()
        if saved == incarnation:
            self._saved = incarnation
        elif self._monitor.outlasted(incarnation) and (not saved or incarnation != self._saved):
            # Not again for the same one: a node on another server would write its own each time.
            await self._save(incarnation)
            self._saved = incarnation

    async def saved_incarnation(self) -> str | None:
        """The incarnation that SQL keeps; None before any worker was live, and empty after a
        restore."""
        async with self._database.read_transaction() as tx:
            row = await tx.one(
                "SELECT value FROM installation WHERE name = :name", name=INCARNATION
            )
        return None if row is None else str(row["value"])

    async def saved_or_first(self, incarnation: str) -> str:
        """The incarnation that SQL keeps; saves this one where it keeps none."""
        saved = await self.saved_incarnation()
        if saved is not None:
            return saved
        async with self._database.transaction() as tx:
            await tx.run(
                "INSERT INTO installation (name, value) VALUES (:name, :value)"
                " ON CONFLICT (name) DO NOTHING",
                name=INCARNATION,
                value=incarnation,
            )
        return await self.saved_or_first(incarnation)

    async def _save(self, incarnation: str) -> None:
        async with self._database.transaction() as tx:
            await tx.run(
                "INSERT INTO installation (name, value) VALUES (:name, :value)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                name=INCARNATION,
                value=incarnation,
            )


def _retrieve(task: asyncio.Task[StreamView]) -> None:
    """Retrieves the exception of a task whose waiters may all have given up."""
    if not task.cancelled():
        task.exception()
