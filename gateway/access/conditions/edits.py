"""Changes of a text, by the characters that they stand in place of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class TextEdit(NamedTuple):
    start: int
    end: int
    text: str


def edited(source: str, edits: Iterable[TextEdit], start: int = 0, end: int | None = None) -> str:
    """`source[start:end]` with those of the edits that lie in it; none lies in another."""
    stop = len(source) if end is None else end
    text = ""
    for edit in sorted(edits):
        if start <= edit.start and edit.end <= stop:
            text += source[start : edit.start] + edit.text
            start = edit.end
    return text + source[start:stop]
