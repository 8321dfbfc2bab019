"""Fields of a JSON body that a policy or a limit reads: known by one name each, or not at all.

Law: what was read is what a backend finds under that name, and nothing beside it is taken for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any


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
            if _hides(value, _name_folded(left), key):
                return False
            value, left = value.get(key), deeper
        if isinstance(value, int) and abs(value) >= 2**63:
            return False
    return True


def wraps(body: object, paths: Collection[str], wrappers: Collection[str]) -> bool:
    """Whether an object in a JSON body that has the name of one of the `wrappers`, folded, holds a
    field of `paths`, or hides it.

    Rails (`wrap_parameters`) puts the fields of a body into an object of the name of its model,
    where the body has none of that name: what was read beside it is nothing to the backend then.
    """
    if not isinstance(body, Mapping):
        return False
    for name, inner in body.items():
        if isinstance(inner, Mapping) and (folded := _name_folded(name)) in wrappers:
            known = [_name_folded(path) for path in paths]
            inside = [path for path in known if f"{folded}.{path}" not in known]
            if any(_hides(inner, path) for path in inside):
                return True
    return False


def wrappers_of(segments: Collection[str], kind: str = "") -> frozenset[str]:
    """The names, folded, of objects into which a backend may put what a call of a path of these
    literal segments says: `note` below `/notes` (the last plural counts, else the last), and
    `kind`, what its resource is."""
    words = [_name_folded(segment.partition(".")[0]) for segment in segments]
    plurals = [word for word in words if _is_plural(word)]
    names = {_name_folded(kind)}
    for word in (plurals or words)[-1:]:
        names |= {word, _SINGULARS.get(word, word)}
        names |= {word.removesuffix(end) + one for end, one in _ENDINGS if word.endswith(end)}
    return frozenset(names - {""})


def _is_plural(word: str) -> bool:
    return word in _SINGULARS or (word.endswith("s") and not word.endswith(("ss", "status")))


def _hides(value: Mapping[str, Any], path: str, key: str = "") -> bool:
    """Whether some backend finds the field at `path`, folded, of an object, or a part of it, under
    another name than `key`, its first step.

    Parsers that translate names (`ownerId` to `owner_id`) take both for one.  MongoDB, Mongoose
    and `get` of lodash take `a.b` for the field `b` of `a`, `set` of lodash `a[b]` and `[a].b` too.
    MongoDB writes what `$set` and its like name, and what the values of `$rename` do, where a body
    is an update of a document.  And `Object.assign` makes of `__proto__` what fields are looked for
    in that an object has not, `merge` of an old lodash of `prototype` in `constructor`.
    """
    first, whole = path.partition(".")[0], f"{path}."
    marks = f"{first}.", f"{first}[", f"{first}]", *_MARKS
    for name, inner in value.items():
        if name[:1] == "$":
            if isinstance(inner, Mapping) and (
                _hides(inner, path) or (name == "$rename" and _hides(_texts_of(inner), path))
            ):
                return True
            continue
        folded = _name_folded(name)
        if folded == first:
            if name != key:
                return True
        elif folded.startswith(marks):
            steps = _in_steps(name)
            if steps.startswith(_PROTOTYPES):
                return True
            if name == "constructor" and isinstance(inner, Mapping) and "prototype" in inner:
                return True
            steps = _name_folded(steps)
            if steps.startswith(whole) or whole.startswith(steps):
                return True
    return False


def _name_folded(name: str) -> str:
    """Of a field of a body, or of several with a dot between them."""
    return name.casefold().replace("_", "").replace("-", "")


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
_SINGULARS = MappingProxyType({"people": "person", "children": "child", "men": "man"})
_ENDINGS = (
    ("s", ""),
    ("ies", "y"),
    ("ves", "f"),
    ("xes", "x"),
    ("ses", "s"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("oes", "o"),
)
_PROTOTYPES = "__proto__.", "constructor.prototype."
_MARKS = "[", "]", "proto", "constructor"
"""What a name, folded, begins with that may lead to any field."""
