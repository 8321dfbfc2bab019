"""Sign-in by a provider, put together out of what the endpoints have together."""

from __future__ import annotations

from gateway.edge.endpoints.dependencies import EndpointDependencies
from gateway.edge.endpoints.endpoint import Endpoints
from gateway.edge.endpoints.factor_assembly import PublicHost
from gateway.edge.endpoints.factor_changes import FreshCallers
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


def build_provider_endpoints(
    deps: EndpointDependencies,
    opener: SessionOpener,
    notifications: SecurityNotifications,
    public: PublicHost,
    fresh_callers: FreshCallers,
) -> Endpoints:
    parts = deps.providers
    identities = LinkedIdentities(
        deps.database,
        notifications,
        parts.ended_sessions,
        parts.providers,
        barring_roles=deps.barring_roles,
    )

    providers = ProviderEndpoints(
        ProviderDependencies(
            providers=parts.providers,
            client=parts.client,
            trips=parts.trips,
            identities=identities,
            sessions=parts.sessions,
            ended_sessions=parts.ended_sessions,
            return_targets=deps.return_targets,
            opener=opener,
            publisher=deps.publisher,
            throttle=deps.throttle,
            guard=deps.guard,
            limits=deps.limits,
            shielded=deps.shielded,
            audit=deps.audit,
            authenticator=deps.authenticator,
            clock=deps.clock,
            fresh_callers=fresh_callers,
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
            fresh_callers=fresh_callers,
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
            publisher=deps.publisher,
            ended_sessions=parts.ended_sessions,
            shielded=deps.shielded,
            audit=deps.audit,
            count=parts.count_report,
        )
    )
    return {**providers.endpoints(), **links.endpoints(), **logout.endpoints()}
