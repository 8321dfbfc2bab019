"""Who calls, as a backend is told: the fields of a route, by name, and their values of a caller.

Law: what could be taken for something else is not sent at all: a value with a control character,
one that white space begins or ends where it goes out raw, a list of which an entry holds the
separator and nothing can mark it.  What is left out stays out: no client's own field of such a
name passes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from gateway.access.attributes import attributes_of, tenant_of, tenant_role_of, tenants_of
from gateway.access.field_names import folded_text
from gateway.model import Principal

IdentityValue = Callable[[Principal], Any]
"""Text, a number, a truth value, a list or a table; None where the caller has no such thing."""

JSON_LIST = "json"
"""In place of a separator."""

# Lone surrogates are no text, and U+2028 and U+2029 end a line for some readers.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
PRINTABLE = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"
"""What `quote` leaves as it is, besides letters, digits and "_.-~": printable ASCII less `%`."""
_ATTR_CHAR = "!#$&+^`|"
_RENDERED_MAX = 8


class Encoding(StrEnum):
    """How a value becomes the bytes of a field."""

    PERCENT = "percent"
    """Printable ASCII as it is; all else, blanks and `%` percent-encoded."""
    RFC8187 = "rfc8187"
    """An ext-value, `UTF-8''na%C3%AFve` (RFC 8187 section 3.2.1)."""
    UTF8 = "utf8"
    """The bytes themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class IdentityField:
    name: str
    value: IdentityValue
    separator: str = ","
    """Between the entries of a list; or JSON_LIST."""
    encoding: Encoding = Encoding.PERCENT
    plain: re.Pattern[str] | None = field(init=False)
    """Of texts, alone or in a list, that are sent as they are; None where none is.  Nearly all
    are, and to look at each of their signs costs seven times as much."""

    def __post_init__(self) -> None:
        plain = None
        if self.separator != JSON_LIST and self.encoding is not Encoding.RFC8187:
            signs = (
                chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%" + self.separator
            )
            plain = re.compile(f"[{''.join(map(re.escape, signs))}]+")
        object.__setattr__(self, "plain", plain)

    def text(self, principal: Principal) -> str | None:
        """What is sent of this caller; None where the field is left out."""
        value = self.value(principal)
        if value is None:
            return None
        if self.plain is not None:
            if isinstance(value, str):
                if self.plain.fullmatch(value):
                    return value
            elif isinstance(value, tuple) and all(map(self.plain.fullmatch, value)):
                # Roles: texts, every one.
                return self.separator.join(value)
            elif isinstance(value, bool):
                return "true" if value else "false"
        if any(_CONTROL.search(text) for text in _texts_in(value)):
            return None
        if self.separator == JSON_LIST:
            return self._as_json(value)
        if not isinstance(value, list | tuple):
            text = _scalar_text(value)
            return self._encoded(text) if text else None
        return self._joined([_scalar_text(entry) for entry in value])

    def _joined(self, entries: list[str | None]) -> str | None:
        texts = [entry for entry in entries if entry is not None]
        if len(texts) < len(entries):
            return None
        marks = self.separator.strip() or self.separator
        if self.encoding is Encoding.PERCENT:
            safe = "".join(char for char in PRINTABLE if char not in marks)
            return self.separator.join(quote(text, safe=safe) for text in texts)
        if any(mark in text for text in texts for mark in marks):
            return None
        return self._encoded(self.separator.join(texts)) if texts else ""

    def _as_json(self, value: Any) -> str | None:
        """With the escapes of JSON in place of percent-encoding."""
        if value is None:
            return None
        raw = self.encoding is Encoding.UTF8
        try:
            text = json.dumps(value, ensure_ascii=not raw, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return None
        return text if self.encoding is Encoding.PERCENT else self._encoded(text)

    def _encoded(self, text: str) -> str | None:
        if self.encoding is Encoding.PERCENT:
            return quote(text, safe=PRINTABLE)
        if self.encoding is Encoding.RFC8187:
            return "UTF-8''" + quote(text, safe=_ATTR_CHAR)
        return text if text == text.strip() else None


@dataclass(frozen=True, slots=True, eq=False)
class IdentityHeaders:
    """The fields that tell one route's backend who calls."""

    fields: tuple[IdentityField, ...]
    names: frozenset[bytes] = field(init=False)
    """Folded: what came under one of them does not pass."""

    def __post_init__(self) -> None:
        names = frozenset(folded_text(one.name) for one in self.fields)
        object.__setattr__(self, "names", names)

    def texts(self, principal: Principal) -> Iterator[tuple[str, str]]:
        """Name and value of each field that is sent of this caller."""
        for one in self.fields:
            text = one.text(principal)
            if text is not None:
                yield one.name, text

    def lines(self, principal: Principal) -> bytes:
        """The same as lines joined by CRLF, rendered once and kept in the principal."""
        rendered = principal.identity_lines
        if rendered is None:
            rendered = principal.identity_lines = {}
        lines = rendered.get(self)
        if lines is None:
            if len(rendered) >= _RENDERED_MAX:  # of configurations that are gone, too
                rendered.clear()
            lines = rendered[self] = self.rendered(principal)
        return lines

    def rendered(self, principal: Principal) -> bytes:
        lines = []
        for one in self.fields:
            text = one.text(principal)
            if text is not None:
                lines.append(f"{one.name}: {text}")
        return "\r\n".join(lines).encode()


def user_field(path: str) -> IdentityValue:
    """One of USER_FIELDS; of a table, such as the claims, `claims.a.b`."""
    name, *keys = path.split(".")
    table = TABLES.get(name)
    if table is None:
        return _USER[name]

    def claim(principal: Principal) -> Any:
        value: Any = table(principal)
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    return claim


def scopes_of(principal: Principal) -> tuple[str, ...]:
    """What a token was granted, or what a key is limited to; nothing where neither is said."""
    return principal.granted_scopes or principal.scopes or ()


def verified_email(principal: Principal) -> str | None:
    """None where nobody has shown that they read its mail: whoever registers can name any."""
    return principal.email if principal.email_verified else None


def account_name(principal: Principal) -> str:
    """The name under which a backend keeps an account of its own for this caller."""
    return verified_email(principal) or principal.subject


def _named_or(claim: str) -> IdentityValue:
    """A claim that is text, else the account's name."""

    def name(principal: Principal) -> str:
        value = principal.claims.get(claim)
        return value if isinstance(value, str) and value else account_name(principal)

    return name


def _grafana_role(principal: Principal) -> str:
    """The highest of the roles that Grafana has for an organisation, in its spelling.

    Never none: Grafana leaves the role as it was where it is told nothing, and who is no
    administrator any more would stay one.
    """
    roles = {role.lower() for role in principal.roles}
    return next((role for role in ("Admin", "Editor") if role.lower() in roles), "Viewer")


_USER: Mapping[str, IdentityValue] = {
    "id": lambda principal: principal.subject,
    "email": lambda principal: principal.email,
    "email_verified": lambda principal: principal.email_verified,
    "roles": lambda principal: principal.roles,
    "session_id": lambda principal: principal.session_id,
    "auth_time": lambda principal: principal.auth_time,
    "issuer": lambda principal: principal.issuer,
    "scopes": scopes_of,
    "tenant": tenant_of,
    "tenant_role": tenant_role_of,
}
LISTS = ("roles", "scopes")
"""Fields of the caller that are lists of texts."""
TABLES: Mapping[str, Callable[[Principal], Mapping[str, Any]]] = {
    "claims": lambda principal: principal.claims,
    "attributes": attributes_of,
    "tenants": tenants_of,
}
"""Fields of the caller that have fields of their own."""
USER_FIELDS = (*_USER, *TABLES)


def _preset(*fields: tuple[str, IdentityValue]) -> IdentityHeaders:
    return IdentityHeaders(tuple(IdentityField(*one, encoding=Encoding.UTF8) for one in fields))


AUTHGATE = IdentityHeaders(
    (
        IdentityField("X-Auth-User-Id", _USER["id"]),
        IdentityField("X-Auth-Email", _USER["email"]),
        IdentityField("X-Auth-Roles", _USER["roles"]),
        IdentityField("X-Auth-Session-Id", _USER["session_id"]),
        IdentityField("X-Auth-Tenant", tenant_of),
        IdentityField("X-Auth-Tenant-Role", tenant_role_of),
    )
)
PRESETS: Mapping[str, IdentityHeaders] = {
    "authgate": AUTHGATE,
    "oauth2-proxy": _preset(
        ("X-Forwarded-User", _USER["id"]),
        ("X-Forwarded-Email", verified_email),
        ("X-Forwarded-Groups", _USER["roles"]),
        ("X-Forwarded-Preferred-Username", _named_or("preferred_username")),
    ),
    "authelia": _preset(
        ("Remote-User", account_name),
        ("Remote-Groups", _USER["roles"]),
        ("Remote-Email", verified_email),
        ("Remote-Name", _named_or("name")),
    ),
    "grafana": _preset(("X-WEBAUTH-USER", account_name), ("X-WEBAUTH-ROLE", _grafana_role)),
}


def _scalar_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN
        return repr(value)
    return None


def _texts_in(value: Any) -> Iterator[str]:
    """Every text within, names too.  A claim may be nested deeper than Python recurses."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            waiting += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
