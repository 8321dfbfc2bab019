"""What a route may name besides a policy: upstreams, limits, CORS, response headers.

All of it is built at reload and shared by every request.  These are specifications only:
the pools, counters and breakers that live by them stand in `edge` and `worker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.access.field_names import folded
from gateway.access.identity_headers import IdentityHeaders
from gateway.access.secret_text import SecretText
from gateway.model import NOWHERE, SourceLocation

if TYPE_CHECKING:
    from gateway.access.conditions.conditions import Condition


class Balance(StrEnum):
    ROUND_ROBIN = "round_robin"
    LEAST_REQUESTS = "least_requests"


class Scope(StrEnum):
    """Who counts (decision 0005): each worker alone, each within its share, or all as one."""

    LOCAL = "local"
    LEASED = "leased"
    SHARED = "shared"


class LimitKey(StrEnum):
    """Whose calls are counted together."""

    USER = "user"
    """By subject; by address where nobody is signed in."""
    ADDRESS = "address"
    CLIENT = "client"
    """By OAuth client; by address where there is none."""
    TENANT = "tenant"
    """By the tenant for which the caller acts; as `user` where there is none."""
    ROLE = "role"
    """By the set of roles; by address where nobody is signed in."""
    ROUTE = "route"
    """All callers of the route together."""
    GLOBAL = "global"
    """All callers of every route that names the limit together."""
    EXPRESSION = "expression"
    """By what `Limit.expression` gives."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`per_s` calls a second in the long run, at most `burst` of them at once (GCRA)."""

    name: str
    key: LimitKey
    per_s: float
    burst: int
    scope: Scope = Scope.LEASED
    location: SourceLocation = NOWHERE
    route_id: str = ""
    """The route it counts for, where `key` is ROUTE; else empty."""
    expression: Condition | None = None
    """What gives the key, where `key` is EXPRESSION."""

    def for_route(self, route_id: str) -> Limit:
        """The limit as it counts for one route: `key: route` is a bucket of each."""
        return replace(self, route_id=route_id) if self.key is LimitKey.ROUTE else self

    @property
    def by_resource(self) -> bool:
        """Whether its key is what the call is about: a value of the path, or the resource."""
        reads = self.expression.reads if self.expression is not None else None
        return reads is not None and bool(reads.params or "resource" in reads.roots)


@dataclass(frozen=True, slots=True)
class UpstreamTarget:
    """One address of an upstream: TCP (`host`, `port`) or a unix socket (`socket_path`)."""

    url: str
    scheme: str
    host: str
    port: int
    socket_path: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Active probes: out of rotation after `fall` failures, back after `rise` successes."""

    path: str
    every_s: float = 5.0
    fall: int = 3
    rise: int = 2
    timeout_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` counts all tries.  `connect` is a failure to connect, `statuses` are answers."""

    attempts: int = 1
    connect: bool = False
    statuses: frozenset[int] = frozenset()
    budget: float = 0.2
    """Second and later tries, as a share of the calls; see `edge/upstream/retry_budget.py`."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Opens for `open_s` after `failures` in `window_s`."""

    failures: int
    window_s: float
    open_s: float


@dataclass(frozen=True, slots=True)
class Tls:
    """Absolute paths of PEM files.  `ca` stands instead of the machine's authorities."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    """None where `certificate` holds it too."""
    locations: Mapping[str, SourceLocation] = field(default_factory=dict, compare=False)
    """Where each of the three is written."""


@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    targets: tuple[UpstreamTarget, ...]
    balance: Balance = Balance.ROUND_ROBIN
    timeout_connect_s: float = 1.0
    timeout_response_s: float = 30.0
    timeout_idle_s: float = 60.0
    timeout_request_s: float = 3_600.0
    """From the decision to the head of the answer: waits, tries and the body included."""
    timeout_stream_s: float = 86_400.0
    """From that head, or the 101 of a socket, to the end."""
    health: Health | None = None
    retry: Retry = Retry()
    breaker: Breaker | None = None
    assertion_audience: str | None = None
    host: str | None = None
    """The `Host` to send; None sends the client's."""
    pool_idle_s: float = 4.0
    max_connections: int = 0
    """To each target, by each worker; 0 is without a limit."""
    queue: int = 0
    """Calls that may wait for a connection once `max_connections` are in use."""
    tls: Tls | None = None
    identity: IdentityHeaders | None = field(default=None, compare=False)
    """How it is told who calls, where its route does not say; None: as `defaults` say."""
    location: SourceLocation = NOWHERE


@dataclass(frozen=True, slots=True)
class Cors:
    name: str
    origins: frozenset[str]
    """`scheme://host[:port]`, lower case, or `*` alone (never with credentials)."""
    credentials: bool = False
    methods: tuple[str, ...] = ()
    """Empty: the methods of the route."""
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age_s: int = 600
    location: SourceLocation = NOWHERE


@dataclass(frozen=True, slots=True)
class SecurityHeaders:
    """Added to answers on which the upstream set no field of that name."""

    fields: tuple[tuple[str, str], ...] = ()
    hsts: str | None = None
    """The value of `Strict-Transport-Security`; sent on https only."""


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """Fields that a route takes away, and those that it writes in their place."""

    fields: tuple[tuple[str, str | SecretText], ...] = ()
    removed: tuple[str, ...] = ()
    names: frozenset[bytes] = field(init=False)
    """Of both, in lower case: what came under one of them does not pass."""
    lines: bytes = field(init=False, repr=False)
    """The written ones, joined by CRLF."""

    def __post_init__(self) -> None:
        named = (*(name for name, _ in self.fields), *self.removed)
        lines = (
            f"{name}: {value.reveal() if isinstance(value, SecretText) else value}"
            for name, value in self.fields
        )
        object.__setattr__(self, "names", frozenset(n.lower().encode("ascii") for n in named))
        object.__setattr__(self, "lines", "\r\n".join(lines).encode("ascii"))

    @property
    def folded(self) -> frozenset[bytes]:
        """The names as a backend may read them that cannot tell `_` or `.` from `-`."""
        return frozenset(map(folded, self.names))


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """What a route answers by itself, in place of an upstream."""

    status: int
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    location: str | None = None
    """Where a redirect leads: a URL or a path of this host, as it was written."""
    keep_query: bool = False
    """Add the call's query to `location`."""

    def leads_to(self, query: str) -> str | None:
        """The `Location` for a call with this query, as it came (RFC 9110 section 10.2.2)."""
        if self.location is None or not (self.keep_query and query):
            return self.location
        return f"{self.location}{'&' if '?' in self.location else '?'}{query}"

    def __str__(self) -> str:
        where = "" if self.location is None else f" to {self.location}"
        return f"{self.status}{where}{' and the query' if self.keep_query else ''}"


class ChallengeScheme(StrEnum):
    BEARER = "bearer"
    BASIC = "basic"


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a 401 of a route asks for a credential."""

    scheme: ChallengeScheme = ChallengeScheme.BEARER
    realm: str = "authgate"
    """Printable ASCII."""


DEFAULT_CHALLENGE = Challenge()


STANDARD_SECURITY_HEADERS = SecurityHeaders(
    fields=(
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ),
    hsts="max-age=31536000; includeSubDomains",
)
