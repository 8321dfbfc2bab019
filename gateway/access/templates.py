"""Texts of the configuration with `{placeholders}` that a call fills.

What is filled in stays as it came: it is never read as a template again, and there is no
way to the environment or to files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FIELD = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")


@dataclass(frozen=True, slots=True)
class Piece:
    """Literal `text` where `source` is empty; else the field `text` of `source`."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """`{name}` is a path parameter; `{query.x}`, `{headers.x}`, `{body.a.b}` are what they say."""

    text: str
    pieces: tuple[Piece, ...]

    def names(self, source: str) -> tuple[str, ...]:
        return tuple([piece.text for piece in self.pieces if piece.source == source])

    def fill(
        self,
        values: Mapping[str, Mapping[str, Any]],
        spelled: Callable[[Piece, str], str | None] | None = None,
    ) -> Any:
        """The text; or, of a template that is one placeholder alone, the value as it is.

        None where a placeholder has no value: half a text would be another resource's name.
        `spelled` gives what the value of a piece is within a text, or None.
        """
        if len(self.pieces) == 1:
            return _value(self.pieces[0], values)
        parts: list[str] = []
        for piece in self.pieces:
            value = _value(piece, values)
            if isinstance(value, bool | Mapping | list | None):
                return None
            text = str(value) if spelled is None or not piece.source else spelled(piece, str(value))
            if text is None:
                return None
            parts.append(text)
        return "".join(parts)


def read_template(text: str, sources: tuple[str, ...]) -> TextTemplate | str:
    """The template, or a sentence about what is wrong.  `sources` are those allowed here."""
    pieces: list[Piece] = []
    end = filled = 0
    for match in _PLACEHOLDER.finditer(text):
        pieces += [Piece("", text[end : match.start()])] if match.start() > end else []
        end, filled = match.end(), filled + 1
        inside = match.group(1)
        source, dot, name = inside.partition(".")
        if not dot and _NAME.match(inside):
            pieces.append(Piece("params", inside))
        elif dot and source in sources and _FIELD.match(name):
            pieces.append(Piece(source, name))
        else:
            known = ", ".join(["`{name}` of the path", *(f"`{{{s}.name}}`" for s in sources)])
            return f"`{{{inside}}}` is nothing that can be filled in; there is {known}"
    rest = text[end:]
    if text.count("{") > filled or text.count("}") > filled:
        return "a brace without its partner"
    if rest or not pieces:
        pieces.append(Piece("", rest))
    return TextTemplate(text, tuple(pieces))


def _value(piece: Piece, values: Mapping[str, Mapping[str, Any]]) -> Any:
    if not piece.source:
        return piece.text
    value: Any = values.get(piece.source)
    if piece.source == "body":
        for key in piece.text.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        # The engine would round it, and two accounts could become one.
        return None if isinstance(value, int) and abs(value) >= 2**63 else value
    return value.get(piece.text) if isinstance(value, Mapping) else None
