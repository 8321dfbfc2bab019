"""For each input of a call, values that bring about everything an understood atom can give.

Where values are only compared, it is enough to try each one that is compared with, and one
that nobody names.  Texts of a table that stand in the same places of it are alike: one of
them is tried, and the others are named with it.  Where a part is asked in other letters too, they
stand in the same places there, and each is tried in lower case, and as nobody wrote it.

Law: whatever one input may be, each other that is compared with it may be too, and a list of the
caller may hold: what is made up for one is tried of all, and the inputs that may be anything
(claims, fields of the body) get their values last, those that are lists after the others.  The
empty text is a text as any other, where a caller may have it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations, pairwise, product
from math import prod
from typing import Any

from gateway.model import CredentialKind
from gateway.review.affixes import (
    Affix,
    affixed,
    as_affixes_are_written,
    every_is_made,
    in_order,
    met_by,
)
from gateway.review.calls import ABSENT, GATEWAY, Presented, Source, Values
from gateway.review.networks import Cells, network_of
from gateway.review.other_letters import in_other_letters
from gateway.review.surveys import Survey, TableStep
from gateway.review.time_texts import moment_of
from gateway.review.times import moments

_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
"""What an id, a session and a role are made of; `identity/tokens/` refuses any other."""
_HOST = re.compile(r"[a-z0-9._-]+\Z")
TABLE_INPUTS = ("claim:", "attributes:", "tenants:")
"""Beginnings of the inputs that are fields of the caller's tables: any JSON value."""
ANYTHING = (*TABLE_INPUTS, "body:")
"""Of the inputs that may be any JSON value."""
MAX_LISTS = 4_096
"""Sets of values that a claim may hold."""
_YEARS_S = 10 * 366 * 86_400

Profile = frozenset[tuple[object, ...]]


@dataclass(slots=True)
class ComparedValues:
    """What the atoms of one group compare with, while some inputs have their values."""

    places: dict[str, set[tuple[object, ...]]] = field(default_factory=dict)
    """Each text, and where it stands."""
    numbers: set[float] = field(default_factory=set)
    constants: set[bool | None] = field(default_factory=set)
    ordered: set[str] = field(default_factory=set)
    """Texts of tables by which others are put in order."""
    wholes: dict[str, Any] = field(default_factory=dict)
    """Lists, objects and whatever else is no text that a value may be as it is, by their form."""

    def add(self, text: str, *place: object) -> None:
        self.places.setdefault(text, set()).add(place)


@dataclass(slots=True)
class Choice:
    """A value to be tried, and the others that do the same."""

    value: Any
    alike: tuple[Any, ...] = ()
    named: bool = False
    """Whether the configuration speaks of it."""


def known(
    surveys: Iterable[tuple[int, Survey, Mapping[str, Any], Mapping[TableStep, Source | None]]],
    values: Values,
    ordinary: Mapping[str, str],
) -> ComparedValues:
    """The texts and numbers of the atoms' own text, of the tables they read, and of what other
    inputs were given; of those that are yet to come what they ordinarily are (`ordinary`).

    Each atom comes with the number of its side, its side's data, and where the keys of its
    tables come from.
    """
    compared = ComparedValues()
    given = {**ordinary, **values}
    for side, survey, data, sources in surveys:
        for text in survey.texts:
            compared.add(text, "text", text)
        for source in filter(None, sources.values()):
            if not source.name:
                compared.add(source.before, "text", source.before)
            elif (read := source.text(given)) is not None:
                # With what stands around it.
                compared.add(read, "value", source)
        compared.numbers |= survey.numbers
        compared.constants |= survey.constants
        reader = _TableReader(sources, values, compared, survey.wholes)
        for index, steps in enumerate(survey.tables):
            reader.read(data, steps, ((side, tuple(map(str, steps)), index),))
        if survey.orders:
            own = ComparedValues()
            for steps in survey.tables:
                _TableReader(sources, values, own).read(data, steps, ())
            compared.ordered |= own.places.keys()
    for name, whole in values.items():
        if name.startswith(ANYTHING) and not isinstance(whole, str) and whole is not ABSENT:
            compared.wholes.setdefault(repr(whole), whole)
    return compared


