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
from typing import TYPE_CHECKING

from gateway.client_networks import neighbourhood
from gateway.model import Reason

if TYPE_CHECKING:
    from gateway.edge.upstream.connection import UpstreamConnection
    from gateway.edge.upstream.target_pool import TargetPool

PATIENCE_S = 0.5
"""So long in all a call may wait for its client, whoever else waits."""
LOOK_EVERY_S = 0.1


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits for a slot."""

    slot: asyncio.Future[TargetPool]
    targets: Collection[TargetPool]
    """Those of the configuration that admitted it: it is sent to no other, and to none that was
    removed before it came."""


@dataclass(slots=True)
class _Wait:
    """A call that waits for its client."""

    waited_s: float
    client_ip: str
    connection: UpstreamConnection


class Waiters:
    """Those of one upstream, whoever waits longest first.  One timer looks for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Waiter] = deque()
        self._turned_away: list[Collection[TargetPool]] = []
        """By targets: calls that found no place to wait since it was last looked."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, targets: Collection[TargetPool]) -> Waiter:
        """A call begins to wait; it leaves by `discard`, or by `next_for`."""
        waiter = Waiter(self._loop.create_future(), targets)
        self._waiting.append(waiter)
        self._look_soon()
        return waiter

    def turn_away(self, targets: Collection[TargetPool]) -> None:
        """A call may not even wait: whoever comes next is to find room."""
        self._turned_away.append(targets)
        self._look_soon()

    def discard(self, waiter: Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def next_for(self, target: TargetPool) -> Waiter | None:
        """Whoever waits longest of those that may be sent there, no longer waiting."""
        for waiter in self._waiting:
            if target in waiter.targets and not waiter.slot.done():
                self._waiting.remove(waiter)
                return waiter
        return None

    def _look_soon(self) -> None:
        """At once, unless it was looked just now."""
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        self._timer = None
        wanted = [waiter.targets for waiter in self._waiting if not waiter.slot.done()]
        wanted += self._turned_away
        self._turned_away.clear()
        if not wanted:
            return
        self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
        for target in {target: None for targets in wanted for target in targets}:
            if not target.has_capacity:
                asking = [targets for targets in wanted if target in targets]
                for targets in asking[: _make_room(target, len(asking))]:
                    wanted.remove(targets)


def _make_room(target: TargetPool, wanted: int) -> int:
    """Cut so many calls at most; how many were.  Their slots go to whoever waits, as any that falls
    free does."""
    now = monotonic()
    most = (target.spec.max_connections + 1) // 2
    waits: list[_Wait] = []
    for connection in target.connections:
        receiver = connection.receiver
        waited_s = 0.0 if receiver is None else receiver.client_waited_s(now)
        if receiver is not None and waited_s > 0.0:
            waits.append(_Wait(waited_s, receiver.client_ip, connection))
    if len(waits) <= most:
        return 0
    neighbours: dict[str, list[_Wait]] = {}
    for wait in waits:
        neighbours.setdefault(neighbourhood(wait.client_ip), []).append(wait)
    cut = 0
    for each in neighbours.values():
        each.sort(key=lambda wait: wait.waited_s, reverse=True)
        for wait in each[: max(len(each) - most, 0)]:
            if cut < wanted and wait.waited_s >= PATIENCE_S:
                wait.connection.end(Reason.REQUEST_TIMEOUT)
                cut += 1
    return cut
