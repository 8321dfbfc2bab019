"""Writes refusals to the ordinary log, where an operator finds why by the `request_id`.

Law: it never holds up traffic.  On the path of a request an entry is queued, and only of a
refusal; a task writes them once a second, in a thread.  Of each reason so many are written in
a second, and of all together so many: under a flood the rest are counted, and a rare refusal
is seen beside a common one.  A line holds nothing that a client chose but the method, which
is one of a few words, and its id.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import structlog

from gateway.access.authorizer import Decision
from gateway.model import Call, Reason

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 1.0
OF_A_REASON = 5
OF_ALL = 20
"""Lines in each WRITE_EVERY_S, of each worker."""
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


@dataclass(slots=True)
class _RefusalLine:
    request_id: str
    reason: str
    status: int | None
    route: str
    rule: str | None
    method: str
    subject: str | None


class RefusalLog:
    """`edge.replies.observers.DecisionObserver` of one worker."""

    takes_allowed = False

    def __init__(self) -> None:
        self._waiting: list[_RefusalLine] = []
        self._seen: Counter[str] = Counter()

    def decided(
        self, call: Call | None, decision: Decision | None, status: int, request_id: str
    ) -> None:
        if decision is None or decision.allowed or not self._has_room(decision.reason):
            return
        route, principal = decision.route, decision.principal
        self._waiting.append(
            _RefusalLine(
                request_id,
                decision.reason,
                status,
                "" if route is None else route.id,
                decision.rule,
                "" if call is None else call.method,
                None if principal is None else principal.subject,
            )
        )

    def refused(self, reason: Reason, route_id: str, request_id: str) -> None:
        if self._has_room(reason):
            self._waiting.append(_RefusalLine(request_id, reason, None, route_id, None, "", None))

    def answered(self, reason: str, status: int, method: str, request_id: str) -> None:
        if self._has_room(reason):
            self._waiting.append(_RefusalLine(request_id, reason, status, "", None, method, None))

    async def run(self) -> None:
        """Writes what waits, again and again; the rest when it is cancelled."""
        try:
            while True:
                await asyncio.sleep(WRITE_EVERY_S)
                taken = self._taken()
                if taken[0]:
                    # A reader of the log that has stopped must not stop the loop.
                    await asyncio.to_thread(_write, *taken)
        finally:
            _write(*self._taken())

    def _has_room(self, reason: str) -> bool:
        seen = self._seen
        seen[reason] += 1
        return seen[reason] <= OF_A_REASON and len(self._waiting) < OF_ALL

    def _taken(self) -> tuple[list[_RefusalLine], Counter[str]]:
        """What was queued, and how many of each reason were not."""
        waiting, seen = self._waiting, self._seen
        self._waiting, self._seen = [], Counter()
        seen.subtract(one.reason for one in waiting)
        return waiting, +seen


def _write(refusals: list[_RefusalLine], omitted: Counter[str]) -> None:
    for one in refusals:
        # What was no call has no method; what is no method of ours is somebody's own word.
        fields = {
            "status": one.status,
            "method": one.method if one.method in _METHODS else None,
            "route": one.route or None,
            "rule": one.rule,
            "subject": one.subject,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        log.info("refused", request_id=one.request_id, reason=str(one.reason), **known)
    if omitted:
        most = {str(reason): count for reason, count in omitted.most_common(20)}
        log.info("refusals-omitted", count=omitted.total(), reasons=most)
