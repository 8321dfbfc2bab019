"""One call judged by the policy of its route, and by every other reading of its path.

Law: readings that show the policy the same are judged once, and what a call says besides its path
is read once for all of them: a short path has many readings, and a body may be long.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.access.attributes import in_tenant
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.functions import has_scope
from gateway.access.decision import Decision, refused
from gateway.access.evaluation import (
    context_read_as,
    evaluation_context,
    path_says_otherwise,
    said_otherwise,
    says_parameters,
)
from gateway.access.policies import Verdict
from gateway.access.readings import Readings
from gateway.access.resource_servers import missing_scopes
from gateway.access.routing.route_table import Match
from gateway.access.routing.routes import Auth, Route
from gateway.access.rule_headers import rule_headers
from gateway.model import NOWHERE, Call, Principal, Reason

Contexts = dict[Route, EvaluationContext]
"""What the policy has read of a call so far, by the route that a reading is of."""

MOST_JUDGED = 6
"""Readings of a call, the plain one among them, that are judged where a policy may take long for
one.  A MOVE of `a;b/c` to `a;b/d` has so many, and a name with one sign has two or three."""


def judged(
    call: Call,
    match: Match,
    principal: Principal | None,
    now: Callable[[], float],
    contexts: Contexts | None = None,
) -> Decision:
    """What the route's policy says of a call; `principal` acts for the tenant of its path.

    `contexts` are those of the call's other readings, and take this one's."""
    route, params = match.route, match.params
    policy, action_rules = route.policy, route.action_rules
    if principal is not None and principal.scopes is not None and not _in_scope(principal, route):
        return refused(Reason.NO_RULE, match, principal)
    if route.resource_server is not None and (lacking := missing_scopes(principal, route)):
        denied = refused(Reason.INSUFFICIENT_SCOPE, match, principal)
        denied.lacking_scopes = lacking
        return denied
    if policy is None or action_rules is None:
        public = route.auth is Auth.PUBLIC
        reason = Reason.ROUTE_PUBLIC if public else Reason.ROUTE_OPTIONAL
        at = route.location
        return Decision(True, reason, None, route, params, principal=principal, location=at)
    context: EvaluationContext | None = None
    verdict: Verdict | None = None
    looks = route.reads_call or (
        route.beside_path is not None and (call.query != "" or says_parameters(call.path))
    )
    limited = principal is not None and principal.held_roles is not None
    if action_rules.by_roles is not None and not looks and not limited:
        verdict = action_rules.by_roles.get(None if principal is None else principal.roles)
    if verdict is None:
        before = None if contexts is None else contexts.get(route)
        read = (
            evaluation_context(call, match, principal, now)
            if before is None
            else context_read_as(before, call, match, principal)
        )
        if isinstance(read, Reason):
            return refused(read, match, principal)
        context = read
        if before is None and contexts is not None:
            contexts[route] = context
        verdict = policy.verdict(route.action, context)
        policy.remember(action_rules, principal, verdict)
        if verdict.allowed and route.text_values is not None:
            refusal = said_otherwise(route.text_values, call, match, context)
            if refusal is not None:
                return refused(refusal, match, principal)
    rule = verdict.rule
    decision = Decision(
        verdict.allowed,
        verdict.reason,
        verdict.refusal,
        route,
        params,
        principal=principal,
        policy=policy.name,
        rule=rule.id if rule is not None else None,
        location=route.location if verdict.location is NOWHERE else verdict.location,
    )
    decision.evaluated = True
    decision.by_held_roles = verdict.by_held_roles
    decision.conceal = verdict.conceal
    decision.shadowed = verdict.shadowed
    if verdict.allowed:
        if route.has_last_limits:
            decision.last_limits = route.limits_after(rule)
            if limited:
                of_account = route.limits_after(verdict.held_rule)
                decision.last_limits = action_rules.both_limits(decision.last_limits, of_account)
        if action_rules.headed and context is not None and rule is not None:
            decision.headers = rule_headers(action_rules, rule, route.action, context)
    if verdict.step_up is not None:
        decision.max_age_s = verdict.step_up.max_age_s
        decision.amr = verdict.step_up.amr
    return decision


def denied_reading(
    call: Call,
    match: Match,
    readings: Readings,
    caller: Principal | None,
    *,
    now: Callable[[], float],
    contexts: Contexts,
) -> Decision | None:
    """The denial of a path that the backend may take for that of a call which is allowed.  Each
    may name another tenant."""
    shown = {_shown(call, match)}
    others: list[tuple[Call, Match]] = []
    takes_long = False
    for reading in readings:
        if path_says_otherwise(*reading):
            return refused(Reason.AMBIGUOUS_QUERY, match, caller and acting(caller, match))
        what = _shown(reading[0], reading[1])
        if what not in shown:
            shown.add(what)
            others.append(reading)
            takes_long = takes_long or reading[1].route.may_take_long
    if takes_long and len(shown) > MOST_JUDGED:
        return refused(Reason.AMBIGUOUS_PATH, match, caller and acting(caller, match))
    for other, found in others:
        decision = judged(other, found, caller and acting(caller, found), now, contexts)
        if not decision.allowed:
            decision.read_as = other.path
            return decision
    return None


def acting(principal: Principal, match: Match) -> Principal:
    """The caller as whoever acts for the tenant that the path names, where the route says that it
    names one."""
    tenant = match.route.tenant
    return principal if tenant is None else in_tenant(principal, match.params[tenant])


def _shown(call: Call, match: Match) -> tuple[object, ...]:
    """What of a reading may change its verdict; all else is the same in every one."""
    route, params = match.route, match.params
    path = call.segments if route.policy_reads_path else None
    return (route, path, *[params.get(name) for name in route.policy_params])


def _in_scope(principal: Principal, route: Route) -> bool:
    """Whether a credential that is limited to scopes, or to routes, may be used here at all.

    On a route without an action only a credential for everything (`*`) passes.
    """
    if principal.routes is not None and route.id not in principal.routes:
        return False
    return has_scope(principal, route.action)
