"""The world in which nobody writes capitals or odd letters (`spelled_alike.py`): the conditions and
the tables of a policy as they are there, each made once and only where it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.expressions import read_expression
from gateway.access.conditions.regular_expressions import PatternTables, pattern_memo
from gateway.access.conditions.spelled_alike import Alike, condition_alike


class AskedAlike(Protocol):
    """A condition that is asked there: `mailboxes.NamedMailboxes`."""

    condition: Condition
    asks_parts: bool
    keeps_escapes: bool
    """Whether what a table or a call holds may be a pattern."""


Worlds = tuple["WorldAlike", "WorldAlike"]
"""Without and with names that are folded."""


class PolicyTables(dict[str, Any]):
    """The tables of policies; each is also known as it is in that world, once it was needed."""

    __slots__ = ("_alike", "_worlds", "pattern_memo")

    def __init__(self, tables: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(tables)
        self.pattern_memo = pattern_memo()
        self._alike: dict[tuple[str, bool, bool], tuple[Any, Alike]] = {}
        self._worlds: WeakKeyDictionary[AskedAlike, tuple[WorldAlike, WorldAlike]] = (
            WeakKeyDictionary()
        )

    def alike(self, name: str, *, folds: bool, keeps_escapes: bool) -> tuple[Any, Alike]:
        """A table, and what rewrote it."""
        known = self._alike.get((name, folds, keeps_escapes))
        if known is None and folds:
            plain = self.alike(name, folds=False, keeps_escapes=keeps_escapes)
            known = None if plain[1].folds_more else plain
        if known is None:
            alike = Alike(folds=folds, is_bounded=False, keeps_escapes=keeps_escapes)
            known = alike.value(self[name]), alike
            # A table may hold many.
            alike.texts.clear()
        self._alike[name, folds, keeps_escapes] = known
        return known

    def worlds(self, asked: AskedAlike) -> Worlds:
        worlds = self._worlds.get(asked)
        if worlds is None:
            worlds = WorldAlike(asked, self, folds=False), WorldAlike(asked, self, folds=True)
            self._worlds[asked] = worlds
        return worlds


class WorldAlike:
    """A condition and its tables as they are there."""

    __slots__ = (
        "_own",
        "_parts",
        "_patterns",
        "condition",
        "data",
        "folds_more",
        "says_address",
        "texts",
    )

    def __init__(self, asked: AskedAlike, tables: PolicyTables, *, folds: bool) -> None:
        condition, keeps_escapes = asked.condition, asked.keeps_escapes
        own = self._own = Alike(folds=folds, is_bounded=False, keeps_escapes=keeps_escapes)
        self.texts = own.texts
        self._parts: dict[int, tuple[Condition, Condition]] = {}
        read = [path.keys[:1] for path in condition.expression.paths if path.root == "data"]
        names = {keys[0] for keys in read if keys} if () not in read else set(tables)
        found = {
            name: tables.alike(name, folds=folds, keeps_escapes=keeps_escapes)
            for name in names & set(tables)
        }
        self.data = {name.lower(): table for name, (table, _) in found.items()}
        self._patterns = PatternTables(self.data, tables.pattern_memo)
        self.condition = self._written_here(condition)
        self.folds_more = own.folds_more or any(alike.folds_more for _, alike in found.values())
        self.says_address = own.says_address or any(
            alike.says_address or (asked.asks_parts and table is not tables[name])
            for name, (table, alike) in found.items()
        )

    def _written_here(self, condition: Condition) -> Condition:
        source = condition_alike(condition.source, self._own)
        try:
            # Its names and types were checked as it is written.
            expression = read_expression(source)
            return Condition(source, expression, tables=self._patterns, ignores_case=True)
        except ValueError:
            # A name may be a word of CEL in lower case.
            return Condition(condition.source, condition.expression, ignores_case=True)

    def part(self, part: Condition) -> Condition:
        """A part of the condition as it is written here."""
        known = self._parts.get(id(part))
        if known is None:
            known = self._parts[id(part)] = part, self._written_here(part)
        return known[1]

    def makes_one_of_two(self, call: Alike) -> bool:
        """Of the texts of the call and of the condition: else what equals what is as it was."""
        texts = {**call.texts, **self.texts}
        return len(set(texts.values())) != len(texts)
