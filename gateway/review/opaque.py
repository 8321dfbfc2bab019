"""Conditions taken apart at their `&&`, `||` and `!`, and evaluated with some parts assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.expressions import read_expression
from gateway.review.syntax import Node, tree_of

Outcome = bool | str
"""True, False, or the sentence of a failure."""


@dataclass(frozen=True, slots=True)
class Part:
    """A condition taken apart; an atom is evaluated as a whole."""

    kind: str
    """`and`, `or`, `not` or `atom`."""
    parts: tuple[Part, ...] = ()
    atom: Condition | None = None

    def atoms(self) -> Iterator[Condition]:
        if self.atom is not None:
            yield self.atom
        for part in self.parts:
            yield from part.atoms()


class Assumed(Condition):
    """A condition of which some atoms are assumed, and the others evaluated.

    `outcomes` are those of the assumed atoms by their text; whoever asks fills it in before
    each question.
    """

    __slots__ = ("_outcomes", "_part")

    def __init__(self, condition: Condition, part: Part, outcomes: Mapping[str, Outcome]) -> None:
        super().__init__(condition.source, condition.expression)
        self._part = part
        self._outcomes = outcomes

    def evaluate(self, context: EvaluationContext) -> Outcome:
        def of_atom(atom: Condition) -> Outcome:
            assumed = self._outcomes.get(atom.source)
            return atom.evaluate(context) if assumed is None else assumed

        return joined(self._part, of_atom)


def joined(part: Part, of_atom: Callable[[Condition], Outcome]) -> Outcome:
    """As CEL does: one false settles an `and`, one true an `or`, whatever else fails."""
    if part.atom is not None:
        return of_atom(part.atom)
    outcomes = [joined(one, of_atom) for one in part.parts]
    if part.kind == "not":
        (outcome,) = outcomes
        return outcome if isinstance(outcome, str) else not outcome
    settles = part.kind == "or"
    if any(outcome is settles for outcome in outcomes):
        return settles
    return next((o for o in outcomes if isinstance(o, str)), not settles)


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


def taken_apart(condition: Condition) -> Part:
    """`condition` as its parts; one atom where it cannot be split."""
    tree = tree_of(condition.source)
    return Part("atom", atom=condition) if tree is None else _split(condition.source, tree)


def _split(source: str, node: Node) -> Part:
    if node.kind in ("and", "or", "not"):
        return Part(node.kind, tuple(_split(source, part) for part in node.parts))
    text = source[node.start : node.end]
    # Its names and types were checked with the whole condition.
    return Part("atom", atom=Condition(text, read_expression(text)))
