"""What backends take for a number or a UUID besides its plain spelling: `/books/+7` for `/books/7`.

Flask takes a digit of any script, Pydantic `7.0`, Spring `0x7`, PHP and JavaScript what only begins
with a number.  Law: as of other spellings, what is found here is compared with what routes protect;
what a route itself takes for a number is digits, and for a UUID its plain form.

Every segment here is folded (`spellings.folded_letters`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# What some parser takes for blanks, and two signs of minus.
_BLANKS = "\\s\u180e\u200b\ufeff"
_MINUS = "\\-\u2212"
_BLANK = re.compile(f"[{_BLANKS}]+")
_MARK = re.compile("(?<=[0-9a-fx])[_'\u2019\u066c](?=[0-9a-f])")
"""Between digits: those of Python, Ruby and Java, and marks of thousands.  No comma: `1,2,3` is
more often a list."""
_NUMBER = re.compile(
    f"([#(+{_MINUS}]*+)"
    "(?:0x([0-9a-f]++)|0(b[01]++|o[0-7]++|d[0-9]++)"
    f"|(?=\\.?[0-9])([0-9]*+)(?:\\.([0-9]*+))?+(e[+{_MINUS}]?+[0-9]++)?+)"
    f"[)+{_MINUS}]*+\\Z"
)
_BEGINS_WITH_NUMBER = re.compile(f"[+{_MINUS}{_BLANKS}]*+(?:[0-9]|\\.[0-9]++e)")
_OTHER_DIGIT = re.compile("(?![0-9])\\d")
"""Of whatever script."""
_MOST_HEX_DIGITS = 16
_MOST_DIGITS = 400
"""Of a number with a point or an exponent: no double has more before its point."""
_AROUND_UUID = re.compile("[-{}()]+")
_UUID_DIGITS = re.compile(f"[0-9a-f+_x{_BLANKS}]{{32}}\\Z")
"""Python's `int` takes the other signs in a place of a nought, which then stands before all."""
_NO_UUID_DIGITS = re.compile("[^0-9a-f]+")
_UUID_OF_JAVA = re.compile("\\+?[0-9a-f]++(?:-\\+?[0-9a-f]++){4}\\Z")
_UUID_OF_NET = re.compile("\\{0x[0-9a-fx,{}]*+\\Z")
_BEGINS_WITH_UUID = re.compile("\\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What begins as a word does, or is a short one of hexadecimal letters; what is digits alone.
_WORD = "[a-f]*+(?:[g-tvwyz]|u(?!rn:|u)|x(?![0-9a-f+_-]))[^\x00]*+|[a-f][0-9a-f]{0,15}+(?![^\x00])"
_DIGITS = "(?:0|[1-9][0-9]{0,15}+)(?![^\x00])"
_UUID_PLAIN = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![^\x00])"
_PLAIN = re.compile(f"(?:{_WORD}|{_DIGITS}|\x00)*+\\Z")
_PLAIN_BUT_UUIDS = re.compile(f"(?:{_WORD}|{_DIGITS}|{_UUID_PLAIN}|\x00)*+\\Z")
_GROUPS = (8, 4, 4, 4, 12)
_GROUPS_OF_NET = (8, 4, 4, *[2] * 8)


def number_of(segment: str) -> str | None:
    """The number that all of a segment is to some backend, the same text for each spelling of it
    (but for those with an exponent); None where it is none."""
    if segment.isdecimal() and segment.isascii():
        return segment.lstrip("0") or "0"
    found = _number_in(segment)
    if found is None:
        return None
    signs, sixteens, others, digits, fraction, exponent = found.groups("")
    if fraction.strip("0") and not exponent:
        return None  # it only begins with one
    number = _hexadecimal(sixteens) if sixteens else others or digits.lstrip("0") or "0"
    if exponent.strip("e+-\u22120"):
        number += f".{fraction}{exponent}"
    return f"-{number}" if _is_negative(signs) else number


