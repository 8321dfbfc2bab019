"""Roles that only keep away whoever has them, such as `suspended`: a rule refuses them something,
and nothing is given for them.

Law: nobody takes such a role off by themselves.  An account that its owner may delete, or part from
a provider, would come back without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.access.conditions.facts import (
    Turn,
    compared_texts,
    facts_of,
    reads,
    turn_of,
)
from gateway.access.policies import Effect, Policy, Rule
from gateway.access.roles import Role

_ROLES = (("user", "roles"), ("has_role",))


def barring_roles(policies: Iterable[Policy]) -> frozenset[str]:
    """By the rules that are enforced.  A role that has permissions, or that an allow asks for,
    gives something: whoever has it may go without."""
    bars: set[str] = set()
    gives: set[str] = set()
    known: list[Role] = []
    for policy in policies:
        known += policy.roles.roles.values()
        for rule in policy.rules:
            for role, keeps_away in _asked(rule, policy.data):
                if not keeps_away:
                    gives.add(role)
                elif not (policy.shadow or rule.shadow or rule.step_up):
                    bars.add(role)
    gives.update(role.name for role in known if role.permissions)
    return frozenset(_with_heirs(bars - gives, known) - gives)


def _with_heirs(bars: set[str], known: Iterable[Role]) -> set[str]:
    """Also what inherits nothing else, in any policy."""
    heirs: dict[str, set[str]] = {}
    for role in known:
        heirs.setdefault(role.name, set()).update(role.inherits)
    heirs = {name: inherits for name, inherits in heirs.items() if inherits}
    while more := {name for name, inherits in heirs.items() if inherits <= bars} - bars:
        bars = bars | more
    return bars - {name for name, inherits in heirs.items() if not inherits <= bars}


def _asked(rule: Rule, data: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Each role that the condition asks for, and whether it keeps away whoever has it.  Where that
    is unclear, as of what is counted, an allow gives it and a deny says nothing of it."""
    if rule.condition is None:
        return
    is_deny = rule.effect is Effect.DENY
    for fact in facts_of(rule.condition.source, _ROLES, is_deny=is_deny).facts():
        node = fact.node
        if node is None or not reads(node, _ROLES):
            continue
        turn = turn_of(node, _ROLES)
        if turn is Turn.UNCLEAR and is_deny:
            continue
        keeps_away = turn is not Turn.UNCLEAR and fact.keeps_away is (turn is Turn.NO)
        yield from ((role, keeps_away) for role in compared_texts(node, _ROLES, data))
