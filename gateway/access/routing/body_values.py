"""What a JSON body gives for a whole object or list that conditions read within.

Law: a field of an object that a condition reads has one name, as one that a template names has
(`body_fields.py`), and what a condition takes as a list, as one value or as a number is no other: a
backend reads another name, the values of an object, or 7 of "7", for what was judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from gateway.access.conditions.resource_uses import (
    ITEM,
    Kind,
    Place,
    ResourceUses,
    is_number,
    joined,
    reads_as_number,
)
from gateway.access.definitions import Limit
from gateway.access.policies import ActionRules, ResourceField
from gateway.access.routing.body_fields import BodyFields, field_at, hides

_Steps = tuple[str, Place]
_Told = TypeVar("_Told")


class BodyValues:
    """Fields of a resource that are a field of the body, each by its path (`a.b`)."""

    __slots__ = ("_fields", "_kinds", "_lists", "_names", "_paths", "_texts", "_values", "forms")

    def __init__(
        self, paths: Mapping[str, str], uses: Sequence[ResourceUses], data: Mapping[str, Any]
    ) -> None:
        """`uses` are those of each condition."""
        whole = joined(uses)
        self._paths = tuple(paths.values())
        named: dict[str, set[str]] = defaultdict(set)
        for within_field, name in whole.names:
            for path in paths.values() if not within_field else [paths.get(within_field, "")]:
                named[path].add(name)
        named.pop("", None)
        self._names = [(at, BodyFields((n,) for n in sorted(found))) for at, found in named.items()]
        within: dict[Place, list[tuple[str, ...]]] = defaultdict(list)
        for place, steps in sorted(whole.fields, key=str):
            within[place].append(steps)
        self._fields = [(at, BodyFields(found)) for at, found in _below(paths, within.items())]
        # Items of a list hold unlike things by the names beside them, as a JSON Patch does.
        lists = {one for one in whole.lists if ITEM not in one[:-1]}
        lists -= whole.objects | whole.any_form
        self._lists = [at for at, _ in _below(paths, ((place, None) for place in lists))]
        kinds: dict[Place, set[Kind]] = defaultdict(set)
        single: set[Place] = set()
        for one in uses:
            for place, found in _compared(one, data):
                if ITEM not in place[:-1] and place not in whole.any_form:
                    kinds[place] |= found
                    single |= {place} - one.unsure - _unsure(one, data)
        values = single - whole.lists - whole.objects - whole.any_form
        self._values = [at for at, _ in _below(paths, ((place, None) for place in values))]
        self._kinds = list(_below(paths, kinds.items()))
        texts: dict[Place, set[str]] = defaultdict(set)
        for place, text in (pair for one in uses for pair in _texts(one, data)):
            if place in kinds:
                texts[place].add(text)
        self._texts = list(_below(paths, texts.items()))
        self.forms: frozenset[str] = frozenset(
            f"{kind} {one}"
            for kind, found in (
                ("list", self._lists),
                ("value", self._values),
                ("kinds", [(at, sorted(told)) for at, told in self._kinds]),
                ("fields", [(at, fields.paths) for at, fields in self._fields]),
                ("names", [(at, fields.paths) for at, fields in self._names]),
            )
            for one in found
        )
        """What a body is asked for, to tell two configurations apart."""

    def reads_alike(self, body: object) -> bool:
        """Of what a record of a body left out, which is no plain object, nothing is known."""
        if any(type(one) is dict for at in self._lists for one in _at(body, at)):
            return False
        if any(type(one) in (dict, list) for at in self._values for one in _at(body, at)):
            return False
        if any(_is_other(one, kinds) for at, kinds in self._kinds for one in _at(body, at)):
            return False
        if any(_is_padded(one, texts) for at, texts in self._texts for one in _at(body, at)):
            return False
        if any(_hides(one, fields) for at, fields in self._fields for one in _at(body, at)):
            return False
        return not any(_hides_anywhere(field_at(body, path), names) for path, names in self._names)

    def is_left_out(self, body: object) -> bool:
        """Whether a record holds no more of some of it than that it was there."""
        values = (field_at(body, path) for path in self._paths)
        return any(isinstance(one, dict) and type(one) is not dict for one in values)


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
    # Keys take a list of one for what it holds (`counted_values.py`).
    of_keys = _without_values(one.expression.uses for one in keys if one is not None)
    denies = () if action_rules is None else action_rules.denies
    conditions = [rule.condition for rule in (*denies, *rules) if rule.condition is not None]
    # What allows by an equal sign does not allow what comes in another form.
    equal = [rule.condition for rule in rules if rule.condition is not None]
    equal = [one for one in equal if not one.expression.negates]
    of_allows = _without_values(one.expression.uses for one in equal)
    uses = [of_keys, of_allows, *(o.expression.uses for o in conditions if o not in equal)]
    whole = joined(uses)
    found = whole.fields, whole.names, whole.lists, whole.values, whole.tables, whole.equals
    return BodyValues(paths, uses, data) if any(found) else None


def _without_values(uses: Iterable[ResourceUses]) -> ResourceUses:
    whole = joined(uses)
    for found in (whole.values, whole.texts, whole.tables, whole.equals):
        found.clear()
    return whole


def _compared(uses: ResourceUses, data: Mapping[str, Any]) -> Iterator[tuple[Place, set[Kind]]]:
    """What is compared with one value, and the kinds of those."""
    for place, kind in uses.values:
        yield place, {kind}
    for place, names in uses.tables:
        table = _entry(data, names)
        kinds = [_kind(one) for one in table] if isinstance(table, Mapping | list) else []
        if kinds and None not in kinds:
            yield place, {kind for kind in kinds if kind is not None}
    for place, names in uses.equals:
        entry = _kind(_entry(data, names))
        if entry is not None:
            yield place, {entry}


def _texts(uses: ResourceUses, data: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """What is compared with a text, and that."""
    yield from uses.texts
    for place, names in uses.tables:
        table = _entry(data, names)
        for one in table if isinstance(table, Mapping | list) else ():
            if isinstance(one, str):
                yield place, one
    for place, names in uses.equals:
        entry = _entry(data, names)
        if isinstance(entry, str):
            yield place, entry


def _unsure(uses: ResourceUses, data: Mapping[str, Any]) -> set[Place]:
    """What is compared with an entry of `data` that is a list or an object, or has some."""
    found = set()
    for place, names in uses.equals:
        if isinstance(_entry(data, names), Mapping | list):
            found.add(place)
    for place, names in uses.tables:
        table = _entry(data, names)
        if isinstance(table, list) and any(isinstance(one, Mapping | list) for one in table):
            found.add(place)
    return found


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
    level: list[Any] = [value]
    while level:
        below: list[Any] = []
        for one in level:
            if isinstance(one, list):
                below += one
            elif type(one) is dict:
                if _hides(one, names):
                    return True
                below += one.values()
        level = below
    return False


def _is_other(value: object, kinds: set[Kind]) -> bool:
    """Whether a backend that converts may take it for a value of one of the kinds, though it is of
    none of them."""
    if isinstance(value, bool):
        return Kind.TRUTH not in kinds
    is_number_meant = Kind.WHOLE in kinds or Kind.NUMBER in kinds
    if isinstance(value, int | float):
        if is_number_meant:
            # Many take the whole number for what they are given with a fraction.
            return value % 1 != 0 and Kind.NUMBER not in kinds
        return Kind.DIGITS in kinds or Kind.TRUTH in kinds
    if isinstance(value, str) and Kind.DIGITS not in kinds:
        reads_so = is_number_meant and reads_as_number(value)
        return reads_so or (Kind.TRUTH in kinds and Kind.TEXT not in kinds)
    return False


def _is_padded(value: object, texts: set[str]) -> bool:
    """Whether it is one of the texts to who takes blanks at the ends off, as forms of Django do."""
    return isinstance(value, str) and value not in texts and value.strip() in texts


def _entry(data: Any, names: Place) -> Any:
    """What is in a table by its names; behind ITEM all that its entries hold."""
    for name in names:
        if name is ITEM:
            entries = data.values() if isinstance(data, Mapping) else ()
            return [item for one in entries if isinstance(one, Mapping | list) for item in one]
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _kind(value: object) -> Kind | None:
    if isinstance(value, bool):
        return Kind.TRUTH
    if isinstance(value, int | float):
        return Kind.WHOLE if value % 1 == 0 else Kind.NUMBER
    if isinstance(value, str):
        return Kind.DIGITS if is_number(value) else Kind.TEXT
    return None


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
