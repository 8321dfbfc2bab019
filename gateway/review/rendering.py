"""An answer as data (`--json`) and as one screen of text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from gateway.access.authorizer import Decision
from gateway.access.definitions import DirectResponse
from gateway.access.explanation import Explanation, RuleEvaluation
from gateway.access.policies import Effect
from gateway.access.sent_headers import sent_headers
from gateway.model import Reason, SourceLocation
from gateway.review.counterfactuals import Counterfactual


def status_of(decision: Decision, refusal_status: Callable[[str, Reason | None], int]) -> int:
    """The status the client sees; 200 stands for "whatever the upstream answers"."""
    if decision.allowed:
        answer = _answer(decision)
        return 200 if answer is None else answer.status
    if decision.conceal:
        return 404
    return refusal_status(decision.reason, decision.refusal)


def nothing_allowed(decision: Decision) -> bool:
    """Whether it was denied because no rule allowed it; `rule` is then the nearest one."""
    route = decision.route
    if decision.allowed or not decision.evaluated or route is None or route.policy is None:
        return False
    return not any(
        rule.id == decision.rule and rule.effect is Effect.DENY for rule in route.policy.rules
    )


def as_data(
    decision: Decision,
    status: int,
    explanation: Explanation | None,
    counterfactuals: Sequence[Counterfactual] = (),
    led_to: str | None = None,
) -> dict[str, Any]:
    """What `gateway explain --json` prints, and more.  `led_to`: the path to which a browser is
    led in place of this answer."""
    location = (
        decision.location if decision.location is not None and decision.location.line else None
    )
    data: dict[str, Any] = {
        "decision": "allow" if decision.allowed else "deny",
        "status": status,
        "reason": str(decision.reason),
        "route": decision.route.id if decision.route is not None else None,
        "policy": decision.policy,
        "rule": decision.rule,
        "file": location.file if location is not None else None,
        "line": location.line if location is not None else None,
        "nothing_allowed": nothing_allowed(decision),
        "concealed": decision.conceal,
        "params": dict(decision.params),
    }
    if decision.read_as:
        data["read_as"] = decision.read_as
    if decision.allowed:
        answer = _answer(decision)
        data["upstream"] = _upstream(decision)
        data["target"] = decision.target if answer is None else None
        data["headers"] = sent_headers(decision)
        if answer is not None:
            data["answer"] = {
                "status": answer.status,
                "headers": dict(answer.fields),
                "location": answer.location,
                "keep_query": answer.keep_query,
                "bytes": len(answer.body),
            }
    if decision.allow:
        data["allow"] = list(decision.allow)
    if decision.shadowed:
        data["shadowed"] = [
            {
                "policy": one.policy,
                "rule": one.rule,
                "decision": "allow" if one.allowed else "deny",
                "reason": str(one.reason),
                "file": one.location.file,
                "line": one.location.line,
            }
            for one in decision.shadowed
        ]
    if led_to is not None:
        data["browser"] = {"status": 303, "location": led_to}
    if explanation is not None:
        data["caller"] = explanation.caller
        data["rules"] = [_evaluation_data(evaluation) for evaluation in explanation.evaluations]
        data["other_routes"] = [
            {"route": o.route, "file": o.location.file, "line": o.location.line, "why": o.why}
            for o in explanation.others
        ]
        data["flips"] = [
            {
                "change": counterfactual.change,
                "rule": counterfactual.rule,
                "file": counterfactual.location.file if counterfactual.location else None,
                "line": counterfactual.location.line if counterfactual.location else None,
                "chain": list(counterfactual.chain),
            }
            for counterfactual in counterfactuals
        ]
    return data


def as_text(
    decision: Decision,
    status: int,
    explanation: Explanation,
    counterfactuals: Sequence[Counterfactual] = (),
    led_to: str | None = None,
) -> list[tuple[str, str]]:
    """Lines with their rich style."""
    lines: list[tuple[str, str]] = []
    verdict = "ALLOWED" if decision.allowed else "DENIED"
    seen = "" if decision.allowed else f"  {status}"
    style = "bold green" if decision.allowed else "bold red"
    lines.append((f"{verdict}{seen}  {explanation.sentence}", style))
    if decision.conceal:
        lines.append(("the client sees 404, as for an unknown route", "yellow"))
    if led_to is not None:
        lines.append((f"a browser is led to {led_to} (303)", "yellow"))
    lines.append(("", ""))
    lines += _route_lines(decision)
    if decision.allow:
        lines.append((f"        the path takes {', '.join(decision.allow)}", ""))
    lines.append((f"caller  {explanation.caller}", ""))
    answer = _answer(decision) if decision.allowed else None
    if answer is not None:
        lines.append((f"answer  {answer}, from the route itself", ""))
    elif decision.allowed and decision.target:
        lines.append((f"sent    {_upstream(decision)} {decision.target}", ""))
        lines += [
            (f"        {name}: {value}", "") for name, value in sent_headers(decision).items()
        ]
    if explanation.evaluations:
        lines.append(("", ""))
        for evaluation in explanation.evaluations:
            lines += _evaluation_lines(evaluation)
    for one in decision.shadowed:
        would = "allowed" if one.allowed else f"denied with {one.reason}"
        lines.append(
            (f"shadow  would be {would} by {one.rule or one.policy}  {one.location}", "cyan")
        )
    if counterfactuals:
        would = "denied" if decision.allowed else "allowed"
        lines += [("", ""), (f"it would be {would} if", "bold")]
        for change in counterfactuals:
            by = f"  ({change.rule or 'route'}, {change.location})" if change.location else ""
            lines.append((f"  {change.change}{by}", ""))
            lines += [(f"      {step}", "dim") for step in change.chain]
    elif not decision.allowed:
        lines += [("", ""), ("no single change would turn this around", "dim")]
    if explanation.others:
        lines += [("", ""), ("other routes", "bold")]
        for other in explanation.others:
            lines.append((f"  {other.route}  {other.location}  {other.why}", "dim"))
    return lines


def as_unknown(decision: Decision, names: Collection[str]) -> list[tuple[str, str]]:
    """What is known where the decision depends on these `names`, of which nobody knows: where the
    call leads, and the rules that are asked there."""
    lines = [("NOT KNOWN  what decides was not written down", "bold yellow"), ("", "")]
    lines += _route_lines(decision)
    route = decision.route
    if route is None or route.policy is None:
        return lines
    lines.append(("", ""))
    for rule in route.policy.rules_for(route.action).rules:
        condition = rule.condition
        paths = set() if condition is None else set(map(str, condition.expression.paths))
        read = ", ".join(sorted(paths & set(names)))
        effect = rule.effect.value + (" (shadow)" if rule.shadow else "")
        unknown = f"  not known, as it reads {read}" if read else ""
        lines.append((f"  {effect:6} {rule.id}{unknown}  {_at(rule.location)}", ""))
        if condition is not None:
            lines.append((f"           when {condition.source}", "dim"))
    return lines


def unknown_data(decision: Decision, names: Collection[str]) -> dict[str, Any]:
    """The same as data: the fields of `as_data` that tell what decides are null."""
    route = decision.route
    return {
        "decision": "unknown",
        "status": None,
        "reason": None,
        "route": None if route is None else route.id,
        "policy": None if route is None or route.policy is None else route.policy.name,
        "rule": None,
        "file": None,
        "line": None,
        "unknown": list(names),
    }


def _route_lines(decision: Decision) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    route = decision.route
    if route is not None:
        methods = ",".join(route.methods) or "any method"
        lines.append((f"route   {route.id}  {methods} {route.pattern}  {route.location}", ""))
        if decision.params:
            given = ", ".join(f"{name} = {value}" for name, value in decision.params.items())
            lines.append((f"        {given}", "dim"))
        if route.policy is not None:
            action = f", action {route.action}" if route.action else ""
            lines.append((f"policy  {route.policy.name}{action}", ""))
        else:
            lines.append((f"policy  none: auth is {route.auth}", ""))
    else:
        lines.append(("route   none", ""))
    return lines


def _evaluation_lines(evaluation: RuleEvaluation) -> list[tuple[str, str]]:
    mark = "→" if evaluation.decided else " "
    style = "bold" if evaluation.decided else ""
    what = f"{evaluation.effect:6} {evaluation.rule}  {evaluation.outcome}"
    lines = [(f"{mark} {what}  {_at(evaluation.location)}", style)]
    if evaluation.condition is not None:
        lines.append((f"           when {evaluation.condition}", "dim"))
    for name, value in evaluation.values:
        lines.append((f"                {name} = {value}", "dim"))
    if evaluation.note:
        lines.append((f"           {evaluation.note}", "yellow"))
    return lines


def _at(location: SourceLocation) -> str:
    return str(location) if location.line else "(built in)"


def _evaluation_data(evaluation: RuleEvaluation) -> dict[str, Any]:
    return {
        "rule": evaluation.rule,
        "effect": evaluation.effect,
        "file": evaluation.location.file,
        "line": evaluation.location.line,
        "outcome": evaluation.outcome,
        "when": evaluation.condition,
        "values": dict(evaluation.values),
        "decided": evaluation.decided,
        **({"note": evaluation.note} if evaluation.note else {}),
    }


def _answer(decision: Decision) -> DirectResponse | None:
    return decision.route.direct_response if decision.route is not None else None


def _upstream(decision: Decision) -> str | None:
    route = decision.route
    return route.upstream.name if route is not None and route.upstream is not None else None
