"""Leaves a failing target alone, and does not let one client bring that about for the others.

Law: what is by nobody's doing (`outcome.py`) counts as it is, whoever meets it.  The rest may be
by whoever meets it: a backend hangs up on who asks for what it does not like, or has no place for
so many connections at once.  So it counts only where more neighbourhoods were failed than
answered, by the latest outcome of each, and while the target is left alone each waits for its own
rest.  Whose latest call was answered goes on, whoever else may try, and one answer lets everybody
in again.  Until so many are kept away that it is no doing of theirs, it is closed to the others,
and counts for them as if nobody were.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TypeVar

import structlog

from gateway.access.definitions import Breaker
from gateway.bounded_memo import MINUTE_S, BoundedMemo
from gateway.client_networks import neighbourhood

log = structlog.get_logger(__name__)

V = TypeVar("V")

MOST_NEIGHBOURHOODS = 1024
"""Whose outcomes are remembered; the oldest are forgotten first."""

WITNESSES = 4
"""Fewer neighbourhoods that were failed keep themselves away, and nobody else."""

MOST_TRIALS = 4
TRIALS_S = 1.0
"""So many trials within this time: also trials that never end leave room for others."""


@dataclass(slots=True)
class _Standing:
    """A neighbourhood that failed or tries, while the breaker is open."""

    rests_until: float
    trying: bool = False
    """A call of it tries, and nobody knows yet what it meets."""
    may_leave_at: float = 0.0
    """Whoever leaves before makes no room for another trial of theirs."""


class CircuitBreaker:
    """Of one target.  Times are the loop's."""

    __slots__ = (
        "_answered",
        "_failed",
        "_failures",
        "_networks",
        "_open_until",
        "_shut_until",
        "_spec",
        "_standings",
        "_trials",
        "_unreached",
        "_url",
    )

    def __init__(self, spec: Breaker, url: str) -> None:
        self._spec = spec
        self._url = url
        self._failures: deque[float] = deque(maxlen=spec.failures)
        self._unreached: deque[float] = deque(maxlen=spec.failures)
        """Those of them that are by nobody's doing."""
        self._answered: OrderedDict[str, float] = OrderedDict()
        self._failed: OrderedDict[str, float] = OrderedDict()
        """When a call of a neighbourhood was decided last; each stands in one of them."""
        self._networks: BoundedMemo[str, str] = BoundedMemo(MOST_NEIGHBOURHOODS, kept_s=MINUTE_S)
        self._open_until = 0.0
        """When the last rest ends; 0.0 while it is closed."""
        self._shut_until = 0.0
        """When the rest of everybody ends; 0.0 where none began since the last answer."""
        self._standings: OrderedDict[str, _Standing] = OrderedDict()
        self._trials: deque[float] = deque(maxlen=MOST_TRIALS)

    @property
    def is_closed(self) -> bool:
        """Nobody rests, and nobody has to try it."""
        return not self._open_until

    def is_open(self, now: float) -> bool:
        """It keeps calls away: somebody's rest lasts."""
        return now < self._open_until

    def admits(self, client_ip: str, now: float) -> bool:
        """Whether a call of this client may be sent."""
        if not self._open_until:
            return True
        if now < self._shut_until:
            return False
        network = self._network(client_ip)
        standing = self._standings.get(network)
        if standing is None:
            if self._goes_on(network, now):
                return True
        elif now < standing.rests_until:
            return False
        trials = self._trials
        return len(trials) < MOST_TRIALS or now - trials[0] >= TRIALS_S

    def record_dispatch(self, client_ip: str, now: float) -> None:
        """A call goes there, told once or twice.  While it is open, that is a trial."""
        if not self._open_until:
            return
        network = self._network(client_ip)
        standing = self._standings.get(network)
        if standing is None and self._goes_on(network, now):
            return
        if standing is None or not standing.trying or now >= standing.rests_until:
            self._trials.append(now)
            self._rest(network, now).trying = True

    def record_answer(self, client_ip: str, now: float) -> None:
        """It answers a call, which may go on for a day: nobody waits for its end."""
        network = self._network(client_ip)
        if self._failed:
            self._failed.pop(network, None)
        _keep(self._answered, network, now)
        if self._open_until:
            self._open_until = self._shut_until = 0.0
            self._standings.clear()
            self._trials.clear()

    def record_unknown(self, client_ip: str, now: float) -> None:
        """A call has ended, and not by what the target did: the next one tries it, once."""
        if not self._open_until:
            return
        standing = self._standings.get(self._network(client_ip))
        if standing is not None and standing.trying and now >= standing.may_leave_at:
            standing.trying = False
            standing.rests_until = now
            standing.may_leave_at = now + self._spec.open_s

    def record_failure(self, client_ip: str, now: float, *, by_nobody: bool) -> None:
        """`by_nobody`: no client can have brought it about."""
        network = self._network(client_ip)
        self._answered.pop(network, None)
        _keep(self._failed, network, now)
        if by_nobody:
            self._unreached.append(now)
        shut = by_nobody and (self._shut_until > 0.0 or self._is_many(self._unreached, now))
        if self._open_until and (network in self._standings or not self._only_witnesses_rest()):
            self._rest(network, now).trying = False
        else:
            self._failures.append(now)
            if shut or (self._is_many(self._failures, now) and self._is_outvoted(now)):
                self._open(now)
        if shut:
            self._shut_until = self._open_until
            self._unreached.clear()

    def forget(self, now: float) -> None:
        """Drop what is older than the window."""
        since = now - self._spec.window_s
        for outcomes in (self._answered, self._failed):
            while outcomes and next(iter(outcomes.values())) < since:
                outcomes.popitem(last=False)

    # --- private ---

    def _open(self, now: float) -> None:
        open_s = self._spec.open_s
        log.warning("upstream-breaker-open", target=self._url, seconds=open_s)
        self._open_until = now + open_s
        self._failures.clear()
        self.forget(now)
        for network in self._failed:
            if network not in self._standings:
                _keep(self._standings, network, _Standing(self._open_until))

    def _is_many(self, failures: deque[float], now: float) -> bool:
        spec = self._spec
        return len(failures) == spec.failures and now - failures[0] <= spec.window_s

    def _is_outvoted(self, now: float) -> bool:
        """More neighbourhoods were failed by it than answered, each by its latest outcome."""
        self.forget(now)
        return len(self._failed) > len(self._answered)

    def _goes_on(self, network: str, now: float) -> bool:
        """What others met keeps this neighbourhood from nothing; it has no standing."""
        if self._only_witnesses_rest():
            return True
        # Since it rests for everybody nobody was answered.
        answered_at = None if self._shut_until else self._answered.get(network)
        return answered_at is not None and now - answered_at <= self._spec.window_s

    def _only_witnesses_rest(self) -> bool:
        """So few were failed, and maybe by their own doing, that others go on as ever."""
        return not self._shut_until and len(self._standings) < WITNESSES

    def _rest(self, network: str, now: float) -> _Standing:
        """This neighbourhood waits from now on."""
        until = self._open_until = now + self._spec.open_s
        standing = self._standings.get(network)
        if standing is None:
            standing = _Standing(until)
            _keep(self._standings, network, standing)
        standing.rests_until = until
        return standing

    def _network(self, client_ip: str) -> str:
        network = self._networks.get(client_ip)
        if network is None:
            network = neighbourhood(client_ip)
            self._networks.keep(client_ip, network)
        return network


def _keep(outcomes: OrderedDict[str, V], network: str, value: V) -> None:
    outcomes[network] = value
    outcomes.move_to_end(network)
    if len(outcomes) > MOST_NEIGHBOURHOODS:
        outcomes.popitem(last=False)
