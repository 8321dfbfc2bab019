"""Tables of `policies/data/`: how much of them conditions hand to the engine, and what is known of
their lists without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access.conditions.expressions import Expression, FieldPath

LONG_ITEMS = 100
"""To hand over so much of `data` takes 80 µs."""
_LISTS_KNOWN = 64


class TextsOfLists:
    """Which texts the lists hold that one condition looks something up in: a long one is read
    once.  A list is never changed, and another configuration has others."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, tuple[list[Any], frozenset[str]]] = {}

    def hold(self, items: list[Any], wanted: str) -> bool:
        if len(items) <= LONG_ITEMS:
            return wanted in items
        known = self._known.get(id(items))
        # Another list may have come to the place of one that is gone.
        if known is None or known[0] is not items:
            if len(self._known) >= _LISTS_KNOWN:
                self._known.clear()
            known = items, frozenset(item for item in items if isinstance(item, str))
            self._known[id(items)] = known
        return wanted in known[1]


class TablesRead:
    """How much of one configuration's `data` conditions hand to the engine."""

    __slots__ = ("_data", "_much")

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self._much: dict[tuple[object, ...], bool] = {}

    def much(self, expression: Expression) -> bool:
        """Whether it may be more than LONG_ITEMS for one evaluation."""
        return any(self._is_much(path) for path in expression.paths if path.root == "data")

    def _is_much(self, path: FieldPath) -> bool:
        if path.looked_for is not None and None not in path.steps:
            return False
        # Many conditions read the same of a table, and a table may have many entries.
        steps = tuple(True if isinstance(step, FieldPath) else step for step in path.steps)
        if steps not in self._much:
            self._much[steps] = _is_much_at(self._data, steps)
        return self._much[steps]


def _is_much_at(value: Any, steps: tuple[str | bool | None, ...]) -> bool:
    """`steps`: True for a key that a call tells, None for one that nothing tells."""
    if steps and steps[0] is not None and isinstance(value, Mapping):
        step, more = steps[0], steps[1:]
        if isinstance(step, str):
            return step in value and _is_much_at(value[step], more)
        return any(_is_much_at(entry, more) for entry in value.values())
    if len(steps) == 1 and isinstance(steps[0], str) and isinstance(value, list):
        return False
    return _items(value, LONG_ITEMS) > LONG_ITEMS


def _items(value: Any, most: int) -> int:
    """How many there are in lists and maps, in those that lie in them as well; it stops to count
    behind `most`."""
    inner = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | list):
        return 0
    count = len(value)
    for item in inner:
        if count > most:
            break
        count += _items(item, most - count)
    return count
