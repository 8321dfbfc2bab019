"""Calls that nobody made, by somebody who has nothing: whether a route lets them pass.

So a condition that is no condition is found however it is written (`size(user.roles) >= 0`).

Law: what depends on the hour is no answer, as the configuration would be another at night.  An
allow that reads the clock asks for something, and a deny that does asks for nothing.  Nor does a
deny that fails on what the call does not say: who says something else passes.
"""

from __future__ import annotations

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import EvaluationContext
from gateway.access.policies import ActionRules, Policy, Rule
from gateway.access.routing.routes import BELOW, PatternSegment, Route, SegmentKind
from gateway.model import OWN_ISSUER, Call, Principal

_NOBODY = "nobody.invalid"
"""No name that is in use ends so (RFC 6761 section 6.4)."""
_ADDRESSES = ("192.31.196.1", "2001:4:112::1")
"""Addresses like any other, at which no client is (RFC 7535 section 3.2)."""
_VALUES = {
    SegmentKind.INT: "3141592653",
    SegmentKind.UUID: "6ba3f1d2-90c4-4e57-8b1d-2f7c5e09a846",
}
_OF_THE_CALL = frozenset(("request", "resource", "client"))


def reads_the_call(rules: ActionRules) -> bool:
    """Whether any of them reads more than who calls."""
    return any(_roots(rule) & _OF_THE_CALL for rule in rules.rules)


def reads_data(rules: ActionRules) -> bool:
    return any("data" in _roots(rule) for rule in rules.rules)


def passes(route: Route, policy: Policy, method: str, *, signed_in: bool) -> bool:
    """Whether the policy allows a call of the route without a query, headers of its own and a
    body: by an account without roles, tenants and attributes, or without any account."""
    rules = policy.rules_for(route.action)
    addresses = _ADDRESSES if any("client" in _roots(one) for one in rules.rules) else ("",)
    return any(
        _allows(rules, route.action, _context(route, policy, method, address, signed_in=signed_in))
        for address in addresses
    )


def _allows(rules: ActionRules, action: str, context: EvaluationContext) -> bool:
    return any(
        "now" not in _roots(rule) and rule.allows(action, context) for rule in rules.allows
    ) and not any(_turns_away(rule, action, context) for rule in rules.denies)


def _turns_away(rule: Rule, action: str, context: EvaluationContext) -> bool:
    if "now" in _roots(rule):
        return False
    outcome = rule.applies(action, context)
    if isinstance(outcome, str):
        return rule.condition is None or not _reads_what_is_not_there(rule.condition)
    lifted = rule.step_up is not None and rule.step_up.met(context.principal, context.now())
    return outcome and not lifted


def _reads_what_is_not_there(condition: Condition) -> bool:
    reads = condition.reads
    return bool(reads.query or reads.headers or reads.resource or reads.whole_resource)


def _roots(rule: Rule) -> frozenset[str]:
    return frozenset() if rule.condition is None else rule.condition.reads.roots


def _context(
    route: Route, policy: Policy, method: str, address: str, *, signed_in: bool
) -> EvaluationContext:
    segments = route.segments
    if route.is_prefix:
        segments = (*segments, PatternSegment(SegmentKind.REST, BELOW))
    path = tuple(_text(segment) for segment in segments)
    params = {s.text: _text(s) for s in route.segments if s.kind is not SegmentKind.LITERAL}
    host = route.hosts[0].replace("*", "nobody") if route.hosts else _NOBODY
    call = Call(
        method,
        host,
        "/" + "/".join(path),
        path,
        "",
        headers=(),
        client_ip=address,
        scheme="https",
    )
    principal = _account(route) if signed_in else None
    context = EvaluationContext(
        call, principal, policy.roles, lambda: 0.0, params, data=policy.data
    )
    if route.resource:
        context.resource = route.resource_of({"params": params})
    return context


def _account(route: Route) -> Principal:
    """One that anybody may have: without roles, tenants, attributes, and a sign-in that is known
    to be fresh."""
    issuer = OWN_ISSUER if OWN_ISSUER in route.issuers else min(route.issuers, default=OWN_ISSUER)
    before = "" if issuer == OWN_ISSUER else f"{issuer}:"
    return Principal(
        f"{before}nobody",
        (),
        f"{before}session",
        f"{before}token",
        None,
        kid="",
        issued_at=0,
        expires_at=0,
        email=f"nobody@{_NOBODY}",
        email_verified=True,
        issuer=issuer,
    )


def _text(segment: PatternSegment) -> str:
    if segment.kind is SegmentKind.LITERAL:
        return segment.text
    return _VALUES.get(segment.kind, "nobodys-name")