def whole_number_of(segment: str) -> str | None:
    """As `number_of`, by its value alone: `70e-1` and `0b111` are 7.  None of what is no whole
    number, is too large to be told from its neighbours, or has a sign behind it (`7-`)."""
    found = _number_in(segment)
    if found is None:
        return None
    signs, sixteens, others, digits, fraction, exponent = found.groups("")
    last = found.string[-1]
    if last in "+-\u2212" or (last == ")" and "(" not in signs):
        return None
    if sixteens:
        number = _hexadecimal(sixteens)
    elif others:
        number = _of_base(others[0], others[1:].lstrip("0") or "0")
    elif exponent.strip("e+-\u22120"):
        digits = digits.lstrip("0")
        if len(digits) > _MOST_DIGITS or len(exponent) > _MOST_DIGITS:
            return None
        value = float(f"{digits}.{fraction[:_MOST_DIGITS]}0{exponent}".replace("\u2212", "-"))
        if not value.is_integer() or value >= 2**53:
            return None
        number = str(int(value))
    elif fraction.strip("0"):
        return None
    else:
        number = digits.lstrip("0") or "0"
    return f"-{number}" if _is_negative(signs) and number != "0" else number


def number_as_double(number: float) -> str:
    """The text of a number: `7` for 7.0."""
    return str(int(number)) if number.is_integer() else str(number)


def begins_with_number(segment: str) -> bool:
    """Whether it begins with what PHP, MySQL, Ruby and the `parseInt` of JavaScript read of it."""
    return _BEGINS_WITH_NUMBER.match(with_plain_digits(segment)) is not None


def uuid_of(segment: str, *, groups: bool = True) -> str | None:
    """The UUID that all of a segment is to some backend, in its plain form, as far as one can be
    named; None where it is none.

    `groups`: also where each group is as long as it likes, as to Java: `1-2-3-4-5`.
    """
    segment = with_plain_digits(segment)
    if groups and _UUID_OF_JAVA.match(segment):
        return _joined(segment.replace("+", "").split("-"), _GROUPS)
    bare = _AROUND_UUID.sub("", segment.replace("urn:", "").replace("uuid:", ""))
    if _UUID_DIGITS.match(bare) is None:
        bare = _BLANK.sub("", bare)
    if _UUID_DIGITS.match(bare) is None:
        compact = _BLANK.sub("", segment)
        if _UUID_OF_NET.match(compact):
            return _joined(re.findall("0x([0-9a-f]+)", compact), _GROUPS_OF_NET)
        return None
    return _joined([_NO_UUID_DIGITS.sub("", bare)], (32,))


def begins_with_uuid(segment: str) -> bool:
    """Whether it begins with what SQL Server reads of it."""
    return _BEGINS_WITH_UUID.match(segment) is not None


def values_of(segment: str) -> list[str]:
    """The number and the UUID that all of a segment is to some backend."""
    return [value for value in (number_of(segment), uuid_of(segment)) if value is not None]


def may_name_value(segments: Sequence[str], *, numbers: bool) -> bool:
    """False where none is a UUID or, if `numbers`, a number to a backend but by its own spelling:
    found at once, as nearly always."""
    pattern = _PLAIN if numbers else _PLAIN_BUT_UUIDS
    return pattern.match("\x00".join(segments)) is None


def _number_in(segment: str) -> re.Match[str] | None:
    return _NUMBER.match(_MARK.sub("", _BLANK.sub("", with_plain_digits(segment))))


def _is_negative(signs: str) -> bool:
    return any(sign in signs for sign in "-\u2212(")


def _hexadecimal(digits: str) -> str:
    digits = digits.lstrip("0") or "0"
    return str(int(digits, 16)) if len(digits) <= _MOST_HEX_DIGITS else f"0x{digits}"


def _of_base(sign: str, digits: str) -> str:
    if sign == "d":
        return digits
    base = 2 if sign == "b" else 8
    return str(int(digits, base)) if len(digits) <= 64 else f"0{sign}{digits}"


def with_plain_digits(segment: str) -> str:
    return segment if segment.isascii() else _OTHER_DIGIT.sub(_plain_digit, segment)


def _plain_digit(digit: re.Match[str]) -> str:
    return str(unicodedata.decimal(digit[0]))


def _joined(groups: list[str], lengths: tuple[int, ...]) -> str:
    """Each group as long as it is to be: noughts are put before it, and what is more is lost."""
    padded = (group.rjust(n, "0")[-n:] for group, n in zip(groups, lengths, strict=False))
    bare = "".join(padded)
    return f"{bare[:8]}-{bare[8:12]}-{bare[12:16]}-{bare[16:20]}-{bare[20:]}"
