"""What was meant by a word that nobody knows."""

from __future__ import annotations

import difflib
from typing import Any


def suggestion(word: str, known: Any) -> str:
    """`; did you mean `x`?`, or what there is, or nothing."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{close[0]}`?"
    if names and len(names) <= 12:
        return "; there is " + ", ".join(f"`{name}`" for name in names)
    return ""
