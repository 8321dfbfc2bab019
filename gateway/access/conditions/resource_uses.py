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
_MAKES = frozenset("+-*/%")
"""What makes another value of two."""
_TRUTHS = {"true": True, "false": False}
_QUOTES = ("'", '"')
_TEXTS = frozenset(
    (root, name)
    for root, names in (
        ("user", ("id", "email", "issuer", "session_id", "tenant", "tenant_role")),
        ("request", ("method", "path", "host")),
        ("client", ("ip",)),
    )
    for name in names
)
_LONG_QUOTES = ("'''", '"""')
_OPENS, _CLOSES = ("(", "[", "{"), (")", "]", "}")
_BEGINS = frozenset(("", "(", "[", ",", "&&", "||", "?", ":"))
"""Before what is compared, where that is not a part of something else."""
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
        while len(before) > 2 and before[0] == "(" and behind[0] == ")" and not _is_name(before[1]):
            before, behind = before[1:], behind[1:]
        if behind[0] == ".":
            if behind[1] in _GOES_THROUGH:
                self.lists.add(place)
        elif before[0] == "(" and before[1] in _GOES_THROUGH and behind[0] == ",":
            pass  # the variable itself
        elif behind[0] in _MAKES or before[0] in _MAKES or before[0] == "!":
            pass  # another value is made of it
        elif before[0] == "in":
            self.lists.add(place)
            self._note_looked_for(place, _operand_before(before))
        elif behind[0] == "in":
            self._note_looked_in(place, _operand_of(behind[1:]))
        elif before[0] == "(" and before[1] in _OF_ONE_TEXT:
            self.texts.add(place)
        elif before[0] == "(" and before[1] in _OF_ANY_FORM:
            self.any_form.add(place)
        elif behind[0] in _COMPARES:
            self._note_compared(place, _operand_of(behind[1:]), is_order=behind[0] in _ORDERS)
        elif before[0] in _COMPARES:
            self._note_compared(place, _operand_before(before), is_order=before[0] in _ORDERS)

    def _note_compared(self, place: Place, operand: Sequence[str], *, is_order: bool) -> None:
        if not is_order:
            self._note_value(place, operand)
        elif type(_value_of(operand)) in (int, float):
            self.ordered.add(place)

    def _note_looked_for(self, place: Place, operand: Sequence[str]) -> None:
        """What is looked for in it is one of its items, or a name of it."""
        name = _value_of(operand)
        if isinstance(name, str):
            self.fields.add((place, (name,)))
        self._note_value((*place, ITEM), operand)

    def _note_looked_in(self, place: Place, operand: Sequence[str]) -> None:
        if operand[:1] == ["data"]:
            self.tables.add((place, _steps_of(operand)))
        elif operand[:1] == ["["]:
            for item in _items_of(operand):
                self._note_value(place, _operand_of([*item, ""]))

    def _note_value(self, place: Place, operand: Sequence[str]) -> None:
        value = _value_of(operand)
        if value is not None:
            self.values.add((place, type(value), value))
        elif operand and _is_name(operand[0]):
            root, steps = operand[0], _steps_of(operand)
            if root == "data":
                self.equals.add((place, steps))
            elif (root, *steps) in _TEXTS:
                self.texts.add(place)


def joined(uses: Iterable[ResourceUses]) -> ResourceUses:
    whole = ResourceUses()
    for one in uses:
        for kind in fields(whole):
            getattr(whole, kind.name).update(getattr(one, kind.name))
    return whole


def _operand_of(words: Sequence[str]) -> list[str]:
    """The words of the value, the path or the list that stands there, without brackets around it.
    None where another value is made of it, or more words belong to it than were looked at."""
    opened = 0
    while words[opened : opened + 1] == ["("]:
        opened += 1
    end = _end_of(words, opened)
    behind = list(words[end : end + opened + 1])
    is_whole = len(behind) == opened + 1 and behind[:-1] == [")"] * opened
    if not is_whole or behind[-1] in _MAKES or behind[-1] in (".", "[", "("):
        return []
    return list(words[opened:end])


def _operand_before(before: Sequence[str]) -> list[str]:
    """The same of what ends before a sign: that and all before it, the nearest first."""
    at = 1
    while at < len(before):
        if before[at] in _CLOSES:
            is_step = before[at] == "]"
            at = _past_bracket(before, at)
            if not is_step or at >= len(before) or not _may_be_stepped_in(before[at]):
                break  # a list, or brackets around it all
        elif before[at + 1 : at + 2] == ["."]:
            at += 2
        else:
            at += 1
            break
    if before[at : at + 1] == ["-"] and _is_number(before[at - 1]):
        at += 1
    if at >= len(before) or before[at] not in _BEGINS:
        return []
    return _operand_of(before[at - 1 :: -1])


def _end_of(words: Sequence[str], at: int) -> int:
    """Where the value, the path or the list ends that begins there; where it is none, at once."""
    word = words[at] if at < len(words) else ""
    if word == "[":
        return _past_bracket(words, at)
    if word == "-":
        return at + 2 if at + 1 < len(words) and _is_number(words[at + 1]) else at
    if not (_is_name(word) or _is_literal(word)):
        return at
    at += 1
    while _is_name(word) and at < len(words) and words[at] in (".", "["):
        at = at + 2 if words[at] == "." else _past_bracket(words, at)
    return at


def _past_bracket(words: Sequence[str], at: int) -> int:
    """Behind the other one of the bracket there; past all words where it was not looked at."""
    depth = 0
    for past, word in enumerate(words[at:], at + 1):
        depth += (word in _OPENS) - (word in _CLOSES)
        if depth == 0:
            return past
    return len(words) + 1


def _value_of(operand: Sequence[str]) -> Value | None:
    """The value that is written out there; None where it is none, or is written in a way that we
    do not read."""
    if len(operand) != 1 + (operand[:1] == ["-"]):
        return None
    sign, word = (-1 if len(operand) == 2 else 1), operand[-1]
    if word in _TRUTHS:
        return _TRUTHS[word]
    if word[:1] in _QUOTES:
        is_plain = "\\" not in word and word[:3] not in _LONG_QUOTES
        return word[1:-1] if is_plain else None
    if not _is_number(word):
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


def _steps_of(path: Sequence[str]) -> Place:
    """`a`, ITEM, `b` of `data.a[key].b`."""
    steps: list[str | None] = []
    at = 1
    while at < len(path):
        if path[at] == ".":
            steps.append(path[at + 1])
            at += 2
        else:
            end = _past_bracket(path, at)
            key = _value_of(path[at + 1 : end - 1])
            steps.append(key if isinstance(key, str) else ITEM)
            at = end
    return tuple(steps)


def _is_number(word: str) -> bool:
    return word.lstrip(".")[:1].isdigit()


def _is_literal(word: str) -> bool:
    return _is_number(word) or word[-1:] in _QUOTES


def _is_name(word: str) -> bool:
    return word.isidentifier() and word != "in"


def _may_be_stepped_in(word: str) -> bool:
    return _is_name(word) or word in _CLOSES
