"""Mail templates: a template and its values make one message of text and HTML.

A template is `NAME.txt` (its first line is `Subject: …`, then an empty line) and, if there is
an HTML part, `NAME.html`.  An operator's folder replaces a template as a whole: a translated
text never travels with an HTML part in another language.

Law: the text of a template comes from files alone.  What a stranger may have chosen (an
e-mail address, a User-Agent) is a value: put in once, never looked at for placeholders again,
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


class MailTemplate(StrEnum):
    """Every mail that is sent; the value is the name of its files."""

    VERIFY = "verify"
    REGISTERED_ALREADY = "registered_already"
    RESET = "reset"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a file's name)
    KNOWN_PASSWORD = "known_password"  # noqa: S105 (a file's name)
    EMAIL_CHANGE_CONFIRM = "address_confirm"
    EMAIL_CHANGE_REQUESTED = "address_asked"
    EMAIL_CHANGED = "address_changed"
    ACCOUNT_DELETED = "account_deleted"
    NEW_DEVICE = "new_device"
    INVITATION = "invitation"
    KEY_CREATED = "key_created"
    PASSKEY_REFUSED = "passkey_refused"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    FACTORS_RESET = "factors_reset"
    RECOVERY_CODES_MADE = "recovery_codes_made"
    RECOVERY_CODE_USED = "recovery_code_used"
    PROVIDER_LINKED = "provider_linked"
    PROVIDER_UNLINKED = "provider_unlinked"


_ALWAYS = frozenset({"site", "public_url"})
_LINK = frozenset({"link", "token", "expires"})
FIELDS: dict[MailTemplate, frozenset[str]] = {
    MailTemplate.VERIFY: _ALWAYS | _LINK,
    MailTemplate.REGISTERED_ALREADY: _ALWAYS,
    MailTemplate.RESET: _ALWAYS | _LINK,
    MailTemplate.PASSWORD_CHANGED: _ALWAYS | {"time", "ways"},
    MailTemplate.KNOWN_PASSWORD: _ALWAYS | {"time"},
    MailTemplate.EMAIL_CHANGE_CONFIRM: _ALWAYS | _LINK,
    MailTemplate.EMAIL_CHANGE_REQUESTED: _ALWAYS | {"time"},
    MailTemplate.EMAIL_CHANGED: _ALWAYS | {"time"},
    MailTemplate.ACCOUNT_DELETED: _ALWAYS | {"time"},
    MailTemplate.NEW_DEVICE: _ALWAYS | {"time", "address", "device"},
    MailTemplate.INVITATION: _ALWAYS | _LINK,
    MailTemplate.KEY_CREATED: _ALWAYS | {"time", "key"},
    MailTemplate.PASSKEY_REFUSED: _ALWAYS | {"time", "passkey"},
    MailTemplate.FACTOR_ADDED: _ALWAYS | {"time", "factor"},
    MailTemplate.FACTOR_REMOVED: _ALWAYS | {"time", "factor"},
    MailTemplate.FACTORS_RESET: _ALWAYS | {"time"},
    MailTemplate.RECOVERY_CODES_MADE: _ALWAYS | {"time"},
    MailTemplate.RECOVERY_CODE_USED: _ALWAYS | {"time", "left"},
    MailTemplate.PROVIDER_LINKED: _ALWAYS | {"time", "provider"},
    MailTemplate.PROVIDER_UNLINKED: _ALWAYS | {"time", "provider"},
}
"""What a template may name.  `link` is the whole link, `token` the secret in it."""
_OF_BEFORE = {"ways": "what the account page lists"}
"""What stands for a value that a node of an earlier version has not written."""


class InvalidMail(Exception):
    """A template is wrong, or a value may not stand in a mail."""


@dataclass(frozen=True, slots=True)
class RenderedMail:
    subject: str
    text: str
    html: str | None


@dataclass(frozen=True, slots=True)
class _ParsedTemplate:
    subject: string.Template
    text: string.Template
    html: string.Template | None


class MailTemplates:
    """Every template, read once and checked whole."""

    def __init__(
        self, parsed: Mapping[MailTemplate, _ParsedTemplate], always: Mapping[str, str]
    ) -> None:
        self._parsed = parsed
        self._always = dict(always)

    @classmethod
    def load(cls, folders: Sequence[Path], *, site: str, public_url: str) -> MailTemplates:
        """For each template the first of `folders` that has its text, else the shipped one.

        Raises InvalidMail with every problem of every template.
        """
        parsed: dict[MailTemplate, _ParsedTemplate] = {}
        problems: list[str] = []
        for template in MailTemplate:
            folder = next((f for f in folders if (f / f"{template}.txt").is_file()), SHIPPED)
            try:
                parsed[template] = _read(folder, template)
            except InvalidMail as problem:
                problems.append(str(problem))
        if problems:
            raise InvalidMail("\n".join(problems))
        return cls(parsed, {"site": site, "public_url": public_url})

    def render(self, template: MailTemplate, values: Mapping[str, str]) -> RenderedMail:
        """Fill the template.  Raises InvalidMail where a value is missing or may not stand in a
        mail."""
        parsed = self._parsed[template]
        all_values = {**_OF_BEFORE, **values, **self._always}
        if missing := FIELDS[template] - all_values.keys():
            raise InvalidMail(f"{template}: no value for {', '.join(sorted(missing))}")
        for name, value in all_values.items():
            _check_value(name, value)
        escaped = {name: html.escape(value) for name, value in all_values.items()}
        return RenderedMail(
            subject=parsed.subject.substitute(all_values),
            text=parsed.text.substitute(all_values),
            html=parsed.html.substitute(escaped) if parsed.html else None,
        )


def _check_value(name: str, value: str) -> None:
    """Raises InvalidMail for what could end a line, and so begin a header, or is too long."""
    if len(value) > _LONGEST_VALUE:
        raise InvalidMail(f"{name} is longer than {_LONGEST_VALUE} characters")
    # Cc: controls, CR and LF among them.  Zl, Zp: what some readers break a line at.
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
        raise InvalidMail(f"{name} holds a control character")


def _read(folder: Path, template: MailTemplate) -> _ParsedTemplate:
    path = folder / f"{template}.txt"
    head, _, text = _text_of(path).partition("\n")
    name, colon, subject = head.partition(":")
    if name.strip().lower() != "subject" or not colon or not subject.strip():
        raise InvalidMail(f"{path}:1: the first line must be `Subject: …`")
    if not text.startswith("\n") or not text.strip():
        raise InvalidMail(f"{path}:2: an empty line and the text must follow the subject")
    page = folder / f"{template}.html"
    return _ParsedTemplate(
        subject=_template(path, template, subject.strip()),
        text=_template(path, template, text.lstrip("\n")),
        html=_template(page, template, _text_of(page)) if page.is_file() else None,
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidMail(f"{path}: cannot be read as UTF-8 text") from error


def _template(path: Path, template: MailTemplate, text: str) -> string.Template:
    template_text = string.Template(text)
    if not template_text.is_valid():
        raise InvalidMail(f"{path}: a `$` that begins no name; write `$$` for the sign itself")
    if unknown := set(template_text.get_identifiers()) - FIELDS[template]:
        fields = ", ".join(f"${name}" for name in sorted(FIELDS[template]))
        raise InvalidMail(f"{path}: ${sorted(unknown)[0]} is unknown here; known: {fields}")
    return template_text
