"""What is told of each answer: counted always, written down where asked for.

Nothing here may wait or fail: it stands on the path of every request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.access.authorizer import Decision
from gateway.model import Call, Reason
from gateway.telemetry.access_record import AnsweredRequest


class Meter(Protocol):
    """One route's counts, resolved once; `metrics.RouteMetrics` meets it."""

    def record(
        self, reason: str, status: int, decision_s: float, upstream_s: float | None = None
    ) -> None: ...


class RequestMetrics(Protocol):
    """`metrics.Metrics` meets it.  What no route answered is counted under the empty id."""

    def route(self, route_id: str) -> Meter: ...


class DecisionObserver(Protocol):
    """Writes decisions down, buffered and off the hot path; the file or stream is its own.

    It must never be given a credential: `call.headers` holds one, so it takes what it writes
    by name.
    """

    @property
    def takes_allowed(self) -> bool:
        """Whether it wants to hear of calls that were allowed as they should be.  Of those that
        a rule in shadow would have decided otherwise it is always told."""

    def decided(
        self,
        call: Call | None,
        decision: Decision | None,
        status: int,
        request_id: str,
        took_s: float = 0.0,
    ) -> None:
        """`took_s` is the time from asking for the decision to the head of the answer."""

    def refused(self, reason: Reason, route_id: str, request: AnsweredRequest) -> None:
        """What never came to a decision, or failed after it."""

    def answered(self, reason: str | None, request: AnsweredRequest) -> None:
        """What an endpoint of the gateway's own refused; a good answer has no reason, and is told
        of where somebody takes what was allowed."""


class DecisionObservers:
    """Several observers, each of which observes everything."""

    def __init__(self, *observers: DecisionObserver) -> None:
        self._observers = observers
        self.on_change: list[Callable[[], None]] = []

    def attach(self, observer: DecisionObserver) -> None:
        """One more from now on: who looks for a while costs the calls of that while alone."""
        self._set((*self._observers, observer))

    def detach(self, observer: DecisionObserver) -> None:
        self._set(tuple(one for one in self._observers if one is not observer))

    def _set(self, observers: tuple[DecisionObserver, ...]) -> None:
        self._observers = observers
        for changed in self.on_change:
            changed()

    @property
    def takes_allowed(self) -> bool:
        return any(observer.takes_allowed for observer in self._observers)

    def decided(
        self,
        call: Call | None,
        decision: Decision | None,
        status: int,
        request_id: str,
        took_s: float = 0.0,
    ) -> None:
        for observer in self._observers:
            observer.decided(call, decision, status, request_id, took_s)

    def refused(self, reason: Reason, route_id: str, request: AnsweredRequest) -> None:
        for observer in self._observers:
            observer.refused(reason, route_id, request)

    def answered(self, reason: str | None, request: AnsweredRequest) -> None:
        for observer in self._observers:
            observer.answered(reason, request)


class NoMetrics:
    """Counts nothing; for tests and tools."""

    def route(self, route_id: str) -> Meter:
        return self

    def record(
        self, reason: str, status: int, decision_s: float, upstream_s: float | None = None
    ) -> None:
        return None


class DenialObserver:
    """Counts denials in the audit log: by reason, route and subject, a minute at a time."""

    takes_allowed = False

    def __init__(self, denials: Denials) -> None:
        self._denied = denials.denied

    def decided(
        self,
        call: Call | None,
        decision: Decision | None,
        status: int,
        request_id: str,
        took_s: float = 0.0,
    ) -> None:
        del call, status, request_id, took_s
        if decision is not None and not decision.allowed:
            route_id = decision.route.id if decision.route is not None else None
            subject = decision.principal.subject if decision.principal is not None else None
            self._denied(decision.reason, route_id, subject)

    def refused(self, reason: Reason, route_id: str, request: AnsweredRequest) -> None:
        del request
        # What an upstream or a store does is no denial (ASVS 16.3.3 speaks of attempts).
        if reason in _ATTEMPTS:
            self._denied(reason, route_id or None, None)

    def answered(self, reason: str | None, request: AnsweredRequest) -> None:
        """The endpoints record what they refuse themselves, with what they know of it."""


class Denials(Protocol):
    """As `audit.AuditLog`."""

    def denied(self, reason: str, route: str | None, subject: str | None) -> None: ...


_ATTEMPTS = frozenset(
    {
        Reason.REQUEST_MALFORMED,
        Reason.AMBIGUOUS_PATH,
        Reason.AMBIGUOUS_QUERY,
        Reason.AMBIGUOUS_HEADER,
        Reason.HOST_MISMATCH,
        Reason.METHOD_NOT_ALLOWED,
        Reason.BODY_TOO_LARGE,
        Reason.TARGET_TOO_LONG,
        Reason.HEADER_TOO_LARGE,
    }
)
