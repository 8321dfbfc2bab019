"""What every room speaks of: a call, who makes it, why it may not pass, and what changed.

Nothing here imports another module of the gateway.  What each call makes anew has a constructor
that is written out: the one of `dataclass` stays interpreted where all else is compiled.  Nothing
in it leads back to it (`acyclic`), so that the collector need not know of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

from mypy_extensions import mypyc_attr

RawHeaders = Iterable[tuple[bytes, bytes]]
"""Header fields as received, in order, as often as they are asked for: names in the client's
spelling, values without the surrounding white space (RFC 9110 section 5.5)."""


class Reason(StrEnum):
    """The closed vocabulary of answers; `edge/replies/problems.py` gives each its status.

    A rule may answer with a reason of its own; those are plain strings and always 403.
    """

    # allowed
    ROUTE_PUBLIC = "route_public"
    ROUTE_OPTIONAL = "route_optional"
    SIGNED_IN = "signed_in"
    RULE_ALLOWED = "rule_allowed"
    # 400
    REQUEST_MALFORMED = "request_malformed"
    AMBIGUOUS_PATH = "ambiguous_path"
    AMBIGUOUS_QUERY = "ambiguous_query"
    AMBIGUOUS_HEADER = "ambiguous_header"
    HOST_MISMATCH = "host_mismatch"
    BODY_MALFORMED = "body_malformed"
    INVALID_TOKEN = "invalid_token"
    # 401
    NO_CREDENTIAL = "no_credential"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_SIGNATURE_INVALID = "token_signature_invalid"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_CLAIMS_INVALID = "token_claims_invalid"
    TOKEN_REVOKED = "token_revoked"
    TOKEN_OUTDATED = "token_outdated"
    KEY_UNKNOWN = "key_unknown"
    SESSION_UNKNOWN = "session_unknown"
    INVALID_CREDENTIALS = "invalid_credentials"
    INVALID_REFRESH_TOKEN = "invalid_refresh_token"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"
    INSUFFICIENT_USER_AUTHENTICATION = "insufficient_user_authentication"
    # 403
    NO_RULE = "no_rule"
    CONDITION_FAILED = "condition_failed"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    CROSS_ORIGIN = "cross_origin"
    CSRF_INVALID = "csrf_invalid"
    REGISTRATION_CLOSED = "registration_closed"
    EMAIL_UNVERIFIED = "email_unverified"
    ACCOUNT_DISABLED = "account_disabled"
    CAPTCHA_REQUIRED = "captcha_required"
    # 404, 405, 408, 409
    ROUTE_UNKNOWN = "route_unknown"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    EMAIL_TAKEN = "email_taken"
    # 413, 414, 415
    BODY_TOO_LARGE = "body_too_large"
    TARGET_TOO_LONG = "target_too_long"
    MEDIA_TYPE_UNSUPPORTED = "media_type_unsupported"
    # 422, 426, 429, 431
    BODY_INVALID = "body_invalid"
    WEAK_PASSWORD = "weak_password"
    UPGRADE_REQUIRED = "upgrade_required"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    HEADER_TOO_LARGE = "header_too_large"
    # 500
    INTERNAL_ERROR = "internal_error"
    # 502, 504
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_MALFORMED = "upstream_malformed"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    # 503
    REPLICA_STALE = "replica_stale"
    STORE_UNAVAILABLE = "store_unavailable"
    STORE_BUSY = "store_busy"
    ISSUER_UNAVAILABLE = "issuer_unavailable"
    REVOCATION_PENDING = "revocation_pending"
    HASHING_BUSY = "hashing_busy"
    UPSTREAM_BUSY = "upstream_busy"
    DRAINING = "draining"


class CredentialKind(StrEnum):
    BEARER = "bearer"
    COOKIE = "cookie"
    API_KEY = "api_key"
    BASIC = "basic"
    """`Authorization: Basic` with an API key as the password."""


DEFAULT_ACCEPT = frozenset(CredentialKind) - {CredentialKind.BASIC}
"""What a route takes that does not say: Basic is mostly the application's own."""

OWN_ISSUER = "own"
"""The name of this gateway among the issuers of a configuration."""

