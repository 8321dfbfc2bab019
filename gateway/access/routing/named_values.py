"""The values that conditions compare one field with, and what a backend may take for them.

Law: what becomes one of them where a backend trims, rounds or converts is another way to write it,
and refused; what becomes none passes, and so does what is one.  PHP, JavaScript, databases and lax
readers of types each do some of this: 7 is made of `"7"`, `"7abc"`, `7.9`, `6.9`, `[7]` and
`"0x7"`, and `true` of whatever is not empty.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.access.conditions.resource_uses import Value
from gateway.access.routing.value_spellings import uuid_of, with_plain_digits

_TRUE = frozenset(("1", "true", "on", "yes", "y", "t"))
_FALSE = frozenset(("", "0", "false", "off", "no", "n", "f", "null"))
_WORDS_FOR = {
    **dict.fromkeys(("true", "on", "yes"), _TRUE),
    **dict.fromkeys(("false", "off", "no"), _FALSE - {"", "null"}),
    "1": frozenset(("true", "on", "yes")),
    "0": frozenset(("false", "off", "no")),
}
"""Texts by which one of two is meant, as a query has no other way to say it; and what Spring,
Rails, pydantic and others take for the same.  A letter alone is a code as well as a word."""
_WORD_OF: dict[object, str] = {0: "0", 1: "1"}
_TEXTS_OF_FALSE = ("", "0", "false", "False")
_BLANKS = (
    "".join(map(chr, range(0x21))) + "\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_BLANKS += "".join(map(chr, range(0x2000, 0x2010)))
_BLANKS += "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2070))))
_BLANKS += "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_BLANKS += "".join(map(chr, (0x1D159, *range(0x1D173, 0x1D17B), *range(0xE0020, 0xE0080))))
"""What some language or framework takes off the ends of a text: white space, and what nobody sees
(`Str::trim` of Laravel)."""
_LONGEST = 400
"""Digits of a whole number, without the noughts before it, that any backend holds."""
_EXACT = 2**53
# Each reads a letter once: whoever sends many long texts is not to cost more than their length.
_DECIMAL = re.compile(r"([+-]?+)([0-9][0-9_]*+)")
_BARE_OCTAL = re.compile(r"([+-]?+)0([0-7_]++)")
"""Who reads a text so makes a number of it: of two texts (codes of countries) it is no other way to
write one of them."""
_HEXADECIMAL = re.compile(r"([+-]?+)0[xX]([0-9a-fA-F_]++)"), 16
_OCTAL = re.compile(r"([+-]?+)0[oO]([0-7_]++)"), 8
_BINARY = re.compile(r"([+-]?+)0[bB]([01_]++)"), 2
_OTHER_BASES = {
    **dict.fromkeys("xX", _HEXADECIMAL),
    **dict.fromkeys("oO", _OCTAL),
    **dict.fromkeys("bB", _BINARY),
    **dict.fromkeys("01234567_", (_BARE_OCTAL, 8)),
}
"""By what stands behind a nought."""
_REAL_SIGN = re.compile("[.eE]")
_REAL = re.compile(
    r"[+-]?+(?:[0-9]++(?:\.[0-9]*+(?:[eE][+-]?+[0-9]++)?+|[eE][+-]?+[0-9]++)"
    r"|\.[0-9]++(?:[eE][+-]?+[0-9]++)?+)"
)


class NamedValues:
    """Of one field: each set is empty where it is compared with none such."""

    __slots__ = (
        "_digits",
        "_has_texts",
        "_is_ordered",
        "_is_text_of_caller",
        "_numbers",
        "_reads_numbers",
        "_texts",
        "_truths",
        "_uuids",
        "_wholes",
        "_words",
    )

    def __init__(
        self, values: Iterable[Value], *, is_text_of_caller: bool, is_ordered: bool
    ) -> None:
        """`is_ordered`: also by more or less than a number; `is_text_of_caller`: with a text that
        nobody knows here."""
        # No number is typed: compiled, a whole one would become one that has a fraction.
        found: list[object] = list(values)
        texts = [one for one in found if isinstance(one, str)]
        self._texts: frozenset[object] = frozenset(texts)
        self._truths: frozenset[object] = frozenset(one for one in found if isinstance(one, bool))
        numbers = [one for one in found if isinstance(one, int | float)]
        self._numbers: frozenset[object] = frozenset(
            one for one in numbers if not isinstance(one, bool)
        )
        # Who writes a fraction means numbers that may have one.
        self._wholes: frozenset[object] = frozenset(
            one for one in self._numbers if isinstance(one, int)
        )
        self._digits: frozenset[object] = frozenset(
            number for one in texts for number, is_all in _numbers_of(one) if is_all
        )
        self._uuids = frozenset(_uuids(texts))
        words = (_WORDS_FOR.get(one.lower(), frozenset()) for one in texts)
        self._words: frozenset[str] = frozenset[str]().union(*words)
        self._is_text_of_caller = is_text_of_caller
        self._has_texts = bool(texts) or is_text_of_caller
        self._is_ordered = is_ordered
        self._reads_numbers = is_ordered or any((self._numbers, self._digits, self._truths))

    def names(self, value: object) -> bool:
        if isinstance(value, bool):
            return value in self._truths
        if isinstance(value, int | float):
            return value in self._numbers
        return isinstance(value, str) and value in self._texts

    def may_become(self, value: object) -> bool:
        """Whether some backend takes it for one of them, though it is none."""
        if value is None or self.names(value):
            return False
        if isinstance(value, str):
            return self._may_be_text(value)
        if isinstance(value, bool):
            return self._may_be_truth(value)
        if isinstance(value, int | float):
            return self._may_be_number(value)
        if isinstance(value, dict):
            return self._may_be_object(value)
        return isinstance(value, list) and self._may_be_list(value)

    def may_become_one(self, values: Iterable[object]) -> bool:
        """Whether any of them may: a text that stands there many times is asked about once."""
        texts: set[str] = set()
        for one in values:
            if isinstance(one, str):
                texts.add(one)
            elif self.may_become(one):
                return True
        return any(one not in self._texts and self._may_be_text(one) for one in texts)

    def refuses_more(self, other: NamedValues, *, texts_alone: bool = False) -> bool:
        """Whether something becomes one of these that is, and becomes, none of the other's.  What
        is named is judged, as what denies name is refused."""
        return any(
            self.may_become(probe) and not (other.may_become(probe) or other.names(probe))
            for probe in (*self._probes(), *other._probes())
            if isinstance(probe, str) or not texts_alone
        )

    def _probes(self) -> Iterator[object]:
        """Values that tell two of these apart."""
        named = (*self._texts, *self._numbers, *self._truths)
        for one in (*named, 0, 1, 0.5, 7.5, "x", "07", True, False):
            yield from (one, str(one), str(one).upper(), f" {one} ", [one])
        yield {"_id": next(iter(named), "x"), "x": 1}
        for whole in self._wholes:
            if isinstance(whole, int) and abs(whole) < _EXACT:
                yield from (whole - 0.5, whole + 0.5)

    def _may_be_text(self, text: str) -> bool:
        bare = text.strip(_BLANKS)
        if bare != text and (bare in self._texts or self._is_text_of_caller):
            return True
        if self._uuids and not self._uuids.isdisjoint(_uuids([bare])):
            return True
        if self._words and bare.lower() in self._words:
            return True
        if not self._reads_numbers:
            return False
        numbers = _numbers_of(bare)
        for one, is_all in numbers:
            if one in self._numbers or (is_all and one in self._digits) or self._rounds_to(one):
                return True
        if numbers:
            if self._is_ordered:
                return True
        elif 0 in self._wholes and not (bare and self._has_texts):
            return True  # of any other word PHP makes 0
        if not self._truths:
            return False
        return self._may_be_word(text, bare, [one for one, is_all in numbers if is_all])

    def _may_be_word(self, text: str, bare: str, numbers: list[object]) -> bool:
        word = bare.lower()
        if False in self._truths and (word in _FALSE or 0 in numbers):
            return True
        if True not in self._truths:
            return False
        if word in _TRUE or any(bool(one) for one in numbers):
            return True
        # Whoever names words beside `true` has others, which only PHP takes for it; it is PHP too
        # to which blanks are not empty.
        return not self._has_texts and text.lower() not in _FALSE

    def _may_be_truth(self, value: bool) -> bool:
        if self._is_text_of_caller or self._is_ordered:
            return True
        if value:  # whatever is not empty or 0, to PHP
            return any(self._texts) or any(self._numbers)
        if "false" in self._words:
            return True
        return 0 in self._numbers or not self._texts.isdisjoint(_TEXTS_OF_FALSE)

    def _may_be_number(self, number: object) -> bool:
        if self._is_text_of_caller or self._rounds_to(number) or bool(number) in self._truths:
            return True
        if _WORD_OF.get(number) in self._words:
            return True
        return any(one in self._digits for one in (number, *_rounded(number))) or (
            not number and "" in self._texts
        )

    def _may_be_object(self, value: dict[Any, object]) -> bool:
        """What Mongoose takes for the `_id` in it, or MongoDB for what is asked for, and PHP for a
        list of its values."""
        if any(str(name).startswith("$") for name in value):
            return True
        values = list(value.values())
        if self._may_be_list(values):
            return True
        # Of one thing it is asked above: once more at each level would be 2**30 times.
        return len(values) > 1 and "_id" in value and self._may_be_list([value["_id"]])

    def _may_be_list(self, items: list[object]) -> bool:
        """A list of one is what it holds to who compares in JavaScript."""
        if self._is_text_of_caller or self._is_ordered or bool(items) in self._truths:
            return True
        if not items or items == [None]:
            return "" in self._texts or 0 in self._wholes
        if 1 in self._wholes:
            return True  # of any list PHP makes 1
        return len(items) == 1 and (self.names(items[0]) or self.may_become(items[0]))

    def _rounds_to(self, number: object) -> bool:
        return any(one in self._wholes for one in _rounded(number))


def _rounded(number: object) -> list[object]:
    """The whole numbers beside one with a fraction."""
    if not isinstance(number, float) or not math.isfinite(number):
        return []
    return [math.floor(number), math.ceil(number)]


def _numbers_of(text: str) -> list[tuple[object, bool]]:
    """Those that a text begins with, as whatever follows some language reads no further; and
    whether it is one, and nothing follows."""
    if text.isascii():
        if text[:1].isalpha():
            return []
        if text[:1] != "0" and len(text) <= _LONGEST and text.isdecimal():
            return [(int(text), True)]
    else:
        text = with_plain_digits(text)
    found: list[tuple[object, bool]] = []
    begins = _DECIMAL.match(text)
    if begins is not None:
        digits = begins[2]
        _add_wholes(found, begins, 10)
        if digits[0] == "0":
            other = _OTHER_BASES.get(text[begins.start(2) + 1 : begins.start(2) + 2])
            begins_so = None if other is None else other[0].match(text)
            if other is not None and begins_so is not None:
                _add_wholes(found, begins_so, other[1])
    if _REAL_SIGN.search(text):
        real = _REAL.match(text)
        if real is not None:
            number = float(real[0])
            if math.isfinite(number):
                found.append((number, real.end() == len(text)))
    return found


def _add_wholes(found: list[tuple[object, bool]], begins: re.Match[str], base: int) -> None:
    first, _, more = begins[2].partition("_")
    # Between digits some take a line, others read up to it.
    for digits in (first, first + more.replace("_", "")) if more else (first,):
        bare = digits.lstrip("0")
        if digits and len(bare) <= _LONGEST:
            is_all = begins.end() == len(begins.string) and (digits != first or not more)
            is_all = is_all and begins.re is not _BARE_OCTAL
            found.append((int(f"{begins[1]}{bare or '0'}", base), is_all))


def _uuids(texts: Iterable[str]) -> list[str]:
    """Those of them that are one, in its plain form."""
    found = (uuid_of(one.lower(), groups=False) for one in texts)
    return [one for one in found if one is not None]
