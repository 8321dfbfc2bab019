"""Logout tokens: OpenID Connect Back-Channel Logout 1.0, sections 2.4 and 2.6."""

from __future__ import annotations

from typing import Any

from gateway.access.issuers import Issuer
from gateway.identity.issuers.event_tokens import (
    EventToken,
    EventTokenReader,
    InvalidEventToken,
    IssuerKeys,
    ReportedEnd,
    events_of,
    invalid_request,
)
from gateway.identity.issuers.external_ids import is_external_id
from gateway.identity.issuers.subject_identifiers import known_subject
from gateway.model import Clock, Reason

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
MAX_AGE_S = 300
"""An older logout token is refused: its `jti` need not be remembered for longer."""

# Explicit typing is recommended, and providers that came before it set JWT or nothing.
_TYPES: frozenset[str | None] = frozenset({"logout+jwt", "jwt", None})


class LogoutTokenVerifier:
    def __init__(self, keys: IssuerKeys, clock: Clock) -> None:
        self._tokens = EventTokenReader(keys, clock)
        self._clock = clock

    async def verify(self, issuer: Issuer, text: str) -> EventToken | InvalidEventToken | Reason:
        """What has ended.  A Reason: nothing can be said of it now."""
        claims = await self._tokens.read(issuer, text, _TYPES)
        if not isinstance(claims, dict):
            return claims
        if claims["iat"] + MAX_AGE_S + issuer.leeway_s < self._clock.now():
            return invalid_request("the token is older than five minutes")
        if not isinstance(events_of(claims).get(LOGOUT_EVENT), dict):
            return invalid_request("events does not hold an object for the logout event")
        # Section 2.4: an ID token must not pass for a logout token, nor the reverse.
        if "nonce" in claims:
            return invalid_request("the token has a nonce")
        end = _end(issuer, claims)
        if isinstance(end, InvalidEventToken):
            return end
        return EventToken(claims["jti"], claims["iat"], (end,))


def _end(issuer: Issuer, claims: dict[str, Any]) -> ReportedEnd | InvalidEventToken:
    session_id = claims.get("sid")
    if "sid" in claims and not is_external_id(session_id):
        return invalid_request("sid is no text of 1 to 255 visible ASCII characters")
    if "sub" in claims and not is_external_id(claims["sub"]):
        return invalid_request("sub is no text of 1 to 255 visible ASCII characters")
    subject = known_subject(issuer, claims)
    if subject is None and session_id is None:
        return invalid_request("neither sub nor sid names what tokens of this issuer are known by")
    return ReportedEnd("backchannel-logout", subject, session_id)
