"""What an e-mail address is, and which spellings of it are one account.

Law: two spellings are one account only where mail to both comes to one mailbox, as far as that
can be known without asking.  The host is compared as the DNS knows it (its ASCII form, RFC
5891); the name before the `@` in NFKC and case-folded, as nobody tells `Ann` from `ann`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

MAX_EMAIL_LENGTH = 254
ENCODED = "xn--"
"""How a label of a host begins that stands for letters beyond ASCII (RFC 5890)."""
_ENCODED_LABEL = re.compile(r"(?i:xn--)[A-Za-z0-9-]{1,59}")


def normalize_email(text: str) -> str | None:
    """What tells accounts apart; None for what is no address.

    Sign-in, throttling and registration all ask this, so that no spelling of an address has
    a counter or an account of its own.
    """
    text = text.strip()
    # The cap comes first: what checks a host takes quadratic time (CVE-2024-3651).
    if not 3 <= len(text) <= MAX_EMAIL_LENGTH:
        return None
    # Stripped again: `´` is a space and an accent by then, and the key of a key is itself.
    name, at, host = unicodedata.normalize("NFKC", text).strip().partition("@")
    # "a@evil@company" was an address of two houses once (CVE-2026-40574).
    if not (name and at and host) or "@" in host or not _storable(name + host):
        return None
    # As it was typed, where that can be told: IDNA maps `ϲ` to `σ`, as mail does, NFKC to `ς`.
    typed_name, typed_at, typed_host = text.partition("@")
    ascii_host = _ascii_host(typed_host if typed_name and typed_at else host)
    if ascii_host is None:
        return None
    # Folding can leave what NFKC would compose again: once more makes it stable.
    return f"{unicodedata.normalize('NFKC', name.casefold())}@{ascii_host}"


def require_normalized(email: str) -> str:
    """The same of an address that was checked before.  Raises ValueError for what is none."""
    normalized_email = normalize_email(email)
    if normalized_email is None:
        raise ValueError("not an e-mail address")
    return normalized_email


def is_same_mailbox(email: str, other: str) -> bool:
    """Whether two spellings of one account are surely one mailbox: they differ in the case of
    letters alone.  A mail server may well tell `gross` from `groß`, which are one account here."""
    return _plain_name(email) == _plain_name(other)


@lru_cache(maxsize=1024)
def with_own_host(address: str) -> str:
    """The address with its host in lower case and in the letters in which people read it, as mail
    takes it (UTS 46); as it is where that is no host."""
    name, at, host = address.rpartition("@")
    if host.isascii() and ENCODED not in host.lower():
        return f"{name}{at}{host.lower()}"
    # What is longer is no host, and takes quadratic time (CVE-2024-3651); one sign may be many.
    if len(unicodedata.normalize("NFKC", host)) > MAX_EMAIL_LENGTH:
        return address
    validated = _validated(f"a@{host}", test_environment=True)
    return address if validated is None else f"{name}{at}{validated.domain.lower()}"


def in_own_letters(text: str) -> str:
    """With what each `xn--…` in it stands for (RFC 3492), in lower case, wherever it stands."""
    if ENCODED not in text.lower():
        return text
    return _ENCODED_LABEL.sub(lambda label: _decoded(label[0].lower()), text)


@lru_cache(maxsize=1024)
def _decoded(label: str) -> str:
    try:
        letters = label.removeprefix(ENCODED).encode().decode("punycode").lower()
    except UnicodeError:
        return label
    return letters if _storable(letters) else label


def display_email(text: str) -> str | None:
    """The address as it was typed, without the spaces around it; None where it is not one
    that mail could reach (RFC 5321, RFC 6531; the DNS is not asked)."""
    text = text.strip()
    if normalize_email(text) is None:
        return None
    return text if _validated(text) is not None else None


def normalize_domain(text: str) -> str | None:
    """A domain as the addresses of accounts have it (its ASCII form); None for what is none."""
    host = text.strip()
    if not 1 <= len(host) <= MAX_EMAIL_LENGTH or "@" in host:
        return None
    validated = _validated(f"a@{host}", test_environment=True)
    return None if validated is None else validated.ascii_domain.lower()


def _ascii_host(host: str) -> str | None:
    """Never case-folded: `straße.de` and `strasse.de` are two hosts (RFC 5894 section 4.4)."""
    if host.isascii():
        return host.lower()
    validated = _validated(f"a@{host}", test_environment=True)
    return None if validated is None else validated.ascii_domain


def _validated(email: str, *, test_environment: bool = False) -> ValidatedEmail | None:
    # Here, as most commands meet no address: it takes as long to import as the rest of settings.
    from email_validator import EmailNotValidError, validate_email

    try:
        return validate_email(email, check_deliverability=False, test_environment=test_environment)
    except EmailNotValidError:
        return None


def _plain_name(email: str) -> str:
    # At the end of a word a small sigma is written otherwise; a capital has one form.
    return unicodedata.normalize("NFC", email.strip().partition("@")[0]).lower().replace("ς", "σ")


def _storable(text: str) -> bool:
    """Whether every character has a place in UTF-8 text and none is a control character."""
    return not any(unicodedata.category(c) in ("Cs", "Cc") for c in text)
