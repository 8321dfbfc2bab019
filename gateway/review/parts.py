"""A condition taken apart at its `&&`, `||` and `!`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.access.conditions.conditions import Condition, Outcome
from gateway.access.conditions.expressions import read_expression
from gateway.access.conditions.syntax import Node, tree_of


@dataclass(frozen=True, slots=True)
class Part:
    """A condition taken apart; an atom is evaluated as a whole."""

    kind: str
    """`and`, `or`, `not`, `if` or `atom`."""
    parts: tuple[Part, ...] = ()
    atom: Condition | None = None

    def atoms(self) -> Iterator[Condition]:
        if self.atom is not None:
            yield self.atom
        for part in self.parts:
            yield from part.atoms()


def joined(part: Part, of_atom: Callable[[Condition], Outcome]) -> Outcome:
    """As CEL does: one false settles an `and`, one true an `or`, whatever else fails."""
    if part.atom is not None:
        return of_atom(part.atom)
    if part.kind == "if":
        asked, then, other = part.parts
        which = joined(asked, of_atom)
        return which if isinstance(which, str) else joined(then if which else other, of_atom)
    if part.kind == "not":
        outcome = joined(part.parts[0], of_atom)
        return outcome if isinstance(outcome, str) else not outcome
    settles = part.kind == "or"
    found: Outcome = not settles
    for one in part.parts:
        outcome = joined(one, of_atom)
        if outcome is settles:
            return settles
        if isinstance(outcome, str) and not isinstance(found, str):
            found = outcome
    return found


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
