"""`/auth/links…`: the providers that an account is linked with, for its owner (docs/providers.md).

Law: a link is a way in, so it is made and ended in a fresh session alone, told by mail, and the
last way in is not taken away.  What leads to the provider for that holds a permit which only a page
of this session reads, at the public host: else another site, or the page of an application that
shares the session, could have its own identity linked with a visitor's account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.access.providers import Provider, provider_of
from gateway.access.routing.own_paths import OwnPaths
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.csrf import is_of_one_application
from gateway.edge.endpoints.endpoint import (
    ACCEPTED,
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
    await_propagation,
)
from gateway.edge.endpoints.factor_changes import FreshCallers
from gateway.edge.endpoints.provider_refusals import REFUSALS
from gateway.edge.endpoints.providers import START
from gateway.identity.providers.link_rows import LinkedIdentity
from gateway.identity.providers.linked_identities import LinkedIdentities, LinkRefusal
from gateway.identity.providers.round_trips import RoundTrips
from gateway.model import Call, Principal, Reason
from gateway.stores.protocols import RevocationPublisher

_OTHER_HOST = "With a session cookie links are ended at the host of the public URL alone."


@dataclass(frozen=True, slots=True)
class LinkDependencies:
    providers: Callable[[], Mapping[str, Provider]]
    """Those of the running configuration."""
    trips: RoundTrips
    identities: LinkedIdentities
    authenticator: Authenticator
    publisher: RevocationPublisher
    shielded: ShieldedTasks
    audit: AuditSink
    fresh_callers: FreshCallers
    counts_alone: Callable[[str], bool]
    """Whether a session cookie that is given at this host counts there alone."""
    own_paths: OwnPaths


class LinkEndpoints:
    def __init__(self, dependencies: LinkDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("links",): {"GET": self.list_links},
            ("links", "*"): {"DELETE": self.unlink},
        }

    async def list_links(self, _request: web.BaseRequest, call: Call) -> Reply:
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        providers = self._deps.providers()
        found = await self._deps.identities.of_account(principal.subject)
        links = [self._shown(link, providers) for link in found]
        linked = {link.issuer for link in found}
        available = [
            {"name": name, "label": provider.label, "start": self._start(provider, principal, call)}
            for name, provider in providers.items()
            if provider.issuer.issuer not in linked
        ]
        return JsonReply(200, {"links": links, "available": available})

    def _shown(self, link: LinkedIdentity, providers: Mapping[str, Provider]) -> dict[str, object]:
        provider = provider_of(providers, link.issuer)
        label, start = link.provider, None
        if provider is not None:
            label = provider.label
            start = self._deps.own_paths.endpoint("providers", provider.name, START)
        # Another has its name: no path holds an issuer, so it goes alone by its id.
        name = link.id if link.provider == link.issuer else link.provider
        return {
            "name": name,
            "label": label,
            "start": start,
            "email": link.email,
            "linked_at": link.linked_at,
            "last_used_at": link.last_used_at,
        }

    def _start(self, provider: Provider, principal: Principal, call: Call) -> str | None:
        """None for who has no session, and for a page that may be that of an application."""
        if principal.session_id is None or is_of_one_application(call, self._deps.counts_alone):
            return None
        permit = self._deps.trips.permit(provider.name_and_issuer, principal.session_id)
        path = self._deps.own_paths.endpoint("providers", provider.name, START)
        return f"{path}?{urlencode({'permit': permit})}"

    async def unlink(self, request: web.BaseRequest, call: Call) -> Reply:
        """204 when the sessions that it began, but this one, are over on every worker."""
        principal = await self._deps.fresh_callers.caller(call, _OTHER_HOST)
        if isinstance(principal, ProblemReply):
            return principal
        return await self._deps.shielded(self._unlink(request, call, principal))

    async def _unlink(self, request: web.BaseRequest, call: Call, principal: Principal) -> Reply:
        ended = await self._deps.identities.unlink(
            principal.subject, call.segments[-1], session_id=principal.session_id
        )
        if ended is None:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        if isinstance(ended, LinkRefusal):
            return REFUSALS[ended]
        self._deps.audit.record(
            event_of(
                AuditKind.PROVIDER_UNLINKED,
                call,
                request,
                subject=principal.subject,
                provider=ended.providers,
            )
        )
        return await await_propagation(self._deps.publisher, ended.changes)
