"""In which form an expression takes what the resource holds: as a list, as an object with fields of
some names, or as one value.

Law: what a call gives in another form is read in one way here and in another by a backend.  CEL
goes through the names of an object, PHP through its values; `["admin"]` is not `"admin"`, but it is
to who compares by `==` in JavaScript.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

ITEM = None
"""The step from a list to each of its items."""
Place = tuple[str | None, ...]
"""`("items", ITEM, "owner")`: the field `owner` of each item of `resource.items`."""
ELSEWHERE: Place = ("", ITEM)
"""The items of what is no part of the resource."""

WORDS = 9
"""So many are looked at on either side of a path."""

_WORDS_READ = 6
_COMPARES = frozenset(("==", "!=", "<", "<=", ">", ">="))
_TRUTHS = frozenset(("true", "false"))
_TEXTS = frozenset(
    (root, ".", name)
    for root, names in (
        ("user", ("id", "email", "issuer", "session_id", "tenant", "tenant_role")),
        ("request", ("method", "path", "host")),
        ("client", ("ip",)),
    )
    for name in names
)
_OF_ANY_FORM = frozenset(("size", "dyn", "type"))
_GOES_THROUGH = frozenset(("all", "exists", "exists_one", "map", "filter"))
_QUOTES = ("'", '"')
_LOOKS_FOR = frozenset((*_COMPARES, "in"))
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_ENDS_A_VALUE = frozenset(("]", ")"))


@dataclass(slots=True)
class ResourceUses:
    fields: set[tuple[Place, str]] = field(default_factory=set)
    """What is read of an object that lies there, as `a.b`."""
    names: set[str] = field(default_factory=set)
    """Of fields that are read of an object, nobody knows where."""
    lists: set[Place] = field(default_factory=set)
    """What is gone through, or looked in."""
    objects: set[Place] = field(default_factory=set)
    """Of what fields are read."""
    values: set[Place] = field(default_factory=set)
    """What is compared, looked for or handed to a function."""
    numbers: set[Place] = field(default_factory=set)
    """What is compared with a number."""
    truths: set[Place] = field(default_factory=set)
    """What is compared with `true` or `false`."""
    digits: set[Place] = field(default_factory=set)
    """What is compared with a text that a number is written as."""
    tables: set[tuple[Place, Place]] = field(default_factory=set)
    """What is looked for in a table, and the names by which that is found in `data`."""
    others: set[Place] = field(default_factory=set)
    """What is taken in any form, or compared with what may be a list."""

    @property
    def only_lists(self) -> set[Place]:
        return self.lists - self.objects - self.others

    @property
    def only_values(self) -> set[Place]:
        return self.values - self.lists - self.objects - self.others

    def note(
        self,
        begins: Place | None,
        steps: Sequence[object],
        before: Sequence[str],
        behind: Sequence[str],
    ) -> None:
        """A path that is `steps` behind a place (None: nobody knows which), and the words around
        it, the nearest first."""
        if begins is None:
            self.names.update(step for step in steps if isinstance(step, str))
            return
        self._note_fields(begins, steps, before)
        place = begins
        for step in steps:
            if not isinstance(step, str):
                if place:
                    self.others.add(place)
                return
            if place:
                self.objects.add(place)
            place = (*place, step)
        if not place:
            return
        while len(before) > _WORDS_READ and _is_in_brackets(before, behind):
            before, behind = before[1:], behind[1:]
        is_method, is_argument = behind[0] == ".", before[0] == "("
        sign, other = _compared(before, behind)
        if is_argument and before[1] in _GOES_THROUGH and behind[0] == ",":
            return  # the variable itself
        if before[0] == "in" or (is_method and behind[1] in _GOES_THROUGH):
            self.lists.add(place)
        elif _is_of_any_form(before, behind) or (sign in _COMPARES and _may_be_list(other)):
            self.others.add(place)
        elif not (is_method or (is_argument and before[1] == "has") or other[0] == "null"):
            self.values.add(place)
            self._note_other(place, sign, other)

    def _note_fields(self, begins: Place, steps: Sequence[object], before: Sequence[str]) -> None:
        known = [str(step) for step in takewhile(_is_text, steps)]
        # Behind an index nobody knows whether it is of a list or an object.
        self.names.update(step for step in steps[len(known) :] if isinstance(step, str))
        place, names = (tuple(known[:1]), known[1:]) if begins == () else (begins, known)
        if before[0] == "in" and before[1][:1] in _QUOTES and len(known) == len(steps):
            names = [*names, before[1].strip("\"'")]
        # A name with a dot in it is read as it stands.
        if place and names and not any("." in name for name in names):
            self.fields.add((place, ".".join(names)))

    def _note_other(self, place: Place, sign: str, other: Sequence[str]) -> None:
        """What the value is compared with, or looked for in."""
        if sign == "in" and other[0] == "data" and (names := _names_behind(other[1:])):
            self.tables.add((place, names))
        end = other.index("]") if "]" in other else len(other)
        for word in other[:end] if other[0] == "[" else other[:1]:
            if word in _TRUTHS:
                self.truths.add(place)
            elif word[:1].isdigit():
                self.numbers.add(place)
            elif _is_literal(word) and reads_as_number(word.strip("\"'")):
                self.digits.add(place)


def joined(uses: Iterable[ResourceUses]) -> ResourceUses:
    whole = ResourceUses()
    for one in uses:
        whole.fields |= one.fields
        whole.names |= one.names
        whole.lists |= one.lists
        whole.objects |= one.objects
        whole.values |= one.values
        whole.numbers |= one.numbers
        whole.truths |= one.truths
        whole.digits |= one.digits
        whole.tables |= one.tables
        whole.others |= one.others
    return whole


def _compared(before: Sequence[str], behind: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The sign between what stands there and the other side, and the words of that."""
    if behind[0] in _LOOKS_FOR:
        sign, words = behind[0], behind[1:]
    elif before[0] in _COMPARES:
        sign, words = before[0], before[1:2] if _is_one_value(before[1:]) else before[3:0:-1]
    else:
        return "", [""]
    return sign, words[1:] if words[0] == "-" else words


