"""`matches`, with patterns that are read once.

The engine reads a pattern each time it is asked, which takes up to a thousand times as long as to
find it.  pydantic keeps what it has read, and has the same engine of regular expressions (Rust's
`regex`: linear time, the same grammar).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from gateway.access.conditions.edits import TextEdit
from gateway.access.conditions.engine import cel
from gateway.access.conditions.expressions import Expression, Token
from gateway.access.conditions.functions import FAILED
from gateway.bounded_memo import BoundedMemo

MATCHES = "matches_pattern"
"""What the engine calls in place of its own `matches`; no condition may name it."""
_REMEMBERED = 64
"""Patterns that the text does not tell: those of `data`, or of a call."""


class RegularExpressions:
    """The function `matches` of one condition."""

    def __init__(self, literals: Iterable[str], *, ignores_case: bool) -> None:
        self._flags = "(?i)" if ignores_case else ""
        self._literals = {one: _read(self._flags + one) for one in literals}
        self._others: BoundedMemo[str, TypeAdapter[str] | None] = BoundedMemo(_REMEMBERED)
        self._met: BoundedMemo[str, None] = BoundedMemo(_REMEMBERED)
        """Others that came once: to read one to keep it takes longer than to ask the engine."""
        self._engine = cel.compile("text.matches(pattern)")

    def matches(self, text: Any, pattern: Any) -> Any:
        """Whether the pattern is found in the text."""
        if not isinstance(text, str) or not isinstance(pattern, str):
            return FAILED
        held = self._literals if pattern in self._literals else self._others
        if pattern not in held:
            if pattern not in self._met:
                self._met.keep(pattern, None)
                return self._asked_once(text, pattern)
            self._others.keep(pattern, _read(self._flags + pattern))
        adapter = held[pattern]
        if adapter is None:
            return FAILED
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    def _asked_once(self, text: str, pattern: str) -> Any:
        try:
            return self._engine.execute({"text": text, "pattern": self._flags + pattern})
        except RuntimeError:
            return FAILED


def regular_expressions(expression: Expression, *, ignores_case: bool) -> RegularExpressions | None:
    """For the patterns that the expression asks for; None where it asks for none."""
    asked = [call for call in expression.calls if call.name == "matches" and call.method]
    if not asked:
        return None
    literals = (one for call in asked for one in call.literals if one is not None)
    return RegularExpressions(literals, ignores_case=ignores_case)


def kept_patterns(words: Sequence[Token]) -> list[TextEdit]:
    """What makes `.matches_pattern(` of each `.matches(`."""
    named = ["", *(word.text for word in words), ""]
    return [
        TextEdit(word.at, word.at + len(word.text), MATCHES)
        for at, word in enumerate(words)
        if word.text == "matches" and (named[at], named[at + 2]) == (".", "(")
    ]


def _read(pattern: str) -> TypeAdapter[str] | None:
    kept = Annotated[str, StringConstraints(pattern=pattern)]
    try:
        return TypeAdapter(kept, config=ConfigDict(regex_engine="rust-regex"))
    except Exception:  # noqa: BLE001 (what a pattern that is none raises is of another library)
        return None
