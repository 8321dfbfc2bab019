"""The world of a call in which nobody writes capitals, nor letters in another form than their plain
one: not the caller, nor what they ask about, nor tables, nor a condition.

Law: what equals something still does, and so does what is joined of two, begins or ends with
something.  So a question whether two addresses are one comes out as it should, wherever it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from gateway.access.conditions.edits import TextEdit, edited
from gateway.access.conditions.engine import cel
from gateway.access.conditions.expressions import Token, literal, string_prefix, tokens_of
from gateway.email_address import in_own_letters, with_own_host

LONG_TEXT = 2_048
"""Letters beyond ASCII take time: of a longer text only the case is changed."""

_OTHER_AT = re.compile("[\N{FULLWIDTH COMMERCIAL AT}\N{SMALL COMMERCIAL AT}]")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)?")
"""Its capitals are no letters (RFC 3339)."""
_PARTS = frozenset(("startsWith", "endsWith", "contains"))
_SPECIAL = re.compile(r"[\\^]")


class Alike:
    """Rewrites texts.  `folds`: the name in an address as accounts are told apart, `gross` for
    `groß`."""

    __slots__ = ("_fields", "_keeps_patterns", "folds", "folds_more", "says_address", "texts")

    def __init__(
        self, *, folds: bool, fields: frozenset[str], keeps_patterns: bool = False
    ) -> None:
        self.folds = folds
        self.folds_more = False
        """Whether some text reads otherwise with `folds` than without."""
        self.says_address = False
        """Whether one that was changed holds an address, or may be a part of one."""
        self.texts: dict[str, str] = {}
        """Each that was met, and how it is written here."""
        self._fields = fields
        self._keeps_patterns = keeps_patterns

    def value(self, value: Any) -> Any:
        """The same object where nothing in it is written otherwise.  Of two keys that are one, what
        is written so already stays, else the first."""
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
        alike = self.texts.get(text)
        if alike is None:
            alike = self.texts[text] = self._rewritten(text)
            if alike != text and ("@" in alike or not alike.isascii()):
                # What stood for other letters may be a part of a host.
                self.says_address = True
        return text if alike == text else alike

    def key(self, key: str) -> str:
        """What conditions name as a field stays as they name it."""
        return key if key in self._fields else self.text(key)

    def address(self, address: str) -> str:
        """The caller's own, whose host is read as mail reads it; from then on in any place."""
        if address not in self.texts:
            alike = self._rewritten(with_own_host(address))
            self.texts[address] = alike
            self.says_address = self.says_address or alike != address
        return self.text(address)

    def _mapping(self, mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
        changed: dict[Any, Any] = {}
        is_changed = False
        for key, value in mapping.items():
            alike = self.key(key) if isinstance(key, str) else key
            if alike is not key and (alike in mapping or alike in changed):
                is_changed = True
                continue
            changed[alike] = self.value(value)
            is_changed = is_changed or alike is not key or changed[alike] is not value
        return changed if is_changed else mapping

    def name(self, text: str) -> str:
        """What the name before an `@` is asked to begin with."""
        lower, folded = text.lower(), text.casefold()
        self.folds_more = self.folds_more or lower != folded
        return unicodedata.normalize("NFKC", folded if self.folds else lower)

    def _rewritten(self, text: str) -> str:
        if self._keeps_patterns and _SPECIAL.search(text):
            return in_own_letters(text)
        if text.isascii():
            return text if _TIME.fullmatch(text) else in_own_letters(text.lower())
        if len(text) > LONG_TEXT:
            return in_own_letters(text.lower())
        plain = unicodedata.normalize("NFKC", text)
        name, at, host = plain.partition("@")
        if at and "@" not in host:
            # A host is never folded: `straße.de` and `strasse.de` are two.
            return (
                f"{self.name(name)}@{in_own_letters(unicodedata.normalize('NFKC', host.lower()))}"
            )
        return in_own_letters(unicodedata.normalize("NFKC", plain.lower()))


def is_plain(value: Any) -> bool:
    """Whether no text in it can read otherwise where that matters to an address: quicker than to
    write it."""
    if isinstance(value, str):
        if not value.isascii():
            return False
        return ("@" not in value and "--" not in value) or (
            value == value.lower() and ("xn--" not in value)
        )
    if isinstance(value, Mapping):
        return all(map(is_plain, value)) and all(map(is_plain, value.values()))
    return not isinstance(value, list | tuple) or all(map(is_plain, value))


def field_names(source: str) -> Iterable[str]:
    """What a condition names behind a dot, functions too."""
    words = tokens_of(source)
    return (word.text for before, word in pairwise(words) if before.text == ".")


def condition_alike(source: str, alike: Alike, fields: frozenset[str]) -> str:
    """The text of a condition with its own texts written so; patterns stay as they are."""
    words = tokens_of(source)
    edits = []
    for index, word in enumerate(words):
        text = _text_of(word)
        if text is None:
            continue
        before = [one.text for one in words[max(0, index - 8) : index]]
        behind = words[index + 1].text if index + 1 < len(words) else ""
        written = alike.text(text)
        if before[-2:] == ["matches", "("]:
            written = in_own_letters(text)
        elif text in fields and (before[-1:] == ["["] or behind == "in"):
            written = text
        elif _asks_part_of_address(before):
            if before[-2] == "startsWith" and "@" not in text:
                written = alike.name(unicodedata.normalize("NFKC", text))
            alike.says_address = alike.says_address or written != text
        if written != text:
            edits.append(TextEdit(word.at, word.at + len(word.text), _quoted(written)))
    return edited(source, edits)


def _text_of(word: Token) -> str | None:
    if word.kind != "string" or "b" in string_prefix(word):
        return None
    text = literal(word)
    if text is not None and "\r" not in text:
        return text
    # With escapes, or ends of lines that the engine takes for one.
    value = cel.compile(word.text).execute({})
    return value if isinstance(value, str) else None


def _asks_part_of_address(before: list[str]) -> bool:
    """Whether they end with such as `user.email.endsWith(`."""
    asked = before[:-3]
    return (
        before[-1:] == ["("]
        and before[-2:-1] != []
        and before[-2] in _PARTS
        and (
            asked[-3:] == ["user", ".", "email"]
            or asked[-5:] == ["user", ".", "claims", ".", "email"]
        )
    )


def _quoted(text: str) -> str:
    for sign, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(sign, escaped)
    return f"'{text}'"
