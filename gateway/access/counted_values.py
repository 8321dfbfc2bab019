"""What callers write, as limits count it: one text for all its spellings.

A backend may look an account up in any case, without blanks or accents, or as a number; and whoever
guesses its password would have as many tries as its name has spellings.

Law: what is folded here names a bucket, and nothing else.  Two names that share one are bounded
together, so in doubt they do; but no bucket is shared by what cannot be told.
"""

from __future__ import annotations

import re

from gateway.access.counted_contacts import bare_address
from gateway.access.counted_letters import counted_letters
from gateway.access.counted_phones import is_oddly_written, phone_number
from gateway.access.routing.value_spellings import (
    may_name_value,
    number_as_double,
    uuid_of,
    whole_number_of,
)

LONGEST_FOLDED = 256
"""Letters of a text that is not ASCII, or that may be a number: to fold a rare one takes 1 µs."""
LONGEST_IN_ALL = 4 * LONGEST_FOLDED
"""Of what one key reads, or of what is made of one text: some letters are a whole phrase."""
_MOST_WORDS = 512
"""Between which blanks are looked for."""
_MOST_SEGMENTS = 32
"""Of a path, in which numbers and UUIDs are looked for."""
_MOST_LEVELS = 32

_NO_VALUE = (
    '@ghjklmpqstvwyz/;&=!?%*"$~|<>^\\[\\]\\\\\x80-\u066b\u066d-\u2018\u201a-\u2211\u2213-\U0010ffff'
)
"""In no spelling of a number or a UUID, once it is in small letters."""
_HOLDS_NO_VALUE = re.compile(f"[{_NO_VALUE}]")
# As it is counted already: an address, a word, hexadecimal digits, a version, a number, a UUID.
_IS_WORD = f"(?=[a-f]*+(?:[g-tvwyz]|u(?!rn:|u))|[^{_NO_VALUE}]*+[{_NO_VALUE}])"
_AS_IT_IS = re.compile(
    rf"{_IS_WORD}[a-z][!-*,-9;-?\[-~]*+(?: [!-*,-9;-?\[-~]++)*+\Z"
    rf"|(?!(?:[^0-9]*+[0-9]){{7}}){_IS_WORD}[!-*,-?\[-~]++(?: [!-*,-?\[-~]++)*+\Z"
    r"|(?!.*[@.]xn--|[^@]*/x)[a-z0-9!#$%&'*+/=?^_`{|}~.-]++"
    r"@(?=[.-]*+[a-z0-9])[a-z0-9.-]*+(?<!\.)\Z"
    r"|(?!0[bd])(?=[0-9e]*+[abcdf])(?![0-9a-f]{25,32}\Z)[0-9a-f]++\Z"
    r"|(?!(?:[0-9][:-]?+){7})[0-9]++(?:[-:][0-9]++)++\Z"
    r"|(?:0|[1-9][0-9]{0,17})\Z"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"
)
_SIGNS_OF_UUID = re.compile("[-{}()]+")
_MAY_LACK_NOUGHTS = re.compile(r"(?![0-9]++\Z)[-{}()]*+(?:[0-9a-f+_x][-{}()]*+){25,31}\Z")
"""A UUID without the noughts that it begins with: seven at most, or ids of MongoDB were some."""
_MAY_BE_CONTACT = re.compile(r"[^@+]*+[@+]|(?:[^0-9]*+[0-9]){7}")
"""Some segment of a path."""
_SMALL = re.compile(r"[!-@\[-~]*+\Z")
_WITHOUT_CONTROLS = dict.fromkeys((*range(9), *range(0x0E, 0x1C), 0x7F))


