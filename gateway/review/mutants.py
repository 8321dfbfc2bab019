"""Tests tested: rules, roles, tables and routes changed one by one, and whether any case
notices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.access.conditions.context import EvaluationContext
from gateway.access.policies import SIGNED_IN, Effect, Policy, Rule
from gateway.access.roles import Role, RoleBook
from gateway.access.routing.routes import Auth, Route
from gateway.access.snapshot import Snapshot
from gateway.model import (
    DEFAULT_ACCEPT,
    OWN_ISSUER,
    OWN_ISSUERS,
    CredentialKind,
    SourceLocation,
)
from gateway.review.counterfactuals import mentioned_in_conditions
from gateway.review.policy_override import rerouted, with_policies
from gateway.review.suite import CaseResult, Statuses, run_case
from gateway.review.table_mutants import changed_tables

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Mutant:
    of: str
    """`rule`, `role`, `table` or `route`."""
    name: str
    how: str
    """`removed`, `negated`, `for every role`, `without orders:read`, `for every method`, …"""
    location: SourceLocation
    world: Snapshot
    policies: frozenset[str] | None = None
    """Those that are changed; None where a route is, and any call may notice."""

    def __str__(self) -> str:
        return f"{self.location}: {self.of} {self.name} {self.how}"


@dataclass(slots=True)
class MutationReport:
    tried: int = 0
    survivors: list[Mutant] = dataclasses.field(default_factory=list)


def mutation_report(
    results: Sequence[CaseResult], snapshot: Snapshot, statuses: Statuses
) -> MutationReport:
    """Tries every mutant with the cases that could notice it.  `results` all passed."""
    by_policy: dict[str, list[CaseResult]] = {}
    for result in results:
        route = result.actual.decision.route
        if route is not None and route.policy is not None:
            by_policy.setdefault(route.policy.name, []).append(result)
    report = MutationReport()
    for mutant in mutants(snapshot):
        report.tried += 1
        cases = results
        if mutant.policies is not None:
            cases = [one for name in sorted(mutant.policies) for one in by_policy.get(name, ())]
        if all(run_case(one.case, mutant.world, statuses).passed for one in cases):
            report.survivors.append(mutant)
    return report


def mutants(snapshot: Snapshot) -> Iterator[Mutant]:
    """Every mutant that could change an answer on some route."""
    routes: dict[str, list[Route]] = {}
    for route in snapshot.routes:
        if route.policy is not None and route.policy.name != SIGNED_IN:
            routes.setdefault(route.policy.name, []).append(route)
    for policy in snapshot.policies.values():
        if policy.name != SIGNED_IN:
            yield from _of_rules(policy, routes.get(policy.name, []), snapshot)
    judging = [policy for policy in snapshot.policies.values() if policy.name in routes]
    yield from _of_roles(judging, routes, snapshot)
    for table in changed_tables(judging, routes, snapshot):
        world = with_policies(snapshot, table.policies)
        yield Mutant(
            "table", table.name, table.how, table.location, world, frozenset(table.policies)
        )
    for route in snapshot.routes:
        yield from _of_route(route, snapshot)


# Rules


def _of_rules(policy: Policy, routes: list[Route], snapshot: Snapshot) -> Iterator[Mutant]:
    for rule in policy.rules:
        for how, other in _changes(rule, routes):
            rules = tuple(
                kept
                for kept in (other if one is rule else one for one in policy.rules)
                if kept is not None
            )
            mutated = dataclasses.replace(policy, rules=rules)
            world = with_policies(snapshot, {policy.name: mutated})
            yield Mutant("rule", rule.id, how, rule.location, world, frozenset((policy.name,)))


def _changes(rule: Rule, routes: list[Route]) -> Iterator[tuple[str, Rule | None]]:
    yield "removed", None
    conditional = rule.condition is not None or rule.role_permissions
    if conditional:
        yield "negated", _negated(rule)
    if rule.condition is not None:
        yield "without its condition", dataclasses.replace(rule, condition=None)
    if rule.headers and any(_sends(rule, route) for route in routes):
        yield "without its headers", dataclasses.replace(rule, headers=())
    if rule.role_permissions:
        widened = dataclasses.replace(rule, role_permissions=False, actions=("*",), every_user=True)
        yield "for every role", widened
    elif any(not rule.matches_action(route.action) and _can_hold(rule, route) for route in routes):
        yield "for every action", dataclasses.replace(rule, actions=("*",))


def _can_hold(rule: Rule, route: Route) -> bool:
    """Whether the rule could make a difference on the route: an allow whose condition reads
    what the route does not give fails there, and changes nothing."""
    if rule.condition is None or rule.effect is Effect.DENY:
        return True
    reads = rule.condition.reads
    given = {one.name for one in route.resource}
    return reads.must_resource <= given and reads.must_params <= set(route.param_names)


def _sends(rule: Rule, route: Route) -> bool:
    """Whether the fields of the rule may reach a backend on the route."""
    enforced = not rule.shadow and route.policy is not None and not route.policy.shadow
    return enforced and route.upstream is not None and rule.matches_action(route.action)


class _Negated(Rule):
    """Holds where the rule would not."""

    __slots__ = ()

    def applies(self, action: str, context: EvaluationContext) -> bool | str:
        outcome = Rule.applies(self, action, context)
        return outcome if isinstance(outcome, str) else not outcome


def _negated(rule: Rule) -> Rule:
    values = {one.name: getattr(rule, one.name) for one in dataclasses.fields(rule) if one.init}
    return _Negated(**values)


# Roles


def _of_roles(
    policies: Sequence[Policy], routes: dict[str, list[Route]], snapshot: Snapshot
) -> Iterator[Mutant]:
    """Each role with a permission or a role that it inherits less, and with every permission.
    A role that several policies know is changed in all of them."""
    roles = {
        (role.name, role.location): role
        for policy in policies
        for role in policy.roles.roles.values()
    }  # fmt: skip
    for role in roles.values():
        holding = [one for one in policies if one.roles.roles.get(role.name) is role]
        holding = holding or [
            policy
            for policy in policies
            if (known := policy.roles.roles.get(role.name)) is not None
            and known.location == role.location
        ]
        for how, other in _other_roles(role):
            changed = {}
            for policy in holding:
                book = RoleBook({**policy.roles.roles, role.name: other}.values())
                if _differs(policy, book, routes[policy.name]):
                    changed[policy.name] = dataclasses.replace(policy, roles=book)
            if changed:
                world = with_policies(snapshot, changed)
                yield Mutant("role", role.name, how, role.location, world, frozenset(changed))


def _other_roles(role: Role) -> Iterator[tuple[str, Role]]:
    for permission in role.permissions:
        left = tuple(one for one in role.permissions if one != permission)
        yield f"without {permission}", dataclasses.replace(role, permissions=left)
    for inherited in role.inherits:
        left = tuple(one for one in role.inherits if one != inherited)
        yield f"without inheriting {inherited}", dataclasses.replace(role, inherits=left)
    if "*" not in role.permissions:
        yield "with every permission", dataclasses.replace(role, permissions=("*",))


def _differs(policy: Policy, book: RoleBook, routes: Sequence[Route]) -> bool:
    """Whether any rule of the policy could tell the two books apart on one of its routes."""
    named = set(mentioned_in_conditions(policy))
    by_role = [route for route in routes if any(r.role_permissions for r in _rules(policy, route))]
    for name in book.roles:
        if policy.roles.expand((name,)) & named != book.expand((name,)) & named:
            return True
        for route in by_role:
            before, after = (one.permits((name,), route.action) for one in (policy.roles, book))
            if before is not after:
                return True
    return False


def _rules(policy: Policy, route: Route) -> tuple[Rule, ...]:
    return policy.rules_for(route.action).rules


# Routes


def _of_route(route: Route, snapshot: Snapshot) -> Iterator[Mutant]:
    for how, other in _other_routes(route, snapshot):
        yield Mutant("route", route.id, how, route.location, rerouted(snapshot, route, other))


def _other_routes(route: Route, snapshot: Snapshot) -> Iterator[tuple[str, Route | None]]:
    def changed(**changes: object) -> Route:
        return dataclasses.replace(route, **changes)  # type: ignore[arg-type]

    yield "removed", None
    if route.auth is Auth.REQUIRED or route.policy is not None:
        yield "open to everybody", changed(auth=Auth.PUBLIC, policy=None)
    if route.auth is not Auth.REQUIRED:
        yield "for the signed-in alone", changed(auth=Auth.REQUIRED)
    if len(route.methods) > 1:
        for method in route.methods:
            left = tuple(one for one in route.methods if one != method)
            yield f"without {method}", changed(methods=left)
    taken = {
        method for one in snapshot.routes
        if one is not route and one.hosts == route.hosts and one.patterns() == route.patterns()
        for method in one.methods
    }  # fmt: skip
    every = tuple(method for method in METHODS if method not in taken)
    if route.methods and set(every) - set(route.methods) - {"HEAD"}:
        yield "for every method", changed(methods=tuple(dict.fromkeys((*route.methods, *every))))
    if route.hosts:
        yield "for every host", changed(hosts=())
    if route.auth is not Auth.PUBLIC:
        yield from _for_others_credentials(route, snapshot)
    for field in route.resource:
        if route.action_rules is not None and any(
            rule.condition is not None and field.name in rule.condition.reads.resource
            for rule in route.action_rules.rules
        ):
            left_ = tuple(one for one in route.resource if one is not field)
            yield f"without resource.{field.name}", changed(resource=left_)


def _for_others_credentials(route: Route, snapshot: Snapshot) -> Iterator[tuple[str, Route]]:
    # Nobody but ourselves gives cookies and keys.
    if OWN_ISSUER in route.issuers and not route.accept >= DEFAULT_ACCEPT:
        accept = route.accept | DEFAULT_ACCEPT
        yield "for every kind of credential", dataclasses.replace(route, accept=accept)
    issuers = OWN_ISSUERS | frozenset(snapshot.issuers)
    if CredentialKind.BEARER in route.accept and not route.issuers >= issuers:
        yield "for tokens of every issuer", dataclasses.replace(route, issuers=issuers)
    if route.resource_server is not None:
        yield "for tokens of every resource", dataclasses.replace(route, resource_server=None)
