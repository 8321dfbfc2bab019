"""The tokens by which another issuer tells us of an end: their form, their signature, and the
claims that logout tokens and security event tokens have in common.

Law: the text is hostile until one of the issuer's own keys has verified it.  Nothing is fetched
for a token that does not name the issuer, and what the header says of keys is not followed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from gateway.access.issuers import Issuer
from gateway.identity.tokens import jws
from gateway.model import Clock, Reason

_TOKEN_ID_MAX = 256
_LATEST = 2**53


class EventError(StrEnum):
    """The error codes of RFC 8935 section 2.4."""

    INVALID_REQUEST = "invalid_request"
    INVALID_KEY = "invalid_key"
    INVALID_ISSUER = "invalid_issuer"
    INVALID_AUDIENCE = "invalid_audience"
    AUTHENTICATION_FAILED = "authentication_failed"


@dataclass(frozen=True, slots=True)
class InvalidEventToken:
    """Why a token is not believed; the description is a constant."""

    error: EventError
    description: str


@dataclass(frozen=True, slots=True)
class ReportedEnd:
    """What has ended, as the issuer names it: one session; or, without `session_id`, everything
    that the subject was given before `EventToken.issued_at`."""

    event: str
    """A word for the audit log."""
    subject: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class EventToken:
    """A verified token: its `jti` and `iat`, and what it says has ended."""

    token_id: str
    issued_at: int
    ends: tuple[ReportedEnd, ...]


class SignatureKey(Protocol):
    def verifies(self, alg: str, signed: bytes, signature: bytes) -> bool:
        """False too where `alg` is none of this key's."""


class IssuerKeys(Protocol):
    async def find(self, issuer: Issuer, kid: str) -> SignatureKey | Reason:
        """The issuer's key of this name; KEY_UNKNOWN, or ISSUER_UNAVAILABLE
        while its keys cannot be had."""


class EventTokenReader:
    """Verifies what every event token must fulfil."""

    def __init__(self, keys: IssuerKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    async def read(
        self, issuer: Issuer, text: str, types: frozenset[str | None]
    ) -> dict[str, Any] | InvalidEventToken | Reason:
        """The claims of a token that the issuer signed for us, with `jti` and a whole `iat`.
        ISSUER_UNAVAILABLE: nothing can be said of it now."""
        parsed = jws.parse(text)
        claims = None if parsed is None else jws.json_object(parsed.payload)
        if parsed is None or claims is None:
            return invalid_request("the token is no signed JWS of JSON objects with a kid")
        typ = None if parsed.typ is None else jws.short_type(parsed.typ)
        if typ not in types:
            return invalid_request("the token has another typ")
        if claims.get("iss") != issuer.issuer:
            return InvalidEventToken(EventError.INVALID_ISSUER, "iss names another issuer")
        if parsed.alg not in issuer.algorithms:
            return InvalidEventToken(EventError.INVALID_KEY, "the algorithm is not taken")
        key = await self._keys.find(issuer, parsed.kid)
        if isinstance(key, Reason):
            if key is not Reason.KEY_UNKNOWN:
                return key
            return InvalidEventToken(EventError.INVALID_KEY, "the issuer has no such key")
        # CVE-2026-48523, CVE-2022-29217: what the header says chooses nothing.
        if not key.verifies(parsed.alg, parsed.signed, parsed.signature):
            return InvalidEventToken(
                EventError.AUTHENTICATION_FAILED, "the signature does not hold"
            )
        return self._checked(issuer, claims)

    def _checked(
        self, issuer: Issuer, claims: dict[str, Any]
    ) -> dict[str, Any] | InvalidEventToken:
        if not _is_for(claims.get("aud"), issuer.event_audience or issuer.audience):
            return InvalidEventToken(EventError.INVALID_AUDIENCE, "aud does not name us")
        now, leeway_s = self._clock.now(), issuer.leeway_s
        if not _is_date(claims.get("iat")):
            return invalid_request("iat is missing, or no date")
        issued_at: float = claims["iat"]
        if issued_at > now + leeway_s:
            return invalid_request("iat is in the future")
        if not _is_date(claims.get("exp", 0)) or not _is_date(claims.get("nbf", 0)):
            return invalid_request("exp or nbf is no date")
        if "exp" in claims and claims["exp"] + leeway_s <= now:
            return invalid_request("the token has expired")
        if claims.get("nbf", 0) > now + leeway_s:
            return invalid_request("the token is not valid yet")
        token_id = claims.get("jti")
        if not isinstance(token_id, str) or not 0 < len(token_id) <= _TOKEN_ID_MAX:
            return invalid_request("jti is missing, or no text of 1 to 256 characters")
        # Never later than said: a token of the second in which the session ended is refused.
        return {**claims, "iat": math.floor(issued_at)}


def events_of(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """`events` (RFC 8417 section 2.2): type → payload; empty where it is not of that form.

    A payload is an object.  Some providers put flags of their own beside it, so only that of an
    event from which something follows is asked for.
    """
    events = claims.get("events")
    return events if isinstance(events, dict) else {}


def invalid_request(description: str) -> InvalidEventToken:
    return InvalidEventToken(EventError.INVALID_REQUEST, description)


def _is_for(audience: object, accepted: tuple[str, ...]) -> bool:
    named = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(one, str) for one in named):
        return False
    return not set(named).isdisjoint(accepted)


def _is_date(value: object) -> bool:
    """A NumericDate (RFC 7519 section 2), which may have a fraction."""
    return type(value) in (int, float) and 0 <= value <= _LATEST  # type: ignore[operator]
