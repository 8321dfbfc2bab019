"""What was meant by a word that nobody knows."""

from __future__ import annotations

import difflib
from typing import Any

RENAMED = {
    "except_own": "except_reserved",
    "rejudge": "reevaluate",
    "respond": "direct_response",
}
"""Words of `routes.yaml` that were renamed.  The old word is refused, and may be nearer to
another word than to its successor."""


def suggestion(word: str, known: Any) -> str:
    """`; did you mean `x`?`, or the new name of `word`, or what there is, or nothing."""
    names = [str(name) for name in known]
    if RENAMED.get(word) in names:
        return f"; it is called `{RENAMED[word]}` now"
    close = difflib.get_close_matches(word, names)
    if close:
        return f"; did you mean `{close[0]}`?"
    if names and len(names) <= 12:
        return "; there is " + ", ".join(f"`{name}`" for name in names)
    return ""
