"""`gateway why`: what one answer was about, by the id that its caller was shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.decision_record import UNJUDGED, RecordedDecision, read_record, unknown_reads
from gateway.access.explanation import explain
from gateway.access.simulation import recorded_request, simulate
from gateway.access.snapshot import Snapshot
from gateway.cli.configurations import read, status_for
from gateway.cli.context import CONFIG, POLICIES, TAKES_DASHED_IDS, ConfigPath, PoliciesPath
from gateway.cli.environment import configuration_settings, settings
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, warn, when
from gateway.cli.refusal_sources import LoggedAnswer, Search
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.review.counterfactuals import find_counterfactuals
from gateway.review.reason_guide import OF_A_RULE, ReasonGuide, load_guide, plain
from gateway.review.rendering import as_data, as_text, status_of

_ID = re.compile(r"[!-~]{1,256}")


def register(app: typer.Typer) -> None:
    app.command("why", context_settings=TAKES_DASHED_IDS)(why)


def why(
    request_id: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST_ID", help="The `request_id` of an answer, or its X-Request-Id."
        ),
    ],
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="F",
            help="A file of the access log or the decision log, or a folder of it; `-` reads"
            " stdin. Without it the running gateway and the logs of this installation.",
        ),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Tell why a call was refused: the rule with file and line, what came nearest to allowing it,
    and the smallest change.  Exit 0 known, 1 the id is nowhere."""
    if not _ID.fullmatch(request_id):
        raise CliError(f"{request_id!r} is no id of a request", ExitCode.USAGE)
    search = Search(request_id)
    found = search.in_installation(settings()) if log is None else search.in_path(log)
    if found is None:
        if as_json:
            data({"request_id": request_id, "found": None, "looked": search.looked})
        looked = "".join(f"\n  looked: {one}" for one in search.looked)
        raise CliError(f"{request_id} is nowhere{looked}")
    told = _Told.of(request_id, found)
    _judge_again(told, found, config, policies)
    if as_json:
        data(told.as_data())
    else:
        _print(told)


@dataclass(slots=True)
class _Told:
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
    def of(cls, request_id: str, found: LoggedAnswer) -> _Told:
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
        if told.guide is not None and reason is not None:
            url = configuration_settings().reasons_url
            told.page = ProblemTypes(url).of(reason) if url is not None else None
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


def _judge_again(told: _Told, found: LoggedAnswer, config: Path, policies: Path) -> None:
    """What was nearest to allowing it and the smallest change, by the configuration of here."""
    if found.record is None:
        return
    recorded = read_record(dict(found.record))
    if recorded is None or recorded.reason in UNJUDGED:
        return  # that came of the load, the stores or the browser: no rule would say otherwise
    if not config.exists():
        told.notes.append(f"not judged again, as there is no {config} here: --config names it")
        return
    snapshot = read(config, policies)
    if not isinstance(snapshot, Snapshot):
        told.notes.append(
            f"not judged again, as the configuration is not valid: {snapshot[0]} (gateway validate)"
        )
        return
    _judge_by(snapshot, recorded, told, whole=found.whole)


def _judge_by(snapshot: Snapshot, recorded: RecordedDecision, told: _Told, *, whole: bool) -> None:
    question = recorded_request(recorded)
    answer = simulate(question, snapshot)
    decision = answer.decision
    if recorded.version and recorded.version != snapshot.version:
        told.notes.append(
            f"the configuration has changed since: version {recorded.version} decided, and"
            f" {snapshot.version} is here"
        )
    unknown = unknown_reads(recorded, decision.route)
    if unknown:
        told.notes.append(f"the log does not hold what the policy reads: {', '.join(unknown)}")
    if not whole:
        told.notes.append(
            "judged again from the access log, which holds no query, field, body or mail address"
        )
    if (decision.allowed, str(decision.reason)) != (recorded.allowed, recorded.reason):
        now = "allowed" if decision.allowed else f"denied with {decision.reason}"
        told.notes.append(f"judged again, it would be {now}")
    if answer.call is None:
        return
    explanation = explain(decision, answer.call, snapshot, question.clock.now)
    turns = find_counterfactuals(question, answer, snapshot)
    status = status_of(decision, status_for)
    told.again = as_data(decision, status, explanation, turns)
    told.again["sentence"] = explanation.sentence
    told.lines = as_text(decision, status, explanation, turns)


def _print(told: _Told) -> None:
    facts = told.facts
    verdict = "ALLOWED" if told.allowed else "REFUSED"
    style = "bold green" if told.allowed else "bold red"
    echo(f"{verdict}  {told.status}  {told.reason or ''}".rstrip(), style=style)
    call = " ".join(str(facts[name]) for name in ("method", "path") if name in facts)
    on = f" on {facts['host']}" if "host" in facts else ""
    by = f" by {facts['user']}" if "user" in facts else ""
    source = f" from {facts['ip']}" if "ip" in facts else ""
    echo(f"call    {call or 'never read as one'}{on}{by}{source}")
    worker = f", worker {told.worker}" if told.worker is not None else ""
    echo(f"when    {when(told.at)}{worker}; found in {told.where}")
    if "rule" in facts:
        place = f"  {facts['file']}:{facts['line']}" if "file" in facts else ""
        echo(f"rule    {facts['rule']} of policy {facts.get('policy', '')}{place}")
    elif "route" in facts:
        echo(f"route   {facts['route']}")
    guide = told.guide
    if guide is not None:
        for title, text in (
            ("what happened", guide.happened),
            ("why", guide.why),
            ("the caller can", guide.caller),
            ("the operator can", guide.operator),
        ):
            echo("")
            echo(title, style="bold")
            echo(f"  {plain(text).replace('REQUEST_ID', told.request_id)}")
    if told.page is not None:
        echo(f"\n{told.page}")
    if told.lines:
        echo("")
        echo("judged again, by the configuration of here", style="bold")
        for text, line_style in told.lines:
            echo(f"  {text}".rstrip(), style=line_style)
    for note in told.notes:
        warn(f"note: {note}")
