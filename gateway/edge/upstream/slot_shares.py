"""How the slots of a target are shared between neighbourhoods while somebody wants one.

Law: a slot is held for the sake of the target.  Calls that wait for their own client, to send more
of a body or to read on, are slow; of k neighbourhoods that have such calls or want a slot each
keeps a k-th of the slots for them: half at most, one at least.  No other call is ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from time import monotonic
from typing import TypeVar

from gateway.client_networks import neighbourhood
from gateway.edge.upstream.connection import UpstreamConnection

PATIENCE_S = 0.5
"""So long in all a call may wait for its client, whoever else waits."""


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
    """What each neighbourhood may still have of one target, by what was seen when it was last
    looked.  `kept`: slots that are kept for calls that were turned away a moment ago, `most_kept`
    of them at most.

    What one had `before` fades: whoever ends all its slow calls at once does not begin them anew
    as if it had none.
    """

    __slots__ = ("_held", "_kept", "_left", "came", "is_crowded")

    def __init__(
        self,
        share: int,
        slow: Mapping[str, Sequence[SlowCall]],
        kept: Mapping[str, int],
        before: Shares | None = None,
        *,
        most_kept: int,
    ) -> None:
        held = {name: len(calls) for name, calls in slow.items()}
        for name, count in () if before is None else before._held.items():
            if (left := count * 9 // 10) > held.get(name, 0):
                held[name] = left
        self._held: dict[str, int] = held
        self._left = {name: share - count for name, count in held.items()}
        self.is_crowded = any(left < 0 for left in self._left.values())
        """Somebody has more than a share."""
        wanted = (min(count, share) for name, count in kept.items() if not self.used_up(name))
        self._kept = min(sum(wanted), most_kept)
        self.came: set[str] = set()
        """Neighbourhoods that have taken a slot since."""

    def used_up(self, network: str) -> bool:
        """Others go before it, every other time."""
        return self._left.get(network, 1) <= 0

    def is_past(self, network: str) -> bool:
        """It has more than its share."""
        return self._left.get(network, 0) < 0

    def admits(self, client_ip: str, free: int) -> bool:
        """Whether a call of this client may have one of the `free` slots that nobody waits for."""
        return free > self._kept or not (self._left and self.used_up(neighbourhood(client_ip)))

    def record(self, client_ip: str) -> None:
        """A call of this client has taken one."""
        network = neighbourhood(client_ip)
        self.came.add(network)
        if network in self._left:
            self._left[network] -= 1


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
            network = _network(receiver.client_ip, networks)
            slow.setdefault(network, []).append(SlowCall(waited_s, connection))
    for calls in slow.values():
        calls.sort(key=lambda call: call.waited_s)
    return slow


def to_end(
    slow: dict[str, list[SlowCall]],
    wants: Iterable[W],
    connections: Collection[UpstreamConnection],
    *,
    share: int,
    half: int,
) -> list[tuple[W, SlowCall]]:
    """Which slow calls make room, and for whom: of the neighbourhood that has most, where that is
    more than its share and more than whoever wants a slot will have then; or more than half.

    They are taken out of `slow`.
    """
    over = [(-len(calls), network) for network, calls in slow.items() if len(calls) > share]
    if not over:
        return []
    heapify(over)
    held = _held(connections)
    ended = []
    for want in wants:
        while over and slow[over[0][1]][-1].waited_s < PATIENCE_S:
            heappop(over)
        if not over:
            break
        count, network = -over[0][0], over[0][1]
        if count <= half and held[want.network] + 1 >= count:
            continue
        calls = slow[network]
        ended.append((want, calls.pop()))
        held[want.network] += 1
        if len(calls) > share:
            heapreplace(over, (-len(calls), network))
        else:
            heappop(over)
    return ended


def _held(connections: Iterable[UpstreamConnection]) -> Counter[str]:
    """By neighbourhood the calls that have a slot, the slow ones too."""
    networks: dict[str, str] = {}
    receivers = (connection.receiver for connection in connections)
    return Counter(_network(one.client_ip, networks) for one in receivers if one is not None)


def _network(client_ip: str, networks: dict[str, str]) -> str:
    network = networks.get(client_ip)
    if network is None:
        network = networks[client_ip] = neighbourhood(client_ip)
    return network
