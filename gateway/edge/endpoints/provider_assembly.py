"""Sign-in by a provider, put together out of what the endpoints have together."""

from __future__ import annotations

from gateway.edge.endpoints.dependencies import EndpointDependencies
from gateway.edge.endpoints.endpoint import Endpoints, ProblemReply
from gateway.edge.endpoints.factor_assembly import PublicHost
from gateway.edge.endpoints.factor_changes import FRESH_S, may_change_factors
from gateway.edge.endpoints.provider_links import LinkDependencies, LinkEndpoints
from gateway.edge.endpoints.provider_logout import (
    ProviderLogoutDependencies,
    ProviderLogoutEndpoint,
)
from gateway.edge.endpoints.providers import ProviderDependencies, ProviderEndpoints
from gateway.edge.endpoints.reports import EndReports
from gateway.edge.endpoints.session_opening import SessionOpener
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.providers.linked_identities import LinkedIdentities
from gateway.model import Principal, Reason


def build_provider_endpoints(
    deps: EndpointDependencies,
    opener: SessionOpener,
    notifications: SecurityNotifications,
    public: PublicHost,
) -> Endpoints:
    parts = deps.providers
    identities = LinkedIdentities(deps.database, notifications)

    async def stale(principal: Principal) -> ProblemReply | None:
        has_factor = await identities.has_factor(principal.subject)
        if may_change_factors(principal, deps.clock.now(), has_factor=has_factor):
            return None
        return ProblemReply(Reason.INSUFFICIENT_USER_AUTHENTICATION, max_age_s=FRESH_S)

    providers = ProviderEndpoints(
        ProviderDependencies(
            providers=parts.providers,
            client=parts.client,
            trips=parts.trips,
            identities=identities,
            sessions=parts.sessions,
            return_targets=deps.return_targets,
            opener=opener,
            publisher=deps.publisher,
            throttle=deps.throttle,
            shielded=deps.shielded,
            audit=deps.audit,
            authenticator=deps.authenticator,
            clock=deps.clock,
            stale=stale,
            count=parts.count_sign_in,
            public_url=deps.public_url,
            own_paths=deps.own_paths,
        )
    )
    links = LinkEndpoints(
        LinkDependencies(
            providers=parts.providers,
            trips=parts.trips,
            identities=identities,
            authenticator=deps.authenticator,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
            stale=stale,
            counts_alone=public.counts_alone,
            own_paths=deps.own_paths,
        )
    )
    logout = ProviderLogoutEndpoint(
        ProviderLogoutDependencies(
            providers=parts.providers,
            client=parts.client,
            keys=parts.keys,
            clock=deps.clock,
            database=deps.database,
            reports=EndReports(deps.deliveries, deps.publisher, parts.count_report),
            shielded=deps.shielded,
            audit=deps.audit,
            count=parts.count_report,
        )
    )
    return {**providers.endpoints(), **links.endpoints(), **logout.endpoints()}
