"""In which form an expression takes what the resource holds: as a list, as an object with fields of
some names, or as one value of some kind.

Law: what a call gives in another form is read in one way here and in another by a backend.  CEL
goes through the names of an object, PHP through its values; `["admin"]` is not `"admin"`, but it is
to who compares by `==` in JavaScript.  Only what the text tells for sure is found: of what comes
out of `? :`, `map` or a function nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

ITEM = None
"""The step from a list to each of its items."""
Place = tuple[str | None, ...]
"""`("items", ITEM, "owner")`: the field `owner` of each item of `resource.items`."""
INDEX = 0
"""A step by a number that is written out."""
ELSEWHERE: Place = ("", ITEM)
"""The items of what is no part of the resource."""

WORDS = 10
"""So many are looked at on either side of a path, and a list that is looked in to its end."""

_DEEPEST = 32
"""A body is no deeper."""
_ORDERS = frozenset(("<", "<=", ">", ">="))
_COMPARES = frozenset(("==", "!=", *_ORDERS))
_TRUTHS = frozenset(("true", "false"))
_QUOTES = ("'", '"')
_TEXTS = frozenset(
    (root, ".", name)
    for root, names in (
        ("user", ("id", "email", "issuer", "session_id", "tenant", "tenant_role")),
        ("request", ("method", "path", "host")),
        ("client", ("ip",)),
    )
    for name in names
)
_LONG_QUOTES = ("'''", '"""')
_OPENS, _CLOSES = ("(", "[", "{"), (")", "]", "}")
_OF_ONE_VALUE = frozenset(("string", "int", "uint", "double", "size"))
_OF_ANY_FORM = frozenset(("dyn", "type"))
_OF_ONE_TEXT = frozenset(("has_role", "has_scope"))
_GOES_THROUGH = frozenset(("all", "exists", "exists_one", "map", "filter"))
_WHOLE = re.compile(r"0[xX][0-9a-fA-F]+[uU]?|[0-9]+(?:\.0+)?[uU]?")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_BEGINS_WITH_NUMBER = re.compile(r"[\s\ufeff]*[+-]?\.?\d")


class Kind(StrEnum):
    """Of one value."""

    TEXT = "text"
    DIGITS = "digits"
    """A text that a number is written as."""
    WHOLE = "whole"
    """A number that it equals."""
    NUMBER = "number"
    """One with a fraction, or that it is more or less than."""
    TRUTH = "truth"


@dataclass(slots=True)
class ResourceUses:
    fields: set[tuple[Place, tuple[str, ...]]] = field(default_factory=set)
    """What is read of an object that lies there, step by step."""
    names: set[tuple[str, str]] = field(default_factory=set)
    """A field of the resource (empty: any), and a name that is read of an object within it, nobody
    knows where."""
    lists: set[Place] = field(default_factory=set)
    """What is gone through, or looked in."""
    objects: set[Place] = field(default_factory=set)
    """Of what fields are read."""
    values: set[tuple[Place, Kind]] = field(default_factory=set)
    """What is compared with one value, or looked for among some."""
    texts: set[tuple[Place, str]] = field(default_factory=set)
    """The texts of those that are written out."""
    tables: set[tuple[Place, Place]] = field(default_factory=set)
    """What is looked for in a table, and where that is in `data`; with ITEM for any entry of it."""
    equals: set[tuple[Place, Place]] = field(default_factory=set)
    """What is compared with an entry of `data`."""
    any_form: set[Place] = field(default_factory=set)
    """What is taken in any form."""
    unsure: set[Place] = field(default_factory=set)
    """What is compared with what may be a list."""

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
            self.names.update(("", step) for step in steps if isinstance(step, str))
            return
        if len(steps) > _DEEPEST:
            return
        place, start = begins, 0
        if begins == () and steps:
            place, start = (str(steps[0]),), 1
        root, names = place, list[str]()
        for at, step in enumerate(steps[start:], start):
            if isinstance(step, str):
                self.objects.add(place)
                names.append(step)
                place = (*place, step)
                continue
            if step is not INDEX:
                # By a key that is made, of a list or of an object.
                self.any_form.add(place)
                within = str(root[0])
                self.names.update((within, name) for name in steps[at:] if isinstance(name, str))
                place = ()
                break
            self.lists.add(place)
            self._note_fields(root, names)
            place = root = (*place, ITEM)
            names = []
        self._note_fields(root, names)
        if place:
            self._note_form(place, before, behind)

    def _note_fields(self, place: Place, names: Sequence[str]) -> None:
        if place and names:
            self.fields.add((place, tuple(names)))

    def _note_form(self, place: Place, before: Sequence[str], behind: Sequence[str]) -> None:
        while before[0] == "(" and behind[0] == ")" and not _is_name(before[1]):
            before, behind = [*before[1:], ""], [*behind[1:], ""]
        if before[0] == "(" and before[1] in _GOES_THROUGH and behind[0] == ",":
            return  # the variable itself
        if before[0] == "in" or (behind[0] == "." and behind[1] in _GOES_THROUGH):
            self.lists.add(place)
            if before[0] == "in":
                self._note_looked_for(place, before[1:])
        elif behind[0] == "in":
            self._note_looked_in(place, behind[1:])
        elif before[0] == "(" and before[1] in _OF_ONE_TEXT:
            self.values.add((place, Kind.TEXT))
        elif before[0] == "(" and before[1] in _OF_ANY_FORM:
            self.any_form.add(place)
        elif behind[0] in _COMPARES or before[0] in _COMPARES:
            is_order = (behind[0] if behind[0] in _COMPARES else before[0]) in _ORDERS
            self._note_compared(place, _other_side(before, behind), is_order=is_order)

    def _note_compared(self, place: Place, words: Sequence[str], *, is_order: bool) -> None:
        if words[0] == "null":
            return
        kinds = _kinds_of(words)
        self._note_values(place, words)
        if is_order and Kind.WHOLE in kinds:
            # A price may be 99.95 where more than 100 is denied.
            self.values.add((place, Kind.NUMBER))
        if words[0] == "data" and (names := _names_behind(words[1:])):
            self.equals.add((place, names))
        elif not (kinds or words[0] in _OF_ONE_VALUE):
            self.unsure.add(place)

    def _note_looked_for(self, place: Place, words: Sequence[str]) -> None:
        """What is looked for in it is one of its items, or a name of it."""
        literal = words[0]
        if literal[:1] in _QUOTES and "\\" not in literal and literal[:3] not in _LONG_QUOTES:
            self.fields.add((place, (literal[1:-1],)))
        side = [literal] if _is_literal(literal) else words[2::-1] if words[3] != "." else [""]
        self._note_values((*place, ITEM), side)

    def _note_looked_in(self, place: Place, words: Sequence[str]) -> None:
        if words[0] == "data" and (names := _names_behind(words[1:])):
            self.tables.add((place, names))
        if words[0] == "[":
            items = list(_items_of(words))
            for item in items:
                if len(item) in (1, 3):
                    self._note_values(place, item)
            if any(item[0] in ("[", "{") for item in items):
                self.unsure.add(place)

    def _note_values(self, place: Place, words: Sequence[str]) -> None:
        self.values.update((place, kind) for kind in _kinds_of(words))
        if words[0][:1] in _QUOTES and "\\" not in words[0] and words[0][:3] not in _LONG_QUOTES:
            self.texts.add((place, words[0][1:-1]))


