"""What the pages say: one catalogue for each language, all of the same keys.

Law: a text comes from files alone.  What a visitor has typed is a value: put in once, never looked
at for placeholders again, and escaped by the template that shows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.model import Call

ENGLISH = "en"
"""Who asks for no language that there is gets this one; it has every key."""
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_RANGE = re.compile(
    r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*|\*)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?"
)
_LONGEST = 1_000
"""Characters of `Accept-Language` that are read."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The catalogue of one language, with English where it has no word."""

    language: str
    sentences: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        return PLACEHOLDER.sub(lambda name: str(values[name[1]]), self.sentences[key])

    def has(self, key: str) -> bool:
        return key in self.sentences

    def moment(self, at: int) -> str:
        """A day and a time that every language reads alike (RFC 3339, without the seconds)."""
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")

    def duration(self, seconds: float) -> str:
        """Whole seconds up to a minute and a half, whole minutes from then on; never too few."""
        whole = max(1, int(-(-seconds // 1)))
        if whole < 90:
            return self("time.second" if whole == 1 else "time.seconds", n=whole)
        return self("time.minutes", n=-(-whole // 60))


class Catalogue:
    def __init__(self, languages: Mapping[str, Mapping[str, str]]) -> None:
        """`languages` holds `ENGLISH`, whole."""
        english = languages[ENGLISH]
        self._texts = {
            language.lower(): Texts(language, {**english, **sentences})
            for language, sentences in languages.items()
        }

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(texts.language for texts in self._texts.values())

    def texts_for(self, call: Call) -> Texts:
        """Of the language that the visitor's browser asks for first (RFC 4647 section 3.4)."""
        asked = ",".join(
            value.decode("latin-1")
            for name, value in call.headers
            if name.lower() == b"accept-language"
        )
        for language in preferred(asked[:_LONGEST]):
            while language:
                if language in self._texts:
                    return self._texts[language]
                language = language.rpartition("-")[0]
        return self._texts[ENGLISH]


def preferred(accept_language: str) -> list[str]:
    """The language ranges in the order of preference, in lower case; what is no range is left
    out, and so is what the visitor does not want (`q=0`)."""
    ranges = []
    for part in accept_language.split(","):
        matched = _RANGE.fullmatch(part)
        if matched is None:
            continue
        quality = float(matched[2] or 1)
        if quality > 0:
            ranges.append((-quality, matched[1].lower()))
    return [language for _, language in sorted(ranges, key=lambda one: one[0])]
