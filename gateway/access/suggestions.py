"""What was meant by a word that nobody knows."""

from __future__ import annotations

import difflib
from typing import Any

from gateway.access.renames import renamed_word


def suggestion(word: str, known: Any) -> str:
    """`; did you mean `x`?`, or the new name of `word`, or what there is, or nothing."""
    names = [str(name) for name in known]
    # The old word may be nearer to another word than to its successor.
    renamed = renamed_word(word, names)
    if renamed is not None:
        return f"; {renamed.told}"
    close = difflib.get_close_matches(word, names)
    if close:
        return f"; did you mean `{close[0]}`?"
    if names and len(names) <= 12:
        return "; there is " + ", ".join(f"`{name}`" for name in names)
    return ""