def _is_of_any_form(before: Sequence[str], behind: Sequence[str]) -> bool:
    if before[0] == "(" and before[1] in _OF_ANY_FORM:
        return True
    if behind[0] == ".":
        return behind[1] in _OF_ANY_FORM
    if "+" in (before[0], behind[0]):
        return True
    if before[0] == "[" and not _is_name(before[1]) and before[1] not in _ENDS_A_VALUE:
        return True  # it begins a list; else it is looked up by it
    return before[0] == "," and behind[0] in (",", "]")


def _may_be_list(words: Sequence[str]) -> bool:
    """Whether they begin what is no literal, nothing that a call says and no text of the caller."""
    return not _is_one_value(words) and tuple(words[:3]) not in _TEXTS


def _is_one_value(words: Sequence[str]) -> bool:
    return _is_literal(words[0]) or words[0] in _TRUTHS or words[0] == "null"


def reads_as_number(text: str) -> bool:
    """Whether backends that convert take it for a number."""
    return _NUMBER.fullmatch(text.strip()) is not None


def _names_behind(words: Sequence[str]) -> Place:
    """`a`, `b` of `.a.b`; none where the text does not tell all."""
    names: list[str] = []
    for dot, name in zip(words[::2], words[1::2], strict=False):
        if dot != ".":
            return () if dot == "[" else tuple(names)
        names.append(name)
    return ()


def _is_in_brackets(before: Sequence[str], behind: Sequence[str]) -> bool:
    return before[0] == "(" and behind[0] == ")" and not _is_name(before[1])


def _is_text(step: object) -> bool:
    return isinstance(step, str)


def _is_literal(word: str) -> bool:
    return word[:1].isdigit() or word[-1:] in _QUOTES


def _is_name(word: str) -> bool:
    return word.isidentifier() and word != "in"
