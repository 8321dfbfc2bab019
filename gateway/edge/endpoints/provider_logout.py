"""`POST /auth/providers/NAME/backchannel-logout`: a provider says that a session there has ended.

OpenID Connect Back-Channel Logout 1.0, as for issuers (`issuer_events`).  What the provider began
here ends: the sessions of that session, or of that person; where both are named, also those of the
person that may be of that session.  What they began by other means goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.access.issuers import Issuer
from gateway.access.providers import Provider
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.endpoint import Endpoint, ProblemReply, Reply, ShieldedTasks
from gateway.edge.endpoints.reports import (
    LOGOUT,
    EndReports,
    logout_error,
    logout_report,
    read_logout_token,
)
from gateway.identity.issuers.event_tokens import EventToken, InvalidEventToken, SignatureKey
from gateway.identity.issuers.logout_tokens import LogoutTokenVerifier
from gateway.identity.providers.client import ProviderClient
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.id_tokens import ProviderKeys, ProviderUnavailable
from gateway.identity.providers.identities import IdentityRefused
from gateway.identity.providers.provider_sessions import end_sessions_of
from gateway.model import Call, Change, Clock, Reason
from gateway.stores.protocols import Database, RevocationPublisher, StoreUnavailable

_KIND = f"provider-{LOGOUT}"


@dataclass(frozen=True, slots=True)
class ProviderLogoutDependencies:
    providers: Callable[[], Mapping[str, Provider]]
    """Those of the running configuration."""
    client: ProviderClient
    keys: ProviderKeys
    clock: Clock
    database: Database
    reports: EndReports
    publisher: RevocationPublisher
    ended_sessions: EndedSessions
    shielded: ShieldedTasks
    audit: AuditSink
    count: Callable[[str, str], None]
    """Counts a report of a provider by its outcome."""


class ProviderLogoutEndpoint:
    def __init__(self, dependencies: ProviderLogoutDependencies) -> None:
        self._deps = dependencies
        self._tokens = LogoutTokenVerifier(self, dependencies.clock)

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {("providers", "*", LOGOUT): {"POST": self.logout}}

    async def logout(self, request: web.BaseRequest, call: Call) -> Reply:
        provider = self._deps.providers().get(call.segments[-2])
        if provider is None or not provider.backchannel_logout:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        text = await read_logout_token(request)
        if not isinstance(text, str):
            return text
        token = await self._tokens.verify(provider.issuer, text)
        if isinstance(token, Reason):
            self._deps.count(provider.name, "unavailable")
            return ProblemReply(token)
        if isinstance(token, InvalidEventToken):
            # Counted and not written: a stranger must not fill the log.
            self._deps.count(provider.name, "refused")
            path = "/" + "/".join(call.segments)
            self._deps.audit.denied("invalid_logout_token", path, None)
            return logout_error(token.description)
        return await self._deps.shielded(
            self._deps.reports.take(
                logout_report(provider.issuer, token, _KIND),
                lambda: self._record(provider, token, call, request),
            )
        )

    async def find(self, issuer: Issuer, kid: str) -> SignatureKey | Reason:
        """Meets `event_tokens.IssuerKeys`."""
        provider = self._deps.providers().get(issuer.name)
        if provider is None:
            return Reason.ISSUER_UNAVAILABLE
        try:
            metadata = await self._deps.client.metadata(provider)
        except (ProviderUnavailable, IdentityRefused):
            return Reason.ISSUER_UNAVAILABLE
        return await self._deps.keys.find(issuer, kid, metadata.jwks_uri)

    async def _record(
        self, provider: Provider, token: EventToken, call: Call, request: web.BaseRequest
    ) -> Sequence[Change]:
        changes: list[Change] = []
        unnoted: StoreUnavailable | None = None
        try:
            await self._note(provider.issuer.issuer, token)
        except StoreUnavailable as error:
            unnoted = error
        async with self._deps.database.transaction() as tx:
            for end in token.ends:
                changes += await end_sessions_of(
                    tx,
                    provider.issuer.issuer,
                    "ended by its provider",
                    subject=end.subject,
                    provider_session=end.session_id,
                )
        for change in changes:
            if not change.confirmed:
                self._deps.audit.record(
                    event_of(
                        AuditKind.SESSION_ENDED,
                        call,
                        request,
                        actor=f"provider:{provider.name}",
                        sid=change.target,
                        jti=token.token_id,
                    )
                )
        if unnoted is not None:
            # What was there has ended all the same; whoever repeats it has the rest noted.
            await self._deps.publisher.publish(changes)
            raise unnoted
        return changes

    async def _note(self, issuer: str, token: EventToken) -> None:
        """Before any is looked for: one that begins meanwhile finds this."""
        for end in token.ends:
            if end.session_id is not None:
                await self._deps.ended_sessions.note(issuer, end.session_id, end.subject)
            elif end.subject is not None:
                await self._deps.ended_sessions.note_person(issuer, end.subject)
