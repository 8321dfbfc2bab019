"""What a JSON body gives for a whole object or list that conditions read within.

Law: a field of an object that a condition reads has one name, as one that a template names has
(`body_fields.py`), what a condition goes through is a list, and what it compares with values is
none that becomes one of these (`named_values.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from gateway.access.conditions.resource_uses import ITEM, Place, ResourceUses, joined
from gateway.access.definitions import Limit
from gateway.access.policies import ResourceField
from gateway.access.routing.body_fields import BodyFields, field_at, hides
from gateway.access.routing.naming import NamingRules, named_places

_Steps = tuple[str, Place]
_Told = TypeVar("_Told")


class BodyValues:
    """Fields of a resource that are a field of the body, each by its path (`a.b`)."""

    __slots__ = ("_fields", "_lists", "_names", "_paths", "_values")

    def __init__(self, paths: Mapping[str, str], uses: ResourceUses, rules: NamingRules) -> None:
        self._paths = tuple(paths.values())
        named: dict[str, set[str]] = defaultdict(set)
        for within_field, name in uses.names:
            for path in paths.values() if not within_field else [paths.get(within_field, "")]:
                named[path].add(name)
        named.pop("", None)
        self._names = [(at, BodyFields((n,) for n in sorted(found))) for at, found in named.items()]
        within: dict[Place, list[tuple[str, ...]]] = defaultdict(list)
        for place, steps in sorted(uses.fields, key=str):
            within[place].append(steps)
        self._fields = list(_below(paths, ((p, BodyFields(found)) for p, found in within.items())))
        # Items of a list hold unlike things by the names beside them, as a JSON Patch does.
        lists = {one for one in uses.lists if ITEM not in one[:-1]}
        free = uses.objects | uses.any_form
        self._lists = [at for at, _ in _below(paths, ((place, None) for place in lists - free))]
        values = {
            place
            for place in named_places(uses) - free - uses.lists
            if ITEM not in place[:-1] and place[0] in paths
        }
        self._values = list(_below(paths, rules.values_of(uses, values)))

    def reads_alike(self, body: object) -> bool:
        """Of what a record of a body left out, which is no plain object, nothing is known."""
        if any(type(one) is dict for at in self._lists for one in _at(body, at)):
            return False
        for at, named in self._values:
            if named.may_become_one(filter(_is_plain, _at(body, at))):
                return False
        if any(_hides(one, fields) for at, fields in self._fields for one in _at(body, at)):
            return False
        return not any(_hides_anywhere(field_at(body, path), names) for path, names in self._names)

    def takes_what_refuses(self, other: BodyValues | None) -> bool:
        """Whether some body passes here that does not there."""
        if other is None:
            return False
        if not other._names_asked() <= self._names_asked():
            return True
        mine, theirs = dict(self._values), dict(other._values)
        for at, named in theirs.items():
            known = mine.get(at)
            if known is None:
                return True
            if named.refuses_more(known):
                return True
        return False

    def _names_asked(self) -> set[str]:
        asked = {f"list {at}" for at in self._lists}
        for kind, found in (("field", self._fields), ("name", self._names)):
            asked |= {f"{kind} {at} {path}" for at, fields in found for path in fields.paths}
        return asked

    def is_left_out(self, body: object) -> bool:
        """Whether a record holds no more of some of it than that it was there."""
        values = (field_at(body, path) for path in self._paths)
        return any(isinstance(one, dict) and type(one) is not dict for one in values)


def body_values(
    resource: Sequence[ResourceField], limits: Sequence[Limit], rules: NamingRules
) -> BodyValues | None:
    """None where no condition of the rules, and no key of a limit, reads within a value of the
    body, or takes it in one form."""
    paths = {
        one.name: one.template.pieces[0].text
        for one in resource
        if len(one.template.pieces) == 1 and one.template.pieces[0].source == "body"
    }
    if not paths:
        return None
    keys = [limit.expression for limit in (*limits, *(o for r in rules.allows for o in r.limits))]
    # Keys take a list of one for what it holds (`counted_values.py`).
    plain = [one.expression.uses for one in keys if one is not None]
    plain += [one.uses for one in rules.allowing]
    uses = joined((_without_values(joined(plain)), *(one.uses for one in rules.naming)))
    found = (
        uses.fields, uses.names, uses.lists, uses.values, uses.tables, uses.equals, uses.texts,
        uses.ordered,
    )  # fmt: skip
    return BodyValues(paths, uses, rules) if any(found) else None


def _without_values(uses: ResourceUses) -> ResourceUses:
    for found in (uses.values, uses.tables, uses.equals, uses.texts, uses.ordered):
        found.clear()
    return uses


def _hides(value: object, fields: BodyFields) -> bool:
    """Whether a field of an object, or of one within, may be known by another name."""
    if type(value) is not dict:
        return False
    if hides(value, fields.keys, fields.paths, is_within=True):
        return True
    return any(
        deeper is not None and _hides(value.get(key), deeper) for key, deeper in fields.within
    )


def _hides_anywhere(value: object, names: BodyFields) -> bool:
    """Each object is looked at once, by itself or from the one that it is an operator of."""
    asked: set[int] = set()
    level: list[Any] = [value]
    while level:
        below: list[Any] = []
        for one in level:
            if isinstance(one, list):
                below += one
            elif type(one) is dict:
                if id(one) not in asked and hides(
                    one, names.keys, names.paths, is_within=True, asked=asked
                ):
                    return True
                below += one.values()
        level = below
    return False


def _is_plain(value: object) -> bool:
    return not isinstance(value, dict) or type(value) is dict


def _below(
    paths: Mapping[str, str], places: Iterable[tuple[Place, _Told]]
) -> Iterator[tuple[_Steps, _Told]]:
    """Those that lie in the body, as the path of the field and the steps behind it."""
    for (name, *steps), told in places:
        path = paths.get(str(name))
        if path is not None:
            yield (path, tuple(steps)), told


def _at(body: object, steps: _Steps) -> list[Any]:
    """What lies there, of a list in each of its items."""
    found: list[Any] = [field_at(body, steps[0])]
    for step in steps[1]:
        if step is ITEM:
            found = [item for one in found if isinstance(one, list) for item in one]
        else:
            found = [one[step] for one in found if isinstance(one, Mapping) and step in one]
    return found
