"""Recorded decisions made again by another configuration."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.access.authorizer import Decision
from gateway.access.decision_record import RecordedDecision, read_record
from gateway.access.snapshot import Snapshot
from gateway.review.judged_again import JudgedAgain, SecondJudge

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class ReplayGroup:
    """Decisions that changed alike."""

    kind: str
    """`gains`, `loses` or `another reason`."""
    before: str
    after: str
    route: str | None


@dataclass(slots=True)
class ChangedDecision:
    recorded: RecordedDecision
    decision: Decision


@dataclass(slots=True)
class Replay:
    total: int = 0
    same: int = 0
    gains: int = 0
    loses: int = 0
    other_reason: int = 0
    unknown: int = 0
    """What decides was not recorded: what they would be is unknown."""
    unjudged: int = 0
    """Refused for their rate, or while a store was away: no matter of a policy."""
    unreadable: int = 0
    groups: Counter[ReplayGroup] = field(default_factory=Counter)
    examples: dict[ReplayGroup, list[ChangedDecision]] = field(default_factory=dict)
    unknown_names: Counter[str] = field(default_factory=Counter)

    @property
    def changed(self) -> int:
        return self.gains + self.loses + self.other_reason


def replay(lines: Iterable[str | bytes], snapshot: Snapshot) -> Replay:
    """What `snapshot` would have decided.  `lines` are those of the decision log."""
    report = Replay()
    judge = SecondJudge(snapshot)
    for line in lines:
        if not line.strip():
            continue
        report.total += 1
        try:
            recorded = read_record(json.loads(line))
        except ValueError:
            recorded = None
        if recorded is None:
            report.unreadable += 1
        elif not recorded.is_judged:
            report.unjudged += 1
        else:
            _count(report, recorded, judge.judge(recorded))
    return report


def _count(report: Replay, recorded: RecordedDecision, judged: JudgedAgain) -> None:
    decision = judged.decision
    if judged.unknown:
        report.unknown += 1
        report.unknown_names.update(judged.unknown)
        return
    if decision.allowed == recorded.allowed and str(decision.reason) == recorded.reason:
        report.same += 1
        return
    if decision.allowed and recorded.allowed:
        # Allowed is allowed: which rule did it is no change that a client sees.
        report.same += 1
        return
    if decision.allowed:
        kind = "gains"
        report.gains += 1
    elif recorded.allowed:
        kind = "loses"
        report.loses += 1
    else:
        kind = "another reason"
        report.other_reason += 1
    route = decision.route.id if decision.route is not None else recorded.route
    group = ReplayGroup(kind, recorded.reason, str(decision.reason), route)
    report.groups[group] += 1
    shown = report.examples.setdefault(group, [])
    if len(shown) < EXAMPLES:
        shown.append(ChangedDecision(recorded, decision))
