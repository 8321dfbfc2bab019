"""What becomes of a long-lived request when its caller, its token or the configuration changes.

Law: the end of a session ends its calls, always.  What has only become old (the roles, the
token, the policy) ends a call too, but for two: one that came with a session cookie outlasts
what was read of its account, which is then read again; and one whose route says `on_change:
reevaluate` is judged anew, with the roles and by the policy of that moment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gateway.access.parsed_bodies import parsed_again
from gateway.identity.sign_in.session_cookies import is_of_cookie
from gateway.model import Call, Principal, Reason
from gateway.stores.protocols import StoreUnavailable

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.routing.routes import Route
    from gateway.access.snapshot import Snapshot
    from gateway.identity.sessions.sessions import Transport
    from gateway.identity.sign_in.refresh_tokens import RefreshTokens, SessionGrant


class PolicyEvaluator(Protocol):
    """`access.authorizer.Authorizer` meets it."""

    def reevaluate(
        self, call: Call, snapshot: Snapshot, principal: Principal | None
    ) -> Decision: ...


class Reevaluation:
    """One call that its route wants judged again."""

    __slots__ = ("_body_is_unread", "_call", "_evaluator", "_route", "_snapshot", "pending")

    def __init__(
        self,
        call: Call,
        route: Route,
        evaluator: PolicyEvaluator,
        snapshot: Callable[[], Snapshot],
        *,
        body_is_unread: bool = False,
    ) -> None:
        """`body_is_unread`: it has one that went by unread, as `route` reads none."""
        self._body_is_unread = body_is_unread
        self._call = call
        self._route = route
        self._evaluator = evaluator
        self._snapshot = snapshot
        self.pending = False
        """It is to be judged again, and nothing of it passes before."""

    @property
    def is_due(self) -> bool:
        """Whether another configuration runs than the one that it was judged by."""
        return self._snapshot().routes.get(self._route.id) is not self._route

    def refusal(self, principal: Principal | None) -> tuple[Reason, str] | None:
        """Why it may not go on: the Reason, and what the client is told."""
        self.pending = False
        call = parsed_again(self._call)
        decision = self._evaluator.reevaluate(call, self._snapshot(), principal)
        if decision.route is not None:
            self._route = decision.route
        if decision.allowed and self._body_is_unread and self._route.reads_body:
            # `!has(resource.x)` is true of a body that is not here.
            return Reason.NO_RULE, Reason.NO_RULE
        if decision.allowed:
            # A route that answers by itself now leads nobody to a backend.
            return None if self._route.upstream else (Reason.ROUTE_UNKNOWN, Reason.ROUTE_UNKNOWN)
        if decision.conceal:
            return Reason.ROUTE_UNKNOWN, Reason.ROUTE_UNKNOWN
        return decision.refusal or Reason.NO_RULE, decision.reason


class PrincipalRefresher(Protocol):
    """Where the account of a session is read again; met by `SessionReading`."""

    async def refresh(self, principal: Principal) -> PrincipalUpdate | Reason: ...


PrincipalUpdate = Callable[[Principal], Principal]
"""Makes of a principal the one that it would be now."""


class SessionReading:
    """`ttl_s` as in `cookie_sessions.CookieDependencies`: for so long what was read is good."""

    def __init__(self, refresh_tokens: RefreshTokens, ttl_s: int) -> None:
        self._refresh_tokens = refresh_tokens
        self._ttl_s = ttl_s

    async def refresh(self, principal: Principal) -> PrincipalUpdate | Reason:
        """SESSION_UNKNOWN once no refresh would be given for the session."""
        transport: Transport = "cookie" if is_of_cookie(principal) else "bearer"
        try:
            grant = await self._refresh_tokens.renew(principal.session_id or "", transport)
        except StoreUnavailable as error:
            return error.reason
        if grant is None or grant.account.id != principal.subject:
            return Reason.SESSION_UNKNOWN
        names = self._refresh_tokens.claim_names()
        return lambda before: refreshed(before, grant, self._ttl_s, names)


def refreshed(
    principal: Principal, grant: SessionGrant, ttl_s: int, account_claims: frozenset[str]
) -> Principal:
    """Whoever a token was given for, as one given now would say.

    It keeps the token's own id and key: to revoke either still ends what it opened.  Of what is
    said of the account (`account_claims`) nothing stays that it has lost.
    """
    account = grant.account
    kept = {n: value for n, value in principal.claims.items() if n not in account_claims}
    expires_at = grant.issued_at + min(ttl_s, grant.expires_in_s)
    claims = {
        "roles": list(account.roles),
        "email": account.email,
        "email_verified": account.email_verified,
        "iat": grant.issued_at,
        "exp": expires_at,
    }
    return dataclasses.replace(
        principal,
        roles=tuple(account.roles),
        issued_at=grant.issued_at,
        expires_at=expires_at,
        email=account.email,
        email_verified=account.email_verified,
        claims={**kept, **grant.claims, **claims},
        identity_headers=None,
        identity_lines=None,
    )
