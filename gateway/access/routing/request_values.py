"""Query parameters and headers that a policy reads: once and decodable, or not at all.

Two readers of one repeated or broken parameter may take two different values, so a policy
would decide on one and the backend act on the other.  Law: what was read reaches the backend, under
that name alone, and nothing beside it that a backend may take for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import unquote_to_bytes

from gateway.access.field_names import folded
from gateway.model import RawHeaders

# What `Connection` names in every handshake; the gateway says it to the backend itself.
_HANDSHAKE = b"upgrade"


class QueryParameters:
    """The query parameters of some names, as a policy may read them."""

    __slots__ = ("_folded", "names")

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self._folded = {_query_folded(name): name for name in self.names}

    def read(self, query: str) -> dict[str, str] | None:
        """Those that are there; None when one is ambiguous.

        `query` is as it came.  A name in another case, with `.`, ` ` or `[` for `_`, or with
        `[…]` behind it counts as the same one, because some backends take it so, and `;` is
        refused, because some take it for `&`.
        """
        values: dict[str, str] = {}
        if not query:
            return values
        if ";" in query:
            return None
        for pair in query.split("&"):
            if not pair:
                continue
            raw_name, _, raw_value = pair.partition("=")
            name = _form_decoded(raw_name)
            if name is None:
                return None
            asked = self._folded.get(_query_folded(name))
            if asked is None and "[" in name:
                asked = self._folded.get(_query_folded(name.partition("[")[0]))
            if asked is None:
                continue
            value = _form_decoded(raw_value)
            if value is None or asked in values or name not in self.names:
                return None
            values[name] = value
        return values


class HeaderFields:
    """The header fields of some names (lower case), as a policy may read them."""

    __slots__ = ("_folded", "names")

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self._folded = {folded(name.encode("latin-1", "replace")): name for name in self.names}

    def read(self, headers: RawHeaders) -> dict[str, str] | None:
        """Those that are there; None when one is ambiguous.

        A name that is the same once folded counts as the same one, and one that `Connection`
        names is refused: it would be taken away on its way (RFC 9110 section 7.6.1).
        """
        values: dict[str, str] = {}
        for raw_name, raw_value in headers:
            known = folded(raw_name)
            name = self._folded.get(known)
            if name is None:
                if known == b"connection" and _names_one(raw_value, self._folded):
                    return None
                continue
            if name in values or raw_name.lower() != name.encode("latin-1"):
                return None
            try:
                value = raw_value.decode("utf-8")
            except UnicodeDecodeError:
                return None
            if not value.isprintable():
                return None
            values[name] = value
        return values


def reads_alike(body: object, paths: Collection[str]) -> bool:
    """Whether the fields at `paths` (`a.b`) of a JSON body are known by one name each, and lie in
    objects.

    Some backends take a field in any case, and of several the last: what the policy read, or
    did not find, would be another's.  A list where an object is expected, and a number that no
    condition can hold, would be no field to a rule that asks `has(…)`, and one to a backend.
    """
    for path in paths:
        value = body
        for key in path.split("."):
            if value is None:
                break
            if not isinstance(value, Mapping):
                return False
            same = key.casefold()
            if any(other.casefold() == same and other != key for other in value):
                return False
            value = value.get(key)
        if isinstance(value, int) and abs(value) >= 2**63:
            return False
    return True


def field_at(body: object, path: str) -> object:
    """The field at `path` (`a.b`) of a JSON body; None where there is none."""
    for key in path.split("."):
        body = body.get(key) if isinstance(body, Mapping) else None
    return body


_QUERY_FOLDED = str.maketrans(". [", "___")


def _query_folded(name: str) -> str:
    return name.casefold().translate(_QUERY_FOLDED)


def _names_one(options: bytes, wanted: Collection[bytes]) -> bool:
    """Whether a `Connection` field names one of the fields."""
    named = (folded(option.strip(b" \t")) for option in options.split(b","))
    return any(name in wanted and name != _HANDSHAKE for name in named)


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
