"""The parts of a condition that reads the caller's address, in the letters that nobody wrote.

The gateway asks such a condition as a whole, as all is written and in other letters
(`mailboxes.py`); what asks its parts alone asks each of them so, whether it reads the address or
not.
"""

from __future__ import annotations

from gateway.access.conditions.conditions import Condition, Outcome
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.mailboxes import NamedMailboxes, named_mailboxes
from gateway.review.parts import Part


class PartsInOtherLetters:
    """Those of one condition."""

    __slots__ = ("_falling", "_rising", "are_asked")

    def __init__(self, condition: Condition, part: Part) -> None:
        self.are_asked = named_mailboxes(condition, is_deny=True) is not None
        """Whether the condition reads the address."""
        atoms = list(part.atoms()) if self.are_asked else []
        self._rising = {id(atom): NamedMailboxes(atom, is_deny=True) for atom in atoms}
        self._falling = {id(atom): NamedMailboxes(atom, is_deny=False) for atom in atoms}

    def outcome(self, atom: Condition, as_written: Outcome, context: EvaluationContext) -> Outcome:
        """How an atom comes out there, if in any letters otherwise than `as_written`.  One that
        fails as it is written stays so: what it does not settle as it is written, it never does."""
        if not self.are_asked or isinstance(as_written, str):
            return as_written
        named = self._falling if as_written else self._rising
        return named[id(atom)].outcome(as_written, context)
