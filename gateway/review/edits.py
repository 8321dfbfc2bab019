"""Single edits of the configuration that could turn an answer around: a word that is spelled in
two ways, a permission of a role, an entry of a table of data.

Each is a whole configuration, so that what is shown is what the gateway would answer.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gateway.access.authorizer import Decision
from gateway.access.conditions.context import EvaluationContext, Missing, resolved_keys, value_at
from gateway.access.conditions.worlds_alike import PolicyTables
from gateway.access.evaluation import evaluation_context
from gateway.access.policies import SIGNED_IN, Effect, Policy, Rule
from gateway.access.roles import Role, RoleBook, matches
from gateway.access.routing.route_table import Match
from gateway.access.routing.routes import Route
from gateway.access.snapshot import Snapshot
from gateway.model import Call, Clock, SourceLocation
from gateway.review.policy_override import with_policies, with_route

_ALIKE = 0.75
"""How much two actions have in common of which one may be the other misspelt (0 to 1)."""


@dataclass(frozen=True, slots=True)
class Edit:
    change: str
    """What would have to be different, to be read after "allowed if" or "denied if"."""
    location: SourceLocation
    world: Snapshot
    chain: tuple[str, ...] = ()
    """How the caller comes to what was changed, each step with its line."""


def spellings(decision: Decision, snapshot: Snapshot) -> Iterator[Edit]:
    """The action of the route, of a rule or of a role, spelled as the other side spells it."""
    route, policy = _route_and_policy(decision)
    if route is None or policy is None or decision.allowed or not route.action:
        return
    action = route.action
    allows = [rule for rule in policy.rules if rule.effect is Effect.ALLOW and not rule.shadow]
    roles = _held(policy, decision)
    for other in _alike(action, [p for rule in allows for p in rule.actions]):
        change = f"the route's action were {other}, not {action}"
        yield Edit(change, route.location, with_route(snapshot, _about(route, other)))
    by_role = any(rule.role_permissions for rule in allows)
    if by_role:
        for other in _alike(action, [p for role in roles for p in role.permissions]):
            change = f"the route's action were {other}, not {action}"
            yield Edit(change, route.location, with_route(snapshot, _about(route, other)))
    for rule in allows:
        for pattern in _alike(action, rule.actions):
            actions = tuple(action if one == pattern else one for one in rule.actions)
            world = _with_rule(snapshot, policy, rule, dataclasses.replace(rule, actions=actions))
            yield Edit(f"rule {rule.id} were about {action}, not {pattern}", rule.location, world)
    for role in roles if by_role else ():
        for pattern in _alike(action, role.permissions):
            permissions = tuple(action if one == pattern else one for one in role.permissions)
            world = _with_role(snapshot, policy, dataclasses.replace(role, permissions=permissions))
            change = f"the role {role.name} held {action}, not {pattern}"
            yield Edit(change, role.location, world, _way(policy.roles, decision, role.name))


def role_edits(decision: Decision, snapshot: Snapshot) -> Iterator[Edit]:
    """A role of the caller with one permission more, or less."""
    route, policy = _route_and_policy(decision)
    if route is None or policy is None or not route.action:
        return
    if not any(rule.role_permissions for rule in policy.rules_for(route.action).rules):
        return
    for role in _held(policy, decision):
        way = _way(policy.roles, decision, role.name)
        if not decision.allowed:
            more = dataclasses.replace(role, permissions=(*role.permissions, route.action))
            change = f"the role {role.name} held {route.action}"
            yield Edit(change, role.location, _with_role(snapshot, policy, more), way)
            continue
        left = tuple(one for one in role.permissions if not matches(one, route.action))
        if left != role.permissions:
            less = dataclasses.replace(role, permissions=left)
            gone = ", ".join(one for one in role.permissions if one not in left)
            change = f"the role {role.name} did not hold {gone}"
            yield Edit(change, role.location, _with_role(snapshot, policy, less), way)


def data_edits(
    decision: Decision, call: Call | None, clock: Clock, snapshot: Snapshot
) -> Iterator[Edit]:
    """An entry of a table that a condition reads: the caller in or out of a list, a truth the
    other way round, a field that is not there."""
    route, policy = _route_and_policy(decision)
    if route is None or policy is None or call is None:
        return
    match = Match(route, dict(decision.params))
    context = evaluation_context(call, match, decision.principal, clock.now)
    if not isinstance(context, EvaluationContext):
        return
    seen: set[tuple[str, ...]] = set()
    for rule in policy.rules_for(route.action).rules:
        for chain in rule.condition.expression.paths if rule.condition is not None else ():
            keys = resolved_keys(chain, context) if chain.root == "data" else None
            if not keys or keys in seen:
                continue
            seen.add(keys)
            source = rule.condition.source if rule.condition is not None else ""
            for before, after, value in _other_values(value_at(chain, context), context, source):
                data = PolicyTables(_with_value(policy.data, keys, value))
                world = with_policies(
                    snapshot, {policy.name: dataclasses.replace(policy, data=data)}
                )
                name = ".".join(("data", *keys))
                table = snapshot.data_locations.get(keys[0])
                location = policy.location
                if table is not None:
                    location = table.of(policy.data.get(keys[0]), keys[1] if len(keys) > 1 else "")
                yield Edit(f"{before}{name}{after}", location, world)


def chain_of(book: RoleBook, start: str, action: str) -> tuple[str, ...]:
    """How the role `start` comes to hold `action`, each step with its line; empty where it does
    not, or by itself."""
    for path in _paths(book, start):
        role = book.roles[path[-1]]
        for permission in role.permissions:
            if matches(permission, action):
                return (
                    *_inherited(book, path),
                    f"{role.name} holds {permission} ({role.location})",
                )
    return ()


def _route_and_policy(decision: Decision) -> tuple[Route | None, Policy | None]:
    route = decision.route
    if route is None or route.policy is None or not decision.evaluated:
        return None, None
    return (None, None) if route.policy.name == SIGNED_IN else (route, route.policy)


def _held(policy: Policy, decision: Decision) -> list[Role]:
    """The defined roles of the caller, their own first."""
    own = decision.principal.roles if decision.principal is not None else ()
    names = dict.fromkeys((*own, *sorted(policy.roles.expand(own))))
    return [policy.roles.roles[name] for name in names if name in policy.roles.roles]


def _alike(action: str, patterns: Sequence[str]) -> list[str]:
    plain = [one for one in dict.fromkeys(patterns) if "*" not in one and one != action]
    return difflib.get_close_matches(action, plain, n=2, cutoff=_ALIKE)


def _about(route: Route, action: str) -> Route:
    return dataclasses.replace(route, action=action)


def _with_rule(snapshot: Snapshot, policy: Policy, old: Rule, new: Rule) -> Snapshot:
    rules = tuple(new if rule is old else rule for rule in policy.rules)
    other = dataclasses.replace(policy, rules=rules)
    return with_policies(snapshot, {policy.name: other})


def _with_role(snapshot: Snapshot, policy: Policy, role: Role) -> Snapshot:
    roles = {**policy.roles.roles, role.name: role}
    other = dataclasses.replace(policy, roles=RoleBook(roles.values()))
    return with_policies(snapshot, {policy.name: other})


def _way(book: RoleBook, decision: Decision, name: str) -> tuple[str, ...]:
    """By which of the caller's own roles a role is held, where it is not one of them."""
    own = decision.principal.roles if decision.principal is not None else ()
    if name in own:
        return ()
    for start in own:
        for path in _paths(book, start):
            if path[-1] == name:
                return _inherited(book, path)
    return ()


