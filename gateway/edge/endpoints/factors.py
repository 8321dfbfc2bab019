"""`/auth/factors`: the second factors of a caller (docs/factors.md).

Law: who changes them has signed in, or stepped up, a moment ago, and with a factor where the
account has one: a stolen session enrols none and removes none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.access.factor_rule import FactorRule
from gateway.access.routing.csrf import AllowedOrigins
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.csrf import is_cross_origin, is_of_one_application
from gateway.edge.endpoints.endpoint import (
    ACCEPTED,
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
)
from gateway.edge.endpoints.factor_changes import FRESH_S, may_change_factors
from gateway.edge.endpoints.factor_checks import WRONG_CODE, FactorChecks, FactorQuestion
from gateway.edge.endpoints.json_body import Text, read_fields
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.endpoints.second_step import MFA_TOKEN
from gateway.edge.endpoints.session_opening import SIGN_IN_OVER, SessionOpener
from gateway.edge.endpoints.session_reissue import SessionReissue
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.factors.factor_kinds import FactorKind
from gateway.identity.factors.own_factors import (
    Enrolled,
    FactorOwner,
    OwnFactors,
    with_term,
)
from gateway.identity.sign_in.mfa_tokens import MfaTokens, PendingSignIn
from gateway.identity.sign_in.step_up import StepUps
from gateway.identity.sign_in.throttle import Throttle
from gateway.model import Call, Change, Clock, Principal, Reason
from gateway.stores.protocols import RevocationPublisher, StoreUnavailable

_OTHER_HOST = "With a session cookie factors are changed at the host of the public URL alone."
_CODE = Text(longest=64)
TOKEN = replace(MFA_TOKEN, required=False)
NOT_ENROLLED = {Reason.INVALID_CREDENTIALS: WRONG_CODE, Reason.INVALID_TOKEN: SIGN_IN_OVER}
"""What is told of why a factor is not enrolled, besides the reason."""


@dataclass(frozen=True, slots=True)
class FactorDependencies:
    accounts: Accounts
    own_factors: OwnFactors
    factor_checks: FactorChecks
    mfa_tokens: MfaTokens
    opener: SessionOpener
    step_ups: StepUps
    reissue: SessionReissue
    throttle: Throttle
    limits: EndpointLimits
    authenticator: Authenticator
    clock: Clock
    publisher: RevocationPublisher
    audit: AuditSink
    origins: Callable[[Call], AllowedOrigins]
    shielded: ShieldedTasks
    counts_alone: Callable[[str], bool]
    """Whether a session cookie that is given at this host counts there alone."""
    factor_rule: Callable[[], FactorRule]
    """Whose sign-in needs a factor, as the current snapshot says."""
    site: str
    """How an authenticator app names us."""


@dataclass(frozen=True, slots=True)
class FactorCaller:
    """Who may change the factors of an account now."""

    owner: FactorOwner
    principal: Principal | None
    pending: PendingSignIn | None
    """Of a sign-in that waits for its factor to be enrolled; then there is no principal."""


class FactorEndpoints:
    def __init__(self, dependencies: FactorDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("factors",): {"GET": self.list_factors},
            ("factors", "totp"): {"POST": self.begin_totp, "DELETE": self.remove_totp},
            ("factors", "totp", "confirm"): {"POST": self.confirm_totp},
            ("factors", "recovery-codes"): {"POST": self.renew_codes},
        }

    async def list_factors(self, _request: web.BaseRequest, call: Call) -> Reply:
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        rule = self._deps.factor_rule()
        described = await self._deps.own_factors.described(principal.subject)
        return JsonReply(200, with_term(described, rule, principal.roles))

    async def begin_totp(self, request: web.BaseRequest, call: Call) -> Reply:
        """The secret is in this answer and in no other; it counts once it is confirmed."""
        fields = await read_fields(request, {"mfa_token": TOKEN}, optional=True)
        if isinstance(fields, ProblemReply):
            return fields
        caller = await self.caller(request, call, fields)
        if isinstance(caller, ProblemReply):
            return caller
        account = await self._deps.accounts.by_id(caller.owner.account_id)
        if account is None:
            return ProblemReply(Reason.INVALID_CREDENTIALS)
        wait_s = await self._deps.limits.generator_wait_s(account.id)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        drawn = await self._deps.shielded(self._deps.own_factors.begin_totp(caller.owner))
        if isinstance(drawn, Reason):
            return ProblemReply(drawn)
        uri = drawn.uri(account.email, self._deps.site)
        return JsonReply(200, {"secret": drawn.secret, "otpauth_uri": uri})

    async def confirm_totp(self, request: web.BaseRequest, call: Call) -> Reply:
        fields = await read_fields(request, {"mfa_token": TOKEN, "code": _CODE})
        if isinstance(fields, ProblemReply):
            return fields
        caller = await self.caller(request, call, fields)
        if isinstance(caller, ProblemReply):
            return caller
        wait_s = await self._deps.throttle.count_enrolment(caller.owner.account_id)
        if wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        return await self._deps.shielded(self._confirm_totp(request, call, caller, fields["code"]))

    async def remove_totp(self, request: web.BaseRequest, call: Call) -> Reply:
        caller = await self.caller(request, call, {})
        if isinstance(caller, ProblemReply):
            return caller
        return await self._deps.shielded(self._remove_totp(call, caller))

    async def renew_codes(self, request: web.BaseRequest, call: Call) -> Reply:
        """The codes are in this answer and in no other."""
        caller = await self.caller(request, call, {})
        if isinstance(caller, ProblemReply):
            return caller
        wait_s = await self._deps.limits.recovery_codes_wait_s(caller.owner.account_id)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._deps.shielded(self._renew_codes(call, caller))

    async def _renew_codes(self, call: Call, caller: FactorCaller) -> Reply:
        codes = await self._deps.own_factors.renew_codes(caller.owner)
        if codes is None:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        if isinstance(codes, Reason):
            return ProblemReply(codes)
        self._record(AuditKind.RECOVERY_CODES_MADE, call, caller)
        return JsonReply(200, {"recovery_codes": list(codes)})

    async def caller(
        self, request: web.BaseRequest, call: Call, fields: dict[str, Any]
    ) -> FactorCaller | ProblemReply:
        """Who asks, if they may change factors: INSUFFICIENT_USER_AUTHENTICATION where the sign-in
        is older than FRESH_S, or had no factor although the account has one."""
        if "mfa_token" in fields:
            return await self._enrolling(call, fields["mfa_token"])
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        if is_of_one_application(call, self._deps.counts_alone):
            return ProblemReply(Reason.CROSS_ORIGIN, detail=_OTHER_HOST)
        if principal.session_id is None:
            return ProblemReply(Reason.SESSION_UNKNOWN)
        kinds = await self._deps.own_factors.kinds(principal.subject)
        now = self._deps.clock.now()
        if not may_change_factors(principal, now, has_factor=bool(kinds)):
            question = FactorQuestion(
                request, call, principal.subject, principal.session_id, stepping_up=True
            )
            return ProblemReply(
                Reason.INSUFFICIENT_USER_AUTHENTICATION,
                max_age_s=FRESH_S,
                members=await self._deps.factor_checks.challenge(question, kinds),
            )
        owner = FactorOwner(principal.subject, principal.session_id)
        return FactorCaller(owner, principal, None)

    async def finish(
        self,
        request: web.BaseRequest,
        call: Call,
        caller: FactorCaller,
        enrolled: Enrolled,
        **detail: Any,
    ) -> Reply:
        """The reply to whoever has enrolled a factor: the session has it too from now on, and a
        sign-in that waited for it is complete.  The recovery codes are in no other.

        `require_key` was asked before the factor was written; `detail` is for the audit log.
        """
        factor = str(enrolled.proof.kind)
        self._record(AuditKind.FACTOR_ADDED, call, caller, factor=factor, **detail)
        if enrolled.codes:
            self._record(AuditKind.RECOVERY_CODES_MADE, call, caller)
        await self._deps.publisher.publish(enrolled.changes)
        codes = {"recovery_codes": list(enrolled.codes)} if enrolled.codes else {}
        try:
            if caller.pending is not None:
                reply = await self._complete(request, call, caller.pending, enrolled)
            else:
                reply = await self._strengthen(call, caller, enrolled)
        except StoreUnavailable as error:
            reply = ProblemReply(error.reason)
        if isinstance(reply, JsonReply):
            return replace(reply, body={**(reply.body or {}), **codes})
        # The factor is there: its codes are never shown again.
        return JsonReply(200, codes) if codes else reply

    def require_key(self, call: Call, caller: FactorCaller) -> None:
        """Raises where no token could be given; asked before a factor is written."""
        if caller.pending is None or caller.pending.transport == "bearer":
            self._deps.reissue.require_key(call)

    async def _confirm_totp(
        self, request: web.BaseRequest, call: Call, caller: FactorCaller, code: str
    ) -> Reply:
        self.require_key(call, caller)
        enrolled = await self._deps.own_factors.confirm_totp(caller.owner, code)
        if isinstance(enrolled, Reason):
            return ProblemReply(enrolled, detail=NOT_ENROLLED.get(enrolled))
        return await self.finish(request, call, caller, enrolled)

    async def _remove_totp(self, call: Call, caller: FactorCaller) -> Reply:
        changes = await self._deps.own_factors.remove_totp(caller.owner)
        if changes is None:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        if isinstance(changes, Reason):
            return ProblemReply(changes)
        return await self.after_removal(call, caller, FactorKind.TOTP, changes)

    async def after_removal(
        self,
        call: Call,
        caller: FactorCaller,
        kind: FactorKind,
        changes: Sequence[Change],
        **detail: Any,
    ) -> Reply:
        self._record(AuditKind.FACTOR_REMOVED, call, caller, factor=str(kind), **detail)
        if await self._deps.publisher.publish(changes):
            return JsonReply(204)
        return ProblemReply(Reason.REVOCATION_PENDING)

    async def _complete(
        self, request: web.BaseRequest, call: Call, pending: PendingSignIn, enrolled: Enrolled
    ) -> Reply:
        opening = self._deps.opener.resumed(request, call, pending)
        return await self._deps.opener.complete(opening, pending, enrolled.proof)

    async def _strengthen(self, call: Call, caller: FactorCaller, enrolled: Enrolled) -> Reply:
        owner = caller.owner
        grant = await self._deps.step_ups.by_factor(owner.account_id, owner.holder, enrolled.proof)
        if isinstance(grant, Reason):
            return ProblemReply(grant)
        return await self._deps.reissue.reply(call, grant)

    async def _enrolling(self, call: Call, mfa_token: str) -> FactorCaller | ProblemReply:
        if is_cross_origin(call, self._deps.origins):
            return ProblemReply(Reason.CROSS_ORIGIN)
        pending = self._deps.mfa_tokens.read(mfa_token, call.host)
        if pending is None or not pending.enrols or await self._deps.opener.is_over(pending):
            return ProblemReply(Reason.INVALID_TOKEN, detail=SIGN_IN_OVER)
        owner = FactorOwner(pending.account_id, pending.id, pending.version, pending.origin)
        return FactorCaller(owner, None, pending)

    def _record(self, kind: AuditKind, call: Call, caller: FactorCaller, **detail: Any) -> None:
        sid = caller.principal.session_id if caller.principal else None
        self._deps.audit.record(
            event_of(kind, call, subject=caller.owner.account_id, sid=sid, **detail)
        )
