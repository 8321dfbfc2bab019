"""Who waits for a slot at the targets of an upstream, or was turned away, and who goes first.

Law: a slot is given at a target that may be called now, to whoever waits longest, but every other
one to those that do not have their share of it (`slot_shares.py`).  Where nobody waits, and nobody
was turned away a moment ago, nothing is looked at.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from gateway.access.definitions import Upstream
from gateway.client_networks import neighbourhood
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.slot_shares import Shares, Want, share_of, slow_calls, to_end
from gateway.model import Reason

LOOK_EVERY_S = 0.1
KEPT_S = 2.0
"""Who was turned away, where nobody may wait, is told to come again after one second."""
MOST_KEPT = 1_024
"""Neighbourhoods for which slots are kept; the oldest are forgotten first."""


class SlotTarget(Protocol):
    """A target, as whoever waits for a slot there sees it."""

    spec: Upstream
    connections: set[UpstreamConnection]
    shares: Shares | None
    """None where nobody waits, and nobody was turned away a moment ago."""

    @property
    def has_capacity(self) -> bool: ...

    def may_be_called(self, client_ip: str, among: Collection[Any]) -> bool:
        """Whether a call of this client that has these targets may be sent there now."""

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


@dataclass(slots=True)
class _Kept(Generic[T]):
    """Slots that are kept for a neighbourhood, of which calls were turned away."""

    targets: Collection[T]
    count: int = 0
    until: float = 0.0


class Waiters(Generic[T]):
    """Those of one upstream.  One timer looks for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Waiter[T]] = deque()
        self._turned_away: list[Wish[T]] = []
        """Calls that found no place to wait since it was last looked."""
        self._kept: dict[str, _Kept[T]] = {}
        self._shared: list[T] = []
        """Targets that have `shares`."""
        self._longest_is_next = False
        """Whether the next slot that both want is theirs who have their share."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, targets: Collection[T], client_ip: str, most: int) -> Waiter[T] | None:
        """A call begins to wait, until `discard` or its slot; None where `most` do already."""
        network = neighbourhood(client_ip)
        waiter = None
        if len(self._waiting) < most or (
            not _is_past_share(network, targets) and self._free_place()
        ):
            waiter = Waiter(client_ip, network, targets, self._loop.create_future())
            self._waiting.append(waiter)
        elif not any(
            target.has_capacity and target.may_be_called(client_ip, targets) for target in targets
        ):
            # Whoever comes next is to find room.
            self._turned_away.append(Wish(client_ip, network, targets))
            if not most:
                self._keep_for(network, targets)
        if self._timer is None:
            self._look()
        return waiter

    def discard(self, waiter: Waiter[T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def serve(self, target: T) -> None:
        """Its free slots go to whoever waits: nobody who comes meanwhile can take them."""
        while target.has_capacity and (waiter := self._next_for(target)) is not None:
            self._waiting.remove(waiter)
            target.acquire(waiter.client_ip)
            waiter.slot.set_result(target)

    def _next_for(self, target: T) -> Waiter[T] | None:
        """Whose turn it is of those that may be sent there."""
        shares = target.shares
        behind: Waiter[T] | None = None
        for waiter in self._waiting:
            if target not in waiter.targets or waiter.slot.done():
                continue
            is_behind = shares is not None and shares.used_up(waiter.network)
            if is_behind and behind is not None:
                continue
            if not target.may_be_called(waiter.client_ip, waiter.targets):
                continue
            if is_behind:
                behind = waiter
            elif behind is None:
                return waiter
            else:
                self._longest_is_next = not self._longest_is_next
                return waiter if self._longest_is_next else behind
        return behind

    def _free_place(self) -> bool:
        """Whoever came last of those that have more than their share gives theirs up."""
        for waiter in reversed(self._waiting):
            if not waiter.slot.done() and _is_past_share(waiter.network, waiter.targets):
                self._waiting.remove(waiter)
                waiter.slot.set_result(None)
                return True
        return False

    # --- those who were turned away ---

    def _keep_for(self, network: str, targets: Collection[T]) -> None:
        kept = self._kept.pop(network, None) or _Kept(targets)
        kept.targets, kept.until = targets, self._loop.time() + KEPT_S
        kept.count += 1
        self._kept[network] = kept
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]

    def _forget(self) -> None:
        """Drop those that were not turned away lately.  As long as somebody has more than a share
        one that comes is kept a slot."""
        now = self._loop.time()
        crowded = [each.shares for each in self._shared if each.shares and each.shares.is_crowded]
        came = {name for shares in crowded for name in shares.came}
        for network in came & self._kept.keys():
            kept = self._kept[network]
            kept.count, kept.until = max(kept.count // 2, 1), now + KEPT_S
        for network in [network for network, kept in self._kept.items() if kept.until <= now]:
            del self._kept[network]

    # --- what the timer does ---

    def _look(self) -> None:
        self._timer = None
        # One that may be called again has free slots, or another that took no calls has.
        for target in {target: None for waiter in self._waiting for target in waiter.targets}:
            self.serve(target)
        self._forget()
        before = {target: target.shares for target in self._shared}
        for target in self._shared:
            target.shares = None
        self._shared.clear()
        wanted: list[Wish[T]] = [one for one in self._waiting if not one.slot.done()]
        wanted += self._turned_away
        self._turned_away.clear()
        if not (wanted or self._kept):
            return
        self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
        ended: list[UpstreamConnection] = []
        asked = [one.targets for one in wanted] + [one.targets for one in self._kept.values()]
        for target in {target: None for targets in asked for target in targets}:
            if target.spec.max_connections:
                ended += self._share_out(target, wanted, before.get(target))
        # Their slots go to whoever waits, as any that falls free does.
        for connection in ended:
            connection.end(Reason.REQUEST_TIMEOUT)

    def _share_out(
        self, target: T, wanted: list[Wish[T]], before: Shares | None
    ) -> list[UpstreamConnection]:
        """Look who has what of it.  The calls that are to end; who gets their slots is taken out
        of `wanted`."""
        here = [
            one
            for one in wanted
            if target in one.targets and target.may_be_called(one.client_ip, one.targets)
        ]
        kept = {name: one.count for name, one in self._kept.items() if target in one.targets}
        slow = slow_calls(target.connections)
        slots = target.spec.max_connections
        half = share_of(slots, 1)
        share = share_of(slots, len(slow.keys() | {one.network for one in here}))
        target.shares = Shares(share, slow, kept, before, most_kept=slots - half)
        self._shared.append(target)
        if target.has_capacity:
            return []
        pairs = to_end(slow, here, target.connections, share=share, half=half)
        served = {one for one, _ in pairs}
        wanted[:] = [one for one in wanted if one not in served]
        return [call.connection for _, call in pairs]


def _is_past_share(network: str, targets: Collection[Any]) -> bool:
    return any(target.shares is not None and target.shares.is_past(network) for target in targets)
