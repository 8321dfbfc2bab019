"""Who waits for a slot at the targets of an upstream, or was turned away, and who goes first.

Law: a slot is given at a target that may be called now, in the order of `slot_turns.py`.  Who was
turned away is remembered for a while, and where nobody may wait, or slow calls were ended, a slot
that falls free is kept from whoever has its share (`slot_shares.py`).  Where nobody waits, and
nobody is remembered, nothing is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic

from gateway.client_networks import neighbourhood
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.slot_shares import Shares, share_of, slow_calls, to_end
from gateway.edge.upstream.slot_turns import SlotTurns, T, Waiter, Wish
from gateway.model import Reason

LOOK_EVERY_S = 0.1
KEPT_S = 2.0
"""Who was turned away is told to come again after one second."""
MOST_REMEMBERED = 256
"""Neighbourhoods that want a slot; the oldest are forgotten first."""


LEAST_SLOTS = 4
"""Of fewer, at all targets, none is kept where no slow call made room: it is too much of them."""


@dataclass(slots=True)
class _Wanted(Generic[T]):
    """Where calls of a neighbourhood were turned away."""

    targets: Collection[T]
    until: float


class Waiters(Generic[T]):
    """Those of one upstream.  One timer looks for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: SlotTurns[T] = SlotTurns()
        self._turned_away: list[Wish[T]] = []
        """Calls that found no place to wait since it was last looked."""
        self._wanted: dict[str, _Wanted[T]] = {}
        """By neighbourhood, whoever is forgotten next first."""
        self._shared: list[T] = []
        """Targets that have `shares`."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, targets: Collection[T], client_ip: str, most: int) -> Waiter[T] | None:
        """A call begins to wait, until `discard` or its slot; None where `most` do already."""
        network = neighbourhood(client_ip)
        waiter = None
        if len(self._waiting) < most or self._waiting.make_room(network, targets, most):
            waiter = Waiter(client_ip, network, targets, self._loop.create_future())
            self._waiting.add(waiter)
        elif not any(
            target.has_capacity and target.may_be_called(client_ip, targets) for target in targets
        ):
            # Whoever comes next is to find room.
            self._turned_away.append(Wish(client_ip, network, targets))
            self._remember(network, targets)
        if self._timer is None:
            self._look()
        return waiter

    def discard(self, waiter: Waiter[T]) -> None:
        self._waiting.remove(waiter)

    def serve(self, target: T) -> None:
        """Its free slots go to whoever waits: nobody who comes meanwhile can take them."""
        while target.has_capacity and (waiter := self._waiting.next_for(target)) is not None:
            target.acquire(waiter.client_ip)
            waiter.slot.set_result(target)

    # --- those who were turned away ---

    def _remember(self, network: str, targets: Collection[T]) -> None:
        self._wanted.pop(network, None)
        self._wanted[network] = _Wanted(targets, self._loop.time() + KEPT_S)
        if len(self._wanted) > MOST_REMEMBERED:
            del self._wanted[next(iter(self._wanted))]

    def _forget(self) -> None:
        """Drop those that were not turned away lately.  As long as all other slots are taken, who
        comes and is let in would have been."""
        for target in self._shared:
            shares = target.shares
            if shares and shares.kept and target.in_flight + shares.kept >= _slots(target):
                for network in shares.came:
                    known = self._wanted.get(network)
                    targets = known.targets if known else (target,)
                    self._remember(network, targets)
        now = self._loop.time()
        while self._wanted and self._wanted[first := next(iter(self._wanted))].until <= now:
            del self._wanted[first]

    # --- what the timer does ---

    def _look(self) -> None:
        self._timer = None
        # One that may be called again has free slots, or another that took no calls has.
        for target in {target: None for waiter in self._waiting for target in waiter.targets}:
            self.serve(target)
        self._forget()
        self._waiting.look_again()
        before, self._shared = self._shared, []
        wanted: list[Wish[T]] = [one for one in self._waiting if not one.slot.done()]
        wanted += self._turned_away
        self._turned_away.clear()
        ended: list[UpstreamConnection] = []
        if wanted or self._wanted:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
            asked = [one.targets for one in wanted]
            asked += [one.targets for one in self._wanted.values()]
            for target in {target: None for targets in asked for target in targets}:
                if _slots(target):
                    self._shared.append(target)
                    ended += self._share_out(target, wanted)
        for target in before:
            if target not in self._shared:
                target.shares = None
        self._keep_one()
        # Their slots go to whoever waits, as any that falls free does.
        for connection in ended:
            connection.end(Reason.REQUEST_TIMEOUT)

    def _share_out(self, target: T, wanted: list[Wish[T]]) -> list[UpstreamConnection]:
        """Look who has what of it.  The calls that are to end; who gets their slots is taken out
        of `wanted`."""
        here = [
            one
            for one in wanted
            if target in one.targets and target.may_be_called(one.client_ip, one.targets)
        ]
        lately = {name: one for name, one in self._wanted.items() if target in one.targets}
        slots = _slots(target)
        want = lately.keys() | {one.network for one in here}
        shares = target.shares = target.shares or Shares(slots, target.holders)
        half = share_of(slots, 1)
        ended = []
        if not target.has_capacity:
            slow = slow_calls(target.connections)
            share = share_of(slots, len(slow.keys() | want))
            pairs = to_end(slow, here, shares.held, share=share, half=half)
            served = {one for one, _ in pairs}
            wanted[:] = [one for one in wanted if one not in served]
            ended = [call.connection for _, call in pairs]
        now = self._loop.time()
        shares.came.clear()
        shares.made_room_at = [at for at in shares.made_room_at if at > now - KEPT_S]
        shares.made_room_at += [now] * len(ended)
        shares.share_out(slots, want)
        # Who has half of its share is kept nothing: of many that have some, each gets its own.
        few, made = (shares.share + 1) // 2, len(shares.made_room_at)
        keeps = made or not target.spec.queue
        has_few = keeps and any(shares.held.get(name, 0) < few for name in lately)
        shares.kept = min(max(made, 1), slots - half) if has_few else 0
        return ended

    def _keep_one(self) -> None:
        """Where one that is kept stands empty, no other target keeps one."""
        keeping = [one for one in self._shared if (shares := one.shares) and shares.keeps_one]
        has_few = sum(map(_slots, self._shared)) < LEAST_SLOTS
        empty = next((one for one in keeping if one.has_capacity), None)
        for target in keeping if has_few or empty is not None else ():
            if target.shares is not None and (has_few or target is not empty):
                target.shares.kept = 0


def _slots(target: T) -> int:
    return target.spec.max_connections
