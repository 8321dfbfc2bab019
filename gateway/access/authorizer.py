"""May this call pass?  The one function that the proxy, the decision API and the CLI ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.access.attributes import in_tenant
from gateway.access.conditions.context import NO_RESOURCE, EvaluationContext, RequestedResource
from gateway.access.conditions.functions import has_scope
from gateway.access.definitions import Limit
from gateway.access.evaluation import evaluation_context, requested_resource
from gateway.access.policies import Shadowed, Verdict
from gateway.access.readings import Readings, bypasses_route, readings_of
from gateway.access.resource_servers import audience_refusal, missing_scopes
from gateway.access.routing.credentials import select_credential
from gateway.access.routing.csrf import (
    AllowedOrigins,
    CsrfCheck,
    OwnOrigins,
    basic_refusal,
    csrf_refusal,
)
from gateway.access.routing.route_table import Match, NoMatch
from gateway.access.routing.routes import Auth, Route
from gateway.access.rule_headers import rule_headers
from gateway.model import (
    NOWHERE,
    OWN_ISSUERS,
    Call,
    Clock,
    Credential,
    CredentialKind,
    LimitState,
    Principal,
    Reason,
    SourceLocation,
    SystemClock,
)

if TYPE_CHECKING:
    from gateway.access.snapshot import Snapshot


# On the path of every request: to look a member up in its enum costs as much as to compare it.
_PUBLIC = Auth.PUBLIC
_BEARER = CredentialKind.BEARER


class Authenticator(Protocol):
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


@dataclass(slots=True)
class Decision:
    """The answer, and all that is recorded of it.

    `reason` is a member of Reason or a rule's own text.  `refusal` is the Reason that the
    table of answers knows; None when the call is allowed, or refused for a rule's own
    reason (always 403).  With `conceal` the client is answered as for an unknown route.
    """

    allowed: bool
    reason: str
    refusal: Reason | None = None
    route: Route | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    principal: Principal | None = None
    policy: str | None = None
    rule: str | None = None
    location: SourceLocation | None = None
    retry_after_s: float = 0.0
    conceal: bool = False
    allow: tuple[str, ...] = ()
    """The methods for `Allow`, when the reason is METHOD_NOT_ALLOWED."""
    target: str = ""
    """Path and query to send to the upstream, after the route's rewrite."""
    headers: tuple[tuple[str, str], ...] = ()
    """Fields that the rules which allow it add for the upstream."""
    limit: LimitState | None = None
    """Where the caller stands; None where no limit was asked."""
    evaluated: bool = False
    """Whether the policy was evaluated; a refusal before it names the policy all the same."""
    shadowed: tuple[Shadowed, ...] = ()
    """What rules in shadow would have decided otherwise."""
    max_age_s: int | None = None
    """With INSUFFICIENT_USER_AUTHENTICATION: how fresh a sign-in must be (RFC 9470)."""
    last_limits: tuple[Limit, ...] = ()
    """Limits that are asked once the call is allowed: of the route, and of the deciding rule."""
    lacking_scopes: tuple[str, ...] = ()
    """With INSUFFICIENT_SCOPE: what the route's resource asks for and the token does not have."""
    amr: tuple[str, ...] = ()
    """With INSUFFICIENT_USER_AUTHENTICATION: the methods that are asked for."""
    read_as: str = ""
    """The path that was denied, where it is what a backend may make of the call's."""


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
        self._limiter = limiter
        self._csrf = csrf
        self._origins = origins or OwnOrigins()
        self._now = (clock or SystemClock()).now

    async def decide(self, call: Call, snapshot: Snapshot) -> Decision:
        match = snapshot.routes.match(call.host, call.method, call.segments)
        readings: Readings | None = ()
        if call.files_only or call.encoded_slash:
            readings = readings_of(call, match, snapshot.routes)
        if readings is None:
            return _ambiguous(match)
        if not isinstance(match, Match):
            if call.encoded_slash and match.reason is Reason.ROUTE_UNKNOWN:
                # As on a route that does not allow it: else the two answers would tell a
                # stranger which paths have a route, hidden ones too.
                return _ambiguous(match)
            return Decision(False, match.reason, match.reason, allow=match.allow)
        route, params = match.route, match.params
        caller: Principal | None = None
        principal: Principal | None = None
        if route.auth is not _PUBLIC:
            if call.presented is not None:
                call.credential = select_credential(call, route.accept)
            credential = call.credential
            if isinstance(credential, Credential) and credential.kind is not _BEARER:
                identified = await self._identify_other(credential, call, route)
            else:
                identified = await self._authenticator.authenticate(
                    call, route.accept, route.issuers
                )
            if isinstance(identified, Principal):
                caller = identified
                principal = _acting(identified, match)
                if route.resource_server is not None or principal.resource_only:
                    refusal = audience_refusal(principal, route, call, self._origins)
                    if refusal is not None:
                        return await self._unidentified(refusal, call, match)
            elif route.auth is Auth.REQUIRED or identified is not Reason.NO_CREDENTIAL:
                return await self._unidentified(identified, call, match)
        limit_state: LimitState | None = None
        if route.first_limits:
            requested = requested_resource(call, match) if route.first_by_resource else NO_RESOURCE
            limit_state = await self._limiter.take(route.first_limits, call, principal, requested)
            if limit_state.wait_s > 0.0:
                return _limited(match, principal, limit_state)
        decision = self._evaluate(call, match, principal)
        if readings and decision.allowed:
            decision = self._evaluate_readings(readings, caller) or decision
        decision.limit = limit_state
        if decision.allowed:
            if route.rewrite is None:
                # The client's own bytes.
                decision.target = f"{call.path}?{call.query}" if call.query else call.path
            else:
                sent = route.upstream_target(call, params)
                if isinstance(sent, Reason) or bypasses_route(sent, call, route, snapshot.routes):
                    return _refused(Reason.AMBIGUOUS_PATH, match, principal)
                decision.target = sent
            if decision.last_limits:
                requested = requested_resource(call, match)
                last = await self._limiter.take(decision.last_limits, call, principal, requested)
                decision.limit = last if limit_state is None else limit_state.joined(last)
                if last.wait_s > 0.0:
                    return _limited(match, principal, decision.limit, decision)
        return decision

    def reevaluate(self, call: Call, snapshot: Snapshot, principal: Principal | None) -> Decision:
        """The decision of this moment on a call that has been going on since one before.

        Who calls is known.  No limit is asked: it is no new call.
        """
        match = snapshot.routes.match(call.host, call.method, call.segments)
        readings: Readings | None = ()
        if call.files_only or call.encoded_slash:
            readings = readings_of(call, match, snapshot.routes)
        if readings is None:
            return _ambiguous(match)
        if not isinstance(match, Match):
            return Decision(False, match.reason, match.reason)
        route = match.route
        if route.auth is Auth.PUBLIC:
            principal = None
        elif principal is None:
            if route.auth is Auth.REQUIRED:
                return _refused(Reason.NO_CREDENTIAL, match)
        elif isinstance(credential := call.credential, Credential):
            refusal: Reason | None = Reason.NO_CREDENTIAL
            if principal.issuer not in route.issuers:
                refusal = Reason.TOKEN_CLAIMS_INVALID
            elif select_credential(call, route.accept) is credential:
                refusal = self._origin_refusal(credential, call, route)
                refusal = refusal or audience_refusal(principal, route, call, self._origins)
            if refusal is not None:
                return _refused(refusal, match, principal)
        decision = self._evaluate(call, match, principal and _acting(principal, match))
        if readings and decision.allowed:
            return self._evaluate_readings(readings, principal) or decision
        return decision

    def _evaluate_readings(
        self, readings: Readings, principal: Principal | None
    ) -> Decision | None:
        """The denial of a path that the backend may take for the one that was asked for.  Each may
        name another tenant."""
        for call, match in readings:
            decision = self._evaluate(call, match, principal and _acting(principal, match))
            if not decision.allowed:
                decision.read_as = call.path
                return decision
        return None

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

    async def _unidentified(self, reason: Reason, call: Call, match: Match) -> Decision:
        # Whoever tries tokens pays for it, and nobody but the address is known to pay.
        limit_state: LimitState | None = None
        if match.route.first_limits:
            limit_state = await self._limiter.take(match.route.first_limits, call, None)
            if limit_state.wait_s > 0.0:
                return _limited(match, None, limit_state)
        refused = _refused(reason, match)
        refused.limit = limit_state
        return refused

    def _evaluate(self, call: Call, match: Match, principal: Principal | None) -> Decision:
        route, params = match.route, match.params
        policy, action_rules = route.policy, route.action_rules
        if (
            principal is not None
            and principal.scopes is not None
            and not _in_scope(principal, route)
        ):
            return _refused(Reason.NO_RULE, match, principal)
        if route.resource_server is not None and (lacking := missing_scopes(principal, route)):
            refused = _refused(Reason.INSUFFICIENT_SCOPE, match, principal)
            refused.lacking_scopes = lacking
            return refused
        if policy is None or action_rules is None:
            public = route.auth is Auth.PUBLIC
            reason = Reason.ROUTE_PUBLIC if public else Reason.ROUTE_OPTIONAL
            return Decision(True, reason, None, route, params, principal, location=route.location)
        context: EvaluationContext | None = None
        verdict: Verdict | None = None
        if action_rules.by_roles is not None and not (route.query_names or route.header_names):
            verdict = action_rules.by_roles.get(None if principal is None else principal.roles)
        if verdict is None:
            read = evaluation_context(call, match, principal, self._now)
            if isinstance(read, Reason):
                return _refused(read, match, principal)
            context = read
            verdict = policy.verdict(route.action, context)
            policy.remember(action_rules, principal, verdict)
        rule = verdict.rule
        decision = Decision(
            verdict.allowed,
            verdict.reason,
            verdict.refusal,
            route,
            params,
            principal,
            policy.name,
            rule.id if rule is not None else None,
            route.location if verdict.location is NOWHERE else verdict.location,
            conceal=verdict.conceal,
            evaluated=True,
            shadowed=verdict.shadowed,
        )
        if verdict.allowed:
            if route.has_last_limits:
                decision.last_limits = route.limits_after(rule)
            if action_rules.headed and context is not None and rule is not None:
                decision.headers = rule_headers(action_rules, rule, route.action, context)
        if verdict.step_up is not None:
            decision.max_age_s = verdict.step_up.max_age_s
            decision.amr = verdict.step_up.amr
        return decision


