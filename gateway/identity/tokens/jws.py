"""Signed tokens as text: compact JWS (RFC 7515), written and taken apart.

Law: everything here treats its input as hostile.  What two readers could read in two ways is
not read at all: another spelling of base64url, a JSON key that stands twice, `NaN`, numbers
and depths that others cut off.  Nothing is followed and nothing is believed: who asks holds
the key and checks the signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
class ParsedToken:
    """The parts of a token, not yet believed.  `payload` is the part as it came."""

    alg: str
    typ: str | None
    """None where the header has none."""
    kid: str
    signed: bytes
    payload: str
    signature: bytes


def parse(text: str, bytes_max: int = BYTES_MAX) -> ParsedToken | None:
    """None for what is no JWS with `alg` and `kid`, or brings a key or an extension."""
    if len(text) > bytes_max:
        return None
    match = _FORM.fullmatch(text)
    if match is None or match.end(1) > HEADER_BYTES_MAX:
        return None
    header, signature = json_object(match[1]), decoded(match[3])
    if header is None or signature is None or not _FORBIDDEN.isdisjoint(header):
        return None
    alg, typ, kid = header.get("alg"), header.get("typ"), header.get("kid")
    if not (isinstance(alg, str) and isinstance(kid, str)):
        return None
    if not isinstance(typ, str) and "typ" in header:
        return None
    return ParsedToken(alg, typ, kid, text[: match.end(2)].encode(), match[2], signature)


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


def json_object(part: str) -> dict[str, Any] | None:
    """The JSON object in a part of a token, if everybody would read it in the same way."""
    raw = decoded(part)
    if raw is None:
        return None
    try:
        value = strict_json.loads(raw, encodable=True)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _part(value: dict[str, Any]) -> str:
    return encoded(json.dumps(value, separators=(",", ":")).encode())
