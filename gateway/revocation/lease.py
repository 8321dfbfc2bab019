"""Leases without I/O (decision 0004): what counts as a renewal, what an announcement waits for,
and when the lease of somebody who is silent is over.

Everything here is judged by views of the stream (`stores.protocols.View`) and by one steady
clock of this process; no clock is compared with another's.  `docs/decisions/` argues why no
interleaving lets a token pass after its 204, and tests/worker/ has the model that tries.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from gateway.model import Change, ChangeKind
from gateway.stores.protocols import View

FENCE_EARLY_S = 0.5
"""A worker stops so much before its lease is over for others."""
DRIFT_S = 0.1
"""Two steady clocks part by less than this within a lease."""


def good_for_s(max_staleness_s: float) -> float:
    """How long a renewal holds for the worker itself, from when it was sent."""
    return max(max_staleness_s - FENCE_EARLY_S, 0.0)


def over_after_s(max_staleness_s: float) -> float:
    """How long others must have seen a lease unrenewed before its holder is surely fenced.

    The renewal that they saw was sent before they saw it, and holds for `good_for_s` from
    then on its holder's clock.
    """
    return good_for_s(max_staleness_s) + DRIFT_S


class Tenure:
    """One lease of this worker, from its registration until it is lost."""

    def __init__(self, name: str, registered: View) -> None:
        self.name = name
        self.incarnation = registered.incarnation
        self.position = registered.end
        """The last entry applied.  What SQL holds after the registration covers all up to
        the end that the registration saw: those were committed before they were appended."""
        self.beat = 0

    def next_beat(self) -> int:
        self.beat += 1
        return self.beat

    def follows(self, reported: int, view: View | None) -> bool:
        """Whether the view is of the stream that this lease began with, and not behind what the
        renewal reported.  It may be behind `position`: news come on another connection, and
        may overtake the answer.

        False: what was applied may be of another history, or entries were lost; the worker
        is unconfirmed until it has registered again and reloaded from SQL.
        """
        return (
            view is not None
            and view.incarnation == self.incarnation
            and view.end >= reported
            and self.continues(view.entries)
        )

    def continues(self, entries: Sequence[tuple[int, Change | None]]) -> bool:
        """Whether the entries go on from what was applied: no gap, none that cannot be read."""
        expected = self.position
        for number, change in entries:
            if number <= self.position:
                continue
            expected += 1
            if number != expected or change is None:
                return False
        return True

    def news(self, entries: Sequence[tuple[int, Change | None]]) -> Sequence[tuple[int, Change]]:
        """Those to apply, in order; after each, `position` is its number."""
        return [
            (number, change)
            for number, change in entries
            if number > self.position and change is not None
        ]

    def counts(self, reported: int, view: View) -> bool:
        """Whether the renewal that gave this view holds: the position that it reported was
        the end read in the same round trip.  The stream keeps a beat under the same
        condition, so that what holds here is what others see."""
        return reported >= view.end


class Confirmation:
    """What one announcement waits for, made from the view of its append."""

    def __init__(
        self, appended: View, changes: Sequence[Change], own: Collection[str] = ()
    ) -> None:
        self._incarnation = appended.incarnation
        self._number = appended.end
        self._keys = any(c.kind in (ChangeKind.KEY, ChangeKind.KEYS) for c in changes)
        # A lease that is still loading serves nobody, and becomes live only by a renewal
        # that has applied this entry.  This worker has applied what it announces, but for
        # keys, which it must read.
        self._waiting = {
            name
            for name, held in appended.leases.items()
            if held.position >= 0 and (self._keys or name not in own)
        }

    def given_up(self, view: View) -> bool:
        """Whether the stream is no longer the one that was appended to: nothing can be said."""
        return view.incarnation != self._incarnation or view.end < self._number

    def holds(self, view: View) -> bool:
        """Whether every lease of the append's moment has applied it, or is over."""
        self._waiting = {name for name in self._waiting if self._is_behind(name, view)}
        return not self._waiting

    def _is_behind(self, name: str, view: View) -> bool:
        held = view.leases.get(name)
        if held is None:
            return False
        position = min(held.position, held.keys_position) if self._keys else held.position
        return position < self._number


class Watch:
    """What a process has seen of the leases and of the stream's incarnation, and for how long."""

    def __init__(
        self,
        steady: Callable[[], float],
        max_staleness_s: float,
        is_surely_dead: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._steady = steady
        self._over_after_s = over_after_s(max_staleness_s)
        self._is_surely_dead = is_surely_dead
        self._seen: dict[str, tuple[int, float]] = {}
        self.incarnation = ""
        """That of the last view; empty before the first."""
        self._since = 0.0
        self.saw_one_end = False
        """Whether an incarnation ended under our eyes: what anybody else has noted of one is
        then older than what we know, and one that comes back is not the one that was."""

    def see(self, view: View) -> list[tuple[str, int]]:
        """Takes the view in; the leases, with their beats, whose holders are surely fenced."""
        now = self._steady()
        if view.incarnation != self.incarnation:
            self.saw_one_end = self.incarnation != ""
            self.incarnation = view.incarnation
            self._since = now
            self._seen.clear()
        over: list[tuple[str, int]] = []
        seen: dict[str, tuple[int, float]] = {}
        for name, held in view.leases.items():
            beat, since = self._seen.get(name, (-1, now))
            seen[name] = (held.beat, since if beat == held.beat else now)
            if now - seen[name][1] >= self._over_after_s or self._is_surely_dead(name):
                over.append((name, held.beat))
        self._seen = seen
        return over

    def outlasted(self, incarnation: str) -> bool:
        """Whether this incarnation was watched for so long that no lease of an older one, which
        nobody can see any more, is good."""
        watched_s = self._steady() - self._since
        return (
            incarnation != ""
            and incarnation == self.incarnation
            and watched_s >= self._over_after_s
        )
