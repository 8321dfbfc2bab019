"""Who is let in: so many connections together, and so many of one network.

Law: what is let in is counted once until it leaves.  A handshake counts like a connection.  Whoever
has the addresses of a whole neighbourhood leaves half of the room to everybody else.
"""

from __future__ import annotations

from collections import Counter

from gateway.client_networks import holder, neighbourhood
from gateway.edge.server.peer import Peer
from gateway.telemetry.metrics import Tally


def network(peer: Peer) -> str | None:
    """Whose share its connection counts in: an IPv4 address, or the /64 of an IPv6 one, which
    one host has whole.  None for a trusted proxy: it brings the connections of many."""
    if peer.trusted:
        return None
    return holder(peer.ip) if ":" in peer.ip else peer.ip


class Admission:
    """Counts what is open.  `most_of_one` is for one network; 0 is no cap.  `refused` counts
    connections that were closed at once, as their network had its share."""

    def __init__(self, most: int, most_of_one: int = 0, refused: Tally | None = None) -> None:
        self.most = most
        self.most_of_one = most_of_one
        self._of: Counter[str] = Counter()
        self._in_neighbourhood: Counter[str] = Counter()
        self.open = 0
        self.refused = refused or Tally()

    @property
    def full(self) -> bool:
        return self.open >= self.most

    @property
    def most_of_neighbourhood(self) -> int:
        """For one neighbourhood: an IPv4 /24 or an IPv6 /48."""
        return max(self.most // 2, self.most_of_one)

    def enter(self, network: str | None) -> bool:
        """Whether one more of it is let in; None is a network that has no share."""
        if network is not None and self.most_of_one:
            around = _around(network)
            is_over = self._of[network] >= self.most_of_one
            if is_over or self._in_neighbourhood[around] >= self.most_of_neighbourhood:
                self.refused.n += 1
                return False
            self._of[network] += 1
            self._in_neighbourhood[around] += 1
        self.open += 1
        return True

    def leave(self, network: str | None) -> None:
        self.open -= 1
        if network is not None and self.most_of_one:
            _count_down(self._of, network)
            _count_down(self._in_neighbourhood, _around(network))


def _around(network: str) -> str:
    return neighbourhood(network.partition("/")[0])


def _count_down(counts: Counter[str], name: str) -> None:
    """Those who came once are not remembered."""
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
