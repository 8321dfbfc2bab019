"""CEL over the claims of a token: what of them is a role, or an address.

Such an expression knows `claims` alone: it is read once for each token, before there is a caller,
and not for each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.conditions.expressions import (
    OWN_FUNCTIONS,
    Expression,
    FieldPath,
    FunctionCall,
    literal,
    read_expression,
    tokens_of,
)
from gateway.access.conditions.programs import Program, TooManyItems
from gateway.access.conditions.type_check import type_problems
from gateway.access.conditions.vocabulary import call_problems, syntax_problem
from gateway.access.issuers import ClaimError, ClaimPath, ClaimReader

CLAIMS = "claims"


class ClaimExpression:
    """One compiled expression.  Immutable after it is made."""

    __slots__ = ("_names", "_program", "text")

    def __init__(self, text: str, expression: Expression) -> None:
        self.text = text
        self._program = Program(text, expression)
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
        try:
            return self._program.execute({CLAIMS: bound}, {})
        except TooManyItems as error:
            raise ClaimError(f"`{self.text}` {error}") from error
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
        problems = type_problems(text, types, truth=truth)
        if not problems:
            return reader
    return sorted(problems)


def claim_path(text: str) -> ClaimPath | None:
    """`claims.a.b`, `claims["a"].b`; None where the text is more than that, or other."""
    words = tokens_of(text)
    if not words or (words[0].kind, words[0].text) != ("name", CLAIMS):
        return None
    keys: list[str] = []
    at = 1
    while at + 1 < len(words):
        word = words[at + 1]
        if words[at].text == "." and word.kind == "name":
            keys.append(word.text)
            at += 2
            continue
        closed = at + 2 < len(words) and words[at + 2].text == "]"
        key = literal(word) if word.kind == "string" else None
        if words[at].text != "[" or not closed or key is None:
            return None
        keys.append(key)
        at += 3
    return ClaimPath(text, tuple(keys)) if keys and at == len(words) else None


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
