"""`matches`, with patterns that are read once.

The engine reads a pattern each time it is asked, which takes up to a thousand times as long as to
find it.  pydantic keeps what it has read, and has the same engine of regular expressions (Rust's
`regex`: linear time, the same grammar).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from gateway.access.conditions.edits import TextEdit
from gateway.access.conditions.engine import cel
from gateway.access.conditions.expressions import Expression, Token
from gateway.access.conditions.functions import FAILED
from gateway.bounded_memo import BoundedMemo

MATCHES = "matches_pattern"
"""What the engine calls in place of its own `matches`; no condition may name it."""
_IN_TABLES = 1_024
"""Patterns of the tables of a configuration: no condition goes through more
(`long_lists.MAX_ITEMS`)."""
_REMEMBERED = 64
"""Patterns of a call: one that somebody thought out may take 4 MB."""

PatternMemo = BoundedMemo[str, TypeAdapter[str] | None]


def pattern_memo() -> PatternMemo:
    """For the patterns of the tables of one configuration."""
    return BoundedMemo(_IN_TABLES)


class PatternTables:
    """The tables that conditions read, and which patterns of them were read already."""

    __slots__ = ("memo", "tables")

    def __init__(self, tables: Mapping[str, Any], memo: PatternMemo | None = None) -> None:
        self.tables = tables
        self.memo = pattern_memo() if memo is None else memo


class RegularExpressions:
    """The function `matches` of one condition."""

    def __init__(
        self,
        literals: Iterable[str],
        tables: Sequence[Any],
        of_tables: PatternMemo,
        *,
        ignores_case: bool,
    ) -> None:
        """`tables`: what it may read of `data`; `of_tables`: what was read of them already."""
        self._flags = "(?i)" if ignores_case else ""
        self._literals = {one: _read(self._flags + one) for one in literals}
        self._tables = tables
        self._of_tables = of_tables
        self._others: PatternMemo = BoundedMemo(_REMEMBERED)
        self._met: BoundedMemo[str, None] = BoundedMemo(_REMEMBERED)
        """Others that came once: to read one to keep it takes longer than to ask the engine."""
        self._engine = cel.compile("text.matches(pattern)")

    def matches(self, text: Any, pattern: Any) -> Any:
        """Whether the pattern is found in the text."""
        if not isinstance(text, str) or not isinstance(pattern, str):
            return FAILED
        if pattern in self._literals:
            return _is_found(self._literals[pattern], text)
        flagged = self._flags + pattern
        held = self._of_tables if pattern in self._texts_of_tables else self._others
        if flagged not in held:
            if held is self._others and pattern not in self._met:
                self._met.keep(pattern, None)
                return self._asked_once(text, flagged)
            held.keep(flagged, _read(flagged))
        return _is_found(held[flagged], text)

    @cached_property
    def _texts_of_tables(self) -> frozenset[str]:
        return frozenset(_texts(self._tables))

    def _asked_once(self, text: str, pattern: str) -> Any:
        try:
            return self._engine.execute({"text": text, "pattern": pattern})
        except RuntimeError:
            return FAILED


def regular_expressions(
    expression: Expression, patterns: PatternTables, *, ignores_case: bool
) -> RegularExpressions | None:
    """For the patterns that the expression asks for; None where it asks for none."""
    asked = [call for call in expression.calls if call.name == "matches" and call.method]
    if not asked:
        return None
    literals = (one for call in asked for one in call.literals if one is not None)
    read = {path.keys[0] if path.keys else None for path in expression.paths if path.root == "data"}
    tables = patterns.tables.items()
    among = [table for name, table in tables if name in read or None in read]
    return RegularExpressions(literals, among, patterns.memo, ignores_case=ignores_case)


def kept_patterns(words: Sequence[Token]) -> list[TextEdit]:
    """What makes `.matches_pattern(` of each `.matches(`."""
    named = ["", *(word.text for word in words), ""]
    return [
        TextEdit(word.at, word.at + len(word.text), MATCHES)
        for at, word in enumerate(words)
        if word.text == "matches" and (named[at], named[at + 2]) == (".", "(")
    ]


def _texts(tables: Sequence[Any]) -> Iterator[str]:
    left = list(tables)
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left += value
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value


def _is_found(adapter: TypeAdapter[str] | None, text: str) -> Any:
    if adapter is None:
        return FAILED
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


def _read(pattern: str) -> TypeAdapter[str] | None:
    kept = Annotated[str, StringConstraints(pattern=pattern)]
    try:
        return TypeAdapter(kept, config=ConfigDict(regex_engine="rust-regex"))
    except Exception:  # noqa: BLE001 (what a pattern that is none raises is of another library)
        return None
