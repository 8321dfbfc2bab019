"""Who gains and who loses access between two configurations.

Every kind of call that the two can tell apart is asked of the real `Authorizer.decide` on both
sides (`comparison`), and what differs is described in the fewest lines (`boxes`).  It is exact
where conditions compare: with texts, numbers, tables, roles, networks and times.  What else
they do is assumed both ways, and so is every combination that is too many to try: the answer
then says that access may widen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from gateway.access.policies import Policy
from gateway.access.routing.routes import Route
from gateway.access.snapshot import Snapshot
from gateway.review.changes import AccessChange
from gateway.review.comparison import Comparison
from gateway.review.definitions import DefinitionChange, definition_changes, form_changes
from gateway.review.elsewhere import led_elsewhere
from gateway.review.shapes import Pair, Shape, Shapes
from gateway.review.summary import changes_of

__all__ = ["AccessChange", "Report", "compare"]


@dataclass(slots=True)
class Report:
    changes: list[AccessChange] = field(default_factory=list)
    decisions: int = 0
    """Asked of either side."""
    inexact: list[str] = field(default_factory=list)
    """Requests of which not every kind of call could be tried."""
    definitions: list[DefinitionChange] = field(default_factory=list)
    """What else somebody may gain or lose by, whatever the routes say."""
    sign_in: list[tuple[str, bool]] = field(default_factory=list)
    """Routes that lead browsers to the sign-in page and did not, or the reverse: nobody gains or
    loses by it."""

    @property
    def widened(self) -> bool:
        return any(change.gains and change.certain for change in self.changes)

    @property
    def may_widen(self) -> bool:
        """Whether somebody may gain what nobody here can rule out."""
        uncertain = any(change.gains and not change.certain for change in self.changes)
        return bool(self.inexact) or uncertain or any(one.gains for one in self.definitions)


def compare(old: Snapshot, new: Snapshot) -> Report:
    """Every change of access from `old` to `new`."""
    report = Report(definitions=definition_changes(old, new), sign_in=_sign_in_changes(old, new))
    shapes = Shapes(old, new)
    changes = {shape: _of_shape(old, new, shapes, shape, report) for shape in shapes.all}
    for parts, pattern in shapes.prefixes.items():
        _join(changes, parts, pattern)
    report.changes = list(chain.from_iterable(changes.values()))
    told = {change.pattern for change in report.changes if change.gains}
    report.definitions += [
        one for route, one in form_changes(old, new) if route.pattern not in told
    ]
    return report


def _sign_in_changes(old: Snapshot, new: Snapshot) -> list[tuple[str, bool]]:
    before = {route.id: route.sign_in_page for route in old.routes}
    return [
        (route.id, route.sign_in_page)
        for route in new.routes
        if before.get(route.id, route.sign_in_page) is not route.sign_in_page
    ]


def _join(
    changes: Mapping[Shape, list[AccessChange]], parts: Sequence[Shape], pattern: str
) -> None:
    """Tell once what has changed alike for everything that a prefix takes."""
    first, *others = parts
    for at, change in enumerate(changes[first]):
        twins = {part: dataclasses.replace(change, pattern=part.pattern) for part in others}
        if all(twin in changes[part] for part, twin in twins.items()):
            changes[first][at] = dataclasses.replace(change, pattern=pattern)
            for part, twin in twins.items():
                changes[part].remove(twin)


def _of_shape(
    old: Snapshot, new: Snapshot, shapes: Shapes, shape: Shape, report: Report
) -> list[AccessChange]:
    methods: dict[AccessChange, list[str]] = {}
    tried: list[str] = []
    known: dict[tuple[int, int], list[AccessChange]] = {}
    for method in shapes.methods(shape):
        every_pair = shapes.pairs(shape, method)
        pairs = [pair for pair in every_pair if pair.old is not None or pair.new is not None]
        tried += [method] if pairs else []
        for pair in pairs:
            key = (id(pair.old), id(pair.new))
            if key in known:
                changes = known[key]
            elif _same(pair, shapes):
                changes = known[key] = []
            else:
                comparison = Comparison((old, new), shapes, shape, method, pair)
                report.decisions += comparison.decisions
                if not comparison.whole:
                    report.inexact.append(f"{method} {shape.host or ''}{shape.pattern}")
                changes = changes_of(comparison, alone=len(every_pair) == 1)
                changes += led_elsewhere(shapes, shape, method, pair, alone=len(every_pair) == 1)
                if not _reads_method(pair):
                    known[key] = changes
            for change in changes:
                methods.setdefault(change, []).append(method)
    return [
        dataclasses.replace(
            change, methods=tuple(named), any_method=len(tried) > 2 and named == tried
        )
        for change, named in methods.items()
    ]


def _same(pair: Pair, shapes: Shapes) -> bool:
    """Whether nothing that decides differs, so that no caller can."""
    before, after = pair.old, pair.new
    if before is None or after is None:
        return before is after
    if _decisive(before) != _decisive(after):
        return False
    # Where a rewrite leads may belong to another route, which may have changed.
    return before.rewrite is None or not shapes.routes_differ


def _decisive(route: Route) -> tuple[Any, ...]:
    policy = route.policy
    return (
        route.pattern,
        # Which they are, the shape says; that there are some, proof of intent asks.
        bool(route.hosts),
        route.auth,
        route.accept,
        route.issuers,
        route.resource_server,
        route.action,
        route.tenant,
        route.rewrite,
        route.upstream and route.upstream.name,
        route.direct_response,
        tuple((one.name, one.template.text) for one in route.resource),
        route.allow_encoded_slash,
        route.takes_files,
        None if policy is None else _policy_key(policy, route.action),
    )


def _policy_key(policy: Policy, action: str) -> tuple[Any, ...]:
    concerned = policy.rules_for(action).rules
    rules = tuple(
        (
            rule.effect,
            rule.role_permissions,
            rule.every_user,
            rule.condition.source if rule.condition is not None else None,
            rule.shadow,
            rule.step_up,
        )
        for rule in concerned
    )
    roles = tuple(
        (role.name, role.inherits, role.permissions)
        for role in sorted(policy.roles.roles.values(), key=lambda role: role.name)
    )
    return (
        policy.shadow,
        rules,
        roles,
        tuple((n, repr(policy.data.get(n))) for n in _tables(policy, action)),
    )


def _tables(policy: Policy, action: str) -> list[str]:
    """The tables that the rules about `action` read."""
    return sorted(
        {
            path.keys[0]
            for rule in policy.rules_for(action).rules
            if rule.condition is not None
            for path in rule.condition.expression.paths
            if path.root == "data" and path.keys
        }
    )


def _reads_method(pair: Pair) -> bool:
    return any(
        "method" in _request_fields(route) for route in (pair.old, pair.new) if route
    ) or any(route.rewrite is not None for route in (pair.old, pair.new) if route)


def _request_fields(route: Route) -> Iterator[str]:
    rules: Iterable[Any] = route.policy.rules_for(route.action).rules if route.policy else ()
    for rule in rules:
        if rule.condition is not None:
            for path in rule.condition.expression.paths:
                if path.root == "request":
                    yield from path.keys[:1]
