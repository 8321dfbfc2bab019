"""Who waits for a slot at the targets of an upstream, and which calls make room for them.

Law: a slot is held for the sake of the target.  While others wait for one, the calls of one
neighbourhood that wait for their own client, to send more of a body or to read on, keep half of
a target's slots at most.  Where nobody waits nothing is looked at.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from time import monotonic
from typing import Generic, Protocol, TypeVar

from gateway.access.definitions import Upstream
from gateway.client_networks import neighbourhood
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.model import Reason

PATIENCE_S = 0.5
"""So long in all a call may wait for its client, whoever else waits."""
LOOK_EVERY_S = 0.1


class SlotTarget(Protocol):
    """A target, as whoever waits for a slot there sees it."""

    spec: Upstream
    connections: set[UpstreamConnection]

    @property
    def has_capacity(self) -> bool: ...


T = TypeVar("T", bound=SlotTarget)


@dataclass(slots=True, eq=False)
class Waiter(Generic[T]):
    """A call that waits for a slot."""

    slot: asyncio.Future[T | None]
    """None where another call takes its place in the queue."""
    targets: Collection[T]
    """Those of the configuration that admitted it: it is sent to no other, and to none that was
    removed before it came."""
    network: str
    """The neighbourhood that it comes from."""


@dataclass(slots=True)
class _Wait:
    """A call that waits for its client."""

    waited_s: float
    network: str
    connection: UpstreamConnection


class Waiters(Generic[T]):
    """Those of one upstream.  One timer looks for all of them, and by what it saw a neighbourhood
    that has more than half of a target's slots stands behind all others."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Waiter[T]] = deque()
        self._turned_away: list[Collection[T]] = []
        """By targets: calls that found no place to wait since it was last looked."""
        self._crowding: frozenset[str] = frozenset()
        """Neighbourhoods that had more than half when it was last looked."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, targets: Collection[T], client_ip: str, most: int) -> Waiter[T] | None:
        """A call begins to wait, until `discard` or `next_for`; None where `most` do already."""
        network = neighbourhood(client_ip)
        waiter = None
        if len(self._waiting) < most or (network not in self._crowding and self._free_place()):
            waiter = Waiter(self._loop.create_future(), targets, network)
            self._waiting.append(waiter)
        else:
            # Whoever comes next is to find room.
            self._turned_away.append(targets)
        if self._timer is None:
            self._look()
        return waiter

    def discard(self, waiter: Waiter[T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def next_for(self, target: T) -> Waiter[T] | None:
        """Whose turn it is of those that may be sent there, no longer waiting."""
        found: Waiter[T] | None = None
        for waiter in self._waiting:
            if target in waiter.targets and not waiter.slot.done():
                if waiter.network not in self._crowding:
                    found = waiter
                    break
                found = found or waiter
        if found is not None:
            self._waiting.remove(found)
        return found

    def _free_place(self) -> bool:
        """Whoever came last of those that stand behind all others gives theirs up."""
        for waiter in reversed(self._waiting):
            if waiter.network in self._crowding and not waiter.slot.done():
                self._waiting.remove(waiter)
                waiter.slot.set_result(None)
                return True
        return False

    def _look(self) -> None:
        self._timer = None
        wanted = [waiter.targets for waiter in self._waiting if not waiter.slot.done()]
        wanted += self._turned_away
        self._turned_away.clear()
        crowded: dict[T, list[_Wait]] = {}
        for target in {target: None for targets in wanted for target in targets}:
            if not target.has_capacity:
                crowded[target] = _past_half(target)
        self._crowding = frozenset(wait.network for each in crowded.values() for wait in each)
        if not wanted:
            return
        self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
        for target, waits in crowded.items():
            asking = [targets for targets in wanted if target in targets]
            long = [wait for wait in waits if wait.waited_s >= PATIENCE_S]
            # Their slots go to whoever waits, as any that falls free does.
            for wait, targets in zip(long, asking, strict=False):
                wanted.remove(targets)
                wait.connection.end(Reason.REQUEST_TIMEOUT)


def _past_half(target: T) -> list[_Wait]:
    """The calls with which a neighbourhood that waits for itself has more than half of the slots:
    of each those that have waited longest."""
    now = monotonic()
    most = (target.spec.max_connections + 1) // 2
    slow = []
    for connection in target.connections:
        receiver = connection.receiver
        if receiver is not None and (waited_s := receiver.client_waited_s(now)) > 0.0:
            slow.append((waited_s, receiver.client_ip, connection))
    if len(slow) <= most:
        return []
    neighbours: dict[str, list[_Wait]] = {}
    for waited_s, client_ip, connection in slow:
        network = neighbourhood(client_ip)
        neighbours.setdefault(network, []).append(_Wait(waited_s, network, connection))
    past: list[_Wait] = []
    for waits in neighbours.values():
        waits.sort(key=lambda wait: wait.waited_s, reverse=True)
        past += waits[: max(len(waits) - most, 0)]
    return past
