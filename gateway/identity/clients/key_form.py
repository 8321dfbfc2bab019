"""The form of an API key, and of what limits it.

A key is its prefix (`ag_` of a client, `agp_` of a person), 43 letters and digits of 256 random
bits, and 6 that are their checksum: a secret scanner finds it in a text, and a slip of the hand is
refused without asking SQL.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from collections.abc import Iterable

CLIENT_PREFIX = "ag_"
PERSONAL_PREFIX = "agp_"
PREFIXES = (CLIENT_PREFIX, PERSONAL_PREFIX)

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_DIGITS = 43
_CHECK_DIGITS = 6
_FORM = re.compile(r"agp?_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
_SLIPS = 4
"""Letters that are lost where somebody copies one by hand; another sign may be in it too."""
_BEGINS = r"(?<![0-9A-Za-z])"
_WHOLE = re.compile(
    rf"{_BEGINS}agp?_[0-9A-Za-z_-]{{{_SECRET_DIGITS + _CHECK_DIGITS - _SLIPS},}}", re.ASCII
)
# Ids of ours have 22 letters, with whatever they begin.
_PART = re.compile(rf"{_BEGINS}agp?_[0-9A-Za-z_-]{{22,}}", re.ASCII)
SCOPE = re.compile(r"[A-Za-z0-9._:*@-]{1,128}", re.ASCII)
"""An action, such as `orders:read` or `orders:*`."""


def looks_like_key(text: str) -> bool:
    """Whether a bearer credential is to be read as an API key at all."""
    return text.startswith(PREFIXES)


def key_in(text: str) -> str | None:
    """The whole key that stands somewhere in a text, also with a slip of the hand in it where a
    word begins: `flag_` is the end of one."""
    for found in _FORM.finditer(text):
        if well_formed(found[0]):
            return found[0]
    whole = _WHOLE.search(text)
    return None if whole is None else whole[0]


def may_be_part_of_key(text: str) -> bool:
    """Whether a text holds what is too long for most ids and begins as a key does."""
    return _PART.search(text) is not None


def is_personal(text: str) -> bool:
    return text.startswith(PERSONAL_PREFIX)


def new_key(prefix: str = CLIENT_PREFIX) -> str:
    """256 random bits with their checksum."""
    secret = _digits(int.from_bytes(secrets.token_bytes(32), "big"), _SECRET_DIGITS)
    return f"{prefix}{secret}{_checksum(secret)}"


def well_formed(text: str) -> bool:
    match = _FORM.fullmatch(text)
    return match is not None and _checksum(match[1]) == match[2]


def limit_text(entries: Iterable[str] | None) -> str | None:
    """How SQL holds the roles, the scopes or the routes of a key; NULL where nothing limits it."""
    return None if entries is None else json.dumps(sorted(set(entries)))


def limit_of(text: str | None) -> tuple[str, ...] | None:
    """What `limit_text` gave."""
    return None if text is None else tuple(json.loads(text))


def limited_roles(
    held: tuple[str, ...], limit: tuple[str, ...] | None
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The roles of a key, and those of its account where they are more: `Principal.roles` and
    `held_roles`."""
    if limit is None:
        return held, None
    roles = tuple(role for role in held if role in limit)
    return roles, None if len(roles) == len(held) else held


def _checksum(secret: str) -> str:
    """CRC-32 in base 62: it finds slips, and guards against nobody."""
    return _digits(zlib.crc32(secret.encode("ascii")), _CHECK_DIGITS)


def _digits(number: int, width: int) -> str:
    digits = ""
    while len(digits) < width:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
