"""The answer to a call, and how those that refuse are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mypy_extensions import mypyc_attr

from gateway.access.definitions import Limit
from gateway.access.policies import Shadowed
from gateway.access.routing.route_table import Match, NoMatch
from gateway.access.routing.routes import Route
from gateway.limit_state import LimitState
from gateway.model import Principal, Reason, SourceLocation


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Decision:
    """The answer, and all that is recorded of it.

    `reason` is a member of Reason or a rule's own text.  `refusal` is the Reason that the
    table of answers knows; None when the call is allowed, or refused for a rule's own
    reason (always 403).  With `conceal` the client is answered as for an unknown route.
    """

    allowed: bool
    reason: str
    refusal: Reason | None
    route: Route | None
    params: Mapping[str, str]
    principal: Principal | None
    policy: str | None
    rule: str | None
    location: SourceLocation | None
    retry_after_s: float
    conceal: bool
    allow: tuple[str, ...]
    """The methods for `Allow`, when the reason is METHOD_NOT_ALLOWED."""
    target: str
    """Path and query to send to the upstream, after the route's rewrite."""
    headers: tuple[tuple[str, str], ...]
    """Fields that the rules which allow it add for the upstream."""
    limit: LimitState | None
    """Where the caller stands; None where no limit was asked."""
    evaluated: bool
    """Whether the policy was evaluated; a refusal before it names the policy all the same."""
    shadowed: tuple[Shadowed, ...]
    """What rules in shadow would have decided otherwise."""
    max_age_s: int | None
    """With INSUFFICIENT_USER_AUTHENTICATION: how fresh a sign-in must be (RFC 9470)."""
    last_limits: tuple[Limit, ...]
    """Limits that are asked once the call is allowed: of the route, and of the deciding rule."""
    lacking_scopes: tuple[str, ...]
    """With INSUFFICIENT_SCOPE: what the route's resource asks for and the token does not have."""
    amr: tuple[str, ...]
    """With INSUFFICIENT_USER_AUTHENTICATION: the methods that are asked for."""
    read_as: str
    """The path that was denied, where it is what a backend may make of the call's."""
    by_held_roles: bool
    """Whether it is by all roles of the account, and not by those of the key that was used."""

    def __init__(
        self,
        allowed: bool,
        reason: str,
        refusal: Reason | None = None,
        route: Route | None = None,
        params: Mapping[str, str] | None = None,
        *,
        principal: Principal | None = None,
        policy: str | None = None,
        rule: str | None = None,
        location: SourceLocation | None = None,
        retry_after_s: float = 0.0,
        conceal: bool = False,
        allow: tuple[str, ...] = (),
        target: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        limit: LimitState | None = None,
        evaluated: bool = False,
        shadowed: tuple[Shadowed, ...] = (),
        max_age_s: int | None = None,
        last_limits: tuple[Limit, ...] = (),
        lacking_scopes: tuple[str, ...] = (),
        amr: tuple[str, ...] = (),
        read_as: str = "",
        by_held_roles: bool = False,
    ) -> None:
        self.allowed = allowed
        self.reason = reason
        self.refusal = refusal
        self.route = route
        self.params = {} if params is None else params
        self.principal = principal
        self.policy = policy
        self.rule = rule
        self.location = location
        self.retry_after_s = retry_after_s
        self.conceal = conceal
        self.allow = allow
        self.target = target
        self.headers = headers
        self.limit = limit
        self.evaluated = evaluated
        self.shadowed = shadowed
        self.max_age_s = max_age_s
        self.last_limits = last_limits
        self.lacking_scopes = lacking_scopes
        self.amr = amr
        self.read_as = read_as
        self.by_held_roles = by_held_roles


def charged(
    reason: Reason, match: Match, limit_state: LimitState, principal: Principal | None
) -> Decision:
    if limit_state.wait_s > 0.0:
        return limited(match, principal, limit_state)
    denied = refused(reason, match, principal)
    denied.limit = limit_state
    return denied


def last_limited(decision: Decision, match: Match, last: LimitState) -> Decision:
    decision.limit = last if decision.limit is None else decision.limit.joined(last)
    if last.wait_s > 0.0:
        return limited(match, decision.principal, decision.limit, decision)
    return decision


def ambiguous(match: Match | NoMatch) -> Decision:
    if isinstance(match, Match):
        return refused(Reason.AMBIGUOUS_PATH, match)
    return Decision(False, Reason.AMBIGUOUS_PATH, Reason.AMBIGUOUS_PATH)


def refused(reason: Reason, match: Match, principal: Principal | None = None) -> Decision:
    route = match.route
    policy = route.policy.name if route.policy else None
    return Decision(
        False,
        reason,
        reason,
        route,
        match.params,
        principal=principal,
        policy=policy,
        location=route.location,
    )


def limited(
    match: Match,
    principal: Principal | None,
    limit_state: LimitState,
    allowed: Decision | None = None,
) -> Decision:
    """Refused by a limit; `allowed` is what was decided, where that was known."""
    denied = refused(Reason.RATE_LIMITED, match, principal)
    denied.limit = limit_state
    denied.retry_after_s = limit_state.wait_s
    if allowed is not None:
        denied.policy, denied.rule = allowed.policy, allowed.rule
        denied.location = allowed.location
    return denied
