"""What a condition asks, each part with what follows where it holds: that somebody is kept away, or
that they pass.

Law: a `!`, a `!=` and a comparison with `false` turn that round.  What is not taken apart further,
as what a macro goes through, is one fact, which may be turned within.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gateway.access.conditions.expressions import MACROS
from gateway.access.conditions.syntax import (
    Node,
    NotUnderstood,
    is_null,
    texts_in,
    tree_of,
    unwound,
)

Paths = tuple[tuple[str, ...], ...]
"""Such as `user.email`, step by step; or a function by its name."""

_EQUALITY = ("==", "!=")
_ORDERS = frozenset(("<", "<=", ">", ">="))
_TRUTHS = frozenset(("==", "!=", "<", "<=", ">", ">=", "in", "and", "or", "not"))
_ASKING = frozenset(
    (
        "startsWith",
        "endsWith",
        "contains",
        "matches",
        "exists",
        "all",
        "has",
        "has_role",
        "has_scope",
    )
)
_JOINS = frozenset(("and", "or", "if"))
_COUNTING = frozenset(("exists_one", "filter", "map"))


class Turn(Enum):
    """Whether a fact holds because a part of it does not."""

    NO = 0
    ROUND = 1
    UNCLEAR = 2


@dataclass(frozen=True, slots=True)
class Fact:
    """`kind` is `and`, `or`, `not`, `if` or `fact`."""

    kind: str
    parts: tuple[Fact, ...] = ()
    node: Node | None = None
    """None where the condition is not followed, and is one fact."""
    keeps_away: bool = False
    """Whether somebody is kept away where it holds; else they are where it does not."""

    def facts(self) -> Iterator[Fact]:
        if self.kind == "fact":
            yield self
        for part in self.parts:
            yield from part.facts()


def facts_of(source: str, paths: Paths, *, is_deny: bool) -> Fact:
    """`paths`: of what is asked; a `? :` whose question reads one of them is one fact, but where
    an answer is written out."""
    tree = tree_of(source)
    if tree is None:
        return Fact("fact", keeps_away=is_deny)
    return _Reader(paths).read(tree, keeps_away=is_deny)


def turn_of(node: Node, paths: Paths) -> Turn:
    """Of what reads one of the paths within a fact."""
    if not reads(node, paths):
        return Turn.NO
    if node.kind == "not":
        return Turn.ROUND if turn_of(node.parts[0], paths) is Turn.NO else Turn.UNCLEAR
    if node.kind in _ORDERS or (node.kind == "if" and reads(node.parts[0], paths)):
        return Turn.UNCLEAR
    if (node.kind in _EQUALITY or node.kind in ("in", "list")) and any(
        _gives_truth(part) for part in node.parts if reads(part, paths)
    ):
        return Turn.UNCLEAR
    inner = paths
    if node.kind == "method" and node.word in MACROS:
        if node.word in _COUNTING:
            return Turn.UNCLEAR
        inner = _with_variable(node, paths)
    turns = {turn_of(part, inner) for part in node.parts if reads(part, inner)}
    if node.kind not in _JOINS:
        # What is joined asks both ways where a part is turned and another is not.
        turns.discard(Turn.NO)
    if node.kind == "!=":
        turns.add(Turn.ROUND if not turns else Turn.UNCLEAR)
    return turns.pop() if len(turns) == 1 else Turn.UNCLEAR if turns else Turn.NO


def reads(node: Node, paths: Paths) -> bool:
    """Whether one of the paths, or what it lies in, is read anywhere in it, other than to ask
    whether it is there."""
    if node.kind in _EQUALITY and any(map(is_null, node.parts)):
        return False
    try:
        root, steps = unwound(node)
    except NotUnderstood:
        if node.kind == "call" and (node.word or "",) in paths:
            return True
        return any(reads(part, paths) for part in node.parts)
    read = (root, *(step.word if step.kind in ("key", "text") else None for step in steps))
    for path in paths:
        # A step that is worked out may be any.
        if all(one in (None, other) for one, other in zip(read, path, strict=False)):
            return True
    return any(reads(step, paths) for step in steps if step.kind not in ("key", "text"))


def compared_texts(node: Node, paths: Paths, data: Mapping[str, Any]) -> Iterator[str]:
    """The texts, also of tables, that what is read of the paths is compared with, or looked for
    among."""
    if not reads(node, paths):
        return
    if node.kind in _EQUALITY or node.kind == "in" or node.kind == "call":
        yield from (text for part in node.parts for text in _whole_texts(part, data))
    elif node.kind == "method" and node.word in MACROS:
        gone_through, _, *asked = node.parts
        inner = _with_variable(node, paths)
        if not reads(gone_through, paths):
            yield from _whole_texts(gone_through, data)
        for part in asked:
            yield from compared_texts(part, inner, data)
        return
    for part in node.parts:
        yield from compared_texts(part, paths, data)


def _whole_texts(node: Node, data: Mapping[str, Any]) -> Iterator[str]:
    """None of what is made of several."""
    if node.kind in ("text", "list", "field", "index"):
        yield from texts_in(node, data)


def _with_variable(macro: Node, paths: Paths) -> Paths:
    """Its variable stands for what it goes through, or for what that is compared with."""
    gone_through, variable, *_ = macro.parts
    return (*paths, (variable.word or "",)) if reads(gone_through, paths) else paths


def _gives_truth(node: Node) -> bool:
    return node.kind in _TRUTHS or (node.kind in ("method", "call") and node.word in _ASKING)


class _Reader:
    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def read(self, node: Node, *, keeps_away: bool) -> Fact:
        if node.kind in ("and", "or"):
            parts = (self.read(part, keeps_away=keeps_away) for part in node.parts)
            return Fact(node.kind, tuple(parts))
        if node.kind == "not":
            return Fact("not", (self.read(node.parts[0], keeps_away=not keeps_away),))
        if node.kind == "if":
            return self._either(node, keeps_away=keeps_away)
        if node.kind in _EQUALITY:
            return self._equality(node, keeps_away=keeps_away)
        return Fact("fact", node=node, keeps_away=keeps_away)

    def _equality(self, node: Node, *, keeps_away: bool) -> Fact:
        truths = [part for part in node.parts if _truth(part) is not None]
        others = [part for part in node.parts if _truth(part) is None]
        is_equal = node.kind == "=="
        if len(truths) == 1:
            if _truth(truths[0]) is is_equal:
                return self.read(others[0], keeps_away=keeps_away)
            return Fact("not", (self.read(others[0], keeps_away=not keeps_away),))
        if is_equal:
            return Fact("fact", node=node, keeps_away=keeps_away)
        equal = Node("==", node.start, node.end, node.parts)
        return Fact("not", (Fact("fact", node=equal, keeps_away=not keeps_away),))

    def _either(self, node: Node, *, keeps_away: bool) -> Fact:
        """Where an answer is written out, what is asked goes one way."""
        asked, then, other = node.parts
        written = _truth(then), _truth(other)
        if written == (None, None) and reads(asked, self._paths):
            return Fact("fact", node=node, keeps_away=keeps_away)
        turned = written[0] is False or written[1] is True
        return Fact(
            "if",
            (
                self.read(asked, keeps_away=keeps_away is not turned),
                self.read(then, keeps_away=keeps_away),
                self.read(other, keeps_away=keeps_away),
            ),
        )


def _truth(node: Node) -> bool | None:
    return {"true": True, "false": False}.get(node.word or "") if node.kind == "name" else None