@dataclass(slots=True)
class _TableReader:
    """Adds what the tables hold that an atom reads, as far as their keys have their values."""

    sources: Mapping[TableStep, Source | None]
    values: Values
    compared: ComparedValues
    wholes: Collection[str] = ()
    """Keys of which a list or an object may be compared as it is."""

    def read(self, table: Any, steps: tuple[TableStep, ...], place: tuple[object, ...]) -> None:
        if not steps:
            last = place[-1] if place else ""
            self._add_all(table, place, last if isinstance(last, str) else "")
            return
        step, rest = steps[0], steps[1:]
        for key in self._keys(table, step, place):
            if isinstance(step, tuple) and isinstance(key, str):
                self.compared.add(key, *place, "key", key)
            entry: Any = None
            if isinstance(table, Mapping):
                entry = table.get(key)
            elif isinstance(table, list) and isinstance(key, int) and key < len(table):
                entry = table[key]
            if entry is not None:
                self.read(entry, rest, (*place, key))

    def _keys(self, table: Any, step: TableStep, place: tuple[object, ...]) -> list[str | int]:
        if not isinstance(step, tuple):
            return [step]
        source = self.sources.get(step)
        if source is None:
            return []
        text = source.text(self.values)
        if text is not None:
            self.compared.add(text, *place, "key", text)
            return [text]
        return list(table) if isinstance(table, Mapping) and source.name not in self.values else []

    def _add_all(self, value: Any, place: tuple[object, ...], last: str = "") -> None:
        """`last`: the key under which it stands, of which `wholes` speak."""
        if isinstance(value, str):
            self.compared.add(value, *place)
        elif isinstance(value, bool) or value is None:
            self.compared.constants.add(value)
        elif isinstance(value, int | float):
            self.compared.numbers.add(value)
        elif last in self.wholes:
            self.compared.wholes.setdefault(repr(value), value)
        if isinstance(value, Mapping):
            for key, entry in value.items():
                if isinstance(key, str):
                    self.compared.add(key, *place, "keys")
                self._add_all(entry, (*place, key), str(key))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                # Plain texts of a list are alike; where there is more, each has its own place.
                self._add_all(item, (*place, "item" if isinstance(item, str) else index))


@dataclass(slots=True)
class Wanted:
    """What the atoms that read an input need of its values."""

    affixes: set[Affix] = field(default_factory=set)
    wrapped: set[tuple[str, str]] = field(default_factory=set)
    """Texts around the value, where it is read as a part of a longer one."""
    begins: frozenset[str] = frozenset()
    """What each such text may have before it, for those who all begin so: callers of an issuer."""
    listed: ComparedValues | None = None
    """What it is asked to hold, where it may be a list."""
    every: bool = False
    """Whether all the alike texts at once are another value than one of them."""
    letters: bool = False
    """Whether any of them is asked in other letters too, in which nobody writes capitals."""
    capitals: bool = False
    """Whether one may matter that is written as no other is, and is equal to some there alone."""
    whole: bool = True
    """Whether everything was made that they can tell apart."""