def joined(uses: Iterable[ResourceUses]) -> ResourceUses:
    whole = ResourceUses()
    for one in uses:
        whole.fields |= one.fields
        whole.names |= one.names
        whole.lists |= one.lists
        whole.objects |= one.objects
        whole.values |= one.values
        whole.texts |= one.texts
        whole.tables |= one.tables
        whole.equals |= one.equals
        whole.any_form |= one.any_form
        whole.unsure |= one.unsure
    return whole


def is_number(text: str) -> bool:
    """Whether it is all of one, as it is written."""
    return _NUMBER.fullmatch(text.strip()) is not None


def reads_as_number(text: str) -> bool:
    """Whether some backend that converts takes it, or what it begins with, for one."""
    return _BEGINS_WITH_NUMBER.match(text) is not None


def _other_side(before: Sequence[str], behind: Sequence[str]) -> Sequence[str]:
    """The words of what it is compared with, as they stand."""
    if behind[0] in _COMPARES:
        return behind[2:] if behind[1] == "-" else behind[1:]
    if _is_literal(before[1]) or before[1] in (*_TRUTHS, "null"):
        return before[1:2]
    if before[1:3] == ["]", "["]:
        return before[2:0:-1]
    return [*before[3:0:-1], ""] if before[4] != "." else [""]


def _kinds_of(words: Sequence[str]) -> set[Kind]:
    """Of a value that begins so; none where it may be a list or an object."""
    word = words[0]
    if word in _TRUTHS:
        return {Kind.TRUTH}
    if word[:1].isdigit():
        return {Kind.WHOLE if _WHOLE.fullmatch(word) else Kind.NUMBER}
    if word[-1:] in _QUOTES:
        return {Kind.DIGITS if is_number(word.strip("\"'")) else Kind.TEXT}
    return {Kind.TEXT} if tuple(words[:3]) in _TEXTS else set()


def _items_of(words: Sequence[str]) -> Iterator[list[str]]:
    """Of a list that is written out, each as its words."""
    item: list[str] = []
    depth = 0
    for word in words:
        depth += (word in _OPENS) - (word in _CLOSES)
        if depth == 0 or (depth == 1 and word == ","):
            if item:
                yield item
            item = []
        elif depth > 1 or word not in _OPENS:
            item.append(word)
        if depth == 0:
            return


def _names_behind(words: Sequence[str]) -> Place:
    """`a`, `b` of `.a.b`, and ITEM for `[…]` behind them; none where the text does not tell all."""
    names: list[str] = []
    for dot, name in zip(words[::2], words[1::2], strict=False):
        if dot != ".":
            return (*names, ITEM) if dot == "[" else tuple(names)
        names.append(name)
    return ()


def _is_literal(word: str) -> bool:
    return word[:1].isdigit() or word[-1:] in _QUOTES


def _is_name(word: str) -> bool:
    return word.isidentifier() and word != "in"
