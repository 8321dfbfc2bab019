"""What opens a session once somebody has proven who they are, by whatever means.

Law: whoever calls has proven the account; that it may still sign in, and that a password which
was part of the proof is still its password, is compared here again under the account's lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from aiohttp import web

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import ProblemReply, Reply, user_agent_of
from gateway.edge.endpoints.factor_checks import FactorChecks, FactorQuestion
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.sessions import token_reply
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.accounts.account_rows import Account
from gateway.identity.factors.factor_kinds import (
    MFA,
    AccountVersion,
    FactorNeeded,
    FactorProof,
    with_factor,
)
from gateway.identity.factors.own_factors import still_counts
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.identity.sessions.sessions import (
    SignInSource,
    StillProven,
    Transport,
)
from gateway.identity.sessions.token_dates import TooSoon
from gateway.identity.sign_in.mfa_tokens import MfaTokens, PendingSignIn
from gateway.identity.sign_in.refresh_tokens import RefreshTokens, SessionGrant
from gateway.identity.sign_in.session_cookies import hash_cookie
from gateway.identity.tokens.access_tokens import TokenIssuer
from gateway.model import Call, Reason
from gateway.stores.protocols import StoreUnavailable

SIGN_IN_OVER = "The sign-in has expired, or was completed: begin it anew."

Verification = Literal["off", "optional", "required"]


@dataclass(frozen=True, slots=True)
class SessionOpenerDependencies:
    refresh_tokens: RefreshTokens
    issuer: TokenIssuer
    cookies: CookieSessions
    guard: LoginGuard
    notifications: SecurityNotifications
    audit: AuditSink
    verification: Verification
    counts_alone: Callable[[str], bool]
    """Whether a session cookie that is given at this host counts there alone."""
    account_wait_s: Callable[[str, bool], Awaitable[float]]
    """Seconds that an account has to wait for its next sign-in; 0.0 for none.  Whether it is proven
    by more than a password that anybody may have come by: those are counted apart."""
    mfa_tokens: MfaTokens
    factor_checks: FactorChecks
    ended_sessions: EndedSessions
    """Of providers."""


@dataclass(frozen=True, slots=True)
class SessionOpening:
    """For whom a session is opened: the call that asks for it, and what will stand for it."""

    call: Call
    request: web.BaseRequest
    cookie: str | None = field(repr=False)
    """The session cookie that it will get, None for one that will get tokens."""
    known_device: bool = False
    """Whether this browser has signed in to the account before: then no mail tells of it."""
    origin: SessionOrigin | None = None
    """What began it besides its owner."""

    @property
    def source(self) -> SignInSource:
        return SignInSource(user_agent_of(self.call), self.call.client_ip)

    @property
    def transport(self) -> Transport:
        return "bearer" if self.cookie is None else "cookie"


@dataclass(frozen=True, slots=True)
class SignInProof:
    """What a sign-in rests on, as `RefreshTokens.begin` compares it under the lock."""

    amr: tuple[str, ...]
    checked_hash: str | None = field(default=None, repr=False)
    without_password: bool = False
    still_proven: StillProven | None = None
    version: AccountVersion | None = None


class SessionOpener:
    """Opens sessions, records them and tells their owner; each way to sign in ends here."""

    def __init__(self, dependencies: SessionOpenerDependencies) -> None:
        self._deps = dependencies

    def opening(
        self,
        request: web.BaseRequest,
        call: Call,
        transport: str | None,
        *,
        known_device: bool = False,
        origin: SessionOrigin | None = None,
    ) -> SessionOpening:
        """`transport` is what the caller asked for: `cookie`, or tokens."""
        host = call.host if self._deps.counts_alone(call.host) else None
        cookie = self._deps.cookies.new_cookie(host) if transport == "cookie" else None
        return SessionOpening(call, request, cookie, known_device, origin)

    def require_key(self, opening: SessionOpening) -> None:
        """Raises where no token could be given for it; asked before what cannot be undone."""
        if opening.cookie is None:
            self._deps.issuer.require_key()

    async def open(
        self,
        opening: SessionOpening,
        account: Account,
        *,
        amr: tuple[str, ...] = ("pwd",),
        without_password: bool = False,
        still_proven: StillProven | None = None,
    ) -> Reply | Reason:
        """The reply to a sign-in: tokens or the cookie, and the cookie of the device; or the
        question for a second factor, with the `mfa_token` that waits for it.

        `account` is as it was when it was proven; `without_password` is said by whoever proved
        it by other means than its password, with `still_proven`.  A Reason, as of
        `RefreshTokens.begin`, where it may not sign in any more: the caller records it
        (`record_failure`).  Run it shielded.
        """
        proof = SignInProof(
            amr,
            checked_hash=account.password_hash,
            without_password=without_password,
            still_proven=still_proven,
        )
        return await self._open(opening, account.id, proof)

    def resumed(
        self, request: web.BaseRequest, call: Call, pending: PendingSignIn
    ) -> SessionOpening:
        """For a sign-in that waited for its second factor: as its first step asked for it."""
        return self.opening(
            request,
            call,
            pending.transport,
            known_device=pending.known_device,
            origin=pending.origin,
        )

    async def enrolling(
        self, request: web.BaseRequest, call: Call, needed: FactorNeeded
    ) -> ProblemReply:
        """For who gave their password in a session that may not go on, as the account has to enrol
        a factor: the question that their next sign-in would be answered by."""
        address = needed.account.normalized_email
        device = await self._deps.guard.known_device(call, address)
        transport = "bearer" if cookie_of(call) is None else "cookie"
        opening = self.opening(request, call, transport, known_device=device is not None)
        return await self._ask_for_factor(opening, needed)

    async def is_over(self, pending: PendingSignIn) -> bool:
        """Whether the provider's session has ended in which the sign-in began.  Raises
        StoreUnavailable."""
        return await self._deps.ended_sessions.has_ended(pending.origin)

    async def complete(
        self, opening: SessionOpening, pending: PendingSignIn, proof: FactorProof
    ) -> Reply:
        """As `open`, for whom the factor was given now: once, and where the account is as it was
        at the first step.  Run it shielded."""
        if not await self._deps.mfa_tokens.claim(pending):
            return ProblemReply(Reason.INVALID_TOKEN, detail=SIGN_IN_OVER)
        reply = await self._open(
            opening,
            pending.account_id,
            SignInProof(
                with_factor(pending.amr, proof),
                version=pending.version,
                still_proven=partial(still_counts, account_id=pending.account_id, proof=proof),
            ),
        )
        if isinstance(reply, Reason):
            self._record_failure(opening, reply, subject=pending.account_id)
            return ProblemReply(reply)
        return reply

    def record_failure(
        self, opening: SessionOpening, account: Account | str, reason: Reason
    ) -> None:
        """`account` is the normalized e-mail address where there is none: of that a pseudonym is
        recorded."""
        if isinstance(account, Account):
            self._record_failure(opening, reason, subject=account.id)
        else:
            pseudonym = self._deps.audit.pseudonym(account)
            self._record_failure(opening, reason, unknown=pseudonym)

    def record_wrong_factor(self, opening: SessionOpening, pending: PendingSignIn) -> None:
        self._record_failure(opening, Reason.INVALID_CREDENTIALS, subject=pending.account_id)

    async def _open(
        self, opening: SessionOpening, account_id: str, proof: SignInProof
    ) -> Reply | Reason:
        self.require_key(opening)
        proven = MFA in proof.amr or opening.known_device
        if (seconds := await self._deps.account_wait_s(account_id, proven)) > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=seconds)
        grant = await self._deps.refresh_tokens.begin(
            account_id,
            opening.source,
            checked_hash=proof.checked_hash,
            without_password=proof.without_password,
            still_proven=proof.still_proven,
            version=proof.version,
            origin=opening.origin,
            amr=proof.amr,
            verified_only=self._deps.verification == "required",
            cookie_hash=None if opening.cookie is None else hash_cookie(opening.cookie),
        )
        if isinstance(grant, FactorNeeded):
            return await self._ask_for_factor(opening, grant)
        if isinstance(grant, TooSoon):
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=grant.wait_s)
        if isinstance(grant, Reason):
            return grant
        await self._end_displaced(opening, grant)
        if await self._ended_at_provider(opening, grant):
            return Reason.INVALID_CREDENTIALS
        if opening.cookie is None:
            reply: Reply = token_reply(self._deps.issuer, grant)
        else:
            reply = await self._deps.cookies.admit(grant, opening.cookie, cookie_of(opening.call))
        if isinstance(reply, ProblemReply):
            return reply
        await self._after_sign_in(opening, grant)
        device = self._deps.guard.remembered(
            opening.call, grant.account.normalized_email, grant.account.password_epoch
        )
        return replace(reply, cookies=(*reply.cookies, device))

    def _record_failure(
        self,
        opening: SessionOpening,
        reason: Reason,
        *,
        subject: str | None = None,
        unknown: str | None = None,
    ) -> None:
        self._deps.audit.record(
            event_of(
                AuditKind.SIGN_IN_FAILED,
                opening.call,
                opening.request,
                subject=subject,
                result=reason,
                unknown=unknown,
            )
        )

    async def _ask_for_factor(self, opening: SessionOpening, needed: FactorNeeded) -> ProblemReply:
        """It opens no session; without a factor to give, one may be enrolled with the token."""
        account = needed.account
        token = self._deps.mfa_tokens.issue(
            needed,
            opening.call.host,
            opening.transport,
            known_device=opening.known_device,
            origin=opening.origin,
        )
        question = FactorQuestion(opening.request, opening.call, account.id, token.id)
        members = await self._deps.factor_checks.challenge(question, needed.kinds)
        if not needed.kinds:
            members["enrol"] = True
        self._deps.audit.record(
            event_of(
                AuditKind.FACTOR_REQUESTED,
                opening.call,
                opening.request,
                subject=account.id,
                amr=list(needed.amr),
                enrol=True if not needed.kinds else None,
            )
        )
        return ProblemReply(
            Reason.INSUFFICIENT_USER_AUTHENTICATION, members={"mfa_token": token.text, **members}
        )

    async def _ended_at_provider(self, opening: SessionOpening, grant: SessionGrant) -> bool:
        """Whether the provider had told of an end that found no session yet; then this one, which
        nobody holds, has ended too, and so it has where nobody can say."""
        try:
            ended = await self._deps.ended_sessions.has_ended(opening.origin)
        except StoreUnavailable:
            await self._deps.cookies.give_up(grant.session_id)
            raise
        if ended:
            await self._deps.cookies.give_up(grant.session_id)
        return ended

    async def _end_displaced(self, opening: SessionOpening, grant: SessionGrant) -> None:
        """Record and publish the end of the sessions that made room for this one."""
        if not grant.displaced:
            return
        for session in grant.displaced:
            self._deps.audit.record(
                event_of(
                    AuditKind.SESSION_ENDED,
                    opening.call,
                    opening.request,
                    subject=grant.account.id,
                    sid=session.session_id,
                    why="displaced",
                )
            )
        await self._deps.cookies.end_displaced(grant.displaced)

    async def _after_sign_in(self, opening: SessionOpening, grant: SessionGrant) -> None:
        """Record the sign-in, and notify the owner of a device that the account has not seen."""
        self._deps.audit.record(
            event_of(
                AuditKind.SIGNED_IN,
                opening.call,
                opening.request,
                subject=grant.account.id,
                sid=grant.session_id,
                amr=list(grant.amr),
                transport=opening.transport,
                known_device=opening.known_device,
                provider=opening.origin and opening.origin.provider,
            )
        )
        if opening.known_device:
            return
        with suppress(StoreUnavailable):  # the sign-in has happened, with or without a mail
            await self._deps.notifications.signed_in(
                grant.account.id,
                grant.session_id,
                user_agent=opening.source.shown_user_agent,
                address=opening.source.address,
            )
