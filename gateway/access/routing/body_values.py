"""What a JSON body gives for a whole object or list that conditions read within.

Law: a field of an object that a condition reads has one name, as one that a template names has
(`body_fields.py`), and what a condition takes as a list, as one value or as a number is no other: a
backend reads another name, the values of an object, or 7 of "7", for what was judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.access.conditions.resource_uses import (
    ITEM,
    Place,
    ResourceUses,
    joined,
    reads_as_number,
)
from gateway.access.definitions import Limit
from gateway.access.policies import ActionRules, ResourceField
from gateway.access.routing.body_fields import BodyFields, field_at, hides, reads_alike
from gateway.access.routing.name_letters import letters_of

_NUMBER, _DIGITS = "number", "digits"


class BodyValues:
    """Fields of a resource that are a field of the body, each by its path (`a.b`)."""

    __slots__ = (
        "_digits",
        "_fields",
        "_keys",
        "_lists",
        "_names",
        "_numbers",
        "_paths",
        "_truths",
        "_values",
    )

    def __init__(
        self, paths: Mapping[str, str], uses: ResourceUses, data: Mapping[str, Any]
    ) -> None:
        self._paths = tuple(paths.values())
        self._keys: dict[str, str] = {}
        """Of the letters of each name, how it is written; empty where it is in two ways."""
        for name in sorted(uses.names):
            letters = letters_of(name)
            self._keys[letters] = "" if letters in self._keys else name
        self._names = tuple(self._keys)
        within: dict[Place, list[str]] = {}
        for place, name in uses.fields:
            within.setdefault(place, []).append(name)
        self._fields = [
            (path, steps, BodyFields(within[place]))
            for place in within
            for path, steps in _below(paths, (place,))
        ]
        self._lists = _below(paths, uses.only_lists)
        self._values = _below(paths, uses.only_values)
        tables = [(place, _kinds(data, names)) for place, names in uses.tables]
        numbers = uses.numbers | {place for place, kinds in tables if _NUMBER in kinds}
        digits = uses.digits | {place for place, kinds in tables if _DIGITS in kinds}
        self._numbers = _below(paths, numbers - digits)
        self._digits = _below(paths, digits - numbers)
        self._truths = _below(paths, uses.truths - numbers - digits)

    def reads_alike(self, body: object) -> bool:
        """Of what a record of a body left out, which is no plain object, nothing is known."""
        for path, steps in self._lists:
            if any(type(one) is dict for one in _at(field_at(body, path), steps)):
                return False
        for path, steps in self._values:
            if any(type(one) in (dict, list) for one in _at(field_at(body, path), steps)):
                return False
        for path, steps in self._numbers:
            if any(_is_other_number(one) for one in _at(field_at(body, path), steps)):
                return False
        for path, steps in self._truths:
            if any(type(one) in (str, int, float) for one in _at(field_at(body, path), steps)):
                return False
        for path, steps in self._digits:
            if any(isinstance(one, int | float) for one in _at(field_at(body, path), steps)):
                return False
        for path, steps, fields in self._fields:
            for one in _at(field_at(body, path), steps):
                if type(one) is dict and not reads_alike(one, fields):
                    return False
        return not self._keys or not any(map(self._hides_a_name, self._paths_of(body)))

    def _paths_of(self, body: object) -> list[object]:
        return [field_at(body, path) for path in self._paths]

    def _hides_a_name(self, value: object) -> bool:
        level: list[Any] = [value]
        while level:
            below: list[Any] = []
            for one in level:
                if isinstance(one, list):
                    below += one
                elif type(one) is dict:
                    if hides(one, self._keys, self._names):
                        return True
                    below += one.values()
            level = below
        return False


def body_values(
    resource: Sequence[ResourceField],
    limits: Sequence[Limit],
    action_rules: ActionRules | None,
    data: Mapping[str, Any],
) -> BodyValues | None:
    """`action_rules` are those that are enforced, `data` their tables.  None where no condition of
    theirs, and no key of a limit, reads within a value of the body, or takes it in one form."""
    paths = {
        one.name: one.template.pieces[0].text
        for one in resource
        if len(one.template.pieces) == 1 and one.template.pieces[0].source == "body"
    }
    if not paths:
        return None
    rules = () if action_rules is None else action_rules.allows
    keys = [limit.expression for limit in (*limits, *(o for rule in rules for o in rule.limits))]
    of_keys = joined(one.expression.uses for one in keys if one is not None)
    # Keys take a list of one for what it holds (`counted_values.py`).
    of_keys.values.clear()
    denies = () if action_rules is None else action_rules.denies
    conditions = [rule.condition for rule in (*denies, *rules) if rule.condition is not None]
    uses = joined([of_keys, *(one.expression.uses for one in conditions)])
    if not (uses.fields or uses.names or uses.lists or uses.values):
        return None
    return BodyValues(paths, uses, data)


def _is_other_number(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and reads_as_number(value))


def _kinds(data: Any, names: Place) -> set[str]:
    """Which there are in a table that is looked in."""
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    kinds = set()
    for one in data if isinstance(data, Mapping | list) else ():
        if isinstance(one, int | float):
            kinds.add(_NUMBER)
        elif isinstance(one, str) and reads_as_number(one):
            kinds.add(_DIGITS)
    return kinds


def _below(paths: Mapping[str, str], places: Iterable[Place]) -> tuple[tuple[str, Place], ...]:
    return tuple((path, one[1:]) for one in places if (path := paths.get(str(one[0]))) is not None)


def _at(value: Any, steps: Place) -> list[Any]:
    """What lies there, of a list in each of its items."""
    found = [value]
    for step in steps:
        if step is ITEM:
            found = [item for one in found if isinstance(one, list) for item in one]
        else:
            found = [one[step] for one in found if isinstance(one, Mapping) and step in one]
    return found
