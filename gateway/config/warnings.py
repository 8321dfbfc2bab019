"""What is no mistake, but hardly meant: `gateway validate` warns of it, and loads it.

Most of it is one word spelled in two ways: an action of a route that no rule and no role gives,
or one of a rule or a role that no route asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.access.attributes import Attribute
from gateway.access.policies import SIGNED_IN, Effect, Policy, Rule
from gateway.access.roles import Role, matches
from gateway.access.routing.route_table import RouteTable
from gateway.access.routing.routes import Route
from gateway.access.suggestions import suggestion
from gateway.config.asking import Asking
from gateway.config.never_equal import never_equal
from gateway.config.policies import ROLE_PERMISSIONS
from gateway.config.refused_rewrites import refused_rewrites
from gateway.config.shared_backends import shared_backends
from gateway.config.weaker_routes import weaker_routes
from gateway.model import OWN_ISSUER, ConfigProblem


@dataclass(slots=True)
class _PolicyActions:
    """A policy, and the actions that its routes ask it about."""

    policy: Policy
    actions: set[str] = field(default_factory=set)

    def asks(self, pattern: str) -> bool:
        return any(matches(pattern, action) for action in self.actions)


def notices(
    table: RouteTable, policies: Mapping[str, Policy], attributes: Mapping[str, Attribute]
) -> list[ConfigProblem]:
    """Routes that nobody can ever pass, whose action no policy judges, or whose paths backends may
    read in several ways; policies of no route; and actions in rules and roles that no route has."""
    asked: dict[str, _PolicyActions] = {}
    for route in table:
        if route.policy is not None:
            one = asked.setdefault(route.policy.name, _PolicyActions(route.policy))
            one.actions.add(route.action)
    problems = [
        ConfigProblem.at(policy.location, f"no route names policy `{policy.name}`")
        for policy in policies.values()
        if policy.name not in asked and policy.name != SIGNED_IN
    ]
    problems += [_reads_otherwise(route) for route in table if route.takes_files]
    problems += [_any_tenant(route) for route in table if _ignores_tenant(route)]
    asking = Asking(attributes.values())
    around = list(shared_backends(table, asking))
    told = {(problem.line, problem.column) for problem in around}
    weaker = (one for one in weaker_routes(table, asking) if (one.line, one.column) not in told)
    problems += [*around, *weaker, *refused_rewrites(table), *never_equal(table)]
    problems += [_unjudged(route) for route in table if route.action and route.policy is None]
    reported: set[str] = set()
    for route in table:
        if route.policy is not None and not _passable(route, route.policy):
            reported.add(route.policy.name)
            problems.append(_impassable(route, route.policy))
    # A misspelt action of a route is reported there, not a second time by every rule.
    rest = [one for name, one in asked.items() if name not in reported and name != SIGNED_IN]
    for one in rest:
        for rule in one.policy.rules:
            problems += _idle_actions(rule, one)
    return problems + list(_idle_permissions(asked.values(), reported))


def open_to_anybody(table: RouteTable, who: str) -> list[ConfigProblem]:
    """A notice where a route takes every account, and `who` may make one; empty: nobody may."""
    routes = [
        r
        for r in table
        if r.policy is not None and r.policy.name == SIGNED_IN and OWN_ISSUER in r.issuers
    ]
    if not (routes and who):
        return []
    others = f" (and {len(routes) - 1} more)" if len(routes) > 1 else ""
    text = (
        f"route `{routes[0].id}`{others}: `policy: {SIGNED_IN}` allows every account, and "
        f"{who} may make one (GATEWAY_REGISTRATION=open)"
    )
    return [ConfigProblem.at(routes[0].location, text)]


def _reads_otherwise(route: Route) -> ConfigProblem:
    """What `paths: files` gives up, whoever wrote it: it is seen where the file is checked."""
    text = (
        f"route `{route.id}` takes `;`, `%5C` and `%25` (`paths: files`): a backend that cuts "
        "parameters, takes a backslash for a slash or decodes twice serves another name below this "
        "route than the one that was asked for"
    )
    return ConfigProblem.at(route.location, text)


def _ignores_tenant(route: Route) -> bool:
    """Whether the route names a tenant that none of its rules looks at."""
    if route.tenant is None or route.policy is None:
        return False
    return not any(
        rule.condition is not None
        and {"tenant", "tenant_role", "tenants"} & rule.condition.reads.user
        for rule in route.policy.rules_for(route.action).rules
    )


def _any_tenant(route: Route) -> ConfigProblem:
    text = (
        f"route `{route.id}` names the tenant `{{{route.tenant}}}`, and no rule reads"
        " `user.tenant`: who is of another tenant, or of none, gets in as well"
    )
    return ConfigProblem.at(route.location, text)


def _unjudged(route: Route) -> ConfigProblem:
    """An action that waits for a policy: `auth: optional` under a policy of `defaults`."""
    text = (
        f"route `{route.id}` has the action `{route.action}` and no policy that judges it: the one "
        "of `defaults` is for `auth: required` alone. Only keys that are limited to scopes are "
        "measured by it"
    )
    return ConfigProblem.at(route.location, text)


def _passable(route: Route, policy: Policy) -> bool:
    if policy.name == SIGNED_IN or policy.shadow:
        return True
    return any(
        rule.effect is Effect.ALLOW
        and (not rule.role_permissions or _role_gives(policy, route.action))
        for rule in policy.rules_for(route.action).rules
    )


def _role_gives(policy: Policy, action: str) -> bool:
    return any(
        matches(permission, action)
        for role in policy.roles.roles.values()
        for permission in role.permissions
    )


def _impassable(route: Route, policy: Policy) -> ConfigProblem:
    patterns = {p for rule in policy.rules for p in rule.actions}
    by_role = any(rule.role_permissions for rule in policy.rules)
    if by_role:
        patterns |= {p for role in policy.roles.roles.values() for p in role.permissions}
    action = f"`{route.action}`" if route.action else "a route without `action`"
    roles = " and no role of it" if by_role else ""
    hint = suggestion(route.action, sorted(p for p in patterns if "*" not in p))
    text = (
        f"route `{route.id}`: no rule of policy `{policy.name}`{roles} allows {action}, so nobody "
        f"can pass{hint}"
    )
    return ConfigProblem.at(route.location, text)


def _idle_actions(rule: Rule, asked: _PolicyActions) -> Iterator[ConfigProblem]:
    """What the rule is about and no route asks for, such as `allow: role-permission`."""
    idle = [p for p in rule.actions if p != "*" and not asked.asks(p)]
    if not idle:
        return
    known = sorted({ROLE_PERMISSIONS, *asked.actions} - {""})
    if len(idle) == len(rule.actions):
        hint = suggestion(idle[0], known)
        text = f"rule `{rule.id}` covers the action of no route{hint}"
        yield ConfigProblem.at(rule.location, text)
        return
    for pattern in idle:
        hint = suggestion(pattern, known)
        yield ConfigProblem.at(
            rule.location, f"rule `{rule.id}`: no route has the action `{pattern}`{hint}"
        )


def _idle_permissions(
    asked: Iterable[_PolicyActions], reported: set[str]
) -> Iterator[ConfigProblem]:
    """Permissions of roles that no route of a policy that goes by roles asks for.  A shared
    role is known to many policies: one that uses the permission is enough."""
    used: dict[tuple[Role, str], bool] = {}
    known: set[str] = set()
    for one in asked:
        by_role = any(rule.role_permissions for rule in one.policy.rules)
        if not by_role:
            continue
        known |= one.actions
        for role in one.policy.roles.roles.values():
            for permission in role.permissions:
                key = role, permission
                asks = permission == "*" or one.policy.name in reported or one.asks(permission)
                used[key] = used.get(key, False) or asks
    for (role, permission), is_used in used.items():
        if not is_used:
            hint = suggestion(permission, sorted(known - {""}))
            text = f"role `{role.name}`: no route has the action `{permission}`{hint}"
            yield ConfigProblem.at(role.location, text)
