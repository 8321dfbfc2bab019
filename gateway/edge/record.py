"""What the public door tells of each answer: counted always, written down where asked for.

Nothing here may wait or fail: it stands on the path of every request.
"""

from __future__ import annotations

from typing import Protocol

from gateway.access.decision import Decision
from gateway.model import Call


class Meter(Protocol):
    """One route's counts, resolved once; `metrics.RouteMeter` meets it."""

    def record(
        self, reason: str, status: int, decision_s: float, upstream_s: float | None = None
    ) -> None: ...


class Meters(Protocol):
    """`metrics.Metrics` meets it.  What no route answered is counted under the empty id."""

    def route(self, route_id: str) -> Meter: ...


class Journal(Protocol):
    """Writes decisions down, buffered and off the hot path; the file or stream is its own.

    It must never be given a credential: `call.headers` holds one, so it takes what it writes
    by name.
    """

    def decided(
        self, call: Call | None, decision: Decision | None, status: int, request_id: str
    ) -> None: ...


class NoMeters:
    """Counts nothing; for tests and tools."""

    def route(self, route_id: str) -> Meter:
        return self

    def record(
        self, reason: str, status: int, decision_s: float, upstream_s: float | None = None
    ) -> None:
        return None