def counted_text(text: str) -> str | None:
    """The text for all texts that a backend may take for this one: in any case, with an accent or
    a blank more, in letters of another width, a number or a UUID in any spelling.

    None of what is too long to be told.
    """
    if len(text) <= LONGEST_FOLDED and _AS_IT_IS.match(text):
        return text
    letters = _small_letters(text)
    if letters is None:
        return None
    small = _joined(letters)
    if not text.isascii() and is_oddly_written(small, text):
        return None
    if "@" in small:
        return _contact_of(small, text)
    if len(small) > LONGEST_FOLDED:
        number = phone_number(small, text)
        told = number != "" or _HOLDS_NO_VALUE.search(small, 0, LONGEST_IN_ALL)
        return (small if number == "" else number) if told else None
    if _MAY_LACK_NOUGHTS.match(small):
        # To Python a blank at an end is a nought of a UUID.
        return uuid_of(_SIGNS_OF_UUID.sub("", small).rjust(32, "0"), groups=False)
    return small if _AS_IT_IS.match(small) else _value_of(small, text)


def counted_path(path: str) -> str | None:
    """The same of each segment of a path."""
    small = path
    if not _SMALL.match(path):
        letters = _small_letters(path)
        if letters is None:
            return None
        small = _joined(letters)
        if " " in small:
            small = small.replace(" /", "/").replace("/ ", "/")
    segments, written = small.split("/"), path.split("/")
    if not path.isascii():
        # Another slash (`／`) ends a segment to some, and stands in one to others.
        is_told = len(written) == len(segments)
        if not is_told or any(map(is_oddly_written, segments, written)):
            return None
    if not _MAY_BE_CONTACT.match(small) and not may_name_value(segments, numbers=True):
        return small
    for at, segment in enumerate(segments[:_MOST_SEGMENTS]):
        is_short = len(segment) <= LONGEST_FOLDED
        if not segment or (is_short and _AS_IT_IS.match(segment)):
            continue
        value: str | None
        if "@" in segment:
            value = _contact_of(segment, written[at])
        elif is_short:
            value = _value_of(segment, written[at])
        else:
            number = phone_number(segment, written[at])
            value = segment if number == "" else number
        if value is None:
            return None
        segments[at] = value
    return "/".join(segments)


def counted_value(value: object) -> object:
    """The same of a text or a number, also of one that is alone in a list, as a text; any other
    value as it is.  None of what is too long or too large."""
    held, levels = value, 0
    while isinstance(held, list | tuple) and len(held) == 1 and levels < _MOST_LEVELS:
        held = held[0]
        levels += 1
    if isinstance(held, str):
        return counted_text(held)
    if isinstance(held, bool):
        return value
    if isinstance(held, float):
        number = number_as_double(held)
        return number if held.is_integer() else counted_text(number)
    if isinstance(held, int):
        return str(held) if -(2**63) <= held < 2**64 else None
    return value


def _small_letters(text: str) -> str | None:
    if len(text) > LONGEST_FOLDED:
        text = _joined(text)
    if text.isascii():
        if len(text) > LONGEST_FOLDED or not text.isprintable():
            text = text.translate(_WITHOUT_CONTROLS)
        return text.lower()
    if len(text) > LONGEST_FOLDED:
        return None
    letters = counted_letters(text)
    return letters if len(letters) <= LONGEST_IN_ALL else None


def _joined(text: str) -> str:
    return " ".join(text.strip().split(None, _MOST_WORDS))


def _value_of(text: str, written: str) -> str | None:
    value = None
    if not _HOLDS_NO_VALUE.search(text) and may_name_value((text,), numbers=True):
        value = whole_number_of(text) or uuid_of(text, groups=False)
    if value is None or (value[0] == "-" and ("+" in text or text[0] != "-")):
        number = phone_number(text, written)
        return (value or text) if number == "" else number
    if "+" not in text or text[1:].isdecimal():
        return value
    # `+1415555267e1` is another number as a telephone's.
    return value if phone_number(text, written) in ("", value) else None


def _contact_of(text: str, written: str) -> str | None:
    if len(text) <= LONGEST_FOLDED and _AS_IT_IS.match(text):
        return text
    address = bare_address(text)
    number = phone_number(text, written)
    if number == "" or address is None:
        return address
    return number if address == text else None