OWN_ISSUERS = frozenset((OWN_ISSUER,))
"""What a route takes that does not say: nobody else's tokens."""


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Credential:
    """What was presented, not yet believed.  `text` is the token, cookie value or key itself."""

    kind: CredentialKind
    text: str

    def __init__(self, kind: CredentialKind, text: str) -> None:
        self.kind = kind
        self.text = text


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Principal:
    """Who calls, verified: the signature and the claims were good when this was made.

    Expiry and revocation are not part of it: they are asked on every request.
    `session_id`, `email` are None where there is none (clients, imported keys).  Of another
    issuer, `subject`, `session_id`, `token_id`, `client_id` and `kid` begin with its name and
    a colon, so that nobody is taken for somebody of ours.
    """

    subject: str
    roles: tuple[str, ...]
    session_id: str | None
    token_id: str
    client_id: str | None
    kid: str
    issued_at: int
    expires_at: int
    email: str | None
    email_verified: bool
    auth_time: int | None
    amr: tuple[str, ...]
    scopes: tuple[str, ...] | None
    """Actions that an API key is limited to; None where nothing limits them."""
    routes: frozenset[str] | None
    """Ids of the routes that a personal key is limited to; it then has `scopes` too."""
    claims: Mapping[str, Any]
    issuer: str
    """The name by which the configuration knows whoever issued the token."""
    audience: tuple[str, ...] | None
    """`aud` of a token; None for a cookie and a key, which name nobody."""
    resource_only: bool
    """Its `aud` names resources of ours (RFC 8707) and not the gateway: it is good on the routes
    of those resources alone."""
    granted_scopes: tuple[str, ...]
    """`scope` (RFC 8693 section 4.2) of a token."""
    identity_headers: bytes | None
    """The `X-Auth-*` lines for the upstream, rendered once by `edge/proxy/request_headers.py`."""
    identity_lines: dict[Any, bytes] | None
    """Those of other `access.identity_headers.IdentityHeaders`, by them."""
    held_roles: tuple[str, ...] | None
    """All roles of the account, or client, where a key is limited to fewer (`roles`); else None."""

    def __init__(
        self,
        subject: str,
        roles: tuple[str, ...],
        session_id: str | None,
        token_id: str,
        client_id: str | None,
        *,
        kid: str,
        issued_at: int,
        expires_at: int,
        email: str | None = None,
        email_verified: bool = False,
        auth_time: int | None = None,
        amr: tuple[str, ...] = (),
        scopes: tuple[str, ...] | None = None,
        routes: frozenset[str] | None = None,
        claims: Mapping[str, Any] | None = None,
        issuer: str = OWN_ISSUER,
        audience: tuple[str, ...] | None = None,
        resource_only: bool = False,
        granted_scopes: tuple[str, ...] = (),
        identity_headers: bytes | None = None,
        identity_lines: dict[Any, bytes] | None = None,
        held_roles: tuple[str, ...] | None = None,
    ) -> None:
        self.subject = subject
        self.roles = roles
        self.session_id = session_id
        self.token_id = token_id
        self.client_id = client_id
        self.kid = kid
        self.issued_at = issued_at
        self.expires_at = expires_at
        self.email = email
        self.email_verified = email_verified
        self.auth_time = auth_time
        self.amr = amr
        self.scopes = scopes
        self.routes = routes
        self.claims = {} if claims is None else claims
        self.issuer = issuer
        self.audience = audience
        self.resource_only = resource_only
        self.granted_scopes = granted_scopes
        self.identity_headers = identity_headers
        self.identity_lines = identity_lines
        self.held_roles = held_roles

    @property
    def role_set(self) -> frozenset[str]:
        """The roles in no order."""
        return frozenset(self.roles)

    def with_held_roles(self) -> Principal:
        """The same caller with all roles of the account, as far as a key limits these."""
        if self.held_roles is None:
            return self
        return replace(
            self,
            roles=self.held_roles,
            held_roles=None,
            identity_headers=None,
            identity_lines=None,
        )


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Call:
    """One request, as the decision sees it.

    `host` is lower case, without port and final dot.  `path` holds the bytes received, up to
    the `?`; `segments` are its parts, percent-decoded exactly once: `/a/` has `("a", "")`,
    `/` has `("",)`.  `query` is what followed the `?`, undecoded.  `credential` is None where
    none of a kind that any route takes came, or the Reason for which it cannot even be read.
    """

    method: str
    host: str
    path: str
    segments: tuple[str, ...]
    query: str
    headers: RawHeaders
    client_ip: str
    scheme: str
    credential: Credential | Reason | None
    encoded_slash: bool
    """Whether a segment holds a slash that came as `%2F`: only a route with
    `allow_encoded_slash` may take such a call."""
    body: Any
    """The JSON body, where the route's policy reads it; once the call is decided, what a record of
    the decision has of it (`access/parsed_bodies.py`)."""
    files_only: bool
    """Whether a segment holds `;`, a backslash or an escape: only a route with `paths: files`
    may take such a call."""
    presented: tuple[Credential, Credential | Reason] | None
    """The `Authorization` and the session cookie, where both came.  `credential` is the former
    until `access/routing/credentials.py` has chosen for the route."""
    raw_body: bytes
    """What `body` was parsed of; once it is decided, only for whoever judges the call again."""

    def __init__(
        self,
        method: str,
        host: str,
        path: str,
        segments: tuple[str, ...],
        query: str,
        *,
        headers: RawHeaders,
        client_ip: str,
        scheme: str,
        credential: Credential | Reason | None = None,
        encoded_slash: bool = False,
        body: Any = None,
        files_only: bool = False,
        presented: tuple[Credential, Credential | Reason] | None = None,
        raw_body: bytes = b"",
    ) -> None:
        self.method = method
        self.host = host
        self.path = path
        self.segments = segments
        self.query = query
        self.headers = headers
        self.client_ip = client_ip
        self.scheme = scheme
        self.credential = credential
        self.encoded_slash = encoded_slash
        self.body = body
        self.files_only = files_only
        self.presented = presented
        self.raw_body = raw_body


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where something is written in the configuration; lines and columns count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = SourceLocation("", 0)
"""The location of what no file says: built in, or made by a test."""


