"""Letters without marks, in ASCII where they are known by it: `É`, `ﬁ` and `Ø` are `e`, `fi`, `o`.

Law: beyond ASCII what is no letter and no digit is nothing, none is taken apart twice, and none
becomes more than four.
"""

from __future__ import annotations

from unicodedata import normalize


class _PlainLetters(dict[int, int | str | None]):
    """For `str.translate`.  Of ASCII signs stay, and capitals do not."""

    def __missing__(self, code: int) -> int | str | None:
        # Chinese, and the rare ones but for those of mathematics: too many to keep.
        if 0x4E00 <= code < 0xA000 or 0x3400 <= code < 0x4DC0:
            return code
        if code > 0xFFFF and not 0x1D400 <= code < 0x1D800:
            return code if chr(code).isalnum() else None
        self[code] = plain = _plain(chr(code))
        return plain


def _plain(char: str) -> str | None:
    if char.isascii():
        return char.lower()
    if not char.isalnum() or char in _NO_LETTERS:
        return None
    # Twice, as some hold a capital.  A mark goes first, as one is a letter in lower case.
    letters = _letters(_letters(char).casefold()).casefold()
    # One that is a whole sentence is itself: a long text of such ones would become many times that.
    return char if len(letters) > _MOST else "".join(_LIKE.get(one, one) for one in letters)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, normalize("NFKD", text)))


_MOST = 4
_NO_LETTERS = "ªº²³¹µ¼½¾"
"""To lodash; Unicode calls them letters and digits."""
# As `deburr` of lodash has them; Unicode takes none of them apart.
_LIKE = {
    "æ": "ae", "ø": "o", "ð": "d", "þ": "th", "đ": "d", "ħ": "h", "ı": "i", "ĸ": "k", "ł": "l",
    "ŋ": "n", "œ": "oe", "ŧ": "t", "ʼ": "",
}  # fmt: skip
PLAIN_LETTERS = _PlainLetters()
