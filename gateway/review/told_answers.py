"""One answer that was given, told to a person: by `gateway why`, and by the console.

What was written of it says what happened; the configuration of now, asked again, says what was
nearest to allowing it and the smallest change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from gateway.access.decision_record import RecordedDecision, read_record
from gateway.access.explanation import explain
from gateway.access.simulation import recorded_request, simulate
from gateway.access.snapshot import Snapshot
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.problems import problem_type
from gateway.model import Reason
from gateway.review.counterfactuals import find_counterfactuals
from gateway.review.judged_again import SecondJudge
from gateway.review.reason_guide import OF_A_RULE, ReasonGuide, load_guide
from gateway.review.rendering import as_data, as_text, as_unknown, status_of

NOT_HELD = "the log does not hold"


@dataclass(slots=True)
class LoggedAnswer:
    """What was written or remembered of one answer."""

    where: str
    record: Mapping[str, Any] | None
    """As the decision log has it; None where nothing was decided, or too little is known."""
    access: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the access log, as far as they are known."""
    whole: bool = True
    """Whether the record holds all that a policy read."""
    later: int = 0
    """How many later refusals bear the same id."""

    @classmethod
    def of_workers(cls, told: Mapping[str, Any]) -> LoggedAnswer:
        """As `telemetry.refusal_socket.ask_workers` gives it."""
        where = "the running gateway"
        return cls(where, told["decision"], told["access"], later=told.get("later", 0))


@dataclass(slots=True)
class ToldAnswer:
    """What one answer was about, in words for who asks."""

    request_id: str
    where: str
    at: float
    worker: int | None
    allowed: bool
    status: int
    reason: str | None
    facts: dict[str, Any]
    """Method, host, path, address, user, route, policy, rule, file, line and version."""
    guide: ReasonGuide | None
    page: str | None = None
    again: dict[str, Any] | None = None
    """As `gateway explain --json`, of the same call judged by the configuration of now."""
    lines: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, request_id: str, found: LoggedAnswer, reasons_url: str | None = None) -> ToldAnswer:
        """`reasons_url` is where the pages of reasons are."""
        record, access = found.record or {}, found.access
        allowed = record.get("decision") == "allow" or access.get("event.outcome") == "success"
        reason = record.get("reason") or access.get("event.reason")
        facts = {
            name: record.get(name) if record.get(name) is not None else access.get(field_name)
            for name, field_name in _FACTS.items()
        }
        facts["user"] = (record.get("user") or {}).get("id") or access.get("user.id")
        told = cls(
            request_id,
            found.where,
            record["at"] if "at" in record else _moment(access),
            access.get("process.pid"),
            allowed,
            record["status"] if "status" in record else access["http.response.status_code"],
            reason,
            {name: value for name, value in facts.items() if value not in (None, "")},
            None if allowed or reason is None else _guide_of(reason),
        )
        if found.later:
            told.notes.append(
                f"{found.later} later ones bear this id, which a client may choose"
                " (X-Request-Id): this is the first; the access log has the others"
            )
        if told.guide is not None and reason is not None:
            told.page = ProblemTypes(reasons_url).of(reason) if reasons_url is not None else None
        return told

    def as_data(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "found": self.where,
            "at": self.at,
            "worker": self.worker,
            "decision": "allow" if self.allowed else "deny",
            "status": self.status,
            "reason": self.reason,
            **self.facts,
            "meaning": None if self.guide is None else asdict(self.guide),
            "page": self.page,
            "again": self.again,
            "notes": self.notes,
        }


_FACTS = {
    "method": "http.request.method",
    "host": "url.domain",
    "path": "url.path",
    "ip": "client.ip",
    "route": "authgate.route",
    "policy": "rule.ruleset",
    "rule": "rule.id",
    "file": "authgate.file",
    "line": "authgate.line",
    "version": "authgate.version",
}


def _moment(access: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(access["@timestamp"]).timestamp()


def _guide_of(reason: str) -> ReasonGuide:
    return load_guide().get(reason, OF_A_RULE)


def judge_again(told: ToldAnswer, found: LoggedAnswer, snapshot: Snapshot) -> None:
    """What was nearest to allowing it and the smallest change, by another configuration."""
    recorded = judgeable(found)
    if recorded is not None:
        _judge_by(snapshot, recorded, told, whole=found.whole)


def judgeable(found: LoggedAnswer) -> RecordedDecision | None:
    """The decision, where rules could say otherwise: what came of the load, the stores or the
    browser none would."""
    recorded = None if found.record is None else read_record(dict(found.record))
    return recorded if recorded is not None and recorded.is_judged else None


def _judge_by(
    snapshot: Snapshot, recorded: RecordedDecision, told: ToldAnswer, *, whole: bool
) -> None:
    question = recorded_request(recorded)
    judged = SecondJudge(snapshot).judge(recorded, whole=whole)
    decision = judged.decision
    if recorded.version and recorded.version != snapshot.version:
        told.notes.append(
            f"the configuration has changed since: version {recorded.version} decided, and"
            f" {snapshot.version} is here"
        )
    if not whole:
        told.notes.append(
            "judged again from the access log, which holds no query, field, body or mail address"
        )
    if judged.unknown:
        told.notes.append(
            f"not known how it would be judged again: {NOT_HELD} {', '.join(judged.unknown)}"
        )
        told.lines = as_unknown(decision, judged.unknown)
        return
    if (decision.allowed, str(decision.reason)) != (recorded.allowed, recorded.reason):
        now = "allowed" if decision.allowed else f"denied with {decision.reason}"
        told.notes.append(f"judged again, it would be {now}")
    answer = simulate(question, snapshot)
    if answer.call is None:
        return
    decision = answer.decision
    explanation = explain(decision, answer.call, snapshot, question.clock.now)
    turns = find_counterfactuals(question, answer, snapshot)
    status = status_of(decision, status_for)
    told.again = as_data(decision, status, explanation, turns)
    told.again["sentence"] = explanation.sentence
    told.lines = as_text(decision, status, explanation, turns)
    if turns and judged.absent:
        told.notes.append(
            f"{NOT_HELD} {', '.join(judged.absent)}: what would turn it around is told as of a"
            " caller without"
        )


def status_for(reason: str, refusal: Reason | None) -> int:
    """The status that the table of answers has for a refusal."""
    return problem_type(reason, refusal).status
