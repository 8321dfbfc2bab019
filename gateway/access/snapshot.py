"""One configuration as every call of a worker is decided by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.access.attributes import Attribute, TenantRules
from gateway.access.definitions import Cors, Limit, Upstream
from gateway.access.factor_rule import NO_FACTOR_RULE, FactorRule
from gateway.access.issuers import Issuer, ResourceServer
from gateway.access.policies import Policy
from gateway.access.providers import Provider, trusted_for_factors
from gateway.access.routing.csrf import AllowedOrigins, OwnOrigins
from gateway.access.routing.paths import split_target
from gateway.access.routing.route_table import Match, RouteTable
from gateway.model import ConfigProblem, Reason, SourceLocation


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Immutable; a request keeps the one it began with."""

    version: str
    routes: RouteTable
    policies: Mapping[str, Policy] = field(default_factory=dict)
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    """Of others' tokens, by name."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    """What accounts may have besides roles, by name."""
    tenants: TenantRules | None = None
    """None where accounts are of no tenant."""
    providers: Mapping[str, Provider] = field(default_factory=dict)
    """By whom people sign in besides ourselves, by name."""
    resources: Mapping[tuple[str, str], ResourceServer] = field(default_factory=dict)
    """The resources of OAuth that routes are, by host (as a route names it; empty is that of the
    public URL) and path, each with the scopes of all its routes."""
    factor_rule: FactorRule = NO_FACTOR_RULE
    """Whose sign-in needs a second factor."""
    barring_roles: frozenset[str] = frozenset()
    """Those that only keep their bearer away."""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    cors: Mapping[str, Cors] = field(default_factory=dict)
    auth_cors: Cors | None = None
    """Who may call `/auth/…` from another origin."""
    shared_hosts: frozenset[str] = frozenset()
    """Those that routes name in the domain of `session`: a sign-in counts on all of them."""
    sign_in_page: bool = False
    """What `defaults` say of browsers (`sign_in: page`): it holds where there is no route too."""
    public_url: str = ""
    """The origin of the settings beside it, for whoever asks without a server; empty where
    nobody knows it."""
    console_policy: Policy | None = None
    """What judges who may see and do what in the operator's console; without it the role `admin`
    may do everything."""
    trusted_peers: tuple[str, ...] = ()
    """CIDR blocks from which `/decide/…` is answered."""
    reads_bodies: bool = False
    """Whether the policy of any route reads the JSON body."""
    notices: tuple[ConfigProblem, ...] = ()
    """No mistakes, but hardly meant: `gateway validate` shows them."""
    data_locations: Mapping[str, TableLocation] = field(default_factory=dict)
    """Where each table of `data/` is written."""

    @property
    def trusted_providers(self) -> frozenset[str]:
        """Those that are believed to have asked for a second factor, by issuer."""
        return trusted_for_factors(self.providers)

    @property
    def uses_pages(self) -> bool:
        """Whether any route leads people to the pages."""
        return any(route.sign_in_page for route in self.routes)

    def has_sign_in_page(self, host: str, target: str) -> bool:
        """Whether a browser that asks for this path without a session is led to the pages."""
        read = split_target(target)
        if isinstance(read, Reason):
            return False
        match = self.routes.match(host, "GET", read.segments)
        return isinstance(match, Match) and match.route.sign_in_page

    def auth_origins(self, own: OwnOrigins, host: str) -> AllowedOrigins:
        """Whose pages may send the cookie to `/auth/…`; `host` is that of the call."""
        return AllowedOrigins(own, host if self.routes.names_host(host) else None, self.auth_cors)


@dataclass(frozen=True, slots=True)
class TableLocation:
    """Where a table of `data/` is written, and each of its entries."""

    location: SourceLocation
    lines: Sequence[int]
    """Of the entries, in their order: a table may have very many."""

    def of(self, table: Any, key: str) -> SourceLocation:
        """The line of an entry; that of the table where there is none of this name."""
        if isinstance(table, Mapping) and key in table:
            return SourceLocation(self.location.file, self.lines[list(table).index(key)])
        return self.location
