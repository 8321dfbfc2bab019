"""May this call pass?  The one function that the proxy, the decision API and the CLI ask."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.decision import Decision, ambiguous, charged, last_limited, limited, refused
from gateway.access.definitions import Limit
from gateway.access.evaluation import UNIDENTIFIED, judged_resource, requested_resource
from gateway.access.judging import Contexts, acting, denied_reading, judged
from gateway.access.readings import (
    Readings,
    bypasses_route,
    has_readings,
    is_anothers,
    readings_of,
)
from gateway.access.resource_servers import audience_refusal
from gateway.access.routing.credentials import select_credential
from gateway.access.routing.csrf import (
    AllowedOrigins,
    CsrfCheck,
    OwnOrigins,
    basic_refusal,
    csrf_refusal,
)
from gateway.access.routing.route_table import Match, RouteTable
from gateway.access.routing.routes import Auth, Route
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

if TYPE_CHECKING:
    from gateway.access.snapshot import Snapshot


__all__ = ["Authenticator", "Authorizer", "Decision", "Limiter"]

# On the path of every request: to look a member up in its enum costs as much as to compare it.
_PUBLIC = Auth.PUBLIC
_BEARER = CredentialKind.BEARER


class Authenticator(Protocol):
    def authenticate_now(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason | None:
        """As `authenticate`, of what is in memory; None where somebody has to be asked."""

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        """Who calls: the credential verified, its expiry and revocation asked.

        NO_CREDENTIAL where none came, or none of a kind in `accept`; TOKEN_CLAIMS_INVALID for a
        token of none of the `issuers`.
        """


class Limiter(Protocol):
    def take_now(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState | None:
        """As `take`, of what is in memory; None, and nothing is charged, where it is not."""

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        """Where the caller stands; `wait_s` is 0.0 once every limit was charged by one.

        All are asked before any is charged.  `limits` is never empty.
        """


class Authorizer:
    """Decides calls.  It does no I/O of its own: where the token cache, the replica and the
    counters are in memory, it answers without a turn of the loop."""

    def __init__(
        self,
        authenticator: Authenticator,
        limiter: Limiter,
        csrf: CsrfCheck | None = None,
        clock: Clock | None = None,
        origins: OwnOrigins | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._authenticate_now = authenticator.authenticate_now
        self._limiter = limiter
        self._take_now = limiter.take_now
        self._csrf = csrf
        self._origins = origins or OwnOrigins()
        self._now = (clock or SystemClock()).now

    def begin(self, call: Call, snapshot: Snapshot) -> Decision | Coroutine[Any, Any, Decision]:
        """The decision, where all that it asks is in memory; else what goes on from where it has
        to wait.  That may be begun outside a task: what it needs one for, it does after a wait."""
        match = snapshot.routes.match(call.host, call.method, call.segments)
        readings: Readings | None = None
        if has_readings(call):
            readings = readings_of(call, match, snapshot.routes)
            if readings is None:
                return ambiguous(match)
        if not isinstance(match, Match):
            if call.encoded_slash and match.reason is Reason.ROUTE_UNKNOWN:
                # As on a route that does not allow it: else the two answers would tell a
                # stranger which paths have a route, hidden ones too.
                return ambiguous(match)
            return Decision(False, match.reason, match.reason, allow=match.allow)
        if match.read_elsewhere:
            return ambiguous(match)
        route = match.route
        if route.auth is _PUBLIC:
            return self._limit(call, snapshot, match, None, readings)
        if call.presented is not None:
            call.credential = select_credential(call, route.accept)
        credential = call.credential
        if isinstance(credential, Credential) and credential.kind is not _BEARER:
            return self._wait_for_caller(call, snapshot, match)
        identified = self._authenticate_now(call, route.accept, route.issuers)
        if identified is None:
            return self._wait_for_caller(call, snapshot, match)
        return self._identified(call, snapshot, match, identified, readings)

    async def decide(self, call: Call, snapshot: Snapshot) -> Decision:
        """The decision, waited for where it has to."""
        return await _ended(self.begin(call, snapshot))

    async def _wait_for_caller(self, call: Call, snapshot: Snapshot, match: Match) -> Decision:
        route, credential = match.route, call.credential
        identified: Principal | Reason
        if isinstance(credential, Credential) and credential.kind is not _BEARER:
            identified = await self._identify_other(credential, call, route)
        else:
            identified = await self._authenticator.authenticate(call, route.accept, route.issuers)
        return await _ended(self._identified(call, snapshot, match, identified))

    def _identified(
        self,
        call: Call,
        snapshot: Snapshot,
        match: Match,
        identified: Principal | Reason,
        readings: Readings | None = None,
    ) -> Decision | Coroutine[Any, Any, Decision]:
        """`readings`, here and below, are those of the call, where nothing was waited for since:
        nobody who waits keeps them."""
        route = match.route
        if not isinstance(identified, Principal):
            if route.auth is Auth.REQUIRED or identified is not Reason.NO_CREDENTIAL:
                return self._charged_refusal(identified, call, match)
            return self._limit(call, snapshot, match, None, readings)
        if route.resource_server is not None or identified.resource_only:
            refusal = audience_refusal(identified, route, call, self._origins)
            if refusal is not None:
                return self._charged_refusal(refusal, call, match)
        return self._limit(call, snapshot, match, identified, readings)

    def _limit(
        self,
        call: Call,
        snapshot: Snapshot,
        match: Match,
        caller: Principal | None,
        readings: Readings | None,
    ) -> Decision | Coroutine[Any, Any, Decision]:
        """The limits that are asked first."""
        route = match.route
        if not route.first_limits:
            return self._judge(call, snapshot, match, caller, None, readings=readings)
        principal = caller if caller is None or route.tenant is None else acting(caller, match)
        requested = NO_RESOURCE
        if route.first_by_resource:
            read = requested_resource(call, match)
            if isinstance(read, Reason):
                return self._charged_refusal(read, call, match, principal)
            requested = read
        limit_state = self._take_now(route.first_limits, call, principal, requested)
        if limit_state is None:
            return self._wait_for_limit(call, snapshot, match, caller, requested)
        if limit_state.wait_s > 0.0:
            return limited(match, principal, limit_state)
        return self._judge(call, snapshot, match, caller, limit_state, readings=readings)

    async def _wait_for_limit(
        self,
        call: Call,
        snapshot: Snapshot,
        match: Match,
        caller: Principal | None,
        requested: RequestedResource,
    ) -> Decision:
        principal = caller and acting(caller, match)
        limit_state = await self._limiter.take(match.route.first_limits, call, principal, requested)
        if limit_state.wait_s > 0.0:
            return limited(match, principal, limit_state)
        return await _ended(self._judge(call, snapshot, match, caller, limit_state))

    def _judge(
        self,
        call: Call,
        snapshot: Snapshot,
        match: Match,
        caller: Principal | None,
        limit_state: LimitState | None,
        *,
        readings: Readings | None = None,
    ) -> Decision | Coroutine[Any, Any, Decision]:
        """The policy, and the limits that are asked once it allows the call."""
        route = match.route
        principal = caller if caller is None or route.tenant is None else acting(caller, match)
        contexts: Contexts | None = {} if has_readings(call) else None
        decision = judged(call, match, principal, self._now, contexts)
        if not decision.allowed:
            decision.limit = limit_state
            return decision
        if contexts is not None:
            if readings is None:
                readings = readings_of(call, match, snapshot.routes)
            denied = denied_reading(
                call, match, readings or (), caller, now=self._now, contexts=contexts
            )
            if denied is not None:
                denied.limit = limit_state
                return denied
        decision.limit = limit_state
        target = _target(call, match, snapshot.routes, principal)
        if target is None:
            return refused(Reason.AMBIGUOUS_PATH, match, principal)
        decision.target = target
        if not decision.last_limits:
            return decision
        requested = judged_resource(call, match)
        last = self._take_now(decision.last_limits, call, principal, requested)
        if last is None:
            return self._wait_for_last(decision, call, match, requested)
        return last_limited(decision, match, last)

    async def _wait_for_last(
        self, decision: Decision, call: Call, match: Match, requested: RequestedResource
    ) -> Decision:
        limits, principal = decision.last_limits, decision.principal
        last = await self._limiter.take(limits, call, principal, requested)
        return last_limited(decision, match, last)

    def reevaluate(self, call: Call, snapshot: Snapshot, principal: Principal | None) -> Decision:
        """The decision of this moment on a call that has been going on since one before.

        Who calls is known.  No limit is asked: it is no new call.
        """
        match = snapshot.routes.match(call.host, call.method, call.segments)
        readings: Readings | None = ()
        if has_readings(call):
            readings = readings_of(call, match, snapshot.routes)
        if readings is None:
            return ambiguous(match)
        if not isinstance(match, Match):
            return Decision(False, match.reason, match.reason)
        if match.read_elsewhere:
            return ambiguous(match)
        route = match.route
        if route.auth is Auth.PUBLIC:
            principal = None
        elif principal is None:
            if route.auth is Auth.REQUIRED:
                return refused(Reason.NO_CREDENTIAL, match)
        elif isinstance(credential := call.credential, Credential):
            refusal: Reason | None = Reason.NO_CREDENTIAL
            if principal.issuer not in route.issuers:
                refusal = Reason.TOKEN_CLAIMS_INVALID
            elif select_credential(call, route.accept) is credential:
                refusal = self._origin_refusal(credential, call, route)
                refusal = refusal or audience_refusal(principal, route, call, self._origins)
            if refusal is not None:
                return refused(refusal, match, principal)
        acts = principal and acting(principal, match)
        contexts: Contexts = {}
        decision = judged(call, match, acts, self._now, contexts)
        if readings and decision.allowed:
            denied = denied_reading(
                call, match, readings, principal, now=self._now, contexts=contexts
            )
            decision = denied or decision
        # The table may be another one than when the call began.
        if decision.allowed and _target(call, match, snapshot.routes, principal) is None:
            return refused(Reason.AMBIGUOUS_PATH, match, acts)
        return decision

    async def _identify_other(
        self, credential: Credential, call: Call, route: Route
    ) -> Principal | Reason:
        if credential.kind not in route.accept:
            return Reason.NO_CREDENTIAL
        refusal = self._origin_refusal(credential, call, route)
        return refusal or await self._authenticator.authenticate(call, route.accept, route.issuers)

    def _origin_refusal(self, credential: Credential, call: Call, route: Route) -> Reason | None:
        """Why a credential that browsers add by themselves may not be used by this call."""
        # A wildcard's other hosts may be anybody's: the one that was called is meant.
        host = call.host if route.hosts else None
        allowed = AllowedOrigins(self._origins, host, route.cors)
        if credential.kind is CredentialKind.COOKIE:
            return csrf_refusal(call, allowed, self._csrf)
        return basic_refusal(call, allowed) if credential.kind is CredentialKind.BASIC else None

    def _charged_refusal(
        self, reason: Reason, call: Call, match: Match, principal: Principal | None = None
    ) -> Decision | Coroutine[Any, Any, Decision]:
        # Whoever tries tokens pays for it, and nobody but the address is known to pay.  So does who
        # names what a limit counts in two ways.
        limits = match.route.first_limits
        if not limits:
            return refused(reason, match)
        limit_state = self._take_now(limits, call, principal, UNIDENTIFIED)
        if limit_state is None:
            return self._wait_to_refuse(reason, call, match, principal)
        return charged(reason, match, limit_state, principal)

    async def _wait_to_refuse(
        self, reason: Reason, call: Call, match: Match, principal: Principal | None
    ) -> Decision:
        limits = match.route.first_limits
        limit_state = await self._limiter.take(limits, call, principal, UNIDENTIFIED)
        return charged(reason, match, limit_state, principal)


async def _ended(begun: Decision | Coroutine[Any, Any, Decision]) -> Decision:
    return begun if isinstance(begun, Decision) else await begun


def _target(
    call: Call, match: Match, routes: RouteTable, principal: Principal | None
) -> str | None:
    """What an upstream is asked for; None: it is another route's, in some reading."""
    route = match.route
    good_at = None if principal is None else principal.routes
    if good_at is not None and is_anothers(call, match, routes, good_at):
        return None
    if route.rewrite is None:
        # The client's own bytes.
        return f"{call.path}?{call.query}" if call.query else call.path
    sent = route.upstream_target(call, match.params)
    if isinstance(sent, Reason) or bypasses_route(sent, call, route, routes, good_at):
        return None
    return sent
