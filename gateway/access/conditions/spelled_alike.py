"""The world of a call in which every address of e-mail is written as it is when nobody cares for
its letters (`email_address.one_spelling`): of the caller, of what they ask about, of tables and of
a condition's own texts.

Law: what equals something still does, so that a question whether two addresses are one comes out
as it should, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.access.conditions.edits import TextEdit, edited
from gateway.access.conditions.expressions import Token, literal, tokens_of
from gateway.email_address import (
    MAX_EMAIL_LENGTH,
    is_written_in_several_ways,
    one_spelling,
    own_letters,
)

MOST_HOSTS = 64
"""In other than plain letters, of all that one call brings for one condition."""
MOST_ODD = 512
"""Addresses that are not of plain letters."""
MOST_WORDS = 256
"""Addresses that stand in longer texts; the others there stay as they are written."""

_ADDRESS = re.compile(r"(?:[^\s@/][^\s@]*)?@(?:[^\s@/]+)?")
_BETWEEN = re.compile(r"([\s/,;<>\"()|:?&=\[\]{}]+)")
_OTHER_AT = re.compile("[\N{FULLWIDTH COMMERCIAL AT}\N{SMALL COMMERCIAL AT}]")
_BEGINS = frozenset(("startsWith", "endsWith", "contains"))
_OWN_TEXTS = frozenset(("matches", "has_role", "has_scope", "in_cidr"))
"""What is no address to them: patterns, roles, actions."""


class TooManyAddresses(Exception):
    """A call names more than MOST_HOSTS or MOST_ODD of those that take time."""


class Alike:
    """Rewrites the texts of one call or, where it is not `bounded`, of what an operator wrote.
    `folds` as of `one_spelling`."""

    __slots__ = ("_hosts", "_is_bounded", "_odd", "_words", "folds", "folds_more", "texts")

    def __init__(self, *, folds: bool, bounded: bool = True) -> None:
        self.folds = folds
        self.folds_more = False
        """Whether some address reads otherwise with `folds` than without."""
        self.texts: dict[str, str] = {}
        """What was met that holds an address, and how it is written here."""
        self._is_bounded = bounded
        self._hosts: set[str] = set()
        self._odd = 0
        self._words = 0

    def value(self, value: Any) -> Any:
        """The same object where nothing in it is written otherwise.  Of two keys that are one, what
        is written so already stays.  Raises TooManyAddresses."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple):
            items = [self.value(item) for item in value]
            if all(item is before for item, before in zip(items, value, strict=True)):
                return value
            return items if isinstance(value, list) else tuple(items)
        return value

    def text(self, text: str) -> str:
        """Raises TooManyAddresses."""
        if "@" not in text and (text.isascii() or not _OTHER_AT.search(text)):
            return text
        alike = self.texts.get(text)
        if alike is None:
            alike = self.texts[text] = self._rewritten(text)
        return text if alike == text else alike

    def _mapping(self, mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
        changed: dict[Any, Any] = {}
        is_changed = False
        for key, value in mapping.items():
            alike = self.text(key) if isinstance(key, str) else key
            if alike is not key and (alike in mapping or alike in changed):
                is_changed = True
                continue
            changed[alike] = self.value(value)
            is_changed = is_changed or alike is not key or changed[alike] is not value
        return changed if is_changed else mapping

    def _rewritten(self, text: str) -> str:
        if text.isascii() and text == text.lower() and not is_written_in_several_ways(text):
            return text
        plain = _OTHER_AT.sub("@", text)
        if _is_address(plain):
            return self._address(plain)
        self._words += plain.count("@")
        if self._is_bounded and self._words > MOST_WORDS:
            return text
        words = _BETWEEN.split(plain)
        addresses = [index for index, word in enumerate(words) if _is_address(word)]
        for index in addresses:
            words[index] = self._address(words[index])
        return "".join(words)

    def part(self, text: str) -> str:
        """Of what an address is asked to begin or end with, which may have no `@`."""
        if "@" in text or "." not in text:
            return self.text(text) if "@" in text else one_spelling(text, folds=self.folds)
        return own_letters(text)

    def _address(self, address: str) -> str:
        if not is_written_in_several_ways(address):
            return address.lower()
        name, _, host = address.rpartition("@")
        self._odd += 1
        if is_written_in_several_ways(host):
            self._hosts.add(host)
        if self._is_bounded and (self._odd > MOST_ODD or len(self._hosts) > MOST_HOSTS):
            raise TooManyAddresses
        self.folds_more = self.folds_more or name.casefold() != name.lower()
        return one_spelling(address, folds=self.folds)


def condition_alike(source: str, alike: Alike) -> str:
    """The text of a condition with its own addresses written so, and what an address is asked to
    begin or end with."""
    words = tokens_of(source)
    edits = []
    for index, word in enumerate(words):
        text = literal(word) if word.kind == "string" else None
        if text is None:
            continue
        asker = words[index - 2].text if index >= 2 and words[index - 1].text == "(" else ""
        if asker in _OWN_TEXTS:
            continue
        is_part = asker in _BEGINS and _names_address(words[: index - 3])
        written = alike.part(text) if is_part else alike.text(text)
        if written != text:
            edits.append(TextEdit(word.at, word.at + len(word.text), _quoted(written)))
    return edited(source, edits)


def _names_address(words: list[Token]) -> bool:
    """Whether they end with `user.email` or `user.claims.email`."""
    texts = [word.text for word in words[-5:]]
    return texts[-3:] == ["user", ".", "email"] or texts == ["user", ".", "claims", ".", "email"]


def _quoted(text: str) -> str:
    # The engine takes each kind of line end for one.
    lines = "\n".join(text.split("\r\n")).replace("\r", "\n")
    for sign, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n")):
        lines = lines.replace(sign, escaped)
    return f"'{lines}'"


def _is_address(text: str) -> bool:
    return len(text) <= MAX_EMAIL_LENGTH and _ADDRESS.fullmatch(text) is not None
