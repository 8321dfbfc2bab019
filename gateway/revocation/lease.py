"""Leases without I/O (decision 0004): which renewals count, what a publication waits for, and when
the lease of a silent worker has expired.

Everything here is judged by views of the stream (`stores.protocols.StreamView`) and by one steady
clock of this process; no clock is compared with another's.  Decision 0004 argues why no
interleaving lets a token pass after its 204, and `tests/revocation/test_lease_model.py` tries.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from gateway.model import Change, ChangeKind
from gateway.stores.protocols import Entry, StreamView

FENCE_EARLY_S = 0.5
"""A worker stops so long before its lease expires for others."""
DRIFT_S = 0.1
"""Two steady clocks drift apart by less than this within a lease."""


def valid_for_s(max_staleness_s: float) -> float:
    """How long a renewal is valid for the worker itself, from when it was sent."""
    return max(max_staleness_s - FENCE_EARLY_S, 0.0)


def expires_after_s(max_staleness_s: float) -> float:
    """How long others must have seen a lease unrenewed before its holder is surely fenced.

    The renewal that they saw was sent before they saw it, and is valid for `valid_for_s` from
    then on its holder's clock.
    """
    return valid_for_s(max_staleness_s) + DRIFT_S


class Lease:
    """One lease of this worker, from its registration until it is lost."""

    def __init__(self, name: str, registered: StreamView) -> None:
        self.name = name
        self.incarnation = registered.incarnation
        self.position = registered.end
        """The last entry applied.  What SQL holds after the registration covers all up to
        the end that the registration saw: those were committed before they were appended."""
        self.heartbeat = 0

    def next_heartbeat(self) -> int:
        self.heartbeat += 1
        return self.heartbeat

    def follows(self, reported: int, view: StreamView | None) -> bool:
        """Whether the view is of the stream that this lease began with, and not behind what the
        renewal reported.  It may be behind `position`: new entries come on another connection,
        and may overtake the answer.

        False: the worker may have applied another history, or entries were lost; it is
        unconfirmed until it has registered again and reloaded from SQL.
        """
        return (
            view is not None
            and view.incarnation == self.incarnation
            and view.end >= reported
            and self.continues(view.entries)
        )

    def continues(self, entries: Sequence[Entry]) -> bool:
        """Whether the entries continue what was applied: no gap, none that cannot be read."""
        expected = self.position
        for number, change in entries:
            if number <= self.position:
                continue
            expected += 1
            if number != expected or change is None:
                return False
        return True

    def unapplied(self, entries: Sequence[Entry]) -> Sequence[tuple[int, Change]]:
        """The entries to apply, in order; after each, the caller sets `position` to its number."""
        return [
            (number, change)
            for number, change in entries
            if number > self.position and change is not None
        ]

    def confirms(self, reported: int, view: StreamView) -> bool:
        """Whether the renewal that gave this view counts: the position that it reported was
        the end read in the same round trip.  The stream takes a heartbeat under the same
        condition, so that what counts here is what others see."""
        return reported >= view.end


class PendingConfirmation:
    """The leases that one publication waits for, taken from the view of its append."""

    def __init__(
        self, appended: StreamView, changes: Sequence[Change], own: Collection[str] = ()
    ) -> None:
        self._incarnation = appended.incarnation
        self._number = appended.end
        self._keys = any(c.kind in (ChangeKind.KEY, ChangeKind.KEYS) for c in changes)
        # A lease that is still loading serves nobody, and becomes live only by a renewal
        # that has applied this entry.  This worker has applied what it publishes, but for
        # keys, which it must read.
        self._waiting = {
            name
            for name, state in appended.leases.items()
            if state.position >= 0 and (self._keys or name not in own)
        }

    def lost(self, view: StreamView) -> bool:
        """Whether the stream is no longer the one that was appended to: nothing is known then."""
        return view.incarnation != self._incarnation or view.end < self._number

    def complete(self, view: StreamView) -> bool:
        """Whether every lease of the append's moment has applied it, or is gone."""
        self._waiting = {name for name in self._waiting if self._is_behind(name, view)}
        return not self._waiting

    def _is_behind(self, name: str, view: StreamView) -> bool:
        state = view.leases.get(name)
        if state is None:
            return False
        position = min(state.position, state.keys_position) if self._keys else state.position
        return position < self._number


class LeaseMonitor:
    """Records what a process has seen of the leases and of the stream's incarnation, and for how
    long."""

    def __init__(
        self,
        steady: Callable[[], float],
        max_staleness_s: float,
        is_surely_dead: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._steady = steady
        self._expires_after_s = expires_after_s(max_staleness_s)
        self._is_surely_dead = is_surely_dead
        self._seen: dict[str, tuple[int, float]] = {}
        self.incarnation = ""
        """That of the last view; empty before the first."""
        self._since = 0.0
        self.saw_change = False
        """Whether the incarnation changed while this process watched: what others have recorded
        is then older than what we know, and one that comes back is not the one that was."""

    def observe(self, view: StreamView) -> list[tuple[str, int]]:
        """Takes the view in and returns the leases, with their heartbeats, whose holders are
        surely fenced."""
        now = self._steady()
        if view.incarnation != self.incarnation:
            self.saw_change = self.incarnation != ""
            self.incarnation = view.incarnation
            self._since = now
            self._seen.clear()
        expired: list[tuple[str, int]] = []
        seen: dict[str, tuple[int, float]] = {}
        for name, state in view.leases.items():
            heartbeat, since = self._seen.get(name, (-1, now))
            seen[name] = (state.heartbeat, since if heartbeat == state.heartbeat else now)
            if now - seen[name][1] >= self._expires_after_s or self._is_surely_dead(name):
                expired.append((name, state.heartbeat))
        self._seen = seen
        return expired

    def outlasted(self, incarnation: str) -> bool:
        """Whether this incarnation was watched for so long that every lease of an older one, which
        nobody can see any more, has expired."""
        watched_s = self._steady() - self._since
        return (
            incarnation != ""
            and incarnation == self.incarnation
            and watched_s >= self._expires_after_s
        )
