"""When somebody may change the factors, and the other ways into their own account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gateway.access.authorizer import Authenticator
from gateway.access.step_up import signed_in_within
from gateway.edge.endpoints.csrf import is_of_one_application
from gateway.edge.endpoints.endpoint import ACCEPTED, ProblemReply
from gateway.identity.factors.factor_kinds import MFA, FactorKind
from gateway.model import Call, Clock, Principal, Reason

FRESH_S = 300
"""How long ago who changes a factor may have signed in, or stepped up: no stolen session is to
gain a factor that outlives it."""


def may_change_factors(principal: Principal, now: float, *, has_factor: bool) -> bool:
    """Whether the caller has signed in just now, with a factor where the account has one."""
    if not signed_in_within(FRESH_S, principal.auth_time, now):
        return False
    return not has_factor or MFA in principal.amr


class FreshCallers:
    """Lets through who may change how their account is entered, now."""

    def __init__(
        self,
        authenticator: Authenticator,
        factor_kinds: Callable[[str], Awaitable[Sequence[FactorKind]]],
        clock: Clock,
        counts_alone: Callable[[str], bool],
    ) -> None:
        """`factor_kinds` of an account; `counts_alone`: whether a session cookie that is given at
        this host counts there alone."""
        self._authenticator = authenticator
        self._factor_kinds = factor_kinds
        self._clock = clock
        self._counts_alone = counts_alone

    async def caller(self, call: Call, other_host: str) -> Principal | ProblemReply:
        """`other_host` is said to who comes with the cookie of a host that may be an application's
        own."""
        principal = await self._authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        if is_of_one_application(call, self._counts_alone):
            return ProblemReply(Reason.CROSS_ORIGIN, detail=other_host)
        return await self.stale(principal) or principal

    async def stale(self, principal: Principal) -> ProblemReply | None:
        """Why the caller's session is too old, or too weak, for it."""
        return self._stale(principal, await self._factor_kinds(principal.subject))

    async def lacking_factor(self, principal: Principal) -> ProblemReply | None:
        """The same where the account has a factor: who has none gives the password besides."""
        kinds = await self._factor_kinds(principal.subject)
        return self._stale(principal, kinds) if kinds else None

    def _stale(self, principal: Principal, kinds: Sequence[FactorKind]) -> ProblemReply | None:
        if may_change_factors(principal, self._clock.now(), has_factor=bool(kinds)):
            return None
        return ProblemReply(Reason.INSUFFICIENT_USER_AUTHENTICATION, max_age_s=FRESH_S)
