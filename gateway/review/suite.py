"""Policy tests run through the very function that serves traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.access.authorizer import Decision
from gateway.access.explanation import Explanation, explain
from gateway.access.sent_headers import sent_headers
from gateway.access.simulation import SimulatedResult, simulate
from gateway.access.snapshot import Snapshot
from gateway.model import Reason
from gateway.review.cases import Case
from gateway.review.rendering import status_of

NOT_SENT = "none"
Statuses = Callable[[str, Reason | None], int]


@dataclass(frozen=True, slots=True)
class Difference:
    what: str
    expected: Any
    actual: Any


@dataclass(slots=True)
class CaseResult:
    case: Case
    actual: SimulatedResult
    differences: list[Difference] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.differences


def run_case(case: Case, snapshot: Snapshot, statuses: Statuses) -> CaseResult:
    """What the gateway answers, and where that is not what the case expects."""
    answer = simulate(case.request, snapshot)
    got = _got(answer.decision, statuses)
    differences = [
        Difference(name, wanted, got[name])
        for name, wanted in case.expected.demands().items()
        if got[name] != wanted
    ]
    sent = {name.lower(): value for name, value in sent_headers(answer.decision).items()}
    differences += [
        Difference(f"header {name}", wanted or NOT_SENT, sent.get(name.lower(), NOT_SENT))
        for name, wanted in case.expected.headers.items()
        if sent.get(name.lower()) != wanted
    ]
    return CaseResult(case, answer, differences)


def run_cases(cases: Iterable[Case], snapshot: Snapshot, statuses: Statuses) -> list[CaseResult]:
    return [run_case(case, snapshot, statuses) for case in cases]


def explained(result: CaseResult, snapshot: Snapshot) -> Explanation | None:
    """Why the answer is what it is; None where the request could not be read as a call."""
    answer, clock = result.actual, result.case.request.clock
    if answer.call is None:
        return None
    return explain(answer.decision, answer.call, snapshot, clock.now)


def _got(decision: Decision, statuses: Statuses) -> dict[str, Any]:
    return {
        "decision": "allow" if decision.allowed else "deny",
        "status": status_of(decision, statuses),
        "reason": str(decision.reason),
        "route": decision.route.id if decision.route is not None else None,
        "policy": decision.policy,
        "rule": decision.rule,
        "concealed": decision.conceal,
        "shadow": sorted(one.rule or "" for one in decision.shadowed),
    }
