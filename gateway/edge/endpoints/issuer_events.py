"""`POST /auth/issuers/NAME/backchannel-logout` and `/events`: another issuer tells of an end.

OpenID Connect Back-Channel Logout 1.0 and RFC 8935.  Whoever calls is believed for nothing but
what the issuer has signed.  Success is answered when every live worker refuses what has ended;
until then 503, which a provider repeats.  Errors have the form that those specifications give
them; what is no fault of the token (a store that is away) is answered as everywhere else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from gateway.access.issuers import Issuer
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply, ShieldedTasks
from gateway.edge.endpoints.form_body import MalformedForm, read_form
from gateway.edge.endpoints.json_body import read_whole
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
    DeliveryState,
    RevocationPublisher,
    StoreUnavailable,
)

LOGOUT = "backchannel-logout"
EVENTS = "events"
LOGOUT_KEPT_S = 1_200
"""Longer than a logout token is believed: five minutes and twice the longest leeway."""
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
        form = await read_form(request)
        if isinstance(form, ProblemReply):
            return form
        if isinstance(form, MalformedForm):
            if form.another_type:
                return ProblemReply(Reason.MEDIA_TYPE_UNSUPPORTED)
            return _logout_error(form.description)
        if "logout_token" not in form:
            return _logout_error("logout_token is missing")
        token = await self._logout_tokens.verify(issuer, form["logout_token"])
        if isinstance(token, Reason):
            return self._unavailable(issuer, token)
        if isinstance(token, InvalidEventToken):
            self._deny(issuer, call, "invalid_logout_token")
            return _logout_error(token.description)
        report = _Report(issuer, LOGOUT, token, LOGOUT_KEPT_S)
        return await self._deps.shielded(self._take(report, call, request))

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
        report = _Report(issuer, EVENTS, token, EVENT_KEPT_S)
        return await self._deps.shielded(self._take(report, call, request))

    async def _take(self, report: _Report, call: Call, request: web.BaseRequest) -> Reply:
        """Have every live worker know what has ended, once for each `jti`."""
        name = report.issuer.name
        delivery = await self._deps.deliveries.begin(report.key)
        if delivery.state is DeliveryState.DONE:
            self._deps.count(name, "repeated")
            return report.repeated
        confirmed = False
        try:
            if delivery.state is DeliveryState.FIRST:
                changes = await self._record(report, call, request)
                confirmed = await self._deps.publisher.publish(changes)
        finally:
            # Whoever is told 503 repeats it, and must be heard then; the rows are there already,
            # and are written once.
            with suppress(StoreUnavailable):
                if confirmed:
                    await self._deps.deliveries.finish(delivery, report.kept_s)
                else:
                    await self._deps.deliveries.withdraw(delivery)
        self._deps.count(name, "taken" if confirmed else "pending")
        return report.taken if confirmed else ProblemReply(Reason.REVOCATION_PENDING)

    async def _record(
        self, report: _Report, call: Call, request: web.BaseRequest
    ) -> Sequence[Change]:
        issuer, token = report.issuer, report.token
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


@dataclass(frozen=True, slots=True)
class _Report:
    """A verified token and how it is answered."""

    issuer: Issuer
    endpoint: str
    token: EventToken
    kept_s: int
    """For so long its `jti` is remembered."""

    @property
    def key(self) -> str:
        # Under another name nothing of it holds yet: what ends is named by the issuer's.
        named = "\x00".join((self.issuer.name, self.issuer.issuer, self.token.token_id))
        return f"{self.endpoint}:{hashlib.sha256(named.encode()).hexdigest()}"

    @property
    def taken(self) -> Reply:
        return JsonReply(200 if self.endpoint == LOGOUT else 202)

    @property
    def repeated(self) -> Reply:
        """Section 2.6 lets a logout token be refused; whoever did not hear our answer to a
        security event sends it again, and made no error (RFC 8935 section 2)."""
        if self.endpoint == EVENTS:
            return self.taken
        return _logout_error("this logout token was taken before")


def _is_set(request: web.BaseRequest) -> bool:
    types = request.headers.getall("Content-Type", [])
    codings = request.headers.getall("Content-Encoding", [])
    return len(types) == 1 and bool(_SET_TYPE.fullmatch(types[0].strip())) and not codings


def _logout_error(description: str) -> JsonReply:
    """Back-Channel Logout section 2.8, RFC 6749 section 5.2."""
    return JsonReply(400, {"error": "invalid_request", "error_description": description})


def _set_error(token: InvalidEventToken) -> JsonReply:
    """RFC 8935 section 2.3."""
    body = {"err": token.error.value, "description": token.description}
    return JsonReply(400, body, _LANGUAGE)
