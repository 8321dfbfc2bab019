"""What a condition asks, each part with what follows where it holds: that somebody is kept away, or
that they pass.

Law: a `!`, a `!=` and a comparison with `false` turn that round; what stands before a `?` goes
both ways.  What is not taken apart further, as what a macro goes through, is one fact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.access.conditions.expressions import MACROS
from gateway.access.conditions.syntax import Node, NotUnderstood, tree_of, unwound

_COMPARES = ("==", "!=")
_TURNS = frozenset(("!=", "not", "<", "<=", ">", ">="))
_TRUTHS = frozenset(("==", "!=", "<", "<=", ">", ">=", "in", "and", "or", "not"))
"""What gives true or false: by comparing it, it is turned round."""
_ASKING = frozenset(("startsWith", "endsWith", "contains", "matches", "exists", "all"))
_TURNING = frozenset(("exists_one", "filter"))
Paths = tuple[tuple[str, ...], ...]
"""Such as `user.email`, step by step."""


@dataclass(frozen=True, slots=True)
class Fact:
    """`kind` is `and`, `or`, `not` or `fact`."""

    kind: str
    parts: tuple[Fact, ...] = ()
    text: str = ""
    """Of a fact, as a condition by itself."""
    node: Node | None = None
    keeps_away: bool = False
    """Whether somebody is kept away where it holds; else they are where it does not."""

    def facts(self) -> Iterator[Fact]:
        if self.kind == "fact":
            yield self
        for part in self.parts:
            yield from part.facts()


def facts_of(source: str, *, is_deny: bool) -> Fact | None:
    """None where the condition is not followed."""
    tree = tree_of(source)
    return None if tree is None else _read(source, tree, keeps_away=is_deny)


def turns(node: Node, paths: Paths, *, in_macro: bool = False) -> bool:
    """Whether a fact may hold because a part of it that reads one of the paths does not."""
    reads = in_macro or names_path(node, paths)
    if node.kind == "if":
        asked, *answers = node.parts
        if in_macro or names_path(asked, paths):
            return True
        return any(turns(part, paths) for part in answers)
    if reads and (node.kind in _TURNS or (node.kind == "method" and node.word in _TURNING)):
        return True
    if node.kind in _COMPARES and reads and any(map(_gives_truth, node.parts)):
        return True
    is_macro = reads and node.kind == "method" and node.word in MACROS
    return any(turns(part, paths, in_macro=in_macro or is_macro) for part in node.parts)


def _gives_truth(node: Node) -> bool:
    return node.kind in _TRUTHS or (node.kind == "method" and node.word in _ASKING)


def names_path(node: Node, paths: Paths) -> bool:
    """Whether one of the paths, or what it lies in, is read anywhere in it."""
    try:
        root, steps = unwound(node)
    except NotUnderstood:
        return any(names_path(part, paths) for part in node.parts)
    read = (root, *(step.word or "" for step in steps))
    if any(path[: len(read)] == read[: len(path)] for path in paths):
        return True
    return any(names_path(step, paths) for step in steps if step.kind not in ("key", "text"))


def _read(source: str, node: Node, *, keeps_away: bool) -> Fact:
    if node.kind in ("and", "or"):
        parts = (_read(source, part, keeps_away=keeps_away) for part in node.parts)
        return Fact(node.kind, tuple(parts))
    if node.kind == "not":
        return _not(_read(source, node.parts[0], keeps_away=not keeps_away))
    if node.kind == "if":
        return _either(source, *node.parts, keeps_away=keeps_away)
    if node.kind in _COMPARES:
        truths = [part for part in node.parts if _truth(part) is not None]
        others = [part for part in node.parts if _truth(part) is None]
        if len(truths) == 1:
            if _truth(truths[0]) is (node.kind == "=="):
                return _read(source, others[0], keeps_away=keeps_away)
            return _not(_read(source, others[0], keeps_away=not keeps_away))
        if node.kind == "!=":
            left, right = (f"({source[part.start : part.end]})" for part in node.parts)
            equal = Node("==", node.start, node.end, node.parts)
            return _not(
                Fact("fact", text=f"{left} == {right}", node=equal, keeps_away=not keeps_away)
            )
    text = source[node.start : node.end]
    return Fact("fact", text=text, node=node, keeps_away=keeps_away)


def _either(source: str, asked: Node, then: Node, other: Node, *, keeps_away: bool) -> Fact:
    """Of `asked ? then : other`; where an answer is written out, what was asked turns one way."""
    holds = _read(source, asked, keeps_away=keeps_away)
    fails = _not(_read(source, asked, keeps_away=not keeps_away))
    first = _read(source, then, keeps_away=keeps_away)
    second = _read(source, other, keeps_away=keeps_away)
    if _truth(then) is not None:
        return Fact("or", (holds, second)) if _truth(then) else Fact("and", (fails, second))
    if _truth(other) is not None:
        return Fact("or", (fails, first)) if _truth(other) else Fact("and", (holds, first))
    return Fact("or", (Fact("and", (holds, first)), Fact("and", (fails, second))))


def _not(fact: Fact) -> Fact:
    return Fact("not", (fact,))


def _truth(node: Node) -> bool | None:
    return {"true": True, "false": False}.get(node.word or "") if node.kind == "name" else None
