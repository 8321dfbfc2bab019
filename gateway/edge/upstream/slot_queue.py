"""Who waits for a slot at the targets of an upstream, or was turned away, and who goes first.

Law: a slot is given at a target that may be called now, in the order of `slot_turns.py`.  Who was
turned away, or waited in vain, is remembered for a while, and where nobody may wait, or slow calls
were ended, a slot that falls free is kept from whoever comes and has its share (`slot_shares.py`);
whoever waits has it before it stands empty, and a full queue has a place more for those it was kept
for.  While those past their shares have half, one more slot at each look is reserved where somebody
below it lacks one.  Where nobody waits, nobody is remembered and nothing is reserved, nothing is
looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Generic

from gateway.client_networks import neighbourhood
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.slot_reach import SlotReach
from gateway.edge.upstream.slot_shares import Shares, share_of, slow_calls, to_end
from gateway.edge.upstream.slot_turns import SlotTurns, T, Waiter, Wish
from gateway.model import Reason

LOOK_EVERY_S = 0.1
KEPT_S = 2.0
"""Who was turned away is told to come again after one second."""
GIVEN_UP_AFTER_S = 1.0
"""So long nobody lacked one of those that are reserved, nor took the last: it is one fewer."""
LACK_S = 0.3
"""Who is below its share and waits for so long gets no slot in turn, as calls take too long; or for
a third of the time that it may wait, where calls do take long."""
MOST_REMEMBERED = 256
"""Neighbourhoods that want a slot; the oldest are forgotten first."""

LEAST_SLOTS = 4
"""Of fewer, at all targets, none is kept where no slow call made room: it is too much of them."""


@dataclass(slots=True)
class _Wanted(Generic[T]):
    """Where calls of a neighbourhood were turned away."""

    targets: Collection[T]
    until: float


@dataclass(slots=True)
class _Asking(Generic[T]):
    """Calls that want a slot of a target, who waits longest first."""

    calls: list[Wish[T]] = field(default_factory=list)
    networks: set[str] = field(default_factory=set)


class Waiters(Generic[T]):
    """Those of one upstream.  One timer looks for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: SlotTurns[T] = SlotTurns()
        self._turned_away: list[Wish[T]] = []
        """Calls that found no place to wait, or waited in vain, since it was last looked."""
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
        if (
            len(self._waiting) < most
            or self._waiting.make_room(network, targets, most)
            or (most and len(self._waiting) < most + _kept_for(network, targets))
        ):
            slot = self._loop.create_future()
            waiter = Waiter(client_ip, network, targets, slot, self._loop.time())
            self._waiting.add(waiter)
        elif not self._has_room(client_ip, targets):
            # Whoever comes next is to find room.
            self._turn_away(Wish(client_ip, network, targets))
        if self._timer is None:
            self._look()
        return waiter

    def _has_room(self, client_ip: str, targets: Collection[T]) -> bool:
        """Whether there is a slot, kept for others or not, where this client may be sent."""
        free = [target for target in targets if target.has_capacity]
        return bool(free) and not self._reach().of(client_ip, targets).isdisjoint(free)

    def discard(self, waiter: Waiter[T]) -> None:
        self._waiting.remove(waiter)

    def give_up(self, waiter: Waiter[T]) -> None:
        """It waited in vain, for as long as it may: as if it had found no place."""
        self._waiting.remove(waiter)
        self._turn_away(waiter)
        if self._timer is None:
            self._look()

    def serve(self, target: T) -> None:
        """Its free slots go to whoever waits: nobody who comes meanwhile can take them."""
        self._serve(target, self._reach())

    def _serve(self, target: T, reach: SlotReach[T]) -> None:
        while target.has_capacity and (waiter := self._waiting.next_for(target, reach)):
            target.acquire(waiter.client_ip)
            waiter.slot.set_result(target)
            reach.forget()

    def _reach(self) -> SlotReach[T]:
        return SlotReach(self._loop.time())

    # --- those who were turned away ---

    def _turn_away(self, wish: Wish[T]) -> None:
        self._turned_away.append(wish)
        self._remember(wish.network, wish.targets)

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
        reach = self._reach()
        for target in _all(waiter.targets for waiter in self._waiting):
            self._serve(target, reach)
        self._forget()
        self._waiting.look_again()
        before, self._shared = self._shared, []
        wanted: list[Wish[T]] = [one for one in self._waiting if not one.slot.done()]
        wanted += self._turned_away
        self._turned_away.clear()
        ended: list[UpstreamConnection] = []
        reserving = [one for one in before if one.shares is not None and one.shares.reserve]
        if wanted or self._wanted or reserving:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
            asked = [one.targets for one in wanted]
            asked += [one.targets for one in self._wanted.values()]
            asked.append(reserving)
            wishes, lately = self._by_target(wanted)
            served: set[Wish[T]] = set()
            lacking: dict[T, int] = {}
            for target in _all(asked):
                if _slots(target):
                    self._shared.append(target)
                    asking = wishes.get(target) or _Asking()
                    ended += self._share_out(target, asking, lately.get(target, ()), served)
                    if calls := self._lacking(target, asking):
                        lacking[target] = calls
            self._reserve(lacking)
        for target in before:
            if target not in self._shared:
                target.shares = None
        self._keep_one()
        # Their slots go to whoever waits, as any that falls free does.
        for connection in ended:
            connection.end(Reason.REQUEST_TIMEOUT)

    def _by_target(self, wanted: list[Wish[T]]) -> tuple[dict[T, _Asking[T]], dict[T, list[str]]]:
        """Who of these may be sent there now, and which neighbourhoods were turned away there."""
        reach = self._reach()
        asked = [(one, reach.of(one.client_ip, one.targets)) for one in wanted]
        if len(alike := {targets for _, targets in asked}) == 1:
            # As ever, but while breakers are open, or a reload is a moment ago.
            all_of_them = _Asking(wanted, {one.network for one in wanted})
            wishes = dict.fromkeys(alike.pop(), all_of_them)
        else:
            wishes = {target: _Asking() for target in _all(alike)}
            for one, targets in asked:
                for target in targets:
                    wishes[target].calls.append(one)
                    wishes[target].networks.add(one.network)
        lately: dict[T, list[str]] = {}
        for network, known in self._wanted.items():
            for target in known.targets:
                lately.setdefault(target, []).append(network)
        return wishes, lately

    def _share_out(
        self, target: T, asking: _Asking[T], lately: Collection[str], served: set[Wish[T]]
    ) -> list[UpstreamConnection]:
        """Look who has what of it.  The calls that are to end; who gets their slots is put to
        `served`, and wants no other."""
        here, networks = asking.calls, asking.networks
        if served:
            here = [one for one in here if one not in served]
            networks = {one.network for one in here}
        slots = _slots(target)
        want = networks.union(lately)
        shares = target.shares = target.shares or Shares(slots, target.holders)
        half = share_of(slots, 1)
        ended = []
        if not target.has_capacity:
            slow = slow_calls(target.connections)
            share = share_of(slots, len(slow.keys() | want))
            pairs = to_end(slow, here, shares.held, share=share, half=half)
            served.update(one for one, _ in pairs)
            ended = [call.connection for _, call in pairs]
        now = self._loop.time()
        shares.made_room_at = [at for at in shares.made_room_at if at > now - KEPT_S]
        shares.made_room_at += [now] * len(ended)
        shares.share_out(slots, want)
        # Who has half of its share is kept nothing: of many that have some, each gets its own.
        few, made = (shares.share + 1) // 2, len(shares.made_room_at)
        keeps = made or not target.spec.queue
        has_few = keeps and any(shares.held.get(name, 0) < few for name in lately)
        shares.kept = min(max(made, 1), slots - half) if has_few else 0
        return ended

    def _lacking(self, target: T, asking: _Asking[T]) -> int:
        """How many calls wait for long, or were turned away and none of their neighbourhood was let
        in since, though it has less than half of its share, while those past theirs have half."""
        shares = target.shares
        if shares is None or not shares.is_half_past:
            return 0
        now = self._loop.time()
        take_long = shares.take_long
        before = now - (min(LACK_S, target.spec.timeout_connect_s / 3) if take_long else LACK_S)
        return sum(
            2 * shares.held.get(one.network, 0) < shares.share
            and one.network not in shares.came
            and _is_short_of_one(one, before, take_long=take_long)
            for one in asking.calls
        )

    def _reserve(self, lacking: dict[T, int]) -> None:
        """One more slot, at that one of these targets which has fewest so, where it has fewer than
        calls lack one; fewer elsewhere."""
        now = self._loop.time()
        sharing = [(shares, one) for one in self._shared if (shares := one.shares) is not None]
        for shares, target in sharing:
            shares.count_ends(now)
            if shares.came and not target.has_capacity and shares.take_long:
                # Whoever took the last one would have lacked it.
                shares.lacked_at = now
            shares.came.clear()
            shares.give_up(now, GIVEN_UP_AFTER_S)
        short = [(one.shares, calls) for one, calls in lacking.items() if one.shares is not None]
        for shares, _ in short:
            shares.lacked_at = now
        if short and sum(map(_slots, self._shared)) >= LEAST_SLOTS:
            shares, calls = min(short, key=lambda one: one[0].reserve)
            if shares.reserve < calls:
                shares.lack(now)

    def _keep_one(self) -> None:
        """Where one that is kept stands empty, no other target keeps one."""
        keeping = [one for one in self._shared if (shares := one.shares) and shares.keeps_one]
        has_few = sum(map(_slots, self._shared)) < LEAST_SLOTS
        empty = next((one for one in keeping if one.has_capacity), None)
        for target in keeping if has_few or empty is not None else ():
            if target.shares is not None and (has_few or target is not empty):
                target.shares.kept = 0


def _is_short_of_one(one: Wish[T], before: float, *, take_long: bool) -> bool:
    """Who found no place, or waits since `before`; who gave up only where calls take long, as in
    any overload somebody does."""
    if not isinstance(one, Waiter):
        return True
    return one.since <= before and (take_long or not one.slot.done())


def _kept_for(network: str, targets: Collection[T]) -> int:
    """How many slots of one target are kept for those that have less than their share, as this
    neighbourhood has.  Others who waited may have had them meanwhile."""
    shares = (target.shares for target in targets)
    return max((one.kept for one in shares if one and not one.is_behind(network)), default=0)


def _all(several: Iterable[Collection[T]]) -> Iterable[T]:
    """The targets of these sets, each once."""
    sets = {id(targets): targets for targets in several}
    return {target: None for targets in sets.values() for target in targets}


def _slots(target: T) -> int:
    return target.spec.max_connections
