"""Conditions that name a mailbox, of a caller whose address is written in another way.

Law: what keeps a mailbox away does so in whatever spelling its owner wrote the address.  A deny
that names it applies where it would to any other spelling; an allow that asks that it is *not* the
caller's holds where it would of every one.  What lets a mailbox pass takes the address as written:
`gross@x` may be somebody else's than `groß@x`, which are one account here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import Expression, FieldPath
from gateway.access.conditions.parts import Outcome, Part, joined, taken_apart
from gateway.email_address import other_spellings

_CLAIM = "email"


class NamedMailboxes:
    """Of one condition."""

    __slots__ = ("_against", "_condition", "_part")

    def __init__(self, condition: Condition, *, is_deny: bool) -> None:
        self._condition = condition
        self._part = None if is_deny else taken_apart(condition)
        self._against: frozenset[Condition] = (
            frozenset() if self._part is None else frozenset(_against(self._part))
        )

    def outcome(self, written: Outcome, context: EvaluationContext) -> Outcome:
        """`written`: how the condition came out for the address as it is."""
        principal = context.principal
        email = None if principal is None else principal.email
        lets_pass: Outcome = self._part is not None
        if principal is None or email is None or written is not lets_pass:
            return written
        for other in other_spellings(email):
            claims = principal.claims
            if claims.get(_CLAIM) == email:
                claims = {**claims, _CLAIM: other}
            spelled = replace(context, principal=replace(principal, email=other, claims=claims))
            outcome = self._outcome_of(spelled, context)
            if outcome is not written:
                return outcome
        return written

    def _outcome_of(self, spelled: EvaluationContext, context: EvaluationContext) -> Outcome:
        if self._part is None:
            return self._condition.evaluate(spelled)
        return joined(
            self._part,
            lambda atom: atom.evaluate(spelled if atom in self._against else context),
        )


def names_mailboxes(condition: Condition | None, *, is_deny: bool) -> bool:
    """Whether it may keep somebody away for their address."""
    if condition is None or not _reads_address(condition.expression):
        return False
    return is_deny or condition.expression.negates


def _against(part: Part, *, is_negated: bool = False) -> Iterator[Condition]:
    """What of an allow is asked of the address so that some are kept away."""
    if part.atom is not None:
        expression = part.atom.expression
        if _reads_address(expression) and (is_negated or expression.negates):
            yield part.atom
        return
    for inner in part.parts:
        yield from _against(inner, is_negated=is_negated != (part.kind == "not"))


def _reads_address(expression: Expression) -> bool:
    return any(_is_address(path) for path in expression.paths)


def _is_address(path: FieldPath) -> bool:
    if path.root != "user" or path.against_null:
        return False
    keys = path.keys
    return keys[:1] == (_CLAIM,) or (keys[:1] == ("claims",) and keys[1:2] in ((), (_CLAIM,)))
