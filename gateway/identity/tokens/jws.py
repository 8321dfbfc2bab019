"""Signed tokens as text: compact JWS (RFC 7515), written and taken apart.

Law: everything here treats its input as hostile.  What two readers could read in two ways is
not read at all: another spelling of base64url, a JSON key that stands twice, `NaN`, numbers
and depths that others cut off.  Nothing is followed and nothing is believed: who asks holds
the key and checks the signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mypy_extensions import mypyc_attr

from gateway import strict_json
from gateway.identity.base64url import decoded, encoded

BYTES_MAX = 8192
"""Longer ones are refused unread."""
HEADER_BYTES_MAX = 2048
"""Of the first part: it is read to find the key, so before anybody knows whose token it is.  What
makes headers long, certificates and keys, is refused."""

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_FORBIDDEN = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip"})


@dataclass(slots=True)
class Header:
    """What the first part of a token says."""

    alg: str
    typ: str | None
    """None where there is none."""
    kid: str


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class ParsedToken:
    """The parts of a token, not yet believed."""

    alg: str
    typ: str | None
    kid: str
    header_part: str
    """The header as it came."""
    signed: bytes
    payload: bytes
    """What is said to be JSON."""
    signature: bytes

    def __init__(
        self,
        alg: str,
        typ: str | None,
        kid: str,
        header_part: str,
        signed: bytes,
        *,
        payload: bytes,
        signature: bytes,
    ) -> None:
        self.alg = alg
        self.typ = typ
        self.kid = kid
        self.header_part = header_part
        self.signed = signed
        self.payload = payload
        self.signature = signature


def parse(
    text: str, bytes_max: int = BYTES_MAX, known: Mapping[str, Header] | None = None
) -> ParsedToken | None:
    """None for what is no JWS with `alg` and `kid`, or brings a key or an extension.

    `known`: headers that were read before, by their text.
    """
    if len(text) > bytes_max:
        return None
    parts = text.split(".", 3)
    if len(parts) != 3 or len(parts[0]) > HEADER_BYTES_MAX:
        return None
    header_part, payload_part, signature_part = parts
    header = None if known is None else known.get(header_part)
    if header is None and (header := _header(header_part)) is None:
        return None
    payload, signature = decoded(payload_part), decoded(signature_part)
    if not payload or signature is None:
        return None
    # It is ASCII: both parts were decoded, now or when the header was read.
    both = text[: len(header_part) + 1 + len(payload_part)].encode("ascii")
    return ParsedToken(
        header.alg, header.typ, header.kid, header_part, both, payload=payload, signature=signature
    )


def _header(part: str) -> Header | None:
    members = json_object(decoded(part))
    if members is None or not _FORBIDDEN.isdisjoint(members):
        return None
    alg, typ, kid = members.get("alg"), members.get("typ"), members.get("kid")
    if not (isinstance(alg, str) and isinstance(kid, str)):
        return None
    if not isinstance(typ, str) and "typ" in members:
        return None
    return Header(alg, typ, kid)


def short_type(typ: str) -> str:
    """RFC 7515 section 4.1.9: its case says nothing, nor does `application/`."""
    return typ.lower().removeprefix("application/")


def is_compact(text: str) -> bool:
    """Whether it has the form of one, whatever its parts hold."""
    return _FORM.fullmatch(text) is not None


def signed(header: dict[str, Any], payload: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """The token; `sign` gives the signature of its first two parts."""
    text = f"{_part(header)}.{_part(payload)}"
    return f"{text}.{encoded(sign(text.encode()))}"


def json_object(raw: bytes | None) -> dict[str, Any] | None:
    """The JSON object in a part of a token, if everybody would read it in the same way."""
    if raw is None:
        return None
    try:
        value = strict_json.loads(raw, encodable=True)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _part(value: dict[str, Any]) -> str:
    return encoded(json.dumps(value, separators=(",", ":")).encode())
