"""Texts with capital letters that a rule looks for in the caller's address to keep it away: the
address is looked at as its owner wrote it and in lower case (`access/conditions/mailboxes.py`), so
that such a text finds only whoever wrote the same capitals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.access.conditions.mailboxes import names_mailboxes
from gateway.access.conditions.syntax import Node, NotUnderstood, tree_of, unwound
from gateway.access.policies import Effect, Policy, Rule
from gateway.model import ConfigProblem

_COMPARES = frozenset(("==", "!=", "in", "method"))
_ADDRESSES = (["email"], ["claims", "email"])


def capital_addresses(policies: Iterable[Policy]) -> Iterator[ConfigProblem]:
    """A notice of each such rule, with the first of its texts."""
    for policy in policies:
        for rule in policy.rules:
            if rule.condition is None or not _keeps_away(rule):
                continue
            tree = tree_of(rule.condition.source)
            if tree is None:
                continue
            capitals = (text for text in _sought(tree, policy.data) if text != text.lower())
            text = next(capitals, None)
            if text is not None:
                yield ConfigProblem.at(
                    rule.location,
                    f"rule `{rule.id}` looks for `{text}` in an address, which finds nobody who"
                    f" writes theirs in other letters: write `{text.lower()}`, which finds all"
                    " spellings",
                )


def _keeps_away(rule: Rule) -> bool:
    return names_mailboxes(rule.condition, is_deny=rule.effect is Effect.DENY)


def _sought(node: Node, data: Mapping[str, Any]) -> Iterator[str]:
    if node.kind in _COMPARES and any(_steps(part, "user") in _ADDRESSES for part in node.parts):
        for part in node.parts:
            yield from _texts(part, data)
    for part in node.parts:
        yield from _sought(part, data)


def _texts(node: Node, data: Mapping[str, Any]) -> Iterator[str]:
    """What is written there, or stands in a table that is named there."""
    if node.kind == "text" and node.word is not None:
        yield node.word
    elif node.kind == "list":
        for part in node.parts:
            yield from _texts(part, data)
    elif (steps := _steps(node, "data")) is not None:
        found: Any = data
        for step in steps:
            found = found.get(step) if isinstance(found, Mapping) else None
        entries = found if isinstance(found, Mapping | list) else (found,)
        yield from (entry for entry in entries if isinstance(entry, str))


def _steps(node: Node, root: str) -> list[str | None] | None:
    """The names behind a root; None where it is another one, or what is read is worked out."""
    try:
        found, steps = unwound(node)
    except NotUnderstood:
        return None
    is_told = found == root and all(step.kind in ("key", "text") for step in steps)
    return [step.word for step in steps] if is_told else None
