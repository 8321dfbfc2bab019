"""Requests decided by the one `Authorizer.decide`, without a server, a store or a loop.

Who calls is given instead of being authenticated, and no limit applies; everything else is
the code that serves traffic.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.decision_record import RecordedDecision
from gateway.access.definitions import Limit
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.hosts import canonical_host
from gateway.access.routing.paths import split_target
from gateway.access.routing.request_values import has_body
from gateway.access.snapshot import Snapshot
from gateway.limit_state import LimitState
from gateway.model import (
    OWN_ISSUERS,
    Call,
    Clock,
    Credential,
    CredentialKind,
    Principal,
    Reason,
    SystemClock,
)

_ADMITTED = LimitState(0.0, "", (), ())
_YEAR_S = 366 * 86_400

_T = TypeVar("_T")


@dataclass(slots=True)
class FixedClock:
    """A clock that stands at `at` until somebody sets it: a decision does not depend on when the
    test runs."""

    at: float

    def now(self) -> float:
        return self.at

    def steady(self) -> float:
        return self.at


class SlowAuthenticator:
    """Of one that remembers nobody: who calls has to be waited for."""

    def authenticate_now(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> None:
        """It has to be asked."""


class SlowLimiter:
    """Of one that counts nothing here: the answer has to be waited for."""

    def take_now(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> None:
        """It has to be asked."""


@dataclass(slots=True)
class FixedAuthenticator(SlowAuthenticator):
    """Authenticates every call as the one caller (or with the one refusal) that it was given."""

    caller: Principal | Reason

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        credential = call.credential
        if isinstance(credential, Credential) and credential.kind not in accept:
            return Reason.NO_CREDENTIAL
        caller = self.caller
        if isinstance(caller, Principal) and caller.issuer not in issuers:
            return Reason.TOKEN_CLAIMS_INVALID
        return caller


class NoLimits(SlowLimiter):
    """Admits every call: a policy does not depend on counters."""

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        return _ADMITTED


@dataclass(slots=True)
class SimulatedRequest:
    """One request, as a person writes it."""

    method: str
    url: str
    """A path with its query, or a whole URL."""
    caller: Principal | Reason = Reason.NO_CREDENTIAL
    headers: Sequence[tuple[str, str]] = ()
    client_ip: str = "127.0.0.1"
    body: Any = None
    clock: Clock = field(default_factory=SystemClock)
    kind: CredentialKind = CredentialKind.BEARER


@dataclass(slots=True)
class SimulatedResult:
    decision: Decision
    call: Call | None
    """None where the request could not even be read as a call."""


def person(
    subject: str,
    roles: Sequence[str] = (),
    *,
    now: float,
    email: str | None = None,
    email_verified: bool = False,
    session_id: str | None = "session",
    client_id: str | None = None,
    auth_time: float | None = None,
    amr: Sequence[str] = ("pwd",),
    scopes: Sequence[str] | None = None,
    claims: Mapping[str, Any] | None = None,
) -> Principal:
    """A caller made up for a request; signed in at `now` unless `auth_time` says otherwise."""
    issued = int(now)
    return Principal(
        subject=subject,
        roles=tuple(roles),
        session_id=session_id,
        token_id="made-up",  # noqa: S106
        client_id=client_id,
        kid="made-up",
        issued_at=issued,
        expires_at=issued + _YEAR_S,
        email=email,
        email_verified=email_verified,
        auth_time=int(now if auth_time is None else auth_time),
        amr=tuple(amr),
        scopes=None if scopes is None else tuple(scopes),
        claims=dict(claims or {}),
    )


def recorded_request(recorded: RecordedDecision) -> SimulatedRequest:
    """The request of a line of the decision log, at its time."""
    call = recorded.call
    headers = [(name.decode("latin-1"), value.decode()) for name, value in call.headers]
    if recorded.with_cookie and "sec-fetch-site" not in recorded.header_names:
        # Its proof of intent was checked then; now it counts as given.
        headers.append(("Sec-Fetch-Site", "same-origin"))
    return SimulatedRequest(
        call.method,
        f"{call.path}?{call.query}" if call.query else call.path,
        recorded.caller,
        [("Host", call.host), *headers],
        call.client_ip,
        call.body,
        FixedClock(recorded.at),
        recorded.kind,
    )


def simulate(request: SimulatedRequest, snapshot: Snapshot) -> SimulatedResult:
    """The decision that the gateway would give."""
    call = simulated_call(request)
    if isinstance(call, Reason):
        return SimulatedResult(Decision(False, call, call), None)
    authorizer = Authorizer(
        FixedAuthenticator(request.caller),
        NoLimits(),
        clock=request.clock,
        origins=OwnOrigins(snapshot.public_url),
    )
    return SimulatedResult(run_sync(authorizer, call, snapshot), call)


def run_sync(authorizer: Authorizer, call: Call, snapshot: Snapshot) -> Decision:
    """Run `Authorizer.decide` to its end: nothing that it awaits here ever waits."""
    return completed(authorizer.decide(call, snapshot))


def completed(running: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns that never waits.  Raises AssertionError where it does."""
    try:
        running.send(None)
    except StopIteration as done:
        returned: _T = done.value
        return returned
    running.close()
    raise AssertionError("a simulated request waited for something")


def simulated_call(request: SimulatedRequest) -> Call | Reason:
    """The Call that the edge would have read; the Reason when it would have refused."""
    target, host, scheme = request.url, "localhost", "http"
    if request.method.upper() in ("CONNECT", "TRACE"):
        return Reason.METHOD_NOT_ALLOWED
    if "://" in target.partition("?")[0]:
        parts = urlsplit(target)
        scheme, host = parts.scheme.lower(), parts.netloc
        target = target.split("://", 1)[1][len(parts.netloc) :] or "/"
    for name, value in request.headers:
        if name.lower() == "host":
            host = value
    read = split_target(target.encode("utf-8").decode("latin-1"))
    if isinstance(read, Reason):
        return read
    named = canonical_host(host.encode("latin-1", "replace"))
    if named is None:
        return Reason.REQUEST_MALFORMED
    fields = [
        (name.encode("latin-1", "replace"), value.encode()) for name, value in request.headers
    ]
    if not any(name.lower() == b"host" for name, _ in fields):
        fields.insert(0, (b"Host", host.encode("latin-1", "replace")))
    if request.body is not None and not has_body(fields):
        # No condition reads this one: it says that there is a body, and nothing else.
        fields.append((b"Transfer-Encoding", b"chunked"))
    caller = request.caller
    credential = None
    if isinstance(caller, Principal):
        credential = Credential(request.kind, "")
    elif caller is not Reason.NO_CREDENTIAL:
        credential = Credential(CredentialKind.BEARER, "")
    return Call(
        method=request.method.upper(),
        host=named[0],
        path=read.path,
        segments=read.segments,
        query=read.query,
        headers=tuple(fields),
        client_ip=request.client_ip,
        scheme=scheme,
        credential=credential,
        encoded_slash=read.encoded_slash,
        files_only=read.files_only,
        body=request.body,
    )
