"""Conditions of which some parts are assumed, or may come out in any way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.access.conditions.conditions import Condition, Outcome
from gateway.access.conditions.context import EvaluationContext
from gateway.review.other_letters import PartsInOtherLetters
from gateway.review.parts import Part, joined


class Assumed(Condition):
    """A condition of which some atoms are assumed, and the others evaluated.

    `outcomes` are those of the assumed atoms by their text; whoever asks fills it in before
    each question.
    """

    is_as_written = False

    __slots__ = ("_in_other_letters", "_is_deny", "_outcomes", "_part")

    def __init__(
        self, condition: Condition, part: Part, outcomes: Mapping[str, Outcome], *, is_deny: bool
    ) -> None:
        super().__init__(condition.source, condition.expression)
        self._part = part
        self._outcomes = outcomes
        self._is_deny = is_deny
        self._in_other_letters = PartsInOtherLetters(condition, is_deny=is_deny)

    def evaluate(self, context: EvaluationContext) -> Outcome:
        def of_atom(atom: Condition) -> Outcome:
            assumed = self._outcomes.get(atom.source)
            return atom.evaluate(context) if assumed is None else assumed

        outcome = joined(self._part, of_atom)
        if not self._in_other_letters.are_asked or outcome is not (not self._is_deny):
            return outcome

        def in_other_letters(atom: Condition) -> Outcome:
            outcome = of_atom(atom)
            if atom.source in self._outcomes:
                return outcome
            return self._in_other_letters.outcome(atom, outcome, context)

        return joined(self._part, in_other_letters)


_FAILS = "what it reads is not known"
_EVERY: tuple[Outcome, ...] = (False, True, _FAILS)


def possible_outcomes(
    part: Part, of_atom: Callable[[Condition], Outcome | None]
) -> tuple[Outcome, ...]:
    """How it may come out where some atoms may come out in any way, for which `of_atom` gives None;
    the sentence of a failure is no matter."""
    if part.atom is not None:
        outcome = of_atom(part.atom)
        if outcome is None:
            return _EVERY
        return (_FAILS if isinstance(outcome, str) else outcome,)
    first, *others = (possible_outcomes(one, of_atom) for one in part.parts)
    if part.kind == "not":
        return tuple(one if isinstance(one, str) else not one for one in first)
    found = set(first)
    for other in others:
        found = {_both(part.kind, one, another) for one in found for another in other}
    return tuple(one for one in _EVERY if one in found)


def _both(kind: str, one: Outcome, other: Outcome) -> Outcome:
    settles = kind == "or"
    if one is settles or other is settles:
        return settles
    return _FAILS if isinstance(one, str) or isinstance(other, str) else not settles
