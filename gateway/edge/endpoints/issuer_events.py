"""`POST /auth/issuers/NAME/backchannel-logout` and `/events`: another issuer tells of an end.

OpenID Connect Back-Channel Logout 1.0 and RFC 8935.  Whoever calls is believed for nothing but
what the issuer has signed.  Success is answered when every live worker refuses what has ended;
until then 503, which a provider repeats.  Errors have the form that those specifications give
them; what is no fault of the token (a store that is away) is answered as everywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.access.issuers import Issuer
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply, ShieldedTasks
from gateway.edge.endpoints.json_body import read_whole
from gateway.edge.endpoints.reports import (
    LOGOUT,
    EndReport,
    EndReports,
    logout_error,
    logout_report,
    read_logout_token,
)
from gateway.identity.issuers.ends import record_ends
from gateway.identity.issuers.event_tokens import (
    EventToken,
    InvalidEventToken,
    IssuerKeys,
)
from gateway.identity.issuers.external_ids import external_name
from gateway.identity.issuers.logout_tokens import LogoutTokenVerifier
from gateway.identity.issuers.security_events import SecurityEventVerifier
from gateway.model import Call, Change, Clock, Reason
from gateway.stores.protocols import (
    Database,
    Deliveries,
    RevocationPublisher,
)

EVENTS = "events"
EVENT_KEPT_S = 86_400
"""A security event is believed however late it comes: its time says what it ends."""

_SET_TYPE = re.compile(r"application/secevent\+jwt", re.IGNORECASE)
# RFC 8935 section 2.3: the language of the descriptions.
_LANGUAGE = {"Content-Language": "en"}


@dataclass(frozen=True, slots=True)
class IssuerEventDependencies:
    issuers: Callable[[], Mapping[str, Issuer]]
    """Those of the running configuration."""
    keys: IssuerKeys
    clock: Clock
    database: Database
    deliveries: Deliveries
    publisher: RevocationPublisher
    shielded: ShieldedTasks
    audit: AuditSink
    count: Callable[[str, str], None]
    """Counts a report of an issuer by its outcome."""


class IssuerEventEndpoints:
    def __init__(self, dependencies: IssuerEventDependencies) -> None:
        self._deps = dependencies
        self._reports = EndReports(
            dependencies.deliveries, dependencies.publisher, dependencies.count
        )
        self._logout_tokens = LogoutTokenVerifier(dependencies.keys, dependencies.clock)
        self._security_events = SecurityEventVerifier(dependencies.keys, dependencies.clock)

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("issuers", "*", LOGOUT): {"POST": self.logout},
            ("issuers", "*", EVENTS): {"POST": self.events},
        }

    async def logout(self, request: web.BaseRequest, call: Call) -> Reply:
        issuer = self._deps.issuers().get(call.segments[-2])
        if issuer is None or not issuer.backchannel_logout:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        text = await read_logout_token(request)
        if not isinstance(text, str):
            return text
        token = await self._logout_tokens.verify(issuer, text)
        if isinstance(token, Reason):
            return self._unavailable(issuer, token)
        if isinstance(token, InvalidEventToken):
            self._deny(issuer, call, "invalid_logout_token")
            return logout_error(token.description)
        return await self._deps.shielded(
            self._reports.take(
                logout_report(issuer, token), lambda: self._record(issuer, token, call, request)
            )
        )

    async def events(self, request: web.BaseRequest, call: Call) -> Reply:
        issuer = self._deps.issuers().get(call.segments[-2])
        if issuer is None or not issuer.events:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        raw = await read_whole(request)
        if isinstance(raw, ProblemReply):
            return raw
        if not _is_set(request):
            return ProblemReply(Reason.MEDIA_TYPE_UNSUPPORTED)
        # What is no ASCII is no token either.
        token = await self._security_events.verify(issuer, raw.decode("latin-1"))
        if isinstance(token, Reason):
            return self._unavailable(issuer, token)
        if isinstance(token, InvalidEventToken):
            self._deny(issuer, call, "invalid_security_event")
            return _set_error(token)
        if not token.ends:
            self._deps.count(issuer.name, "ignored")
            return JsonReply(202)
        # Whoever did not hear our answer sends it again, and made no error (RFC 8935 section 2).
        report = EndReport(issuer, EVENTS, token, EVENT_KEPT_S, JsonReply(202), JsonReply(202))
        return await self._deps.shielded(
            self._reports.take(report, lambda: self._record(issuer, token, call, request))
        )

    async def _record(
        self, issuer: Issuer, token: EventToken, call: Call, request: web.BaseRequest
    ) -> Sequence[Change]:
        async with self._deps.database.transaction() as tx:
            changes = await record_ends(tx, issuer.name, token.ends, token.issued_at)
        # A repeated report ends nothing more.
        if not all(change.confirmed for change in changes):
            for end in token.ends:
                self._deps.audit.record(
                    event_of(
                        AuditKind.REVOKED,
                        call,
                        request,
                        subject=end.subject and external_name(issuer.name, end.subject),
                        actor=f"issuer:{issuer.name}",
                        sid=end.session_id and external_name(issuer.name, end.session_id),
                        change=end.event,
                        jti=token.token_id,
                    )
                )
        return changes

    def _unavailable(self, issuer: Issuer, reason: Reason) -> ProblemReply:
        self._deps.count(issuer.name, "unavailable")
        return ProblemReply(reason)

    def _deny(self, issuer: Issuer, call: Call, reason: str) -> None:
        # Counted and not written: a stranger must not fill the log.
        self._deps.count(issuer.name, "refused")
        self._deps.audit.denied(reason, "/" + "/".join(call.segments), None)


def _is_set(request: web.BaseRequest) -> bool:
    types = request.headers.getall("Content-Type", [])
    codings = request.headers.getall("Content-Encoding", [])
    return len(types) == 1 and bool(_SET_TYPE.fullmatch(types[0].strip())) and not codings


def _set_error(token: InvalidEventToken) -> JsonReply:
    """RFC 8935 section 2.3."""
    body = {"err": token.error.value, "description": token.description}
    return JsonReply(400, body, _LANGUAGE)
