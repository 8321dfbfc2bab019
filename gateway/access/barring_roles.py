"""Roles that only keep away whoever has them, such as `suspended`: a rule refuses them something,
and nothing is given for them.

Law: nobody takes such a role off by themselves.  An account that its owner may delete, or part from
the provider that gave the role, would come back without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.access.conditions.syntax import Node, NotUnderstood, tree_of, unwound
from gateway.access.policies import Effect, Policy, Rule

_JOINS = frozenset(("and", "or", "not"))


def barring_roles(policies: Iterable[Policy]) -> frozenset[str]:
    """By the rules that are enforced.  A role that has permissions or inherits, or that an allow
    asks for, gives something: whoever has it may go without."""
    bars: set[str] = set()
    gives: set[str] = set()
    for policy in policies:
        gives.update(r.name for r in policy.roles.roles.values() if r.permissions or r.inherits)
        for rule in policy.rules:
            for role, is_barred in _named(rule):
                enforced = not (policy.shadow or rule.shadow)
                if is_barred and enforced:
                    bars.add(role)
                elif not is_barred:
                    gives.add(role)
    return frozenset(bars - gives)


def _named(rule: Rule) -> Iterator[tuple[str, bool]]:
    """Each role, and whether it is one for which the rule refuses.  Of what is compared further,
    as in `('x' in user.roles) == false`, an allow gives it and a deny says nothing."""
    if rule.condition is None:
        return
    tree = tree_of(rule.condition.source)
    if tree is None:
        return
    is_deny = rule.effect is Effect.DENY
    told: set[int] = set()
    for role, start, is_negated in _asked(tree, is_negated=False):
        told.add(start)
        yield role, is_negated is not is_deny
    if not is_deny:
        yield from ((word, False) for word, start in _words(tree) if start not in told)


def _asked(node: Node, *, is_negated: bool) -> Iterator[tuple[str, int, bool]]:
    if node.kind in _JOINS:
        for part in node.parts:
            yield from _asked(part, is_negated=is_negated != (node.kind == "not"))
        return
    role = node.parts[0] if node.parts else None
    if role is None or role.kind != "text" or role.word is None:
        return
    in_roles = node.kind == "in" and _is_roles(node.parts[1])
    if in_roles or (node.kind == "call" and node.word == "has_role"):
        yield role.word, role.start, is_negated


def _is_roles(node: Node) -> bool:
    try:
        root, steps = unwound(node)
    except NotUnderstood:
        return False
    return root == "user" and [step.word for step in steps] == ["roles"]


def _words(node: Node) -> Iterator[tuple[str, int]]:
    if node.kind == "text" and node.word is not None:
        yield node.word, node.start
    for part in node.parts:
        yield from _words(part)
