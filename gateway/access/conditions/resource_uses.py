"""In which form an expression takes what the resource holds: as a list, as an object with fields of
some names, or as one value, which it names.

Law: what a call gives in another form is read in one way here and in another by a backend.  CEL
goes through the names of an object, PHP through its values; `["admin"]` is not `"admin"`, but it is
to who compares by `==` in JavaScript.  Only what the text tells for sure is found: of what comes
out of `? :`, `map` or a function nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields

ITEM = None
"""The step from a list to each of its items."""
Value = str | int | float | bool
Place = tuple[str | None, ...]
"""`("items", ITEM, "owner")`: the field `owner` of each item of `resource.items`."""
INDEX = 0
"""A step by a number that is written out."""
ELSEWHERE: Place = ("", ITEM)
"""The items of what is no part of the resource."""

WORDS = 14
"""So many are looked at on either side of a path, and a list that is looked in to its end."""

_DEEPEST = 32
"""A body is no deeper."""
_ORDERS = frozenset(("<", "<=", ">", ">="))
_COMPARES = frozenset(("==", "!=", *_ORDERS))
_TRUTHS = {"true": True, "false": False}
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
_OF_ANY_FORM = frozenset(("dyn", "type"))
_OF_ONE_TEXT = frozenset(("has_role", "has_scope"))
_GOES_THROUGH = frozenset(("all", "exists", "exists_one", "map", "filter"))


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
    values: set[tuple[Place, type, Value]] = field(default_factory=set)
    """What equals, or is looked for among, values that are written out: with their types, as `1`
    and `true` are one to a set."""
    tables: set[tuple[Place, Place]] = field(default_factory=set)
    """The same with the entries of a table, and where that is in `data`; with ITEM for any key."""
    equals: set[tuple[Place, Place]] = field(default_factory=set)
    """The same with an entry of `data` itself."""
    texts: set[Place] = field(default_factory=set)
    """The same with a text of the caller or the call."""
    ordered: set[Place] = field(default_factory=set)
    """What is more or less than a number."""
    any_form: set[Place] = field(default_factory=set)
    """What is taken in any form."""

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
        # What stands at a number in a list is unlike its neighbours.
        if place and INDEX not in steps:
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
            self.texts.add(place)
        elif before[0] == "(" and before[1] in _OF_ANY_FORM:
            self.any_form.add(place)
        elif behind[0] in _COMPARES or before[0] in _COMPARES:
            sign = behind[0] if behind[0] in _COMPARES else before[0]
            self._note_compared(place, _other_side(before, behind), is_order=sign in _ORDERS)

    def _note_compared(self, place: Place, words: Sequence[str], *, is_order: bool) -> None:
        value = _value_of(words)
        if is_order and isinstance(value, int | float):
            self.ordered.add(place)
        elif not is_order:
            self._note_value(place, words)
            if words[0] == "data":
                self.equals.add((place, _entry_behind(words[1:])))

    def _note_looked_for(self, place: Place, words: Sequence[str]) -> None:
        """What is looked for in it is one of its items, or a name of it."""
        literal = words[0]
        if isinstance(name := _value_of(words), str):
            self.fields.add((place, (name,)))
        side = [literal] if _is_literal(literal) else words[2::-1] if words[3] != "." else [""]
        self._note_value((*place, ITEM), side)

    def _note_looked_in(self, place: Place, words: Sequence[str]) -> None:
        while words[0] == "(":
            words = words[1:]
        if words[0] == "data":
            self.tables.add((place, _entry_behind(words[1:])))
        if words[0] == "[":
            for item in _items_of(words):
                self._note_value(place, item)

    def _note_value(self, place: Place, words: Sequence[str]) -> None:
        value = _value_of(words)
        if value is not None:
            self.values.add((place, type(value), value))
        elif tuple(words[:3]) in _TEXTS:
            self.texts.add(place)


def joined(uses: Iterable[ResourceUses]) -> ResourceUses:
    whole = ResourceUses()
    for one in uses:
        for kind in fields(whole):
            getattr(whole, kind.name).update(getattr(one, kind.name))
    return whole


def _other_side(before: Sequence[str], behind: Sequence[str]) -> Sequence[str]:
    """The words of what it is compared with, as they stand."""
    if behind[0] in _COMPARES:
        return behind[1:]
    if _is_literal(before[1]) or before[1] in _TRUTHS:
        return ["-", before[1]] if before[2] == "-" else before[1:2]
    return [*before[3:0:-1], ""] if before[4] != "." else [""]


def _value_of(words: Sequence[str]) -> Value | None:
    """The value that is written out there; None where it is none, or is written in a way that we
    do not read."""
    sign, word = (-1, words[1]) if words[0] == "-" and len(words) > 1 else (1, words[0])
    if word in _TRUTHS:
        return _TRUTHS[word]
    if word[:1] in _QUOTES:
        is_plain = "\\" not in word and word[:3] not in _LONG_QUOTES
        return word[1:-1] if is_plain else None
    if not word[:1].isdigit():
        return None
    digits = word.rstrip("uU")
    try:
        if digits[:2] in ("0x", "0X"):
            return sign * int(digits, 16)
        return sign * (int(digits) if digits.isdigit() else float(digits))
    except ValueError:
        return None


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


def _entry_behind(words: Sequence[str]) -> Place:
    """`a`, ITEM, `b` of `.a[key].b`; none where the text does not tell."""
    steps: list[str | None] = []
    at = 0
    while at + 1 < len(words):
        if words[at] == ".":
            steps.append(words[at + 1])
            at += 2
        elif words[at] == "[":
            key = _value_of(words[at + 1 :])
            is_constant = isinstance(key, str) and words[at + 2 : at + 3] == ["]"]
            steps.append(str(key) if is_constant else ITEM)
            depth = 0
            for end in range(at, len(words)):
                depth += (words[end] in _OPENS) - (words[end] in _CLOSES)
                if depth == 0:
                    break
            at = end + 1
        else:
            return tuple(steps)
    return ()  # there are more words than were looked at


def _is_literal(word: str) -> bool:
    return word[:1].isdigit() or word[-1:] in _QUOTES


def _is_name(word: str) -> bool:
    return word.isidentifier() and word != "in"
