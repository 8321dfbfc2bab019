"""CEL over the claims of a token: what of them is a role, or an address.

Such an expression knows `claims` alone: it is read once for each token, before there is a caller,
and not for each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cel

from gateway.access.conditions.conditions import MAX_ITEMS, too_long
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.conditions.expressions import (
    OWN_FUNCTIONS,
    Expression,
    FieldPath,
    FunctionCall,
    Token,
    literal,
    read_expression,
    tokens_of,
)
from gateway.access.conditions.type_check import type_problems
from gateway.access.conditions.vocabulary import call_problems, syntax_problem
from gateway.access.issuers import ClaimError, ClaimPath, ClaimReader

CLAIMS = "claims"
_PART = 50
"""Items at a time: to build a list costs the engine the square of its length."""


class ClaimExpression:
    """One compiled expression.  Immutable after it is made."""

    __slots__ = ("_by_item", "_iterates", "_names", "_program", "text")

    def __init__(self, text: str, expression: Expression) -> None:
        self.text = text
        self._program = cel.compile(text)
        self._iterates = expression.iterates
        self._by_item = _list_taken_by_item(text, expression)
        whole = any(not path.keys for path in expression.paths)
        self._names = None if whole else frozenset(path.keys[0] for path in expression.paths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClaimExpression) and other.text == self.text

    def __hash__(self) -> int:
        return hash((ClaimExpression, self.text))

    def __repr__(self) -> str:
        return f"ClaimExpression({self.text!r})"

    def read(self, claims: Mapping[str, Any]) -> Any:
        # The engine copies what is bound.
        names = claims.keys() if self._names is None else self._names
        bound = {name: claims[name] for name in names if name in claims}
        if self._iterates and too_long(bound):
            raise ClaimError(f"`{self.text}` iterates over more than {MAX_ITEMS} items")
        items = None if self._by_item is None else self._by_item.read(bound)
        if self._by_item is None or not isinstance(items, list):
            return self._given(bound)
        given: list[Any] = []
        for start in range(0, max(len(items), 1), _PART):
            part: Any = items[start : start + _PART]
            for key in reversed(self._by_item.keys):
                part = {key: part}
            given += self._given(part)
        return given

    def _given(self, bound: Mapping[str, Any]) -> Any:
        try:
            return self._program.execute({CLAIMS: bound})
        except KeyError as error:
            raise ClaimError(f"`{self.text}`: there is no {error.args[0]}") from error
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            # The engine's errors have no other common base.
            why = str(error).splitlines()[0][:160]
            raise ClaimError(f"`{self.text}`: {why}") from error


def compile_claims(
    text: str, types: EngineTypes, *, truth: bool = False
) -> ClaimReader | list[tuple[int, str]]:
    """What reads it; or every problem with it: the character it is at, and a sentence.

    `truth`: it has to give true or false.
    """
    path = claim_path(text)
    if path is not None:
        return path
    expression = read_expression(text)
    problems = list(expression.problems)
    if not problems:
        for one in expression.paths:
            problems += _path_problems(one)
        for call in expression.calls:
            problems += _call_problems(call)
        if CLAIMS in expression.locals:
            problems.append((0, f"the variable of an iteration may not be named `{CLAIMS}`"))
    if not problems:
        try:
            reader = ClaimExpression(text, expression)
        except ValueError as error:
            return [syntax_problem(text, str(error))]
        problems += type_problems(text, types, truth=truth)
        if not problems:
            return reader
    return sorted(problems)


def claim_path(text: str) -> ClaimPath | None:
    """`claims.a.b`, `claims["a"].b`; None where the text is more than that, or other."""
    words = tokens_of(text)
    keys, at = _leading_path(words)
    return ClaimPath(text, keys) if keys and at == len(words) else None


def _list_taken_by_item(text: str, expression: Expression) -> ClaimPath | None:
    """The list of which nothing but each item is looked at: `claims.groups.filter(g, …)` and
    `.map(…)`, one after another, which read no other claim."""
    if len(expression.paths) != 1:
        return None
    words = tokens_of(text)
    keys, at = _leading_path(words, but=("filter", "map"))
    if not keys or at == len(words):
        return None
    while at < len(words):
        if [word.text for word in words[at : at + 3 : 2]] != [".", "("]:
            return None
        if words[at + 1].text not in ("filter", "map"):
            return None
        at, depth = at + 3, 1
        while depth and at < len(words):
            depth += {"(": 1, ")": -1}.get(words[at].text, 0)
            at += 1
    return ClaimPath(text, keys)


def _leading_path(words: Sequence[Token], but: tuple[str, ...] = ()) -> tuple[tuple[str, ...], int]:
    """The keys of the path that begins the words, and where it ends; a name of `but` is none."""
    if not words or (words[0].kind, words[0].text) != ("name", CLAIMS):
        return (), 0
    keys: list[str] = []
    at = 1
    while at + 1 < len(words):
        word = words[at + 1]
        if words[at].text == "." and word.kind == "name" and word.text not in but:
            keys.append(word.text)
            at += 2
            continue
        closed = at + 2 < len(words) and words[at + 2].text == "]"
        key = literal(word) if word.kind == "string" else None
        if words[at].text != "[" or not closed or key is None:
            break
        keys.append(key)
        at += 3
    return tuple(keys), at


def _path_problems(path: FieldPath) -> list[tuple[int, str]]:
    if path.root == CLAIMS:
        return []
    return [
        (
            path.at,
            f"`{path.root}` is not known here: the claims of the token are, such as "
            f"`{CLAIMS}.{path}`",
        )
    ]


def _call_problems(call: FunctionCall) -> list[tuple[int, str]]:
    if call.name in OWN_FUNCTIONS:
        return [(call.at, f"`{call.name}` is for policies: a token alone is read here")]
    return call_problems(call)
