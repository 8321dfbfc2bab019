"""How much a route asks of whom it lets pass, and of which backend.

What `gateway validate` warns of compares routes by it; nothing is decided by it.

Law: what a caller must have is what an account that has nothing lacks (`made_up_calls.py`).  A deny
takes accounts away: that is more than none, and asks for nothing.  What was not tried is compared
with nothing: two routes of one policy never differ by which came first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from gateway.access.attributes import Attribute
from gateway.access.conditions.long_lists import longest
from gateway.access.definitions import UpstreamTarget
from gateway.access.policies import ActionRules, Policy, Rule
from gateway.access.routing.protection import closes
from gateway.access.routing.routes import Auth, Route
from gateway.config.made_up_calls import passes, reads_data, reads_the_call, set_by_persons, tries
from gateway.model import OWN_ISSUER

ANYBODY: Final = 0
EVERY_ACCOUNT: Final = 1
WHOM_A_POLICY_ALLOWS: Final = 2
NOBODY: Final = 3

_MOST_ASKED = 20_000
"""Conditions of a configuration that are evaluated."""
_ASKED_AS_LIST = 20
"""So many of those is one that goes through a list; one of `data` by its length besides."""
_ASK_FOR_AN_ACCOUNT = ("", "true", "user != null", "null != user")
"""Conditions that each signed-in caller meets."""
_ANY_OTHER = ""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", _ANY_OTHER)
"""Of a route for any."""

_THIS_MACHINE = frozenset(("localhost", "127.0.0.1", "::1"))
"""One process listens at all of them, as a rule."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """All by which routes are compared; many have the same."""

    levels: tuple[tuple[str, int | None], ...]
    """For each method that is taken one of the four above; None where it was not tried."""
    issuers: frozenset[str]
    terms: frozenset[str]
    scopes: frozenset[str]
    """Without which a token of another issuer does not pass."""

    def more_than(self, other: _Asked) -> bool:
        mine, theirs = dict(self.levels), dict(other.levels)
        for method in {**mine, **theirs}:
            level = mine.get(method, mine.get(_ANY_OTHER))
            their_level = theirs.get(method, theirs.get(_ANY_OTHER))
            if level is None or their_level is None:
                continue
            if self._more_by(level, their_level, other):
                return True
        return False

    def _more_by(self, level: int, theirs: int, other: _Asked) -> bool:
        if level != theirs or level > EVERY_ACCOUNT:
            return level > theirs <= EVERY_ACCOUNT
        if level == EVERY_ACCOUNT and self._takes_fewer(other):
            return True
        return not self.terms <= other.terms

    def _takes_fewer(self, other: _Asked) -> bool:
        if not other.issuers <= self.issuers:
            return True
        # Who has an account here comes with a cookie, and needs none.
        return not other.issuers <= {OWN_ISSUER} and not self.scopes <= other.scopes


class Asking:
    """What the routes of one configuration ask; each is asked once, and two of a kind are compared
    once.  `attributes` are those that accounts may have."""

    def __init__(self, attributes: Iterable[Attribute] = ()) -> None:
        self._given = set_by_persons(attributes)
        self._passed: dict[tuple[object, ...], bool] = {}
        self._left = _MOST_ASKED
        self._costs: dict[tuple[Policy, str], int] = {}
        self._kinds: dict[_Asked, int] = {}
        self._kind_of: dict[Route, tuple[int, _Asked]] = {}
        self._compared: dict[tuple[int, int], bool] = {}

    def of(self, route: Route) -> int:
        """Whom it lets pass by some method: one of the four above."""
        levels = [level for _, level in self._kind(route)[1].levels if level is not None]
        return min(levels, default=WHOM_A_POLICY_ALLOWS)

    def more(self, other: Route, route: Route) -> bool:
        """Whether `other` asks for more, of calls that both take."""
        number, asked = self._kind(other)
        than_number, than = self._kind(route)
        pair = number, than_number
        known = self._compared.get(pair)
        if known is None:
            known = self._compared[pair] = asked.more_than(than)
        return known

    def limits_more(self, other: Route, route: Route) -> bool:
        """Whether `other` has each limit of `route` and one more, for the same callers of a
        backend."""
        if not other.limits or other.upstream is None or not share_a_method(other, route):
            return False
        return _limits(route) < _limits(other) and self.of(other) == self.of(route)

    def open_to(self, route: Route) -> str:
        return "anybody" if self.of(route) == ANYBODY else "every account"

    def _kind(self, route: Route) -> tuple[int, _Asked]:
        kind = self._kind_of.get(route)
        if kind is None:
            levels = tuple((one, self._level(route, one)) for one in route.methods or _METHODS)
            asked = _Asked(levels, route.issuers, _terms(route), _scopes(route))
            number = self._kinds.setdefault(asked, len(self._kinds))
            kind = self._kind_of[route] = number, asked
        return kind

    def _level(self, route: Route, method: str) -> int | None:
        if closes(route):
            return NOBODY
        policy = route.policy
        if policy is None:
            return ANYBODY
        if policy.shadow:
            return EVERY_ACCOUNT
        if route.auth is Auth.OPTIONAL:
            anybody = self._passes(route, policy, method, signed_in=False)
            if anybody is not False:
                return ANYBODY if anybody else None
        signed_in = self._passes(route, policy, method, signed_in=True)
        if signed_in is None:
            return None
        return EVERY_ACCOUNT if signed_in else WHOM_A_POLICY_ALLOWS

    def _passes(self, route: Route, policy: Policy, method: str, *, signed_in: bool) -> bool | None:
        """None where too much has been tried before."""
        rules = policy.rules_for(route.action)
        key: tuple[object, ...] = (policy, route.action, route.issuers, signed_in)
        if reads_the_call(rules):
            key = (route, method, signed_in)
        passed = self._passed.get(key)
        if passed is None:
            cost = self._cost(policy, route.action, rules)
            if cost > self._left:
                return None
            self._left -= cost
            passed = passes(route, policy, method, self._given, signed_in=signed_in)
            self._passed[key] = passed
        return passed

    def _cost(self, policy: Policy, action: str, rules: ActionRules) -> int:
        cost = self._costs.get((policy, action))
        if cost is None:
            cost = len(rules.rules)
            if rules.may_take_long:
                cost += _ASKED_AS_LIST + (longest(policy.data) if reads_data(rules) else 0)
            cost *= tries(rules)
            self._costs[policy, action] = cost
        return cost


def share_a_method(one: Route, other: Route) -> bool:
    return not one.methods or not other.methods or bool(set(one.methods) & set(other.methods))


def backends(route: Route) -> set[UpstreamTarget]:
    """Its targets, the same for all that name one process."""
    return set() if route.upstream is None else set(map(_backend, route.upstream.targets))


def named_hosts(route: Route) -> set[str]:
    """The `Host` that its upstream has of its own, if it has one."""
    host = None if route.upstream is None else route.upstream.host
    return set() if host is None else {host}


def _limits(route: Route) -> set[str]:
    return {limit.name for limit in route.limits}


def _backend(target: UpstreamTarget) -> UpstreamTarget:
    host = "localhost" if target.host in _THIS_MACHINE else target.host
    return replace(target, url="", host=host)


def _scopes(route: Route) -> frozenset[str]:
    return frozenset(() if route.resource_server is None else route.resource_server.scopes)


def _terms(route: Route) -> frozenset[str]:
    """What its policy says that may keep some away: the denies, each by itself, and the allows
    where none takes every account."""
    if route.policy is None or route.policy.shadow:
        return frozenset()
    rules = route.policy.rules_for(route.action)
    allows = sorted(map(_text, rules.allows))
    takes_all = any(text in _ASK_FOR_AN_ACCOUNT for text in allows)
    terms = {f"deny {_text(rule)}" for rule in rules.denies}
    return frozenset(terms if takes_all else {*terms, f"allow {allows}"})


def _text(rule: Rule) -> str:
    text = "" if rule.condition is None else " ".join(rule.condition.source.split())
    if rule.step_up is not None:
        text += f" {rule.step_up}"
    return f"{text} role-permissions" if rule.role_permissions else text
