"""What callers write, as limits count it: one text for all its spellings.

A backend may look an account up in any case, without blanks or accents, or as a number; and whoever
guesses its password would have as many tries as its name has spellings.

Law: what is folded here names a bucket, and nothing else.  Two names that share one are bounded
together, so in doubt they do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from gateway.access.routing.value_spellings import (
    exact_number_of,
    may_name_value,
    number_as_double,
    uuid_of,
)

LONGEST_FOLDED = 256
"""Letters of a text that is not ASCII, or that may be a number: to fold one takes some 5 µs."""
TOO_LONG = "TOO LONG"
SEVERAL = "SEVERAL"
"""What cannot be told by its value counts as one; no folded text has capitals."""
_MOST_LEVELS = 32

_WORDS_ALONE = "@ghjklmpqstvwyz"
"""In no spelling of a number or a UUID."""
_WORD = re.compile(f"[{_WORDS_ALONE}]")
# A word, a number or a UUID in the one spelling that they are counted by.
_AS_IT_IS = re.compile(
    rf"(?=[^{_WORDS_ALONE}]*+[{_WORDS_ALONE}])[!-@\[-~]++(?: [!-@\[-~]++)*+\Z"
    r"|(?:0|[1-9][0-9]{0,17})\Z"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]+")
_UNSEEN = frozenset(("Mn", "Me", "Cc", "Cf", "Cs"))
"""Accents and other marks, and what takes no room: control and format characters."""
_FILLERS = "\u115f\u1160\u17b4\u17b5\u2065"
"""Take no room either, and are of other kinds."""
_BLANK = "\u2800"
"""Takes some, shows nothing, and is no space."""


def counted_text(text: str) -> str:
    """The text for all texts that a backend may take for this one: in any case, with an accent or
    a blank more, in letters of another width, a number or a UUID in any spelling."""
    if len(text) > LONGEST_FOLDED:
        text = " ".join(text.lower().split())
    elif _AS_IT_IS.match(text):
        return text
    if text.isascii():
        text = text if text.isprintable() else _CONTROLS.sub("", text)
        text = " ".join(text.lower().split())
        if len(text) > LONGEST_FOLDED:
            return text if _WORD.search(text) else TOO_LONG
    elif len(text) > LONGEST_FOLDED:
        return TOO_LONG
    else:
        text = " ".join(_folded(text).split())
    if may_name_value((text,), numbers=True):
        return exact_number_of(text) or uuid_of(text) or text
    return text


def counted_value(value: object) -> str | None:
    """The same of any value; None of what says nothing.

    A list of one is what it holds.  All others count as one, and so do objects: a backend may find
    what it looks for in any of them (`{"$ne": …}`, `IN (…)`).
    """
    levels = 0
    while isinstance(value, list | tuple) and len(value) == 1 and levels < _MOST_LEVELS:
        value = value[0]
        levels += 1
    if isinstance(value, str):
        return counted_text(value)
    if isinstance(value, float):
        return number_as_double(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return SEVERAL if isinstance(value, list | tuple | Mapping) else None


def _folded(text: str) -> str:
    # As Unicode's own caseless matching, and first in capitals: so a dotless i is one with a dot.
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).upper().casefold())
    kept: list[str] = []
    for letter in text:
        if letter.isspace() or letter == _BLANK:
            kept.append(" ")
        elif letter not in _FILLERS and unicodedata.category(letter) not in _UNSEEN:
            kept.append(letter)
    return "".join(kept)