def texts(name: str, compared: ComparedValues, wanted: Wanted, good: Any) -> list[Choice]:
    """Choices of a text: those that are compared with, alike ones as one, and made-up ones."""
    around = sorted({("", ""), *wanted.wrapped})
    alike: dict[Profile, list[str]] = {}
    ordered = sorted(compared.ordered)
    alike_there = _in_other_letters(compared) if wanted.letters else {}
    for text, places in compared.places.items():
        looks = _looks(text, ordered, wanted)
        others = alike_there.get(in_other_letters(text), set()) - places
        for before, inner in _within(text, around):
            if good(name, inner):
                profile = frozenset((*place, before, *looks) for place in places)
                profile |= {("letters", *place) for place in others}
                alike.setdefault(profile, []).append(inner)
    choices = [
        # What another input was given is not named by anybody, unless it stands elsewhere too.
        Choice(group[0], tuple(group), named=any(place[0] != "value" for place in places))
        for places, group in alike.items()
    ]
    spellings: list[Callable[[str], str]] = [str.lower, in_other_letters] if wanted.letters else []
    spellings += [str.upper] if wanted.capitals else []
    for spelling in spellings:
        choices += list(_choices_in(spelling, choices, lambda text: bool(good(name, text))))
    if wanted.letters:
        written = {
            text for one in choices for text in as_affixes_are_written(one.alike, wanted.affixes)
        }
        choices += [Choice(text) for text in sorted(written) if good(name, text)]
    wanted.whole &= every_is_made(wanted.affixes, compared.ordered)
    plain = [*affixed(wanted.affixes, compared.places), *in_order(wanted.affixes, compared.ordered)]
    begun = [*plain, *(begin + text for begin in sorted(wanted.begins) for text in plain)]
    made_up = dict.fromkeys(inner for text in begun for _, inner in _within(text, around))
    return choices + [Choice(text) for text in made_up if good(name, text)]


def _in_other_letters(compared: ComparedValues) -> dict[str, set[tuple[object, ...]]]:
    """Where each text stands once all are written in those."""
    found: dict[str, set[tuple[object, ...]]] = {}
    for text, places in compared.places.items():
        found.setdefault(in_other_letters(text), set()).update(places)
    return found


def _choices_in(
    letters: Callable[[str], str], choices: Iterable[Choice], good: Callable[[str], bool]
) -> Iterator[Choice]:
    """The texts as they are to whoever writes them so, where that is no choice yet."""
    taken = {text for one in choices for text in one.alike}
    for one in choices:
        texts_ = dict.fromkeys(map(letters, one.alike))
        other = tuple(text for text in texts_ if text not in taken and good(text))
        taken.update(other)
        if other:
            yield Choice(other[0], other, one.named)


