"""A text that nothing shows by accident: in a message, a log or a dump it is `***`."""

from __future__ import annotations

from typing import NoReturn

SHOWN = "***"


class SecretText:
    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the wire."""
        return self._text

    def with_prefix(self, prefix: str) -> SecretText:
        return SecretText(prefix + self._text)

    def __str__(self) -> str:
        return SHOWN

    def __repr__(self) -> str:
        return SHOWN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretText) and other.reveal() == self._text

    def __hash__(self) -> int:
        return hash((SecretText, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written to anything")
