"""Texts with capital letters that a rule looks for in the caller's address to keep it away: the
address is looked at as its owner wrote it and in lower case (`access/conditions/mailboxes.py`), so
that such a text finds only whoever wrote the same capitals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from unicodedata import normalize

from gateway.access.conditions.mailboxes import mailboxes_sought
from gateway.access.conditions.syntax import texts_in
from gateway.access.policies import Effect, Policy, Rule
from gateway.model import ConfigProblem


def capital_addresses(policies: Iterable[Policy]) -> Iterator[ConfigProblem]:
    """A notice of each such rule, with the first of its texts."""
    for policy in policies:
        for rule in policy.rules:
            sought = (text for text in _sought(rule, policy.data) if text != _bare(text))
            text = next(sought, None)
            if text is not None:
                yield ConfigProblem.at(
                    rule.location,
                    f"rule `{rule.id}` looks for `{text}` in an address, which finds nobody who"
                    f" writes theirs in other letters: write `{_bare(text)}`, which finds all"
                    " spellings",
                )


def _bare(text: str) -> str:
    return normalize("NFC", text.lower())


def _sought(rule: Rule, data: Mapping[str, Any]) -> Iterator[str]:
    if rule.condition is None:
        return
    for fact in mailboxes_sought(rule.condition, is_deny=rule.effect is Effect.DENY):
        if fact.node is not None:
            yield from texts_in(fact.node, data)
