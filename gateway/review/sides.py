"""One side of a comparison: what its rules ask, taken apart, with some of it assumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from gateway.access.conditions.conditions import Outcome
from gateway.access.policies import Effect, Policy
from gateway.access.routing.routes import Route, SegmentKind
from gateway.access.snapshot import Snapshot
from gateway.review.atoms import Atom, atom_of
from gateway.review.calls import source_of
from gateway.review.opaque import Assumed
from gateway.review.other_letters import PartsInOtherLetters
from gateway.review.parts import Part, taken_apart
from gateway.review.policy_override import with_policies
from gateway.review.shapes import Shape


@dataclass(slots=True)
class Side:
    number: int
    snapshot: Snapshot
    """Its parts of conditions that cannot be understood exchanged for assumed ones."""
    route: Route | None
    atoms: list[Atom] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    """The conditions of its rules, taken apart."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """What is assumed of them now."""
    in_other_letters: dict[str, list[PartsInOtherLetters]] = field(default_factory=dict)
    """Of each part, the rules that ask it in other letters too."""

    @property
    def policy(self) -> Policy | None:
        return self.route.policy if self.route is not None else None


def side_of(number: int, snapshot: Snapshot, route: Route | None, shape: Shape) -> Side:
    side = Side(number, snapshot, route)
    policy = side.policy
    if route is None or policy is None:
        return side
    parts = side.parts = {
        rule.condition.source: taken_apart(rule.condition)
        for rule in policy.rules_for(route.action).rules
        if rule.condition is not None
    }
    for rule in policy.rules_for(route.action).rules:
        if rule.condition is not None:
            asked = PartsInOtherLetters(rule.condition, is_deny=rule.effect is Effect.DENY)
            for one in parts[rule.condition.source].atoms() if asked.are_asked else ():
                side.in_other_letters.setdefault(one.source, []).append(asked)
    conditions = {atom.source: atom for part in parts.values() for atom in part.atoms()}
    side.atoms = [_understood(atom_of(one), route, shape) for one in conditions.values()]
    if any(atom.survey is None for atom in side.atoms):
        rules = tuple(
            rule
            if rule.condition is None or rule.condition.source not in parts
            else dataclasses.replace(
                rule,
                condition=Assumed(
                    rule.condition,
                    parts[rule.condition.source],
                    side.outcomes,
                    is_deny=rule.effect is Effect.DENY,
                ),
            )
            for rule in policy.rules
        )
        other = dataclasses.replace(policy, rules=rules)
        side.snapshot = with_policies(snapshot, {policy.name: other})
    return side


def _understood(atom: Atom, route: Route, shape: Shape) -> Atom:
    """The atom; one to be assumed where what it reads is made of several inputs."""
    if atom.survey is None:
        return atom
    for path in atom.survey.paths:
        source = source_of(path, route, shape)
        if isinstance(source, bool):
            return Atom(atom.condition, None)
        if source is not None and source.name and path in atom.survey.affixes:
            kind, _, at = source.name.partition(":")
            typed = kind == "seg" and shape.segments[int(at)].kind in (
                SegmentKind.INT,
                SegmentKind.UUID,
            )
            if typed or source.before or source.after:
                return Atom(atom.condition, None)
    return atom


def meaning_of(atom: Atom, side: Side, shape: Shape) -> Hashable:
    """All that the outcome of an atom depends on besides the call."""
    route, policy = side.route, side.policy
    if route is None or policy is None:
        return None
    reads, expression = atom.condition.reads, atom.condition.expression
    tables = {path.keys[0] for path in expression.paths if path.root == "data" and path.keys}

    def params(names: Iterable[str]) -> tuple[str, ...]:
        # Which part of the path a parameter is, whatever it is called.
        return tuple(repr(source_of(("request", "params", n), route, shape)) for n in sorted(names))

    fields = {one.name: one.template for one in route.resource}
    read = sorted(reads.resource or fields) if "resource" in reads.roots else []
    templates = [(name, fields.get(name)) for name in read]
    book = policy.roles.roles if any(c.name == "has_role" for c in expression.calls) else {}
    by_tenant = {"tenant", "tenant_role"} & reads.user
    return (
        params((route.tenant,)) if route.tenant is not None and by_tenant else (),
        tuple((name, repr(policy.data.get(name))) for name in sorted(tables)),
        params(reads.params),
        tuple((name, t and t.pieces, t and params(t.names("params"))) for name, t in templates),
        tuple(sorted((role.name, role.inherits) for role in book.values())),
    )