def _within(text: str, around: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What the input is where `text` is read, and what stands before it."""
    for before, after in around:
        long_enough = len(text) >= len(before) + len(after)
        if long_enough and text.startswith(before) and text.endswith(after):
            yield before, text[len(before) : len(text) - len(after)]


def _looks(text: str, ordered: list[str], wanted: Wanted) -> tuple[object, ...]:
    """In what texts that stand in the same places still differ."""
    return (
        met_by(text, wanted.affixes),
        bisect_right(ordered, text),
        next((begin for begin in wanted.begins if text.startswith(begin)), ""),
        met_by(in_other_letters(text), wanted.affixes) if wanted.letters else None,
    )


def spread(
    name: str, compared: ComparedValues, wanted: Wanted, texts_: list[Choice]
) -> list[Choice]:
    """Choices of a value that may be anything JSON has: a claim, or a field of the body."""
    choices = [Choice(ABSENT), *texts_]
    choices += [Choice(True), Choice(False)]
    numbers = {n + d for n in compared.numbers for d in (-1, -0.5, 0, 0.5, 1)}
    numbers |= _between(compared.numbers)
    choices += [Choice(n, named=n in compared.numbers) for n in sorted(numbers)]
    if wanted.listed is not None:
        choices += map(Choice, _lists(wanted.listed, wanted))
        choices += [Choice({}), Choice(dict.fromkeys(wanted.listed.places, True))]
    if name.startswith(TABLE_INPUTS):
        choices.append(Choice(None))
    tried = {repr(one.value) for one in choices}
    return choices + [Choice(one) for form, one in compared.wholes.items() if form not in tried]


def _lists(held: ComparedValues, wanted: Wanted) -> Iterator[list[Any]]:
    """Of each class of alike texts none, one, or where that is asked for all, and of whatever else
    it may hold; too many: each class alone, all but each, and all."""
    alike: dict[Profile, list[str]] = {}
    for text, places in held.places.items():
        alike.setdefault(frozenset(places), []).append(text)
    others = [*held.numbers, *held.constants, *held.wholes.values()]
    parts: list[list[tuple[Any, ...]]] = [
        [(), tuple(one[:1]), *([tuple(one)] if wanted.every and len(one) > 1 else [])]
        for one in alike.values()
    ]
    parts += [[(), (one,)] for one in {repr(one): one for one in others}.values()]
    if prod(map(len, parts)) <= MAX_LISTS:
        yield from (list(chain.from_iterable(chosen)) for chosen in product(*parts))
        return
    wanted.whole = False
    last = [one[-1] for one in parts]
    yield list(chain.from_iterable(last))
    for at, one in enumerate(last):
        yield list(one)
        yield list(chain.from_iterable(last[:at] + last[at + 1 :]))


def is_good(name: str, text: str) -> bool:
    """Whether a caller can have this text there."""
    kind, _, _ = name.partition(":")
    if kind in ("user.id", "user.session_id"):
        return _NAME.match(text) is not None
    if kind == "user.email":
        return text != ""
    if kind == "header":
        return text.isprintable() and text == text.strip()
    if kind == "host":
        return _HOST.match(text) is not None and not text.endswith(".")
    if kind == "query":
        return "\x00" not in text
    return True


def is_role(text: str) -> bool:
    return _NAME.match(text) is not None


def addresses(compared: ComparedValues) -> tuple[list[Choice], Cells]:
    networks = [n for text in compared.places if (n := network_of(text)) is not None]
    cells = Cells(networks)
    return [Choice(text) for text in cells.addresses()], cells


def times(values_compared: ComparedValues, surveys: Iterable[Survey]) -> list[Choice]:
    asked: set[tuple[str, int]] = set()
    compared: set[float] = set()
    for survey in surveys:
        asked |= survey.clock
        compared |= survey.moments
    compared |= {
        moment for text in values_compared.places if (moment := moment_of(text)) is not None
    }
    return [Choice(moment) for moment in moments(asked, compared)]


def ages(compared_s: Iterable[float]) -> list[Choice]:
    asked = set(compared_s)
    near = {0.0, *(age + d for age in asked for d in (-1, 0, 1)), *_between(asked)}
    tried = sorted(age for age in near if age >= 0)
    # One from the future proves nothing of its age; one that nobody knows neither.
    return [Choice(age) for age in (*tried, _YEARS_S, -60.0)] + [Choice(ABSENT)]


def _between(numbers: Iterable[float]) -> set[float]:
    """One between any two neighbours."""
    return {(one + other) / 2 for one, other in pairwise(sorted(numbers))}


def presented(
    issuers: Iterable[str], resources: Iterable[str], granted: Iterable[str]
) -> list[Choice]:
    """Every credential of ours; and a token of each of the issuers, for the gateway, for any of
    the resources or for several, with every set of the scopes that are asked for."""
    places = (GATEWAY, *sorted(set(resources)))
    choices = [Choice(Presented(kind)) for kind in CredentialKind]
    for issuer in sorted(set(issuers)):
        for count in range(1, len(places) + 1):
            for audience in combinations(places, count):
                choices += [
                    Choice(Presented(CredentialKind.BEARER, issuer, audience, scopes))
                    for scopes in _subsets(granted)
                ]
    return choices


def _subsets(texts: Iterable[str]) -> Iterator[tuple[str, ...]]:
    named = sorted(set(texts))
    for count in range(len(named) + 1):
        yield from combinations(named, count)


def scopes(actions: Iterable[str]) -> list[Choice]:
    """No limit, and every set of the actions that are asked for; `*` admits also no action."""
    sets = _subsets(action for action in actions if action)
    return [Choice(None), *map(Choice, sets), Choice(("*",))]
