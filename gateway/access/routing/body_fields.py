"""Fields of a JSON body that a policy or a limit reads: known by one name each, or not at all.

Law: what was read stands under that name, and nothing else in the body is taken for it.  Whether a
backend looks for it there no body tells: Rails does not, where an object has the name of a model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any

from gateway.access.routing.name_letters import letters_of, letters_of_each, steps_of_each


class BodyFields:
    """Those at some paths (`a.b`), as they are looked for in an object."""

    __slots__ = ("keys", "paths", "within")

    def __init__(self, paths: Iterable[Sequence[str]]) -> None:
        """Each step by step."""
        parts: dict[str, list[Sequence[str]]] = {}
        steps = [tuple(path) for path in paths]
        for key, *deeper in steps:
            parts.setdefault(key, []).append(deeper)
        self.paths: tuple[str, ...] = tuple(".".join(map(letters_of, path)) for path in steps)
        """By their letters."""
        self.keys: dict[str, str] = {}
        """Of the letters of each first step, how it is written; empty where it is in two ways."""
        for key in parts:
            letters = letters_of(key)
            self.keys[letters] = "" if letters in self.keys else key
        self.within: tuple[tuple[str, BodyFields | None], ...] = tuple(
            (key, BodyFields(filter(None, deeper)) if any(deeper) else None)
            for key, deeper in parts.items()
        )


def fields_named(names: Iterable[str]) -> BodyFields:
    """Of names as `a.b`."""
    return BodyFields(tuple(name.split(".")) for name in names)


def parts_of(names: Iterable[str]) -> frozenset[str]:
    """Names of fields of a body (`a.b`), and of the objects that they lie in."""
    steps = (name.split(".") for name in names)
    return frozenset(path for one in steps for path in accumulate(one, "{}.{}".format))


def reads_alike(body: object, fields: BodyFields) -> bool:
    """Whether fields of a JSON body are known by one name each, and lie in objects.

    Some backends take a field in any case, and of several the last: what the policy read, or
    did not find, would be another's.  A list where an object is expected, and a number that no
    condition can hold, would be no field to a rule that asks `has(…)`, and one to a backend.  So
    would `a.b` in one name, and what an operator of MongoDB sets.
    """
    if body is None:
        return True
    if not isinstance(body, Mapping) or hides(body, fields.keys, fields.paths):
        return False
    for key, deeper in fields.within:
        inner = body.get(key)
        if isinstance(inner, int) and abs(inner) >= 2**63:
            return False
        if deeper is not None and not reads_alike(inner, deeper):
            return False
    return True


def wraps(body: object, fields: BodyFields, wrappers: Collection[str]) -> bool:
    """Whether an object in a JSON body that has the name of one of the `wrappers`, by its letters,
    holds one of the fields, or hides it.

    Rails (`wrap_parameters`) puts the fields of a body into an object of the name of its model,
    where the body has none of that name: what was read beside it is nothing to the backend then.
    What is read in the object itself is not looked for in it once more.  The body `reads_alike`.
    """
    if not isinstance(body, Mapping):
        return False
    for name, inner in body.items():
        if isinstance(inner, Mapping) and (wrapper := _letters(name)) in wrappers:
            if name[:1] == "$" and wrapper not in fields.keys:
                continue  # `hides` asked of more names there, and of every path
            known, within = fields.paths, f"{wrapper}."
            others = [one for one in known if not one.startswith(within)]
            beside = [one for one in others if within + one not in known]
            keys = {one.partition(".")[0]: "" for one in beside}
            if keys and hides(inner, keys, beside):
                return True
    return False


def hides(
    value: Mapping[str, Any],
    keys: Mapping[str, str],
    paths: Sequence[str],
    *,
    is_within: bool = False,
    asked: set[int] | None = None,
) -> bool:
    """Whether some backend finds a field at one of the `paths`, by its letters, of an object, or a
    part of it, under another name than `keys` has for the letters of its first step.

    Who translates names (`ownerId` to `owner_id`, or the other way) takes those for one that have
    the same letters.  MongoDB, Mongoose and `get` of lodash take `a.b` for the field `b` of `a`,
    `set` of lodash `a[b]` and `[a].b` too.  MongoDB writes what `$set` and its like name, and what
    the values of `$rename` do, where a body is an update of a document.  Rails makes a date `a` of
    `a(1i)` and its like.  And `Object.assign` makes of `__proto__` what fields are looked for in
    that an object has not, `merge` of an old lodash of `prototype` in `constructor`.  To a parser
    in C a name may end at its NUL (`owner\\0x`).

    `is_within`: where `a` is no object, `a.b` is no part of it: Kubernetes has labels such as `app`
    and `app.kubernetes.io/name`.  `asked` is told of the objects below a `$`, by their `id`: of
    these more was asked than of what lies elsewhere.
    """
    if not value:
        return False
    if _NUL in "".join(value):
        return True
    begins = *keys, *_BEGINS
    others: dict[str, str] = {}
    parted: dict[str, str] = {}
    for (name, inner), letters in zip(value.items(), letters_of_each(value), strict=True):
        if name in _OF_OBJECTS:
            letters = name
        if letters in keys:
            if name != keys[letters]:
                return True
            if len(keys) > 1 and letters in _BEGINS and _is_prototype(f"{name}.", inner):
                return True
        elif name[:1] == "$":
            if isinstance(inner, Mapping) and inner:
                # Whatever it is called there, it is another name than any that is looked for.
                others = others or dict.fromkeys(keys, _NUL)
                if hides(inner, others, paths, asked=asked):
                    return True
                if name == "$rename" and hides(_texts_of(inner), others, paths):
                    return True
                if asked is not None:
                    asked.add(id(inner))
        elif letters.startswith(begins):
            steps = _in_steps(name)
            if _is_prototype(steps, inner):
                return True
            if steps.count(".") > 1 or "(" in name:
                parted[name] = steps
    return bool(parted) and _part_is_hidden(value, parted, keys, paths, is_within=is_within)


def _part_is_hidden(
    value: Mapping[str, Any],
    parted: Mapping[str, str],
    keys: Mapping[str, str],
    paths: Sequence[str],
    *,
    is_within: bool,
) -> bool:
    """As `hides`, of names and their steps: of all at once, as there may be thousands."""
    heads = [name.partition("(")[0] for name in parted if "(" in name]
    if any(letters in keys for letters in letters_of_each(heads)):
        return True
    wholes = [f"{path}." for path in paths]
    above, below = f"{_NUL}{_NUL.join(wholes)}", tuple(wholes)
    steps = steps_of_each(parted.values())
    if any(f"{_NUL}{one}" in above for one in steps):
        return True
    # Of what is read below it, there is a longer path.
    steps = [one for one in steps if one.startswith(below)]
    if not steps or not is_within:
        return bool(steps)
    below = tuple(
        f"{path}." for path in paths if isinstance(value.get(keys.get(path, "")), Mapping | list)
    )
    return any(one.startswith(below) for one in steps)


def _letters(name: str) -> str:
    return name if name in _OF_OBJECTS else letters_of(name)


def _is_prototype(steps: str, inner: object) -> bool:
    if steps == "constructor.":
        return isinstance(inner, Mapping) and "prototype" in inner
    return steps.startswith(_PROTOTYPES)


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


def engine_takes(values: Iterable[object], most_parts: int) -> bool:
    """Whether the engine of conditions reads JSON values as backends do, and soon.

    So it does those of at most so many parts in all, with numbers that it rounds for no comparison,
    and no NUL, at which a text or a name ends to a parser in C.  A part is a list, an object, or a
    plain value within one.
    """
    level: list[Any] = list(values)
    parts = 0
    while level:
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                if _NUL in one:
                    return False
            elif isinstance(one, list):
                parts += 1 + _plain_items(one)
                below += one
            elif isinstance(one, dict):
                parts += 1 + _plain_items(one.values())
                if _NUL in "".join(one):
                    return False
                below += one.values()
            elif type(one) in _ROUNDED and abs(one) >= _ROUNDED[type(one)]:
                return False
        if parts > most_parts:
            return False
        level = below
    return True


def _plain_items(values: Iterable[object]) -> int:
    return sum(not isinstance(one, list | dict) for one in values)


def field_at(body: object, path: str) -> object:
    """The field at `path` (`a.b`) of a JSON body; None where there is none."""
    for key in path.split("."):
        body = body.get(key) if isinstance(body, Mapping) else None
    return body


_ROUNDED: Mapping[type, int] = MappingProxyType({int: 2**63, float: 2**53})
"""From here on one number is taken for another."""
_NUL = "\x00"
"""No name holds it that is compared."""
_OF_OBJECTS = frozenset(("$id", "$type", "$ref", "$schema", "@id", "@type", "@context"))
"""Names that Json.NET, JSON Schema and JSON-LD write into each object, beside its fields `id` and
`type`.  Clients send them back: each is known by itself, and counts for nothing of its letters."""
_PROTOTYPES = "__proto__.", "constructor.prototype."
_BEGINS = "proto", "constructor"
"""The letters with which a name begins that may lead to any field."""
