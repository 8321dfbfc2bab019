"""Carries committed changes to every live worker, and says whether all of them have it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

from gateway.identity import revocations
from gateway.model import Change, Clock
from gateway.revocation.lease import Confirmation, Watch
from gateway.revocation.process_id import is_surely_dead
from gateway.stores.protocols import (
    INCARNATION,
    ChangeStream,
    Database,
    StoreUnavailable,
    View,
)

CONFIRM_WITHIN_S = 1.5
_PAUSE_S = 0.001
_LONG_PAUSE_S = 0.01
_LONG_AFTER_S = 0.05
_CONFIRMED_MAX = 10_000


class Announcements:
    """Meets `protocols.Announcer`.

    A worker has one beside its replica; a command of the shell uses one alone, with more
    patience: it has watched nobody's lease before.
    """

    def __init__(
        self,
        database: Database,
        stream: ChangeStream,
        clock: Clock,
        *,
        max_staleness_s: float,
        confirm_within_s: float = CONFIRM_WITHIN_S,
        marks_at_once: bool = True,
        own_leases: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._database = database
        self._stream = stream
        self._confirm_within_s = confirm_within_s
        self._marks_at_once = marks_at_once
        self._own_leases = own_leases
        self._watch = Watch(clock.steady, max_staleness_s, is_surely_dead)
        self._unmarked: dict[str, int] = {}
        self._confirmed: OrderedDict[str, None] = OrderedDict()
        """The ids of what every live worker had, as this process has seen."""
        self._next_view: asyncio.Task[View] | None = None
        self._known = ""
        """The incarnation which no lease of an older one can outlive."""
        self._settled = ""
        """The incarnation that this process has seen to it that SQL keeps."""

    async def announce(self, changes: Sequence[Change]) -> bool:
        # Who asks for the same again and again must not fill the stream.  What every live
        # worker once had it still has, and a later one has read it in SQL.
        changes = [c for c in changes if not c.confirmed and c.id not in self._confirmed]
        if not changes:
            return True
        try:
            async with asyncio.timeout(self._confirm_within_s):
                view = await self.append(changes)
                if self._marks_at_once:
                    await self.mark()
                confirmation = Confirmation(view, changes, self._own_leases())
                if not await self._holds_everywhere(view, confirmation):
                    return False
                self._note(changes)
                if self._marks_at_once:
                    await self.mark()
        except (StoreUnavailable, TimeoutError):
            return False
        return True

    async def append(self, changes: Sequence[Change]) -> View:
        """Puts them on the stream, without waiting for anybody; `mark` then tells SQL."""
        view = await self._stream.append(changes)
        for change in changes:
            self._unmarked.setdefault(change.id, revocations.PUBLISHED)
        return view

    def _note(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._unmarked[change.id] = revocations.CONFIRMED
            self._confirmed[change.id] = None
        while len(self._confirmed) > _CONFIRMED_MAX:
            self._confirmed.popitem(last=False)

    async def mark(self) -> None:
        """Marks the rows of what was appended or confirmed.  What a process takes along when it
        ends is appended once more by the relay of another, which changes nothing."""
        marks, self._unmarked = self._unmarked, {}
        if not marks:
            return
        try:
            await revocations.mark_published(self._database, marks)
        except BaseException:
            self._unmarked = {**marks, **self._unmarked}
            raise

    async def relay(self, older_than_s: int) -> int:
        """Appends what whoever committed it has not; how many changes that were."""
        await self.mark()
        left = await revocations.unpublished(self._database, older_than_s)
        if left:
            await self.append(left)
            await self.mark()
        return len(left)

    async def see(self, view: View) -> None:
        """Takes in a view of the stream; leases that are surely over are taken away."""
        over = self._watch.see(view)
        if view.incarnation != self._known:
            self._known = ""
        for name, beat in over:
            await self._stream.forget(name, beat)

    async def _holds_everywhere(self, view: View, confirmation: Confirmation) -> bool:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        while True:
            await self.see(view)
            if confirmation.given_up(view):
                return False
            if confirmation.holds(view) and await self.outlasted(view.incarnation):
                return True
            long = loop.time() - began_at > _LONG_AFTER_S
            view = await self._view_after(_LONG_PAUSE_S if long else _PAUSE_S)

    async def _view_after(self, pause_s: float) -> View:
        """A view that begins after this call; whoever waits at the same time shares it.

        An older one would not do: a lease that it does not show may be younger than it.
        """
        if self._next_view is None:
            self._next_view = asyncio.create_task(self._view_soon(pause_s))
            self._next_view.add_done_callback(_heed)
        return await asyncio.shield(self._next_view)

    async def _view_soon(self, pause_s: float) -> View:
        await asyncio.sleep(pause_s)
        self._next_view = None
        return await self._stream.view()

    async def outlasted(self, incarnation: str) -> bool:
        """Whether no lease that this incarnation does not know of can be good any more.

        A server that was emptied, rewound or replaced by a replica may have forgotten leases
        that are good for some seconds yet.  SQL keeps the last incarnation that somebody has
        watched for as long as a lease lasts; where SQL knows of none, this is the first, since
        no worker goes live before it has seen to it that SQL knows one.
        """
        if incarnation == self._known:
            return True
        if self._watch.outlasted(incarnation):
            await self._keep(incarnation)
            self._known = incarnation
        elif not self._watch.saw_one_end and await self.kept(incarnation) == incarnation:
            self._known = incarnation
        return incarnation == self._known

    async def settle(self) -> None:
        """Has SQL keep the incarnation that is followed here, once none of an older one can be
        good: by it a command of the shell tells whether it has come to the same server."""
        incarnation = self._watch.incarnation
        kept = await self.known_to_sql()
        if kept == incarnation:
            self._settled = incarnation
        elif self._watch.outlasted(incarnation) and (not kept or incarnation != self._settled):
            # Not again for the same one: a node on another server would write its own each time.
            await self._keep(incarnation)
            self._settled = incarnation

    async def known_to_sql(self) -> str | None:
        """The incarnation that SQL keeps; None before any worker was live, and empty after a
        restore."""
        async with self._database.read_transaction() as tx:
            row = await tx.one(
                "SELECT value FROM installation WHERE name = :name", name=INCARNATION
            )
        return None if row is None else str(row["value"])

    async def kept(self, incarnation: str) -> str:
        """The incarnation that SQL keeps: this one, where it kept none."""
        known = await self.known_to_sql()
        if known is not None:
            return known
        async with self._database.transaction() as tx:
            await tx.run(
                "INSERT INTO installation (name, value) VALUES (:name, :value)"
                " ON CONFLICT (name) DO NOTHING",
                name=INCARNATION,
                value=incarnation,
            )
        return await self.kept(incarnation)

    async def _keep(self, incarnation: str) -> None:
        async with self._database.transaction() as tx:
            await tx.run(
                "INSERT INTO installation (name, value) VALUES (:name, :value)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                name=INCARNATION,
                value=incarnation,
            )


def _heed(task: asyncio.Task[View]) -> None:
    """Whoever waited may have given up: nobody else would ask how it went."""
    if not task.cancelled():
        task.exception()
