"""Letters as limits count them: small ones in ASCII where they are known by it, without accents.

Law: what is seen and names something stays.  A vowel of Thai or Hindi is a mark to Unicode, and no
accent; a sign that is no letter stays, unless it takes no room.
"""

from __future__ import annotations

import re
from unicodedata import category, combining, decimal, normalize

from gateway.access.routing.plain_letters import PLAIN_LETTERS

_MOST_KEPT = 16_384

_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Me"))
"""Control and format characters take no room; what encloses a letter is gone with its kind."""
_FILLERS = {
    *map(ord, "\u034f\u0640\u07fa\u115f\u1160\u17b4\u17b5\u2065\u3164\uffa0"),
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xE0000, 0xE1000),
}
"""Take no room either, and are of other kinds."""
_BLANK = "\u2800"
"""Takes some, shows nothing, and is no space."""
_VOWELS = frozenset((0, 9, 84, 91, 103, 118, 129, 130, 132))
"""Classes of marks that are no accents: vowels of Telugu, Thai, Lao and Tibetan have their own."""


_BESIDE_ASCII = re.compile("(\\A|[\0-\x7f])([^\0-\x7f]+)")


def counted_letters(text: str) -> str:
    """Also without marks of other scripts behind a sign of ASCII or nothing: no writing has them
    there, and collations take them for nothing."""
    return _BESIDE_ASCII.sub(_without_marks, text.translate(_COUNTED_LETTERS))


def _without_marks(found: re.Match[str]) -> str:
    behind = found[2]
    for at, char in enumerate(behind):
        if category(char)[0] != "M":
            return found[1] + behind[at:]
    return found[1]


class _CountedLetters(dict[int, str | int | None]):
    """For `str.translate`."""

    def __missing__(self, code: int) -> str | int | None:
        # Chinese: too many to keep.
        if 0x4E00 <= code < 0xA000 or 0x3400 <= code < 0x4DC0:
            return code
        if len(self) >= _MOST_KEPT:
            self.clear()
        text = "".join(map(_counted_letter, normalize("NFKD", chr(code))))
        self[code] = counted = text or None
        return counted


def _counted_letter(char: str) -> str:
    if char.isspace() or char == _BLANK:
        return " "
    if category(char) in _UNSEEN or ord(char) in _FILLERS or combining(char) not in _VOWELS:
        return ""
    digit = decimal(char, None)
    if digit is not None:
        return str(digit)
    if not char.isalnum():
        return char
    if char > "\uffff":  # no letter of ASCII, in whatever form
        return char.casefold()
    plain = PLAIN_LETTERS[ord(char)]
    return char if plain is None else plain if isinstance(plain, str) else chr(plain)


_COUNTED_LETTERS = _CountedLetters()
