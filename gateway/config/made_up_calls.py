"""Calls that nobody made, by somebody who has nothing: whether a route lets them pass.

So a condition that is no condition is found however it is written (`size(user.roles) >= 0`).

Law: what depends on the hour is no answer, as the configuration would be another at night.  An
allow that reads the clock asks for something, and a deny that does asks for nothing.  Nor does a
deny that fails on what the call does not say: who says something else passes.  `step_up` always
asks for something, though the account signed in a moment ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.access.attributes import Attribute, AttributeType, SetBy
from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import EvaluationContext
from gateway.access.policies import ActionRules, Policy, Rule
from gateway.access.routing.routes import BELOW, PatternSegment, Route, SegmentKind
from gateway.model import OWN_ISSUER, Call, Principal

_NOBODY = "nobody.invalid"
"""No name that is in use ends so (RFC 6761 section 6.4)."""
_NOW = 4_102_444_800
"""By the clock of these calls: 2100, later than any day that a condition writes."""
_PLACES = (("192.31.196.1",), ("2001:4:112::1",), ("8.8.8.8", "77.88.8.8"))
"""Addresses like any other, at which no client is (RFC 7535 section 3.2).  None of such is known
in the lower half of IPv4: there it is two far from each other, of services that call nobody."""
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


def set_by_persons(attributes: Iterable[Attribute]) -> Mapping[str, Any]:
    """What an account gives itself, if it likes: a value of each attribute that it may set."""
    return {one.name: _given(one) for one in attributes if SetBy.PERSON in one.set_by}


def tries(rules: ActionRules) -> int:
    """How often `passes` evaluates them at most."""
    addresses = sum(map(len, _places(rules)))
    return addresses * (2 if _reads(rules, "attributes") else 1)


def passes(
    route: Route, policy: Policy, method: str, given: Mapping[str, Any], *, signed_in: bool
) -> bool:
    """Whether the policy allows a call of the route without a query, headers of its own and a
    body: by an account without roles and tenants, and without attributes or with those that it is
    `given`; or without any account."""
    rules = policy.rules_for(route.action)
    callers: list[Principal | None] = [_account(route, {}) if signed_in else None]
    if signed_in and given and _reads(rules, "attributes"):
        callers.append(_account(route, given))
    return any(
        all(
            _allows(rules, route.action, _context(route, policy, method, address, caller))
            for address in place
        )
        for caller in callers
        for place in _places(rules)
    )


def _places(rules: ActionRules) -> tuple[tuple[str, ...], ...]:
    """Each the addresses of which all have to pass."""
    return _PLACES if any("client" in _roots(one) for one in rules.rules) else (("",),)


def _reads(rules: ActionRules, field: str) -> bool:
    return any(
        rule.condition is not None and field in rule.condition.reads.user for rule in rules.rules
    )


def _allows(rules: ActionRules, action: str, context: EvaluationContext) -> bool:
    return any(
        "now" not in _roots(rule) and not rule.step_up and rule.applies(action, context) is True
        for rule in rules.allows
    ) and not any(_turns_away(rule, action, context) for rule in rules.denies)


def _turns_away(rule: Rule, action: str, context: EvaluationContext) -> bool:
    if "now" in _roots(rule):
        return False
    outcome = rule.applies(action, context)
    if isinstance(outcome, str):
        return rule.condition is None or not _reads_what_is_not_there(rule.condition)
    return outcome


def _reads_what_is_not_there(condition: Condition) -> bool:
    reads = condition.reads
    return bool(reads.query or reads.headers or reads.resource or reads.whole_resource)


def _roots(rule: Rule) -> frozenset[str]:
    return frozenset() if rule.condition is None else rule.condition.reads.roots


def _context(
    route: Route, policy: Policy, method: str, address: str, principal: Principal | None
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
    context = EvaluationContext(
        call, principal, policy.roles, lambda: float(_NOW), params, data=policy.data
    )
    if route.resource:
        context.resource = route.resource_of({"params": params})
    return context


def _account(route: Route, given: Mapping[str, Any]) -> Principal:
    """One that anybody may have: without roles and tenants.  Others do not always tell when
    somebody signed in, and know none of our attributes."""
    is_own = OWN_ISSUER in route.issuers
    issuer = OWN_ISSUER if is_own else min(route.issuers, default=OWN_ISSUER)
    before = "" if issuer == OWN_ISSUER else f"{issuer}:"
    return Principal(
        f"{before}nobody",
        (),
        f"{before}session",
        f"{before}token",
        None,
        kid="",
        issued_at=_NOW,
        expires_at=_NOW,
        email=f"nobody@{_NOBODY}",
        email_verified=True,
        auth_time=_NOW if is_own else None,
        claims={"attributes": given} if given else None,
        issuer=issuer,
    )


def _given(attribute: Attribute) -> Any:
    if attribute.type is AttributeType.BOOLEAN:
        return True
    if attribute.type is AttributeType.INTEGER:
        return 1
    text = attribute.values[0] if attribute.values else "nobodys"
    return [text] if attribute.type is AttributeType.LIST else text


def _text(segment: PatternSegment) -> str:
    if segment.kind is SegmentKind.LITERAL:
        return segment.text
    return _VALUES.get(segment.kind, "nobodys-name")