def _acting(principal: Principal, match: Match) -> Principal:
    """The caller as whoever acts for the tenant that the path names, where the route says that it
    names one."""
    tenant = match.route.tenant
    return principal if tenant is None else in_tenant(principal, match.params[tenant])


def _in_scope(principal: Principal, route: Route) -> bool:
    """Whether a credential that is limited to scopes, or to routes, may be used here at all.

    On a route without an action only a credential for everything (`*`) passes.
    """
    if principal.routes is not None and route.id not in principal.routes:
        return False
    return has_scope(principal, route.action)


def _ambiguous(match: Match | NoMatch) -> Decision:
    if isinstance(match, Match):
        return _refused(Reason.AMBIGUOUS_PATH, match)
    return Decision(False, Reason.AMBIGUOUS_PATH, Reason.AMBIGUOUS_PATH)


def _refused(reason: Reason, match: Match, principal: Principal | None = None) -> Decision:
    route = match.route
    policy = route.policy.name if route.policy else None
    return Decision(
        False, reason, reason, route, match.params, principal, policy, location=route.location
    )


def _limited(
    match: Match,
    principal: Principal | None,
    limit_state: LimitState,
    allowed: Decision | None = None,
) -> Decision:
    refused = _refused(Reason.RATE_LIMITED, match, principal)
    refused.limit = limit_state
    refused.retry_after_s = limit_state.wait_s
    if allowed is not None:
        refused.policy, refused.rule, refused.location = (
            allowed.policy,
            allowed.rule,
            allowed.location,
        )
    return refused
