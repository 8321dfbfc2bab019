"""Whether a token was given for the resource that is called, and with its scopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.access.issuers import ResourceServer
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.own_paths import PROTECTED_RESOURCE, document_path
from gateway.access.routing.routes import Route, wildcard_of
from gateway.model import Call, Principal, Reason

METADATA_PATH = document_path(PROTECTED_RESOURCE)


def resource_url(server: ResourceServer, route: Route, host: str, origins: OwnOrigins) -> str:
    """The identifier of the resource (RFC 9728 section 1.2) as it is called at this host.

    `host` is that of a call which the route took.
    """
    return origins.origin_at(host if route.hosts else None) + server.path


def metadata_url(server: ResourceServer, route: Route, host: str, origins: OwnOrigins) -> str:
    """Where the resource's metadata are: the well-known path stands between the host and the path
    of the resource (RFC 9728 section 3.1)."""
    below = "" if server.path == "/" else server.path
    return origins.origin_at(host if route.hosts else None) + METADATA_PATH + below


def resource_at(
    resources: Mapping[tuple[str, str], ResourceServer],
    host: str,
    path: str,
    origins: OwnOrigins,
    *,
    public: bool,
) -> tuple[str, ResourceServer] | None:
    """The identifier of the resource whose metadata are asked for at this host, and what it is.

    `path` is that of the resource's URL, as it came.  `public`: the host is one of the gateway's
    own, where the resources of the public URL are.
    """
    for named in (host, wildcard_of(host)):
        server = resources.get((named, path))
        if server is not None:
            return origins.origin_at(host) + path, server
    server = resources.get(("", path)) if public else None
    return None if server is None else (origins.origin_at(None) + path, server)


def resource_paths(routes: Iterable[Route]) -> Mapping[str, frozenset[str]]:
    """The paths of the resources that take an issuer's tokens, by the issuer's name."""
    paths: dict[str, set[str]] = {}
    for route in routes:
        if route.resource_server is not None:
            for issuer in route.issuers:
                paths.setdefault(issuer, set()).add(route.resource_server.path)
    return {issuer: frozenset(found) for issuer, found in paths.items()}


def audience_refusal(
    principal: Principal, route: Route, call: Call, origins: OwnOrigins
) -> Reason | None:
    """RFC 8707 section 2, RFC 9068 section 4: a token that names another resource is none of
    ours to take.  A cookie and a key name nobody, and are our own."""
    server = route.resource_server
    if server is None:
        return Reason.TOKEN_CLAIMS_INVALID if principal.resource_only else None
    audience = principal.audience
    if audience is None or resource_url(server, route, call.host, origins) in audience:
        return None
    return Reason.TOKEN_CLAIMS_INVALID


def missing_scopes(principal: Principal | None, route: Route) -> tuple[str, ...]:
    """What the resource asks for and the token was not given; of who brings no token nothing."""
    server = route.resource_server
    if server is None or principal is None or principal.audience is None:
        return ()
    return tuple(scope for scope in server.scopes if scope not in principal.granted_scopes)
