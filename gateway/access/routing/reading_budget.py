"""How much is read of one call in all the ways in which backends may read its path.

Law: whoever sends it need not be anybody, and short paths have many readings as well as long ones
few: so the letters of all of them are counted together, each before anything is made of it.
"""

from __future__ import annotations

from gateway.access.routing.spellings import Spellings

MOST_LETTERS_READ = 32_768
"""Of all other readings of a call and of what is compared for them."""
_OUTSIDE_ASCII = 2
"""As many letters as such a one costs: it is folded, and escaped again."""
_EACH = 32
"""As many letters as it costs to compare one more path, however short."""


class ReadingBudget:
    """What is left of the letters of one call."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_LETTERS_READ

    def takes(self, text: str) -> bool:
        """Whether there is room for one more reading; it has it then."""
        self.left -= _EACH + len(text) * (1 if text.isascii() else _OUTSIDE_ASCII)
        return self.left >= 0

    def takes_spellings(self, spelled: Spellings) -> bool:
        """The same of what a reading is compared as besides."""
        others = len(spelled.paths) - 1 + len(spelled.scripts)
        self.left -= _EACH * others + spelled.letters
        return self.left >= 0
