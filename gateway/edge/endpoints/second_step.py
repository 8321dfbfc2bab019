"""`/auth/login/factor`, which completes a sign-in, and `/auth/step-up`, which makes a live session
stronger or fresher (docs/factors.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.access.routing.csrf import AllowedOrigins
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.caller_fields import read_caller_fields
from gateway.edge.endpoints.csrf import is_cross_origin
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    FieldError,
    ProblemReply,
    Reply,
    ShieldedTasks,
)
from gateway.edge.endpoints.factor_checks import FACTOR_FIELDS, FactorChecks, FactorQuestion
from gateway.edge.endpoints.json_body import PASSWORD_LONGEST, Text, read_fields
from gateway.edge.endpoints.password_prover import PasswordProver
from gateway.edge.endpoints.rate_limits import EventWait
from gateway.edge.endpoints.session_opening import SIGN_IN_OVER, SessionOpener
from gateway.edge.endpoints.session_reissue import SessionReissue
from gateway.identity.factors.factor_kinds import (
    FactorKind,
    FactorNeeded,
    FactorProof,
)
from gateway.identity.sign_in.mfa_tokens import MfaTokens, PendingSignIn
from gateway.identity.sign_in.refresh_tokens import SessionGrant, SessionWait
from gateway.identity.sign_in.step_up import StepUps
from gateway.model import Call, Principal, Reason

MFA_TOKEN = Text(longest=4096)


@dataclass(frozen=True, slots=True)
class SecondStepDependencies:
    opener: SessionOpener
    mfa_tokens: MfaTokens
    factor_checks: FactorChecks
    password_prover: PasswordProver
    step_ups: StepUps
    reissue: SessionReissue
    authenticator: Authenticator
    audit: AuditSink
    origins: Callable[[Call], AllowedOrigins]
    """Whose pages may call `/auth`, as the current snapshot says."""
    shielded: ShieldedTasks
    session_wait_s: SessionWait
    event_wait_s: EventWait
    factor_kinds: Callable[[str], Awaitable[Sequence[FactorKind]]]
    """Of an account."""


class SecondStepEndpoints:
    def __init__(self, dependencies: SecondStepDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("login", "factor"): {"POST": self.complete},
            ("step-up",): {"POST": self.step_up},
        }

    async def complete(self, request: web.BaseRequest, call: Call) -> Reply:
        if is_cross_origin(call, self._deps.origins):
            return ProblemReply(Reason.CROSS_ORIGIN)
        fields = await read_fields(request, {"mfa_token": MFA_TOKEN, **FACTOR_FIELDS})
        if isinstance(fields, ProblemReply):
            return fields
        pending = self._deps.mfa_tokens.read(fields["mfa_token"], call.host)
        if pending is None or pending.enrols:
            return ProblemReply(Reason.INVALID_TOKEN, detail=SIGN_IN_OVER)
        return await self._deps.shielded(self._complete(request, call, pending, fields))

    async def _complete(
        self,
        request: web.BaseRequest,
        call: Call,
        pending: PendingSignIn,
        fields: dict[str, Any],
    ) -> Reply:
        opener = self._deps.opener
        opening = opener.resumed(request, call, pending)
        opener.require_key(opening)
        question = FactorQuestion(request, call, pending.account_id, pending.id)
        proof = await self._check(question, fields)
        if isinstance(proof, ProblemReply):
            if proof.reason is Reason.INVALID_CREDENTIALS:
                opener.record_wrong_factor(opening, pending)
            return proof
        return await opener.complete(opening, pending, proof)

    async def step_up(self, request: web.BaseRequest, call: Call) -> Reply:
        password = Text(longest=PASSWORD_LONGEST, required=False)
        wanted = {"password": password, **FACTOR_FIELDS}
        asked = await read_caller_fields(self._deps.authenticator, request, call, wanted)
        if isinstance(asked, ProblemReply):
            return asked
        principal, fields = asked
        if principal.session_id is None:
            return ProblemReply(Reason.SESSION_UNKNOWN)
        if len(fields) == 1:
            wait_s = await self._deps.event_wait_s(principal.session_id, principal.subject)
        else:  # No answer: it is told what there is to give, and leaves no event.
            wait_s = await self._deps.session_wait_s(principal.session_id)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._deps.shielded(self._step_up(request, call, principal, fields))

    async def _step_up(
        self,
        request: web.BaseRequest,
        call: Call,
        principal: Principal,
        fields: dict[str, Any],
    ) -> Reply:
        holder = principal.session_id or ""
        question = FactorQuestion(request, call, principal.subject, holder, stepping_up=True)
        if not fields:
            kinds = await self._deps.factor_kinds(principal.subject)
            members = await self._deps.factor_checks.challenge(question, kinds)
            return ProblemReply(Reason.INSUFFICIENT_USER_AUTHENTICATION, members=members)
        self._deps.reissue.require_key(call)
        if len(fields) > 1:
            # A password beside a factor would be a guess that nobody counts.
            return ProblemReply(
                Reason.BODY_INVALID, (FieldError("", "holds more than one answer"),)
            )
        if "password" in fields:
            grant = await self._by_password(principal, fields["password"], question)
        else:
            grant = await self._by_factor(question, fields)
        if isinstance(grant, ProblemReply):
            if grant.reason is Reason.INVALID_CREDENTIALS:
                self._record(AuditKind.STEP_UP_FAILED, principal, call, result=grant.reason)
            return grant
        self._record(AuditKind.STEPPED_UP, principal, call, amr=list(grant.amr))
        return await self._deps.reissue.reply(call, grant)

    async def _by_password(
        self, principal: Principal, password: str, question: FactorQuestion
    ) -> SessionGrant | ProblemReply:
        proof = await self._deps.password_prover.prove(principal, password, question.call)
        if isinstance(proof, ProblemReply):
            return proof
        grant = await self._deps.step_ups.by_password(
            principal.subject, proof.session_id, proof.checked_hash
        )
        if isinstance(grant, FactorNeeded) and not grant.kinds:
            return await self._deps.opener.enrolling(question.request, question.call, grant)
        if isinstance(grant, FactorNeeded) or grant is Reason.INSUFFICIENT_USER_AUTHENTICATION:
            kinds = grant.kinds if isinstance(grant, FactorNeeded) else ()
            members = await self._deps.factor_checks.challenge(question, kinds)
            return ProblemReply(Reason.INSUFFICIENT_USER_AUTHENTICATION, members=members)
        return ProblemReply(grant) if isinstance(grant, Reason) else grant

    async def _by_factor(
        self, question: FactorQuestion, fields: dict[str, Any]
    ) -> SessionGrant | ProblemReply:
        proof = await self._check(question, fields)
        if isinstance(proof, ProblemReply):
            return proof
        grant = await self._deps.step_ups.by_factor(question.account_id, question.holder, proof)
        return ProblemReply(grant) if isinstance(grant, Reason) else grant

    async def _check(
        self, question: FactorQuestion, fields: dict[str, Any]
    ) -> FactorProof | ProblemReply:
        proof = await self._deps.factor_checks.check(question, fields)
        if isinstance(proof, FactorProof) and proof.kind is FactorKind.RECOVERY_CODE:
            self._deps.audit.record(
                event_of(
                    AuditKind.RECOVERY_CODE_USED,
                    question.call,
                    question.request,
                    subject=question.account_id,
                    left=proof.codes_left,
                )
            )
        return proof

    def _record(self, kind: AuditKind, principal: Principal, call: Call, **detail: Any) -> None:
        self._deps.audit.record(
            event_of(kind, call, subject=principal.subject, sid=principal.session_id, **detail)
        )
