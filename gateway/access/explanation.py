"""A decision explained to people: what was matched, who called, what each rule said.

Nothing is decided here.  The rules are asked once more, one by one, with the very context of
the decision; that this walk and the verdict never disagree is a property that is tested.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.access.authorizer import Decision
from gateway.access.conditions.context import EvaluationContext, Missing
from gateway.access.evaluation import evaluation_context
from gateway.access.identity_headers import scopes_of
from gateway.access.policies import Effect, Rule
from gateway.access.routing.paths import CanonicalPath, canonical
from gateway.access.routing.route_table import Match
from gateway.access.routing.routes import Route, SegmentKind
from gateway.access.snapshot import Snapshot
from gateway.model import OWN_ISSUER, Call, Principal, Reason, SourceLocation


@dataclass(frozen=True, slots=True)
class RuleEvaluation:
    """One rule, and what it gave for this call."""

    rule: str
    effect: str
    location: SourceLocation
    outcome: str
    """`allows`, `denies`, `does not apply`, `fails`, `is about other actions`, …"""
    values: tuple[tuple[str, str], ...] = ()
    condition: str | None = None
    decided: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class OtherRoute:
    """A route that was not chosen, and why."""

    route: str
    location: SourceLocation
    why: str


@dataclass(slots=True)
class Explanation:
    sentence: str
    """The whole answer in one line."""
    caller: str
    evaluations: list[RuleEvaluation] = field(default_factory=list)
    others: list[OtherRoute] = field(default_factory=list)


def explain(
    decision: Decision, call: Call, snapshot: Snapshot, now: Callable[[], float]
) -> Explanation:
    """Why `decision` was given for `call`."""
    explanation = Explanation(_sentence(decision), describe(decision.principal, call))
    if decision.by_held_roles:
        explanation.sentence += "; by all roles of the account"
    if decision.read_as:
        explanation.sentence += f"; a backend may read the path as {decision.read_as}"
    if snapshot.routes.reserves(call.host, call.segments):
        explanation.sentence = "no route: the gateway answers this path itself"
        return explanation
    explanation.others = _others(decision.route, call, snapshot)
    route = decision.route
    if decision.allowed and route is not None and (slash := route.slash_target(call)):
        explanation.sentence += f"; answered with 308 to {slash}"
    if route is None or route.policy is None or not decision.evaluated:
        return explanation
    match = Match(route, dict(decision.params))
    if decision.read_as:
        # What was denied is the path as a backend may read it.
        read = canonical(decision.read_as, files=True)
        assert isinstance(read, CanonicalPath)
        call = replace(call, segments=read.segments)
    principal = decision.principal
    if principal is not None and decision.by_held_roles:
        principal = principal.with_held_roles()
    context = evaluation_context(call, match, principal, now)
    if isinstance(context, EvaluationContext):
        for rule in route.policy.rules:
            explanation.evaluations.append(_evaluate(rule, route.action, context, decision))
    return explanation


def shown(value: Any) -> str:
    """A value as a reader of the policy would write it."""
    if isinstance(value, Missing):
        return value.text
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "…"


def _sentence(decision: Decision) -> str:
    where = f" at {decision.location}" if decision.location and decision.location.line else ""
    if decision.allowed:
        if decision.rule is not None:
            return f"allowed by rule {decision.rule}{where}"
        return f"allowed: {decision.reason}{where}"
    if decision.lacking_scopes:
        lacking = ", ".join(decision.lacking_scopes)
        return f"denied with {decision.reason}: the token was not granted {lacking}"
    route = decision.route
    policy = route.policy if route is not None and decision.evaluated else None
    if route is None or policy is None:
        principal = decision.principal
        if (
            route is not None
            and principal is not None
            and principal.scopes is not None
            and decision.reason == Reason.NO_RULE
        ):
            if principal.routes is not None and route.id not in principal.routes:
                return f"denied with {decision.reason}: the key is limited to other routes"
            asked = route.action or "a route without an action"
            return (
                f"denied with {decision.reason}: the scopes of the credential do not hold {asked}"
            )
        return f"denied: {decision.reason}{where}"
    rules = {rule.id: rule for rule in policy.rules}
    named = rules.get(decision.rule or "")
    why = f"denied with {decision.reason}"
    if decision.reason == Reason.INSUFFICIENT_USER_AUTHENTICATION:
        return f"{why} by rule {decision.rule}{where}"
    failed = decision.reason == Reason.CONDITION_FAILED
    if named is not None and failed:
        nothing = "nothing allowed it; " if named.effect is Effect.ALLOW else ""
        return f"{why}: {nothing}the condition of rule {named.id}{where} could not be evaluated"
    if named is not None and named.effect is Effect.DENY:
        return f"{why} by rule {named.id}{where}"
    return f"{why}: {_nearest(policy.rules, named, route.action)}"


def _nearest(rules: tuple[Rule, ...], named: Rule | None, action: str) -> str:
    """What came nearest to allowing `action`; `named` is the rule whose reason was given."""
    allows = [rule for rule in rules if rule.effect is Effect.ALLOW and not rule.shadow]
    about = [rule for rule in allows if rule.matches_action(action)]
    nearest = named or next(iter(about), None)
    if nearest is not None:
        where = str(nearest.location) if nearest.location.line else "(built in)"
        return f"nothing allowed it; nearest was rule {nearest.id} at {where}"
    asked = action or "a route without an action"
    patterns = {pattern: rule for rule in reversed(allows) for pattern in rule.actions}
    close = difflib.get_close_matches(action, patterns)
    if not close:
        return f"no rule allows {asked}"
    rule = patterns[close[0]]
    return f"no rule is about {asked}; nearest is rule {rule.id} ({close[0]}) at {rule.location}"


def describe(principal: Principal | None, call: Call) -> str:
    """Who calls, from where."""
    if principal is None:
        return f"nobody signed in, from {call.client_ip}"
    who = principal.subject
    if principal.email:
        verified = "verified" if principal.email_verified else "not verified"
        who += f" <{principal.email}> ({verified})"
    if principal.issuer != OWN_ISSUER:
        who += f" of issuer {principal.issuer}"
    roles = ", ".join(principal.roles) or "none"
    if principal.held_roles is not None:
        roles += f" (the account: {', '.join(principal.held_roles)})"
    scopes = ", ".join(scopes_of(principal))
    scopes = f", scopes: {scopes}" if scopes else ""
    return f"{who}, roles: {roles}{scopes}, from {call.client_ip}"


def _evaluate(
    rule: Rule, action: str, context: EvaluationContext, decision: Decision
) -> RuleEvaluation:
    decided = rule.id == decision.rule
    condition = rule.condition.source if rule.condition is not None else None
    effect = rule.effect.value + (" (shadow)" if rule.shadow else "")
    if not rule.matches_action(action):
        about = ", ".join(rule.actions)
        return RuleEvaluation(rule.id, effect, rule.location, f"is about {about}", (), condition)
    values: list[tuple[str, str]] = []
    if rule.role_permissions:
        values.append(_permission(action, context))
    if rule.condition is not None:
        values += [(name, shown(value)) for name, value in rule.condition.values(context)]
    # Apart from what the call has taken already.
    outcome = rule.applies(action, replace(context, alike=None))
    note = "in another spelling of the address" if rule.is_by_spelling(context) else ""
    if isinstance(outcome, str):
        outcome_text, note = (
            ("denies, as it fails" if rule.effect is Effect.DENY else "fails"),
            outcome,
        )
    elif outcome:
        outcome_text = "denies" if rule.effect is Effect.DENY else "allows"
        if rule.step_up is not None and not rule.step_up.met(context.principal, context.now()):
            outcome_text = "asks for a fresher or stronger sign-in"
        elif rule.step_up is not None and rule.effect is Effect.DENY:
            outcome_text = "does not apply: the sign-in is fresh enough"
    else:
        outcome_text = "does not apply"
    return RuleEvaluation(
        rule.id, effect, rule.location, outcome_text, tuple(values), condition, decided, note
    )


def _permission(action: str, context: EvaluationContext) -> tuple[str, str]:
    roles = context.principal.roles if context.principal is not None else ()
    granted = context.roles.granting(roles, action)
    if granted is None:
        return (f"permission for {action or 'no action'}", "none")
    return (f"permission for {action}", f"{granted[1]} (role {granted[0]})")


def _others(chosen: Route | None, call: Call, snapshot: Snapshot) -> list[OtherRoute]:
    """Routes that a reader may have expected, nearest first, five at most."""
    ranked: list[tuple[int, int, OtherRoute]] = []
    for index, route in enumerate(snapshot.routes):
        if route is chosen:
            continue
        matched, why = _why_not(route, chosen, call)
        if matched:
            ranked.append((-matched, index, OtherRoute(route.id, route.location, why)))
    return [other for _, _, other in sorted(ranked)[:5]]


def _why_not(route: Route, chosen: Route | None, call: Call) -> tuple[int, str]:
    """How much of the call the route matches (0: not worth telling), and what is in the way."""
    matched, stop = _matched(route, call.segments)
    if stop is not None:
        return matched, stop
    whole = 100 + matched
    if not route.takes_host(call.host):
        return whole, f"is for the host {' or '.join(route.hosts)}, not {call.host}"
    admits_head = call.method == "HEAD" and "GET" in route.methods
    if route.methods and call.method not in route.methods and not admits_head:
        return whole, f"takes {', '.join(route.methods)}, not {call.method}"
    if chosen is None:
        return whole, "matches, but a more specific path does not take the method"
    if not route.hosts and chosen.hosts:
        return whole, "matches too, but a route with the call's host goes first"
    if call.host not in route.hosts and call.host in chosen.hosts:
        return whole, "matches too, but a route that names the whole host goes first"
    return whole, f"matches too, but {chosen.pattern} is more specific"


def _matched(route: Route, segments: tuple[str, ...]) -> tuple[int, str | None]:
    """How many segments match, and a sentence about the first that does not."""
    if route.is_prefix:
        segments = segments[: len(route.segments)]
    for index, part in enumerate(route.segments):
        if part.kind is SegmentKind.REST:
            if index < len(segments) and segments[index]:
                return index + 1, None
            return index, f"needs more of a path after segment {index}"
        if index >= len(segments):
            return index, f"its path is longer: {route.pattern}"
        given = segments[index]
        if part.kind is SegmentKind.LITERAL:
            if given != part.text:
                return index, f'segment {index + 1} is "{part.text}" there, not "{given}"'
        elif not part.takes(given):
            kind = "" if part.kind is SegmentKind.PLAIN else f" ({part.kind})"
            return index, f'"{given}" is no {{{part.text}}}{kind}'
    if len(segments) > len(route.segments):
        return len(route.segments), f"its path is shorter: {route.pattern}"
    return len(segments), None
