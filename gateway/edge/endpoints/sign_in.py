"""`/auth/login` (docs/accounts.md).

Law: a stranger cannot tell a known e-mail address from an unknown one.  Whatever is asked of an
e-mail address costs the same work in the same order, and what is special about an account is
said only after a right password.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from aiohttp import web

from gateway.access.routing.csrf import AllowedOrigins
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.csrf import is_cross_origin
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    ProblemReply,
    Reply,
    ShieldedTasks,
    invalid_field,
    user_agent_of,
)
from gateway.edge.endpoints.json_body import EMAIL, PASSWORD, Text, read_fields
from gateway.edge.endpoints.login_guard import AdmittedAttempt, LoginGuard
from gateway.edge.endpoints.sessions import token_reply
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.accounts.accounts import Account, Accounts
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Checked, Passwords
from gateway.identity.email_address import normalize_email
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.sessions.sessions import SignInSource, display_user_agent
from gateway.identity.sign_in.refresh_tokens import RefreshTokens, SessionGrant, TooSoon
from gateway.identity.sign_in.session_cookies import hash_cookie
from gateway.identity.tokens.access_tokens import TokenIssuer
from gateway.model import Call, Reason
from gateway.stores.protocols import StoreUnavailable

Verification = Literal["off", "optional", "required"]


@dataclass(frozen=True, slots=True)
class SignInDependencies:
    accounts: Accounts
    passwords: Passwords
    refresh_tokens: RefreshTokens
    issuer: TokenIssuer
    guard: LoginGuard
    notifications: SecurityNotifications
    audit: AuditSink
    origins: Callable[[Call], AllowedOrigins]
    """Whose pages may call `/auth`, as the current snapshot says."""
    shielded: ShieldedTasks
    verification: Verification
    cookies: CookieSessions
    counts_alone: Callable[[str], bool]
    """Whether a session cookie that is given at this host counts there alone."""
    login_path: str
    """Of sign-in, as the audit log names it."""


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """An attempt to sign in whose password may be checked.  `cookie` is the session cookie that
    it will get, None for one that will get tokens."""

    call: Call
    request: web.BaseRequest
    normalized_email: str
    password: str = field(repr=False)
    admission: AdmittedAttempt
    cookie: str | None = field(repr=False)

    @property
    def lane(self) -> Lane:
        return Lane.SIGN_IN if self.admission.device is None else Lane.KNOWN


class SignInEndpoints:
    def __init__(self, dependencies: SignInDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {("login",): {"POST": self.login}}

    async def login(self, request: web.BaseRequest, call: Call) -> Reply:
        if is_cross_origin(call, self._deps.origins):
            return ProblemReply(Reason.CROSS_ORIGIN)
        fields = await read_fields(
            request,
            {
                "email": EMAIL,
                "password": PASSWORD,
                "transport": Text(required=False, words=("bearer", "cookie")),
                "captcha": Text(longest=4096, required=False),
            },
        )
        if isinstance(fields, ProblemReply):
            return fields
        key = normalize_email(fields["email"])
        if key is None:
            return invalid_field("email", "is not an address")
        admission = await self._deps.guard.admit(call, key, fields.get("captcha"))
        if isinstance(admission, ProblemReply):
            self._deps.audit.denied(admission.reason, self._deps.login_path, None)
            return admission
        wants_cookie = fields.get("transport") == "cookie"
        host = call.host if self._deps.counts_alone(call.host) else None
        cookie = self._deps.cookies.new_cookie(host) if wants_cookie else None
        attempt = SignInAttempt(call, request, key, fields["password"], admission, cookie)
        account = await self._check_password(attempt)
        if isinstance(account, ProblemReply):
            return account
        return await self._deps.shielded(self._admit(attempt, account))

    async def _check_password(self, attempt: SignInAttempt) -> Account | ProblemReply:
        """The account whose password this is.  An attempt whose password was not checked is no
        failure."""
        try:
            account = await self._deps.accounts.by_email(attempt.normalized_email)
            # Without an account a dummy is checked, at the same cost.
            checked = await self._deps.passwords.check(
                attempt.password,
                account.password_hash if account else None,
                attempt.lane,
                holder=attempt.normalized_email,
            )
        except StoreUnavailable:
            await self._deps.guard.give_back(attempt.admission)
            raise
        if isinstance(checked, Reason):
            await self._deps.guard.give_back(attempt.admission)
            return ProblemReply(checked)
        if account is None or not checked.good:
            await self._deps.guard.failed(attempt.admission)
            self._record_failure(attempt, account, Reason.INVALID_CREDENTIALS)
            return ProblemReply(Reason.INVALID_CREDENTIALS)
        return account

    async def _renew_hash(self, account: Account, attempt: SignInAttempt) -> Account:
        """The account with its hash at this installation's cost, when there is time for it.

        Hashing takes its time: where another hash was stored meanwhile, the account stays as it
        was checked.  As it is now it would vouch for a password that nobody has given.
        """
        if account.password_hash is None or self._deps.passwords.current(account.password_hash):
            return account
        renewed = await self._deps.passwords.rehash(
            attempt.password, attempt.lane, holder=attempt.normalized_email
        )
        if isinstance(renewed, Reason):
            return account
        stored = await self._deps.accounts.renew_hash(account.id, account.password_hash, renewed)
        return replace(account, password_hash=renewed) if stored else account

    async def _admit(self, attempt: SignInAttempt, account: Account) -> Reply:
        """Begin a session for a right password; the session of an older cookie ends."""
        await self._deps.guard.give_back(attempt.admission)
        if attempt.cookie is None:
            self._deps.issuer.require_key()
        source = SignInSource(user_agent_of(attempt.call), attempt.call.client_ip)
        account = await self._renew_hash(account, attempt)
        grant = await self._begin(account, source, attempt.cookie)
        if grant is Reason.INVALID_CREDENTIALS:
            # The hash was replaced between the check and the lock: by a change of the
            # password, or by another sign-in that renewed it.  The new one decides.
            current = await self._deps.accounts.by_id(account.id)
            checked = await self._deps.passwords.check(
                attempt.password,
                current.password_hash if current else None,
                attempt.lane,
                holder=attempt.normalized_email,
            )
            if current is not None and isinstance(checked, Checked) and checked.good:
                grant = await self._begin(current, source, attempt.cookie)
        if isinstance(grant, TooSoon):
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=grant.wait_s)
        if isinstance(grant, Reason):
            self._record_failure(attempt, account, grant)
            return ProblemReply(grant)
        await self._end_displaced(attempt, grant)
        if attempt.cookie is None:
            reply: Reply = token_reply(self._deps.issuer, grant)
        else:
            reply = await self._deps.cookies.admit(grant, attempt.cookie, cookie_of(attempt.call))
        if isinstance(reply, ProblemReply):
            return reply
        await self._after_sign_in(attempt, grant, source)
        epoch = grant.account.password_epoch
        device = self._deps.guard.remembered(attempt.call, attempt.normalized_email, epoch)
        return replace(reply, cookies=(*reply.cookies, device))

    async def _end_displaced(self, attempt: SignInAttempt, grant: SessionGrant) -> None:
        """Record and publish the end of the sessions that made room for this one."""
        if not grant.displaced:
            return
        for session in grant.displaced:
            self._deps.audit.record(
                event_of(
                    AuditKind.SESSION_ENDED,
                    attempt.call,
                    attempt.request,
                    subject=grant.account.id,
                    sid=session.session_id,
                    why="displaced",
                )
            )
        await self._deps.cookies.end_displaced(grant.displaced)

    async def _after_sign_in(
        self, attempt: SignInAttempt, grant: SessionGrant, source: SignInSource
    ) -> None:
        """Record the sign-in, and notify the owner of a device that the account has not seen."""
        known_device = attempt.admission.device is not None
        self._deps.audit.record(
            event_of(
                AuditKind.SIGNED_IN,
                attempt.call,
                attempt.request,
                subject=grant.account.id,
                sid=grant.session_id,
                amr=list(grant.amr),
                transport="bearer" if attempt.cookie is None else "cookie",
                known_device=known_device,
            )
        )
        if known_device:
            return
        with suppress(StoreUnavailable):  # the sign-in has happened, with or without a mail
            await self._deps.notifications.signed_in(
                grant.account.id,
                grant.session_id,
                user_agent=display_user_agent(source.user_agent),
                address=source.address,
            )

    def _record_failure(
        self, attempt: SignInAttempt, account: Account | None, reason: Reason
    ) -> None:
        """Record it by the account's id, or by a pseudonym of the e-mail address where there is
        no account."""
        pseudonym = None if account else self._deps.audit.pseudonym(attempt.normalized_email)
        self._deps.audit.record(
            event_of(
                AuditKind.SIGN_IN_FAILED,
                attempt.call,
                attempt.request,
                subject=account.id if account else None,
                result=reason,
                unknown=pseudonym,
            )
        )

    async def _begin(
        self, account: Account, source: SignInSource, cookie: str | None
    ) -> SessionGrant | TooSoon | Reason:
        return await self._deps.refresh_tokens.begin(
            account.id,
            source,
            checked_hash=account.password_hash,
            verified_only=self._deps.verification == "required",
            cookie_hash=None if cookie is None else hash_cookie(cookie),
        )
