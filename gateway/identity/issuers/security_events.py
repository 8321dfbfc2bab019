"""Security event tokens (RFC 8417) as they are pushed (RFC 8935): what they say has ended.

The events are those of CAEP and RISC that end sessions; of every other type nothing follows
here, and a valid token is acknowledged all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

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
from gateway.identity.issuers.subject_identifiers import (
    NamedSubject,
    UnknownIdentifier,
    named_subject,
)
from gateway.model import Clock, Reason

_CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SESSION_REVOKED = _CAEP + "session-revoked"
EVENTS: Mapping[str, str] = {
    SESSION_REVOKED: "session-revoked",
    _CAEP + "credential-change": "credential-change",
    _RISC + "account-disabled": "account-disabled",
    _RISC + "account-purged": "account-purged",
    _RISC + "sessions-revoked": "sessions-revoked",
}
"""The types from which something follows, each with its word in the audit log."""

# RFC 8417 section 2.3, which the Shared Signals Framework makes a must.
_TYPES: frozenset[str | None] = frozenset({"secevent+jwt"})


class SecurityEventVerifier:
    def __init__(self, keys: IssuerKeys, clock: Clock) -> None:
        self._tokens = EventTokenReader(keys, clock)

    async def verify(self, issuer: Issuer, text: str) -> EventToken | InvalidEventToken | Reason:
        """What has ended, which may be nothing.  A Reason: nothing can be said of it now."""
        claims = await self._tokens.read(issuer, text, _TYPES)
        if not isinstance(claims, dict):
            return claims
        events = events_of(claims)
        if not events:
            return invalid_request("events is no object with an event")
        ends: list[ReportedEnd] = []
        for event_type, payload in events.items():
            if event_type not in EVENTS:
                continue
            if not isinstance(payload, dict):
                return invalid_request("the event is no object")
            identifier = claims.get("sub_id", payload.get("subject"))
            try:
                subject = named_subject(issuer, identifier)
            except UnknownIdentifier:
                return invalid_request("the event names its subject in no form that is known here")
            ends += _ends(event_type, subject)
        return EventToken(claims["jti"], claims["iat"], tuple(ends))


def _ends(event_type: str, named: NamedSubject) -> list[ReportedEnd]:
    event = EVENTS[event_type]
    if event_type == SESSION_REVOKED:
        if named.opaque is not None:
            # CAEP section 3.1.2 names a session so, and others a user: it is one of both.
            return [
                ReportedEnd(event, session_id=named.opaque),
                ReportedEnd(event, subject=named.opaque),
            ]
        if named.session_id is not None:
            return [ReportedEnd(event, named.subject, named.session_id)]
    subject = named.subject or named.opaque
    if subject is not None:
        return [ReportedEnd(event, subject)]
    if named.session_id is not None:
        return [ReportedEnd(event, session_id=named.session_id)]
    return []
