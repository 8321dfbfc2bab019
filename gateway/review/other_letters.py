"""The parts of a condition that reads the caller's address, in the letters that nobody wrote.

The gateway asks such a condition as a whole, as all is written and in other letters
(`mailboxes.py`); what asks its parts alone asks each of them there too, whether it reads the
address or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from gateway.access.conditions.conditions import Condition, Outcome
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.mailboxes import named_mailboxes
from gateway.access.conditions.spelled_alike import Alike


class PartsInOtherLetters:
    """Those of one condition."""

    __slots__ = ("_whole",)

    def __init__(self, condition: Condition, *, is_deny: bool) -> None:
        self._whole = named_mailboxes(condition, is_deny=is_deny)

    @property
    def are_asked(self) -> bool:
        """Whether the condition reads the address."""
        return self._whole is not None

    def outcome(
        self,
        part: Condition,
        as_written: Outcome,
        context: EvaluationContext,
        *,
        is_known: bool = True,
    ) -> Outcome:
        """How a part comes out there, if in any letters otherwise than `as_written`.  One that
        fails as it is written stays so: what it does not settle as it is written, it never does.
        `is_known`: the address is."""
        if self._whole is None:
            return as_written
        return self._whole.outcome_of_part(part, as_written, context, is_known=is_known)


@lru_cache(maxsize=4_096)
def in_other_letters(text: str) -> str:
    """As the gateway rewrites it, whatever it is a part of."""
    return Alike(folds=True, is_bounded=False).text(text)


def outcome_in_any(
    wholes: Iterable[PartsInOtherLetters],
    part: Condition,
    context: EvaluationContext,
    *,
    is_known: bool,
) -> Outcome:
    """How a part comes out in other letters in the first of these conditions in which that is
    not as it is written."""
    as_written = part.evaluate(context)
    others = (one.outcome(part, as_written, context, is_known=is_known) for one in wholes)
    return next((one for one in others if one is not as_written), as_written)