def _paths(book: RoleBook, start: str) -> Iterator[tuple[str, ...]]:
    """Ways from a role to those that it inherits, the shortest first; each role once."""
    waiting: list[tuple[str, ...]] = [(start,)]
    seen = {start}
    while waiting:
        path = waiting.pop(0)
        role = book.roles.get(path[-1])
        if role is None:
            continue
        yield path
        for name in role.inherits:
            if name not in seen:
                seen.add(name)
                waiting.append((*path, name))


def _inherited(book: RoleBook, path: tuple[str, ...]) -> tuple[str, ...]:
    pairs = pairwise(path)
    return tuple(f"{one} inherits {other} ({book.roles[one].location})" for one, other in pairs)


_TEXT = re.compile(r"""'([^'\\]*)'|"([^"\\]*)\"""")


def _other_values(
    value: Any, context: EvaluationContext, source: str
) -> Iterator[tuple[str, str, Any]]:
    """Other values of one entry, each with the words before and after its name; texts are those
    that the condition itself names."""
    caller = context.principal.subject if context.principal is not None else None
    if isinstance(value, bool):
        yield "", f" were {str(not value).lower()}", not value
    if isinstance(value, str):
        for text in dict.fromkeys(one or two for one, two in _TEXT.findall(source)):
            if text != value:
                yield "", f' were "{text}"', text
    if isinstance(value, list | tuple) and caller is not None:
        if caller in value:
            yield f'"{caller}" were not in ', "", [one for one in value if one != caller]
        else:
            yield f'"{caller}" were in ', "", [*value, caller]
    if not isinstance(value, Missing):
        yield "there were no ", "", _GONE


_GONE = object()


def _with_value(data: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """`data` with another value at `keys`; copied on the way there alone."""
    first, rest = keys[0], keys[1:]
    changed = dict(data)
    if rest:
        inner = data.get(first)
        changed[first] = _with_value(inner if isinstance(inner, Mapping) else {}, rest, value)
    elif value is _GONE:
        changed.pop(first, None)
    else:
        changed[first] = value
    return changed
