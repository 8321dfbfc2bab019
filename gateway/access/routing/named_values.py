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

from gateway.access.conditions.resource_uses import Value

_TRUE = frozenset(("1", "true", "on", "yes", "y", "t"))
_FALSE = frozenset(("", "0", "false", "off", "no", "n", "f", "null"))
_BLANKS = (
    "".join(map(chr, range(0x21))) + "\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_BLANKS += "".join(map(chr, range(0x2000, 0x200E)))
"""What some language takes off the ends of a text."""
_LONGEST = 400
"""Digits of a number that any backend holds."""
_WHOLE = re.compile(r"[+-]?\d[\d_]*")
_REAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_BASED = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+)")


class NamedValues:
    """Of one field: each set is empty where it is compared with none such."""

    __slots__ = (
        "_digits",
        "_is_ordered",
        "_is_text_of_caller",
        "_numbers",
        "_texts",
        "_truths",
        "_wholes",
    )

    def __init__(
        self, values: Iterable[Value], *, is_text_of_caller: bool, is_ordered: bool
    ) -> None:
        """`is_ordered`: also by more or less than a number; `is_text_of_caller`: with a text that
        nobody knows here."""
        # No number is typed: compiled, a whole one would become one that has a fraction.
        found: list[object] = list(values)
        self._texts: frozenset[object] = frozenset(one for one in found if isinstance(one, str))
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
            number for one in self._texts for number in _all_of_it(str(one))
        )
        self._is_text_of_caller = is_text_of_caller
        self._is_ordered = is_ordered

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
        return self._may_be_list(value) if isinstance(value, list) else isinstance(value, dict)

    def probes(self) -> Iterator[object]:
        """Values that tell two of these apart."""
        named = (*self._texts, *self._numbers, *self._truths)
        for one in (*named, 0, 1, 0.5, 7.5, "x", "07", True, False):
            yield from (one, str(one), f" {one} ", [one])

    def _may_be_text(self, text: str) -> bool:
        bare = text.strip(_BLANKS)
        if bare != text and (bare in self._texts or self._is_text_of_caller):
            return True
        whole, begins = _all_of_it(bare), _beginnings(bare)
        if self._is_ordered and (whole or begins):
            return True
        if any(one in self._numbers or self._rounds_to(one) for one in (*whole, *begins)):
            return True
        if not (whole or begins) and 0 in self._wholes:
            return True  # of any other word PHP makes 0
        return any(one in self._digits for one in whole) or self._may_be_word(bare.lower(), whole)

    def _may_be_word(self, word: str, numbers: list[object]) -> bool:
        if word in _FALSE:
            return False in self._truths
        if True not in self._truths:
            return False
        # Whoever names words beside `true` has others, which only PHP takes for it.
        return word in _TRUE or any(bool(one) for one in numbers) or not self._texts

    def _may_be_truth(self, value: bool) -> bool:
        if value and (self._is_text_of_caller or any(self._texts)):
            return True  # whatever text is not empty, to PHP
        if not value and not self._texts.isdisjoint(("", "0")):
            return True
        return self._is_ordered or int(value) in self._numbers

    def _may_be_number(self, number: object) -> bool:
        if self._rounds_to(number) or bool(number) in self._truths or str(number) in self._texts:
            return True
        return any(one in self._digits for one in (number, *_rounded(number))) or (
            not number and "" in self._texts
        )

    def _may_be_list(self, items: list[object]) -> bool:
        """A list of one is what it holds to who compares in JavaScript."""
        if self._is_text_of_caller or self._is_ordered or bool(items) in self._truths:
            return True
        if not items:
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


def _all_of_it(text: str) -> list[object]:
    """The numbers that all of a text is."""
    if not text or len(text) > _LONGEST:
        return []
    found: list[object] = []
    based = _BASED.fullmatch(text)
    if based is not None:
        found.append(int(based[1] + based[2][2:], _BASES[based[2][1].lower()]))
    if _WHOLE.fullmatch(text):
        found.append(int(text.replace("_", "")))
    elif _REAL.fullmatch(text):
        found += _finite(text)
    return found


def _beginnings(text: str) -> list[object]:
    """Those that it begins with: whatever follows, some language reads no further."""
    found: list[object] = []
    for pattern in (_WHOLE, _REAL):
        begins = pattern.match(text)
        if begins is None or len(begins[0]) > _LONGEST:
            continue
        if pattern is _REAL:
            found += _finite(begins[0])
        else:
            plain = begins[0].partition("_")[0]
            found += [int(plain), int(begins[0].replace("_", ""))]
    return found


def _finite(text: str) -> list[object]:
    number = float(text)
    return [number] if math.isfinite(number) else []


_BASES = {"x": 16, "o": 8, "b": 2}
