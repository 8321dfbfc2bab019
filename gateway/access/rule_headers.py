"""The fields that rules add for the upstream: of every rule that allows a call, merged.

Where several of them write one name, the first in the file has it, as it is the first whose
reason is told.  Two of which the second could never be first do not load
(`config/rule_headers.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from gateway.access.conditions.context import EvaluationContext
from gateway.access.identity_headers import PRINTABLE
from gateway.access.policies import ActionRules, Rule

# The escape is that of the identity headers, which have blanks escaped wherever they stand.
_FIELD_SAFE = PRINTABLE + " "


def rule_headers(
    action_rules: ActionRules, deciding: Rule, action: str, context: EvaluationContext
) -> tuple[tuple[str, str], ...]:
    """Name and value of each; `deciding` is the first rule of the file that allows the call."""
    merged: dict[str, tuple[str, str]] = {}
    for rule in _allowing(action_rules, deciding, action, context):
        for name, value in _filled(rule, context):
            merged.setdefault(name.lower(), (name, value))
    return tuple(merged.values())


def _allowing(
    action_rules: ActionRules, deciding: Rule, action: str, context: EvaluationContext
) -> Iterator[Rule]:
    """The rules with fields that allow the call.  Those before the deciding one do not."""
    if deciding.headers:
        yield deciding
    if action_rules.headed[-1] is deciding:
        return
    allows = action_rules.allows
    for rule in allows[allows.index(deciding) + 1 :]:
        if rule.headers and rule.allows(action, context):
            yield rule


def _filled(rule: Rule, context: EvaluationContext) -> Iterator[tuple[str, str]]:
    caller = context.principal
    values: dict[str, Mapping[str, Any]] = {
        "params": context.params,
        "resource": context.resource,
        "user": {"id": caller.subject, "email": caller.email, "issuer": caller.issuer}
        if caller
        else {},
    }
    for name, template in rule.headers:
        value = template.fill(values)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield name, _escaped(str(value))


def _escaped(value: str) -> str:
    """Two values never read alike: blanks at the ends of a field are no part of it for who reads
    it (RFC 9110 section 5.5), so these are escaped too."""
    text = quote(value, safe=_FIELD_SAFE)
    behind = text.lstrip(" ")
    within = behind.rstrip(" ")
    before, after = len(text) - len(behind), len(behind) - len(within)
    return f"{'%20' * before}{within}{'%20' * after}"
