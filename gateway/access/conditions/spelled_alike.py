"""The world of a call in which nobody writes capitals, nor letters in another form than their plain
one: not the caller, nor what they ask about, nor tables, nor a condition.

Law: what equals something still does, and so does what is joined of two, begins or ends with
something.  So a question whether two addresses are one comes out as it should, wherever it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from gateway.access.conditions.edits import TextEdit, edited
from gateway.access.conditions.engine import cel
from gateway.access.conditions.expressions import Token, literal, string_prefix, tokens_of
from gateway.email_address import ENCODED, in_own_letters, with_own_host

LONG_TEXT = 2_048
"""Letters beyond ASCII take time: of a longer text, and of what comes behind MOST_LETTERS of a call
in all, only the case is changed."""
MOST_LETTERS = 4_096
MOST_ENCODED = 128
"""Labels of hosts that begin with `xn--`; more of one call are not read."""

_ESCAPED = re.compile(r"\\.|[^\\]+|\\", re.DOTALL)
_BLANK = re.compile(r"\s")
_EQUALITY = ("==", "!=")
_ASKS_PARTS = frozenset(("startsWith", "endsWith", "contains", "matches"))


class TooMuch(Exception):
    """A call names more than MOST_ENCODED."""


class Alike:
    """Rewrites texts.  `folds`: the name in an address as accounts are told apart, `gross` for
    `groß`."""

    __slots__ = (
        "_encoded",
        "_is_bounded",
        "_known",
        "_letters",
        "folds",
        "folds_more",
        "keeps_escapes",
        "says_address",
        "texts",
    )

    def __init__(
        self, *, folds: bool, is_bounded: bool = True, keeps_escapes: bool = False
    ) -> None:
        """`is_bounded`: a caller wrote what is rewritten.  `keeps_escapes`: any text may be a
        pattern, in which `\\S` is not `\\s`."""
        self.folds = folds
        self.folds_more = False
        """Whether some text reads otherwise with `folds` than without."""
        self.says_address = False
        """Whether one that was changed holds an address, or letters beyond ASCII."""
        self.texts: dict[str, str] = {}
        """Each that was met, and how it is written here."""
        self.keeps_escapes = keeps_escapes
        self._known: dict[int, tuple[Any, Any]] = {}
        self._encoded = 0
        self._is_bounded = is_bounded
        self._letters = 0

    def whole(self, value: Any) -> Any:
        """As `value`, of what several conditions read of one call."""
        if isinstance(value, str):
            return self.text(value)
        known = self._known.get(id(value))
        if known is None:
            # It is held, so that nothing else has its address.
            known = self._known[id(value)] = value, self.value(value)
        return known[1]

    def value(self, value: Any) -> Any:
        """The same object where nothing in it is written otherwise.  Of two keys that are one, what
        is written so already stays, else the first.  Raises TooMuch."""
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
            alike = self.text(key) if isinstance(key, str) else key
            if alike is not key and (alike in mapping or alike in changed):
                is_changed = True
                continue
            changed[alike] = self.value(value)
            is_changed = is_changed or alike is not key or changed[alike] is not value
        return changed if is_changed else mapping

    def name(self, text: str) -> str:
        """What the name before an `@` is, or is asked to begin with."""
        lower, folded = self._lower(text), text.casefold()
        self.folds_more = self.folds_more or lower != folded
        return unicodedata.normalize("NFKC", folded if self.folds else lower)

    def pattern(self, text: str) -> str:
        """Capitals are for `(?i)` to ignore."""
        return in_own_letters(text)

    def _rewritten(self, text: str) -> str:
        if text.isascii():
            return self._decoded(self._lower(text))
        self._letters += len(text)
        if self._is_bounded and (len(text) > LONG_TEXT or self._letters > MOST_LETTERS):
            return self._decoded(self._lower(text))
        plain = unicodedata.normalize("NFKC", text)
        name, at, host = plain.partition("@")
        if at and "@" not in host and not _BLANK.search(name):
            # A host is never folded: `straße.de` and `strasse.de` are two.
            plain_host = unicodedata.normalize("NFKC", self._lower(host))
            return f"{self.name(name)}@{self._decoded(plain_host)}"
        return self._decoded(unicodedata.normalize("NFKC", self._lower(plain)))

    def _lower(self, text: str) -> str:
        if self.keeps_escapes and "\\" in text:
            parts = _ESCAPED.findall(text)
            return "".join(part if part[0] == "\\" else part.lower() for part in parts)
        # At the end of a word a small sigma is written otherwise; a capital has one form.
        return text.lower() if text.isascii() else text.lower().replace("ς", "σ")

    def _decoded(self, text: str) -> str:
        if ENCODED not in text:
            return text
        self._encoded += text.count(ENCODED)
        if self._is_bounded and self._encoded > MOST_ENCODED:
            raise TooMuch
        return in_own_letters(text)


def is_plain(value: Any, *, may_be_part: bool = False) -> bool:
    """Whether no text in it can read otherwise where that matters to an address, or where it
    `may_be_part` of one: quicker than to write it."""
    if isinstance(value, str):
        if not value.isascii() or ENCODED in value:
            return False
        matters = may_be_part or "@" in value or "--" in value
        return not matters or value == value.lower()
    if isinstance(value, Mapping):
        entries = (*value, *value.values())
        return all(is_plain(entry, may_be_part=may_be_part) for entry in entries)
    return not isinstance(value, list | tuple) or all(
        is_plain(item, may_be_part=may_be_part) for item in value
    )


def asks_parts(source: str) -> bool:
    """Whether a condition may ask of an address, or of anything, how it begins, ends or is
    joined."""
    words = tokens_of(source)
    return any(
        word.text == "+" or (word.kind == "name" and word.text in _ASKS_PARTS) for word in words
    )


class CallAlike:
    """What conditions have written anew of one call, in each way."""

    __slots__ = ("_plain", "_ways", "compared", "parts")

    def __init__(self) -> None:
        self._plain: dict[tuple[int, bool], tuple[Any, bool]] = {}
        self._ways: dict[tuple[bool, bool], Alike] = {}
        self.parts = 0
        """Of its body, that were read again."""
        self.compared = 0
        """The same, by what compares texts alone."""

    def way(self, *, folds: bool, keeps_escapes: bool) -> Alike:
        alike = self._ways.get((folds, keeps_escapes))
        if alike is None:
            alike = self._ways[folds, keeps_escapes] = Alike(
                folds=folds, keeps_escapes=keeps_escapes
            )
        return alike

    def is_plain(self, value: Any, *, may_be_part: bool) -> bool:
        """As `is_plain`, of what several conditions read."""
        if isinstance(value, str):
            return is_plain(value, may_be_part=may_be_part)
        known = self._plain.get((id(value), may_be_part))
        if known is None:
            # It is held, so that nothing else has its address.
            known = value, is_plain(value, may_be_part=may_be_part)
            self._plain[id(value), may_be_part] = known
        return known[1]


def condition_alike(source: str, alike: Alike) -> str:
    """The text of a condition with its own texts and the names of its fields written so."""
    words = tokens_of(source)
    may_be_part = asks_parts(source)
    edits = []
    for index, word in enumerate(words):
        before = words[index - 1].text if index else ""
        behind = words[index + 1].text if index + 1 < len(words) else ""
        if word.kind == "name" and before == "." and behind != "(":
            edits.append(TextEdit(word.at, word.at + len(word.text), word.text.lower()))
        text = _text_of(word)
        if text is None:
            continue
        asker = words[index - 2].text if before == "(" else ""
        if asker == "matches":
            written = alike.pattern(text)
        elif asker == "startsWith" and "@" not in text and _names_address(words[: index - 3]):
            written = alike.name(unicodedata.normalize("NFKC", text))
        else:
            written = alike.text(text)
        if written != text:
            edits.append(TextEdit(word.at, word.at + len(word.text), _quoted(written)))
        # Of a method an address has no part.
        is_compared = (before in _EQUALITY or behind in _EQUALITY) and "+" not in (before, behind)
        is_word = text.isalpha() and is_compared
        if may_be_part and not is_word and text != text.lower():
            alike.says_address = True
    return edited(source, edits)


def _names_address(words: list[Token]) -> bool:
    """Whether they end with `user.email` or `user.claims.email`."""
    texts = [word.text for word in words[-5:]]
    return texts[-3:] == ["user", ".", "email"] or texts == ["user", ".", "claims", ".", "email"]


def _text_of(word: Token) -> str | None:
    if word.kind != "string" or "b" in string_prefix(word):
        return None
    text = literal(word)
    if text is not None and "\r" not in text:
        return text
    # With escapes, or ends of lines that the engine takes for one.
    value = cel.compile(word.text).execute({})
    return value if isinstance(value, str) else None


def _quoted(text: str) -> str:
    for sign, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(sign, escaped)
    return f"'{text}'"
