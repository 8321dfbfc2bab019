"""An expression as the engine is given it: with patterns that are read once, and for long lists
with a second text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access.conditions.edits import edited
from gateway.access.conditions.engine import cel
from gateway.access.conditions.expressions import Expression, tokens_of
from gateway.access.conditions.long_lists import MAX_ITEMS, SHORT_ITEMS, long_lists, longest
from gateway.access.conditions.regular_expressions import (
    MATCHES,
    PatternTables,
    kept_patterns,
    regular_expressions,
)

_NO_TABLES = PatternTables({})


class TooManyItems(Exception):
    """The expression iterates, and what it may go through is longer than MAX_ITEMS."""

    def __str__(self) -> str:
        return f"iterates over more than {MAX_ITEMS} items"


class Program:
    """One expression that the engine takes.  Immutable after it is made."""

    __slots__ = ("_iterates", "_long_lists", "_patterns", "_program")

    def __init__(
        self,
        source: str,
        expression: Expression,
        tables: PatternTables = _NO_TABLES,
        *,
        ignores_case: bool = False,
    ) -> None:
        """`tables`: the `data` that it will be told.

        Raises ValueError where the engine does not take it."""
        # As it is written: a complaint names the place in that text.
        cel.compile(source)
        words = tokens_of(source)
        edits = kept_patterns(words)
        self._program = cel.compile(edited(source, edits))
        patterns = regular_expressions(expression, tables, ignores_case=ignores_case)
        self._patterns = {} if patterns is None else {MATCHES: patterns.matches}
        self._iterates = expression.iterates
        self._long_lists = long_lists(source, words, edits) if expression.iterates else None

    def execute(self, bound: Mapping[str, Any], functions: Mapping[str, Any]) -> Any:
        """What it gives of the values and functions that it is told by name.

        Raises TooManyItems, and what the engine raises.
        """
        most = longest(bound) if self._iterates else 0
        if most > MAX_ITEMS:
            raise TooManyItems
        everything = {**bound, **functions, **self._patterns}
        if most > SHORT_ITEMS and self._long_lists is not None:
            known = self._long_lists.variables(bound)
            if known is not None:
                return self._long_lists.execute(everything, known)
        return self._program.execute(everything)
