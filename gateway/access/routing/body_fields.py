"""Fields of a JSON body that a policy or a limit reads: known by one name each, or not at all.

Law: what was read is what a backend finds under that name, and nothing beside it is taken for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from gateway.access.routing.name_letters import letters_in_steps, letters_of


def reads_alike(body: object, paths: Collection[str]) -> bool:
    """Whether the fields at `paths` (`a.b`) of a JSON body are known by one name each, and lie in
    objects.

    Some backends take a field in any case, and of several the last: what the policy read, or
    did not find, would be another's.  A list where an object is expected, and a number that no
    condition can hold, would be no field to a rule that asks `has(…)`, and one to a backend.  So
    would `a.b` in one name, and what an operator of MongoDB sets.
    """
    for path in paths:
        value, left = body, path
        while left:
            if value is None:
                break
            if not isinstance(value, Mapping):
                return False
            key, _, deeper = left.partition(".")
            if _hides(value, letters_in_steps(left), key):
                return False
            value, left = value.get(key), deeper
        if isinstance(value, int) and abs(value) >= 2**63:
            return False
    return True


def wraps(body: object, paths: Collection[str], wrappers: Collection[str]) -> bool:
    """Whether an object in a JSON body that has the name of one of the `wrappers`, by its letters,
    holds a field of `paths`, or hides it.

    Rails (`wrap_parameters`) puts the fields of a body into an object of the name of its model,
    where the body has none of that name: what was read beside it is nothing to the backend then.
    """
    if not isinstance(body, Mapping):
        return False
    for name, inner in body.items():
        if isinstance(inner, Mapping) and (wrapper := letters_of(name)) in wrappers:
            known = [letters_in_steps(path) for path in paths]
            inside = [path for path in known if f"{wrapper}.{path}" not in known]
            if any(_hides(inner, path) for path in inside):
                return True
    return False


def _hides(value: Mapping[str, Any], path: str, key: str = "") -> bool:
    """Whether some backend finds the field at `path`, by its letters, of an object, or a part of
    it, under another name than `key`, its first step.

    Who translates names (`ownerId` to `owner_id`, or the other way) takes those for one that have
    the same letters.  MongoDB, Mongoose and `get` of lodash take `a.b` for the field `b` of `a`,
    `set` of lodash `a[b]` and `[a].b` too.  MongoDB writes what `$set` and its like name, and what
    the values of `$rename` do, where a body is an update of a document.  And `Object.assign` makes
    of `__proto__` what fields are looked for in that an object has not, `merge` of an old lodash of
    `prototype` in `constructor`.
    """
    first, whole = path.partition(".")[0], f"{path}."
    begins = first, *_BEGINS
    for name, inner in value.items():
        letters = letters_of(name)
        if letters == first:
            if name != key:
                return True
        elif name[:1] == "$":
            if isinstance(inner, Mapping) and (
                _hides(inner, path) or (name == "$rename" and _hides(_texts_of(inner), path))
            ):
                return True
        elif letters.startswith(begins):
            steps = _in_steps(name)
            if steps.startswith(_PROTOTYPES):
                return True
            if name == "constructor" and isinstance(inner, Mapping) and "prototype" in inner:
                return True
            steps = letters_in_steps(steps)
            if steps.startswith(whole) or whole.startswith(steps):
                return True
    return False


def _in_steps(name: str) -> str:
    """`a.b.` of `a.b`, and of all that `set` of lodash takes for it (`[a]["b"]`, `a.b]`).

    It reads a name that has neither `.` nor `[` as it stands, and drops `\\` within quotes.
    """
    if "[" in name:
        name = name.replace("[", ".").replace("'", "").replace('"', "").replace("\\", "")
    if "." in name:
        name = name.replace("]", ".").strip(".")
    return f"{'.'.join(filter(None, name.split('.'))) if '..' in name else name}."


def _texts_of(value: Mapping[str, Any]) -> dict[str, None]:
    return dict.fromkeys(text for text in value.values() if isinstance(text, str))


def engine_takes(value: object, most_parts: int) -> bool:
    """Whether the engine of conditions reads a JSON value as it is, and soon: of at most so many
    lists and objects, with numbers that it rounds for no comparison."""
    level, parts = [value], 0
    while level:
        numbers: Iterator[Any] = (one for one in level if type(one) in _NUMBERS)
        if any(abs(number) >= _ROUNDED[type(number)] for number in numbers):
            return False
        held = [one for one in level if isinstance(one, list | dict)]
        parts += len(held)
        if parts > most_parts:
            return False
        values = (part.values() if isinstance(part, dict) else part for part in held)
        level = [one for each in values for one in each]
    return True


def field_at(body: object, path: str) -> object:
    """The field at `path` (`a.b`) of a JSON body; None where there is none."""
    for key in path.split("."):
        body = body.get(key) if isinstance(body, Mapping) else None
    return body


_ROUNDED: Mapping[type, int] = MappingProxyType({int: 2**63, float: 2**53})
"""From here on one number is taken for another."""
_NUMBERS = frozenset(_ROUNDED)
_PROTOTYPES = "__proto__.", "constructor.prototype."
_BEGINS = "proto", "constructor"
"""The letters with which a name begins that may lead to any field."""
