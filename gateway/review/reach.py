"""Who can reach what: whether a caller passes a route, as far as the caller alone settles it.

Law: it never says yes of what a rule could still deny, nor no of what one could still allow: what
hangs on the call (its resource, its address, the hour) is `depends`, with the rule that asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from gateway.access.conditions.context import EvaluationContext
from gateway.access.policies import Policy, Rule
from gateway.access.routing.routes import Auth, Route
from gateway.model import OWN_ISSUER, Call, Principal

_OF_ROLES = frozenset(("roles",))
_OF_ACCOUNT = frozenset(("roles", "id", "email", "email_verified", "attributes", "tenants"))
"""Not `tenant`: whoever has several chooses one at a sign-in."""
_SETTLED_ROOTS = frozenset(("user", "data"))
_NOWHERE = Call("GET", "", "/", ("",), "", headers=(), client_ip="127.0.0.1", scheme="http")


class Reach(StrEnum):
    YES = "yes"
    STEP_UP = "step-up"
    """After a stronger or fresher sign-in."""
    DEPENDS = "depends"
    """On the call: its resource, its address, the hour."""
    NO = "no"


@dataclass(frozen=True, slots=True)
class Reached:
    reach: Reach
    rule: str = ""
    """The rule that decides, or that asks what the caller does not settle."""


def reach(
    route: Route, caller: Principal | None, now: Callable[[], float], *, of_account: bool = False
) -> Reached:
    """`of_account`: the caller is a known account, and not only a set of roles."""
    policy = route.policy
    if route.auth is Auth.PUBLIC:
        return Reached(Reach.YES)
    if caller is None and route.auth is Auth.REQUIRED:
        return Reached(Reach.NO)
    if policy is None or policy.shadow:
        return Reached(Reach.YES)
    if caller is not None and OWN_ISSUER not in route.issuers:
        return Reached(Reach.DEPENDS, "tokens of others")
    reached = _by_policy(policy, route, caller, now, of_account=of_account)
    if reached.reach is Reach.YES and (asked := _besides(route)):
        return Reached(Reach.DEPENDS, asked)
    return reached


def _besides(route: Route) -> str:
    """What a route asks for beside its policy."""
    if route.resource_server is not None and route.resource_server.scopes:
        return "scopes"
    return "tenant" if route.tenant is not None else ""


def _by_policy(
    policy: Policy,
    route: Route,
    caller: Principal | None,
    now: Callable[[], float],
    *,
    of_account: bool,
) -> Reached:
    known = _OF_ACCOUNT if of_account else _OF_ROLES
    question = _Question(policy, route, caller, now, known)
    rules = policy.rules_for(route.action)
    unsettled = ""
    for rule in rules.denies:
        applies = question.applies(rule)
        if applies and rule.step_up is None:
            return Reached(Reach.NO, rule.id)
        if applies is None or (applies and rule.step_up is not None):
            unsettled = unsettled or rule.id
    possible = ""
    asked = ""
    for rule in rules.allows:
        applies = question.applies(rule)
        if applies and rule.step_up is None:
            return Reached(Reach.DEPENDS, unsettled) if unsettled else Reached(Reach.YES, rule.id)
        if applies:
            asked = asked or rule.id
        elif applies is None:
            possible = possible or rule.id
    if asked and not unsettled:
        return Reached(Reach.STEP_UP, asked)
    if asked or possible:
        return Reached(Reach.DEPENDS, unsettled or possible)
    return Reached(Reach.NO)


class _Question:
    """Of one caller and one route."""

    def __init__(
        self,
        policy: Policy,
        route: Route,
        caller: Principal | None,
        now: Callable[[], float],
        known: frozenset[str],
    ) -> None:
        self._route = route
        self._known = known
        self._context = EvaluationContext(_NOWHERE, caller, policy.roles, now, data=policy.data)

    def applies(self, rule: Rule) -> bool | None:
        """None where the caller does not settle it."""
        condition, context = rule.condition, self._context
        if condition is not None and not self._settles(rule):
            bare = Rule(
                rule.id,
                rule.effect,
                rule.actions,
                rule.role_permissions,
                rule.every_user,
            )
            return None if bare.applies(self._route.action, context) is True else False
        outcome = rule.applies(self._route.action, context)
        if isinstance(outcome, str):
            # A condition that fails denies, whichever rule has it: it is not an allow, and what
            # it would deny is not let through.
            return None
        return outcome

    def _settles(self, rule: Rule) -> bool:
        condition = rule.condition
        assert condition is not None
        reads = condition.reads
        return reads.roots <= _SETTLED_ROOTS and reads.user <= self._known
