"""Query parameters and headers that a policy reads: once and decodable, or not at all.

Two readers of one repeated or broken parameter may take two different values, so a policy
would judge one and the backend act on the other (contract 8).
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from gateway.model import RawHeaders


def read_query(query: str, names: Collection[str]) -> dict[str, str] | None:
    """The parameters of `names` that are there; None when one is ambiguous.

    `query` is as it came.  A name in another case counts as the same one, because some
    backends take it so, and `;` is refused, because some take it for `&`.
    """
    found: dict[str, str] = {}
    if not query:
        return found
    if ";" in query:
        return None
    wanted = {name.casefold(): name for name in names}
    for pair in query.split("&"):
        if not pair:
            continue
        raw_name, _, raw_value = pair.partition("=")
        name = _form_decoded(raw_name)
        if name is None:
            return None
        asked = wanted.get(name.casefold())
        if asked is None:
            continue
        value = _form_decoded(raw_value)
        if value is None or asked in found or name not in names:
            return None
        found[name] = value
    return found


def read_headers(headers: RawHeaders, names: Collection[str]) -> dict[str, str] | None:
    """The header fields of `names` (lower case) that are there; None when one is ambiguous.

    A name with `_` for `-` counts as the same one: CGI and WSGI backends read it so.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name not in names:
            if name.replace("_", "-") in names:
                return None
            continue
        if name in found:
            return None
        try:
            value = raw_value.decode("utf-8")
        except UnicodeDecodeError:
            return None
        if not value.isprintable():
            return None
        found[name] = value
    return found


def _form_decoded(raw: str) -> str | None:
    """Decoded as `application/x-www-form-urlencoded`; None when it cannot be."""
    if raw.isascii() and "%" not in raw and "+" not in raw:
        return raw
    for at, char in enumerate(raw):
        if char == "%" and not _is_escape(raw[at + 1 : at + 3]):
            return None
    try:
        return _utf8(unquote_to_bytes(raw.replace("+", " ").encode("latin-1")))
    except UnicodeEncodeError:
        return None


def _is_escape(two: str) -> bool:
    return len(two) == 2 and all(char in "0123456789abcdefABCDEF" for char in two)


def _utf8(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text
