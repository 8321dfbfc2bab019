"""Letters: a template, and the values that fill it, make one message of text and HTML.

A template is `NAME.txt` (its first line is `Subject: …`, then an empty line) and, if there is
an HTML part, `NAME.html`.  An operator's folder replaces a template as a whole: a translated
text never travels with an HTML part in another language.

Law: the text of a template comes from files alone.  What a stranger may have chosen (an
address, a User-Agent) is a value: put in once, never looked at for placeholders again,
escaped in HTML, and refused where it holds a control character.
"""

from __future__ import annotations

import html
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SHIPPED = Path(__file__).parent / "shipped"
_LONGEST_VALUE = 2048


class Template(StrEnum):
    """Every letter there is; the value is the name of its files."""

    VERIFY = "verify"
    REGISTERED_ALREADY = "registered_already"
    RESET = "reset"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a file's name)
    ADDRESS_CONFIRM = "address_confirm"
    ADDRESS_ASKED = "address_asked"
    ADDRESS_CHANGED = "address_changed"
    NEW_DEVICE = "new_device"


_ALWAYS = frozenset({"site", "public_url"})
_LINK = frozenset({"link", "token", "expires"})
FIELDS: dict[Template, frozenset[str]] = {
    Template.VERIFY: _ALWAYS | _LINK,
    Template.REGISTERED_ALREADY: _ALWAYS,
    Template.RESET: _ALWAYS | _LINK,
    Template.PASSWORD_CHANGED: _ALWAYS | {"time"},
    Template.ADDRESS_CONFIRM: _ALWAYS | _LINK,
    Template.ADDRESS_ASKED: _ALWAYS | {"time"},
    Template.ADDRESS_CHANGED: _ALWAYS | {"time"},
    Template.NEW_DEVICE: _ALWAYS | {"time", "address", "device"},
}
"""What a template may name.  `link` is the whole link, `token` the secret in it."""


class BadLetter(Exception):
    """A template is wrong, or a value may not stand in a letter."""


@dataclass(frozen=True, slots=True)
class Letter:
    subject: str
    text: str
    html: str | None


@dataclass(frozen=True, slots=True)
class _Pattern:
    subject: string.Template
    text: string.Template
    html: string.Template | None


class Letters:
    """Every template, read once and checked whole."""

    def __init__(self, patterns: Mapping[Template, _Pattern], always: Mapping[str, str]) -> None:
        self._patterns = patterns
        self._always = dict(always)

    @classmethod
    def load(cls, folders: Sequence[Path], *, site: str, public_url: str) -> Letters:
        """For each template the first of `folders` that has its text, else the shipped one.

        Raises BadLetter with every problem of every template.
        """
        patterns: dict[Template, _Pattern] = {}
        problems: list[str] = []
        for template in Template:
            folder = next((f for f in folders if (f / f"{template}.txt").is_file()), SHIPPED)
            try:
                patterns[template] = _read(folder, template)
            except BadLetter as problem:
                problems.append(str(problem))
        if problems:
            raise BadLetter("\n".join(problems))
        return cls(patterns, {"site": site, "public_url": public_url})

    def write(self, template: Template, values: Mapping[str, str]) -> Letter:
        """Raises BadLetter when a value is missing or may not stand in a letter."""
        pattern = self._patterns[template]
        filled = {**values, **self._always}
        if missing := FIELDS[template] - filled.keys():
            raise BadLetter(f"{template}: no value for {', '.join(sorted(missing))}")
        for name, value in filled.items():
            _check_value(name, value)
        escaped = {name: html.escape(value) for name, value in filled.items()}
        return Letter(
            subject=pattern.subject.substitute(filled),
            text=pattern.text.substitute(filled),
            html=pattern.html.substitute(escaped) if pattern.html else None,
        )


def _check_value(name: str, value: str) -> None:
    """Raises BadLetter for what could end a line, and so begin a header, or is too long."""
    if len(value) > _LONGEST_VALUE:
        raise BadLetter(f"{name} is longer than {_LONGEST_VALUE} characters")
    # Cc: controls, CR and LF among them.  Zl, Zp: what some readers break a line at.
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
        raise BadLetter(f"{name} holds a control character")


def _read(folder: Path, template: Template) -> _Pattern:
    path = folder / f"{template}.txt"
    head, _, text = _text_of(path).partition("\n")
    name, colon, subject = head.partition(":")
    if name.strip().lower() != "subject" or not colon or not subject.strip():
        raise BadLetter(f"{path}:1: the first line must be `Subject: …`")
    if not text.startswith("\n") or not text.strip():
        raise BadLetter(f"{path}:2: an empty line and the text must follow the subject")
    page = folder / f"{template}.html"
    return _Pattern(
        subject=_template(path, template, subject.strip()),
        text=_template(path, template, text.lstrip("\n")),
        html=_template(page, template, _text_of(page)) if page.is_file() else None,
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadLetter(f"{path}: cannot be read as UTF-8 text") from error


def _template(path: Path, template: Template, text: str) -> string.Template:
    made = string.Template(text)
    if not made.is_valid():
        raise BadLetter(f"{path}: a `$` that begins no name; write `$$` for the sign itself")
    if unknown := set(made.get_identifiers()) - FIELDS[template]:
        known = ", ".join(f"${name}" for name in sorted(FIELDS[template]))
        raise BadLetter(f"{path}: ${sorted(unknown)[0]} is unknown here; known: {known}")
    return made
