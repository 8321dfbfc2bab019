"""How much a route asks of whom it lets pass, and of which backend, as far as its text tells.

What `gateway validate` warns of compares routes by it; nothing is decided by it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gateway.access.definitions import UpstreamTarget
from gateway.access.policies import Rule
from gateway.access.routing.protection import closes
from gateway.access.routing.routes import Auth, Route

ANYBODY: Final = 0
EVERY_ACCOUNT: Final = 1
WHOM_A_POLICY_ALLOWS: Final = 2
NOBODY: Final = 3

_ASK_NOTHING = ("", "true")
_ASK_FOR_AN_ACCOUNT = ("user != null", "null != user")
"""Conditions that each signed-in caller meets."""

_THIS_MACHINE = frozenset(("localhost", "127.0.0.1", "::1"))
"""One process listens at all of them, as a rule."""


def asks(route: Route) -> int:
    """Whom it lets pass: one of the four above."""
    if closes(route):
        return NOBODY
    if route.policy is None:
        return ANYBODY
    if route.policy.shadow:
        return EVERY_ACCOUNT
    rules = route.policy.rules_for(route.action)
    if rules.denies:
        return WHOM_A_POLICY_ALLOWS
    asked = min(map(_rule_asks, rules.allows), default=WHOM_A_POLICY_ALLOWS)
    return asked if route.auth is Auth.OPTIONAL else max(asked, EVERY_ACCOUNT)


def asks_more(other: Route, route: Route) -> bool:
    """Of calls that both take."""
    if not share_a_method(other, route):
        return False
    asked, met = asks(other), asks(route)
    return asked > met or (asked == met == EVERY_ACCOUNT and not route.issuers <= other.issuers)


def limits_more(other: Route, route: Route) -> bool:
    """Whether `other` has each limit of `route` and one more, for the same callers of a backend."""
    if not other.limits or other.upstream is None or asks(other) != asks(route):
        return False
    if not share_a_method(other, route):
        return False
    return _limits(route) < _limits(other)


def share_a_method(one: Route, other: Route) -> bool:
    return not one.methods or not other.methods or bool(set(one.methods) & set(other.methods))


def open_to(route: Route) -> str:
    return "anybody" if asks(route) == ANYBODY else "every account"


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


def _rule_asks(rule: Rule) -> int:
    """Of a rule that allows."""
    condition = "" if rule.condition is None else " ".join(rule.condition.source.split())
    if rule.role_permissions or rule.step_up is not None:
        return WHOM_A_POLICY_ALLOWS
    if rule.every_user or condition in _ASK_FOR_AN_ACCOUNT:
        return EVERY_ACCOUNT
    return ANYBODY if condition in _ASK_NOTHING else WHOM_A_POLICY_ALLOWS