def without_session(subject: str) -> str:
    """Names, among the targets of SUBJECT, the tokens of another issuer's subject that name no
    session: where one of its sessions ends, they may be of that one.  No subject holds a space.
    """
    return f"{subject} -"


class ChangeKind(StrEnum):
    """What a change speaks of; `Change.target` names it."""

    SESSION = "session"
    TOKEN = "token"
    SUBJECT = "subject"
    CLIENT = "client"
    KEY = "key"
    KEYS = "keys"
    """Signing keys were added or moved on: read them again.  `target` is the kid."""
    EVERYONE = "everyone"
    """A backup was restored: no token given before is good, whoever holds it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of what every worker must know; a row of `changes`, an entry of the stream.

    For SUBJECT, CLIENT and EVERYONE, tokens whose `iat <= not_before` are refused; the other kinds
    refuse whatever names the target.  `cause` is the Reason that the holder of the token
    is given: TOKEN_REVOKED, or TOKEN_OUTDATED after a change of roles.
    """

    id: str
    kind: ChangeKind
    target: str
    not_before: int
    """Seconds since the epoch, by the SQL store's clock."""
    cause: Reason
    created_at: int
    confirmed: bool = field(default=False, compare=False)
    """Whether SQL knows that every live worker has had it: it is not published again."""


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch; may jump."""

    def steady(self) -> float:
        """Seconds that never jump and go on while the machine sleeps."""


class SystemClock:
    """The clocks of this machine, asked several times for each request: no Python in between."""

    now = staticmethod(time.time)
    steady = staticmethod(partial(time.clock_gettime, time.CLOCK_BOOTTIME))


@dataclass(frozen=True, slots=True, order=True)
class ConfigProblem:
    """A mistake in a configuration file, and what would be right; counts from 1."""

    file: str
    line: int
    column: int
    text: str

    @classmethod
    def at(cls, location: SourceLocation, text: str) -> ConfigProblem:
        return cls(location.file, location.line, location.column, text)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.text}"
