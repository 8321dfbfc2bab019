"""How the slots of a target are shared between neighbourhoods while somebody wants one.

Law: of k neighbourhoods that hold a slot or want one each has a k-th of them as its share: half at
most, one at least.  Whoever holds its share, by whatever calls, stands behind those that do not;
nobody is ended for that.  A slot is held for the sake of the target, though: calls that wait for
their own client, to send more of a body or to read on, are slow, and of k neighbourhoods that have
such calls or want a slot each keeps a k-th for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from time import monotonic
from typing import TypeVar

from gateway.client_networks import neighbourhood
from gateway.edge.upstream.connection import UpstreamConnection

PATIENCE_S = 0.5
"""So long in all a call may wait for its client, whoever else waits."""
ENDS_COUNTED_S = 1.0
"""Ends are counted for so long, and for so long again: where one had fewer than it holds, its calls
take long."""
_MOST_REMEMBERED = 4_096


@dataclass(slots=True)
class SlowCall:
    waited_s: float
    connection: UpstreamConnection


@dataclass(slots=True, eq=False)
class Want:
    """A call that wants a slot where there is none."""

    client_ip: str
    network: str
    """Its neighbourhood."""


W = TypeVar("W", bound=Want)


class Shares:
    """Who holds how many slots of one target, from call to call, while somebody wants one."""

    __slots__ = (
        "_count",
        "_counted_since",
        "_ended",
        "_ended_before",
        "_networks",
        "_past",
        "_slots",
        "_wanting",
        "came",
        "held",
        "kept",
        "lacked_at",
        "made_room_at",
        "reserve",
        "share",
    )

    def __init__(self, slots: int, holders: Mapping[str, int]) -> None:
        """`holders`: how many slots each client has."""
        self._slots = slots
        self._wanting: Collection[str] = ()
        self._count = 0
        """Neighbourhoods that hold one or want one."""
        self._networks: dict[str, str] = {}
        self.held: Counter[str] = Counter()
        """By neighbourhood, those that have none left out."""
        for client_ip, count in holders.items():
            self.held[self._network(client_ip)] += count
        self._past = 0
        """How many are held that are more than the share of whoever has them."""
        self.share = 0
        self._set_share(1)
        self.kept = 0
        """Free slots that whoever has its share does not get."""
        self.reserve = 0
        """Free slots that it does not get while those past their shares have half."""
        self.lacked_at = 0.0
        """When there last was a lack of those, or one was given up."""
        self.came: set[str] = set()
        """Neighbourhoods that took a slot of their share since it was last looked."""
        self._ended: Counter[str] = Counter()
        """By neighbourhood, how many of its calls ended since `_counted_since`."""
        self._ended_before: Counter[str] = Counter()
        self._counted_since = 0.0
        self.made_room_at: list[float] = []
        """When slow calls were ended, lately."""

    def share_out(self, slots: int, wanting: Collection[str]) -> None:
        """Among those that hold one and these."""
        self._slots, self._wanting = slots, wanting
        self._count = len(self.held.keys() | wanting)
        self._set_share(share_of(slots, self._count))
        self.reserve = min(self.reserve, slots - share_of(slots, 1))

    @property
    def keeps_one(self) -> bool:
        """Though no slow call made room for it."""
        return self.kept > 0 and not self.made_room_at

    @property
    def is_half_past(self) -> bool:
        """Whether one neighbourhood has half of all, or several have as much past their shares."""
        return self._past + self.share >= share_of(self._slots, 1)

    def count_ends(self, now: float) -> None:
        if now - self._counted_since >= ENDS_COUNTED_S:
            self._ended_before, self._ended = self._ended, Counter()
            self._counted_since = now

    @property
    def take_long(self) -> bool:
        """Whether those that have their share, and calls that take long, have half of all."""
        long = sum(
            held
            for network, held in self.held.items()
            if held >= self.share and self._ended[network] + self._ended_before[network] < held
        )
        return long >= share_of(self._slots, 1)

    def reserves(self, free: int) -> bool:
        """Whether none of the `free` slots is for whoever has its share, though nobody else comes:
        calls that take long would turn what others leave for a moment into theirs for good."""
        return free <= self.reserve and self.is_half_past

    def lack(self, now: float) -> None:
        """Somebody below its share got none, or waits for long: one more is reserved for such."""
        self.lacked_at = now
        self.reserve = min(self.reserve + 1, self._slots - share_of(self._slots, 1))

    def give_up(self, now: float, after_s: float) -> None:
        """One fewer, each time that nobody lacked one for so long."""
        if self.reserve and now - self.lacked_at > after_s:
            self.lacked_at = now
            self.reserve -= 1

    def is_behind(self, network: str) -> bool:
        """It has its share: others go before it."""
        return self.held.get(network, 0) >= self.share

    def past(self, network: str) -> int:
        """How many it holds that are more than its share."""
        return max(self.held.get(network, 0) - self.share, 0)

    def admits(self, client_ip: str, free: int) -> bool:
        """Whether a call of this client may have one of the `free` slots that nobody waits for."""
        if free > self.kept and not self.reserves(free):
            return True
        return not self.is_behind(self._network(client_ip))

    def record(self, client_ip: str) -> None:
        """A call of this client has taken one."""
        network = self._network(client_ip)
        held = self.held[network] = self.held.get(network, 0) + 1
        if held > self.share:
            self._past += 1
        if held == 1 and network not in self._wanting:
            # At once: of those that come together none is to take what the others leave.
            self._count += 1
            self._set_share(min(self.share, share_of(self._slots, self._count)))
        if held <= self.share:
            self.came.add(network)

    def record_end(self, client_ip: str) -> None:
        network = self._network(client_ip)
        self._ended[network] += 1
        if self.held.get(network, 0) > self.share:
            self._past -= 1
        if self.held.get(network, 0) > 1:
            self.held[network] -= 1
        elif self.held.pop(network, 0) and network not in self._wanting:
            self._count -= 1

    def _set_share(self, share: int) -> None:
        if share != self.share:
            self.share = share
            self._past = sum(max(count - share, 0) for count in self.held.values())

    def _network(self, client_ip: str) -> str:
        network = self._networks.get(client_ip)
        if network is None:
            if len(self._networks) >= _MOST_REMEMBERED:
                self._networks.clear()
            network = self._networks[client_ip] = neighbourhood(client_ip)
        return network


def share_of(slots: int, neighbourhoods: int) -> int:
    return (slots + 1) // 2 if neighbourhoods <= 2 else max(slots // neighbourhoods, 1)


def slow_calls(connections: Iterable[UpstreamConnection]) -> dict[str, list[SlowCall]]:
    """By neighbourhood those that wait for their client now, whoever has waited longest last."""
    now = monotonic()
    networks: dict[str, str] = {}
    slow: dict[str, list[SlowCall]] = {}
    for connection in connections:
        receiver = connection.receiver
        if receiver is not None and (waited_s := receiver.client_waited_s(now)) > 0.0:
            client_ip = receiver.client_ip
            network = networks.get(client_ip)
            if network is None:
                network = networks[client_ip] = neighbourhood(client_ip)
            slow.setdefault(network, []).append(SlowCall(waited_s, connection))
    for calls in slow.values():
        calls.sort(key=lambda call: call.waited_s)
    return slow


def to_end(
    slow: dict[str, list[SlowCall]],
    wants: Iterable[W],
    held: Mapping[str, int],
    *,
    share: int,
    half: int,
) -> list[tuple[W, SlowCall]]:
    """Which slow calls make room, and for whom: of the neighbourhood that has most, where that is
    more than its share and more than whoever wants a slot will have then; or more than half.

    They are taken out of `slow`; `held` are all slots that each has.
    """
    over = [(-len(calls), network) for network, calls in slow.items() if len(calls) > share]
    if not over:
        return []
    heapify(over)
    given: Counter[str] = Counter()
    ended = []
    for want in wants:
        while over and slow[over[0][1]][-1].waited_s < PATIENCE_S:
            heappop(over)
        if not over:
            break
        count, network = -over[0][0], over[0][1]
        has = held.get(want.network, 0) + given[want.network]
        if count <= half and has + 1 >= count:
            continue
        calls = slow[network]
        ended.append((want, calls.pop()))
        given[want.network] += 1
        if len(calls) > share:
            heapreplace(over, (-len(calls), network))
        else:
            heappop(over)
    return ended
