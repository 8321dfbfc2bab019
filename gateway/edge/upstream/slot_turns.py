"""The queue for the slots of an upstream's targets: whose turn it is, and who gives a place up.

Law: neighbourhoods that hold less than their share of a target take turns, and every other slot is
given to whoever has waited longest, but where those past their shares have half.  Where the queue
is full a newcomer gets the last place of whoever has most, by what waits and what it holds past its
share, and more than the newcomer then.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, Protocol, TypeVar

from gateway.access.definitions import Upstream
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.slot_reach import SlotReach
from gateway.edge.upstream.slot_shares import Shares, Want
from gateway.edge.upstream.target_health import TargetHealth

MOST_TURNS = 64
"""Neighbourhoods that a free slot is offered to: the next one goes on where this one stopped."""


class SlotTarget(Protocol):
    """A target, as whoever waits for a slot there sees it."""

    spec: Upstream
    connections: set[UpstreamConnection]
    in_flight: int
    holders: dict[str, int]
    """How many slots each client has."""
    shares: Shares | None
    """None where nobody waits, and nobody was turned away a moment ago."""

    health: TargetHealth | None

    @property
    def has_capacity(self) -> bool: ...

    def acquire(self, client_ip: str) -> None:
        """A call of this client takes a slot."""


T = TypeVar("T", bound=SlotTarget)


@dataclass(slots=True, eq=False)
class Wish(Want, Generic[T]):
    targets: Collection[T]
    """Those of the configuration that admitted it: it is sent to no other, and to none that was
    removed before it came."""


@dataclass(slots=True, eq=False)
class Waiter(Wish[T]):
    """A call that waits for a slot."""

    slot: asyncio.Future[T | None]
    """None where another call takes its place in the queue."""
    since: float = 0.0
    """When it began to wait, by the clock of the loop."""


class SlotTurns(Generic[T]):
    def __init__(self) -> None:
        self._waiting: OrderedDict[Waiter[T], None] = OrderedDict()
        self._by_network: OrderedDict[str, OrderedDict[Waiter[T], None]] = OrderedDict()
        """Whose turn is next first."""
        self._by_turn = False
        """Whether the last slot that both wanted was given by turns."""
        self._crowds: list[tuple[int, str]] | None = None
        """A heap of those that may have most, each by the negative of what it had."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiter[T]]:
        """Who waits longest first."""
        return iter(self._waiting)

    def add(self, waiter: Waiter[T]) -> None:
        self._waiting[waiter] = None
        self._by_network.setdefault(waiter.network, OrderedDict())[waiter] = None
        if (
            self._crowds is not None
            and (weight := self._weight(waiter.network, waiter.targets)) > 1
        ):
            heappush(self._crowds, (-weight, waiter.network))

    def remove(self, waiter: Waiter[T]) -> None:
        """Nothing where it does not wait."""
        if waiter in self._waiting:
            del self._waiting[waiter]
            waiters = self._by_network[waiter.network]
            del waiters[waiter]
            if not waiters:
                del self._by_network[waiter.network]

    def next_for(self, target: T, reach: SlotReach[T]) -> Waiter[T] | None:
        """Who is given a free slot of it; that one waits no longer."""
        may_have = partial(_may_have, target, reach)
        chosen = longest = next(filter(may_have, self._waiting), None)
        if longest is not None and (shares := target.shares) is not None:
            first = self._first_in_turn(may_have, shares)
            free = target.spec.max_connections - target.in_flight
            if shares.reserves(free):
                chosen = first
            elif free <= shares.kept:
                # Who has its share has it before it stands empty: whom it is kept for may never
                # come again.
                chosen = first or longest
            elif first is not None and first.network != longest.network:
                self._by_turn = shares.is_half_past or not self._by_turn
                chosen = first if self._by_turn else longest
        if chosen is None:
            return None
        self.remove(chosen)
        if chosen.network in self._by_network:
            self._by_network.move_to_end(chosen.network)
        return chosen

    def _first_in_turn(
        self, may_have: Callable[[Waiter[T]], bool], shares: Shares
    ) -> Waiter[T] | None:
        """Of those that have less than their share of it."""
        for _ in range(min(len(self._by_network), MOST_TURNS)):
            network, waiters = next(iter(self._by_network.items()))
            if not shares.is_behind(network):
                first = next(filter(may_have, waiters), None)
                if first is not None:
                    return first
            self._by_network.move_to_end(network)
        return None

    def make_room(self, network: str, targets: Collection[T], most: int) -> bool:
        """Whether one of the `most` places was given up for a call of this neighbourhood."""
        if self._crowds is None:
            weights = [
                (-self._weight(name, next(iter(waiters)).targets), name)
                for name, waiters in self._by_network.items()
            ]
            self._crowds = [each for each in weights if each[0] < -1]
            heapify(self._crowds)
        crowds, own = self._crowds, self._weight(network, targets)
        while crowds:
            weight, crowd = crowds[0]
            waiters = self._by_network.get(crowd)
            now = self._weight(crowd, next(iter(waiters)).targets) if waiters else 0
            if now < -weight:
                if now > 1:
                    heapreplace(crowds, (-now, crowd))
                else:
                    heappop(crowds)
            elif waiters is None or now < own + 2:
                break
            elif len(waiters) <= most // 4:
                heappop(crowds)
            else:
                last = next(reversed(waiters))
                self.remove(last)
                if not last.slot.done():
                    last.slot.set_result(None)
                return True
        return False

    def look_again(self) -> None:
        """What each holds may have changed."""
        self._crowds = None

    def _weight(self, network: str, targets: Collection[T]) -> int:
        waits = len(self._by_network.get(network, ()))
        return waits + sum(each.shares.past(network) for each in targets if each.shares)


def _may_have(target: T, reach: SlotReach[T], waiter: Waiter[T]) -> bool:
    return not waiter.slot.done() and reach.has(target, waiter.client_ip, waiter.targets)
