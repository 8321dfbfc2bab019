"""Which conditions name values by which somebody is kept away, and which values these are.

Law: a deny names those that it compares with; so does an allow that may hold for what is *not* so.
What allows by an equal sign does not allow what becomes equal, and names none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.access.conditions.expressions import Expression
from gateway.access.conditions.resource_uses import ITEM, Place, ResourceUses, Value
from gateway.access.policies import ActionRules, Policy
from gateway.access.routing.named_values import NamedValues


class NamingRules:
    """The rules of one action of a policy, as far as they are enforced."""

    __slots__ = ("_known", "allowing", "allows", "data", "naming")

    def __init__(self, policy: Policy | None, action_rules: ActionRules | None) -> None:
        enforced = None if policy is None or policy.shadow else action_rules
        self.allows = () if enforced is None else enforced.allows
        denies = () if enforced is None else enforced.denies
        allowing = [r.condition.expression for r in self.allows if r.condition is not None]
        self.naming = [r.condition.expression for r in denies if r.condition is not None]
        self.naming += [one for one in allowing if one.negates]
        self.allowing: list[Expression] = [one for one in allowing if not one.negates]
        """Those of the allows that name none."""
        self.data: Mapping[str, Any] = {} if policy is None else policy.data
        self._known: dict[object, object] = {} if policy is None else policy.named_values

    def values_of(
        self, uses: ResourceUses, places: Iterable[Place]
    ) -> list[tuple[Place, NamedValues]]:
        """Of each of the places that is compared with some, these."""
        found = []
        for place in places:
            named = self._values_at(uses, place)
            if named is not None:
                found.append((place, named))
        return found

    def _values_at(self, uses: ResourceUses, place: Place) -> NamedValues | None:
        compared = _compared(uses, place)
        is_text, is_ordered = place in uses.texts, place in uses.ordered
        if not (any(compared) or is_text or is_ordered):
            return None
        # Routes share rules, and a table may be long.
        key = compared, is_text, is_ordered
        known = self._known.get(key)
        if known is None:
            values = values_at(uses, place, self.data)
            known = False
            if values or is_text or is_ordered:
                known = NamedValues(values, is_text_of_caller=is_text, is_ordered=is_ordered)
            self._known[key] = known
        return known if isinstance(known, NamedValues) else None


def values_at(uses: ResourceUses, place: Place, data: Mapping[str, Any]) -> list[Value]:
    """What is compared with the place, or looked through for it, as far as it is written out or
    stands in a table."""
    written, tables, entries = _compared(uses, place)
    values = [value for _, value in written]
    for steps in tables:
        for table in _entries(data, steps):
            values += _plain(table if isinstance(table, Mapping | list) else ())
    for steps in entries:
        values += _plain(_entries(data, steps))
    return values


def _compared(
    uses: ResourceUses, place: Place
) -> tuple[frozenset[tuple[type, Value]], frozenset[Place], frozenset[Place]]:
    return (
        frozenset((kind, value) for at, kind, value in uses.values if at == place),
        frozenset(steps for at, steps in uses.tables if at == place),
        frozenset(steps for at, steps in uses.equals if at == place),
    )


def named_places(uses: ResourceUses) -> set[Place]:
    """What is compared with any."""
    found = {place for place, _, _ in uses.values} | {place for place, _ in uses.tables}
    return found | {place for place, _ in uses.equals} | uses.texts | uses.ordered


def _entries(data: Mapping[str, Any], steps: Place) -> list[Any]:
    """What is in `data` there; none where the text does not tell."""
    found: list[Any] = [data] if steps else []
    for step in steps:
        tables = [one for one in found if isinstance(one, Mapping)]
        if step is ITEM:
            lists = [one for one in found if isinstance(one, list)]
            found = [entry for one in (*(t.values() for t in tables), *lists) for entry in one]
        else:
            found = [one[step] for one in tables if step in one]
    return found


def _plain(values: Iterable[Any]) -> list[Value]:
    return [one for one in values if isinstance(one, str | int | float)]
