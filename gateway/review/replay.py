"""Recorded decisions made again by another configuration."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.decision_record import UNJUDGED, RecordedDecision, read_record, unknown_reads
from gateway.access.simulation import FixedAuthenticator, FixedClock, NoLimits, run_sync
from gateway.access.snapshot import Snapshot
from gateway.model import Reason

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
    """The policy reads what was not recorded: what they would be is unknown."""
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
    clock = FixedClock(0.0)  # set to the time of each decision
    known = FixedAuthenticator(Reason.NO_CREDENTIAL)
    authorizer = Authorizer(known, NoLimits(), clock=clock)
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
            continue
        if recorded.reason in UNJUDGED:
            report.unjudged += 1
            continue
        clock.at = recorded.at
        known.caller = recorded.caller
        _count(report, recorded, run_sync(authorizer, recorded.call, snapshot))
    return report


def _count(report: Replay, recorded: RecordedDecision, decision: Decision) -> None:
    missing = unknown_reads(recorded, decision)
    if missing:
        report.unknown += 1
        report.unknown_names.update(missing)
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
