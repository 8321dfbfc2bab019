"""`/auth/register`, `/auth/login`, `/auth/refresh` and `/auth/logout` (docs/accounts.md).

Law: a stranger cannot tell a known address from an unknown one.  Whatever is asked of an
address costs the same work in the same order, and what is special about an account is said
only after a right password.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from aiohttp import web

from gateway.access.routing.csrf import AllowedOrigins, intent
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import Recorder, event_of
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import (
    Answer,
    Endpoint,
    FieldError,
    Refused,
    Said,
    Unbroken,
    invalid,
    user_agent_of,
)
from gateway.edge.endpoints.json_body import Flag, Text, read_fields
from gateway.edge.endpoints.login_guard import Admission, LoginGuard
from gateway.edge.endpoints.sign_out_limit import Repeats
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.accounts.accounts import Account, Accounts
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Checked, Passwords, Weak
from gateway.identity.email_address import address_key, shown_address
from gateway.identity.mail.notifications import Notices
from gateway.identity.mail.recipients import requester_of
from gateway.identity.sessions.sessions import Origin, Sessions, shown_user_agent
from gateway.identity.sign_in.refresh_tokens import (
    Grant,
    RefreshTokens,
    Reused,
    SessionWait,
    TooSoon,
)
from gateway.identity.sign_in.session_cookies import hash_of
from gateway.identity.sign_in.throttle import Ask, Throttle
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenSubject, TokenVerifier
from gateway.model import Call, Change, Credential, CredentialKind, Principal, Reason, SystemClock
from gateway.stores.protocols import RevocationPublisher, StoreUnavailable

Verification = Literal["off", "optional", "required"]

PASSWORD_LONGEST = 1024
"""Of what is read at all: 1,024 characters are refused like any that are over 256."""

EMAIL = Text(longest=1024)
PASSWORD = Text(longest=PASSWORD_LONGEST)


class Enrolment(Protocol):
    """Registers by mail: takes the same time and says the same, whoever has the address."""

    async def enrol(self, email: str, password_hash: str, requester: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SignInParts:
    """What the endpoints of signing in stand on."""

    accounts: Accounts
    passwords: Passwords
    refresh_tokens: RefreshTokens
    sessions: Sessions
    throttle: Throttle
    issuer: TokenIssuer
    verifier: TokenVerifier
    publisher: RevocationPublisher
    guard: LoginGuard
    notices: Notices
    audit: Recorder
    origins: Callable[[Call], AllowedOrigins]
    """Whose pages may call `/auth`, as the snapshot of now says."""
    unbroken: Unbroken
    repeats: Repeats = field(default_factory=lambda: Repeats(SystemClock()))
    verification: Verification = "off"
    enrolment: Enrolment | None = None
    """Needed where `verification` is not off."""
    cookies: CookieSessions | None = None
    """None: there is no `transport: cookie`."""
    session_wait_s: SessionWait | None = None
    """As `own_limits.OwnLimits`; None: a session may be renewed as often as it likes."""


@dataclass(frozen=True, slots=True)
class Guess:
    """An attempt to sign in that may be evaluated.  With `cookie` the session is held by it."""

    call: Call
    request: web.BaseRequest
    email_key: str
    password: str = field(repr=False)
    admission: Admission
    cookie: str | None = field(repr=False)

    @property
    def lane(self) -> Lane:
        return Lane.SIGN_IN if self.admission.device is None else Lane.KNOWN


class SignIn:
    def __init__(self, parts: SignInParts) -> None:
        if parts.verification != "off" and parts.enrolment is None:
            raise ValueError("addresses cannot be verified without mail")
        self._parts = parts
        self._transports = ("bearer",) if parts.cookies is None else ("bearer", "cookie")

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("register",): {"POST": self.register},
            ("login",): {"POST": self.login},
            ("refresh",): {"POST": self.refresh},
            ("logout",): {"POST": self.logout},
        }

    async def register(self, request: web.BaseRequest, call: Call) -> Answer:
        if self._of_another_origin(call):
            return Refused(Reason.CROSS_ORIGIN)
        fields = await read_fields(request, {"email": EMAIL, "password": PASSWORD})
        if isinstance(fields, Refused):
            return fields
        email = shown_address(fields["email"])
        if email is None:
            return invalid("email", "is not an address that mail can reach")
        if self._parts.verification != "off":
            reservation = await self._parts.throttle.reserve_ask(call.client_ip, Ask.REGISTER)
            if reservation.wait_s > 0:
                return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
            await self._parts.throttle.spent(reservation)
        made = await self._parts.passwords.hash(fields["password"], words=(email,))
        if isinstance(made, Reason):
            return Refused(made)
        if isinstance(made, Weak):
            return weak(made, "password")
        return await self._parts.unbroken(self._enrol(email, made, call))

    async def login(self, request: web.BaseRequest, call: Call) -> Answer:
        if self._of_another_origin(call):
            return Refused(Reason.CROSS_ORIGIN)
        fields = await read_fields(
            request,
            {
                "email": EMAIL,
                "password": PASSWORD,
                "transport": Text(required=False, words=self._transports),
                "captcha": Text(longest=4096, required=False),
            },
        )
        if isinstance(fields, Refused):
            return fields
        key = address_key(fields["email"])
        if key is None:
            return invalid("email", "is not an address")
        admission = await self._parts.guard.admit(call, key, fields.get("captcha"))
        if isinstance(admission, Refused):
            self._parts.audit.denied(admission.reason, "/auth/login", None)
            return admission
        cookies = self._parts.cookies if fields.get("transport") == "cookie" else None
        cookie = None if cookies is None else cookies.new_cookie()
        guess = Guess(call, request, key, fields["password"], admission, cookie)
        account = await self._checked(guess)
        if isinstance(account, Refused):
            return account
        return await self._parts.unbroken(self._admit(guess, account))

    async def refresh(self, request: web.BaseRequest, call: Call) -> Answer:
        cookie = cookie_of(call) if self._parts.cookies is not None else None
        fields = await read_fields(
            request,
            {"refresh_token": Text(longest=256, required=cookie is None)},
            optional=cookie is not None,
        )
        if isinstance(fields, Refused):
            return fields
        if self._parts.cookies is None or cookie is None or "refresh_token" in fields:
            return await self._parts.unbroken(self._refreshed(fields["refresh_token"], call))
        return await self._parts.unbroken(
            self._parts.cookies.refresh(cookie, self._parts.session_wait_s)
        )

    async def logout(self, request: web.BaseRequest, call: Call) -> Answer:
        fields = await read_fields(
            request,
            {"refresh_token": Text(longest=256, required=False), "all": Flag()},
            optional=True,
        )
        if isinstance(fields, Refused):
            return fields
        wait_s = max(map(self._parts.repeats.wait_s, _presented(call, fields)))
        if wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        cookie = cookie_of(call)
        if self._parts.cookies is None or cookie is None or "refresh_token" in fields:
            return await self._parts.unbroken(self._signed_out(call, fields))
        return await self._parts.unbroken(
            self._parts.cookies.sign_out(
                cookie,
                everywhere=fields.get("all", False),
                tell=lambda changes: self._tell_sign_out(call, changes),
            )
        )

    def _of_another_origin(self, call: Call) -> bool:
        """Whether a page of another origin made the browser send this: it would sign its
        visitor in to an account of its own.  Who is no browser sends no `Origin`."""
        return intent(call, self._parts.origins(call)) is Reason.CROSS_ORIGIN

    async def _enrol(self, email: str, password_hash: str, call: Call) -> Answer:
        if self._parts.enrolment is not None and self._parts.verification != "off":
            requester = requester_of(call.client_ip)
            await self._parts.enrolment.enrol(email, password_hash, requester)
            # Whether it has an account is not asked, so that nothing tells it.
            about = self._parts.audit.pseudonym(address_key(email) or "")
            self._parts.audit.record(event_of(AuditKind.REGISTERED, call, asked_for=about))
            return Said(202, {"status": "verification_sent"})
        account = await self._parts.accounts.register(email, password_hash)
        if isinstance(account, Reason):
            return Refused(account)
        self._parts.audit.record(event_of(AuditKind.REGISTERED, call, subject=account.id))
        return Said(
            201,
            {
                "user_id": account.id,
                "email": account.email,
                "email_verified": account.email_verified,
                "roles": list(account.roles),
            },
        )

    async def _checked(self, guess: Guess) -> Account | Refused:
        """The account whose password this is.  What was not evaluated is no failure."""
        try:
            account = await self._parts.accounts.by_email(guess.email_key)
            # Without an account a dummy is checked, at the same cost.
            checked = await self._parts.passwords.check(
                guess.password, account.password_hash if account else None, guess.lane
            )
        except StoreUnavailable:
            await self._parts.guard.give_back(guess.admission)
            raise
        if isinstance(checked, Reason):
            await self._parts.guard.give_back(guess.admission)
            return Refused(checked)
        if account is None or not checked.good:
            await self._parts.guard.failed(guess.admission)
            self._tell_failure(guess, account, Reason.INVALID_CREDENTIALS)
            return Refused(Reason.INVALID_CREDENTIALS)
        return account

    async def _renewed(self, account: Account, guess: Guess) -> Account:
        """The account with its hash at this installation's cost, when there is time for it."""
        if account.password_hash is None or self._parts.passwords.current(account.password_hash):
            return account
        renewed = await self._parts.passwords.rehash(guess.password, guess.lane)
        if isinstance(renewed, Reason):
            return account
        await self._parts.accounts.renew_hash(account.id, account.password_hash, renewed)
        return await self._parts.accounts.by_id(account.id) or account

    async def _admit(self, guess: Guess, account: Account) -> Answer:
        """A session for whoever knew the password; the cookie that it replaces ends."""
        await self._parts.guard.give_back(guess.admission)
        origin = Origin(user_agent_of(guess.call), guess.call.client_ip)
        account = await self._renewed(account, guess)
        grant = await self._begin(account, origin, guess.cookie)
        if grant is Reason.INVALID_CREDENTIALS:
            # The hash was replaced between the check and the lock: by a change of the
            # password, or by another sign-in that renewed it.  The new one decides.
            again = await self._parts.accounts.by_id(account.id)
            checked = await self._parts.passwords.check(
                guess.password, again.password_hash if again else None, guess.lane
            )
            if again is not None and isinstance(checked, Checked) and checked.good:
                grant = await self._begin(again, origin, guess.cookie)
        if isinstance(grant, Reason):
            self._tell_failure(guess, account, grant)
            return Refused(grant)
        if guess.cookie is None or self._parts.cookies is None:
            answer: Answer = self._granted(grant)
        else:
            answer = await self._parts.cookies.admit(grant, guess.cookie, cookie_of(guess.call))
        if isinstance(answer, Refused):
            return answer
        await self._welcome(guess, grant, origin)
        epoch = grant.account.password_epoch
        device = self._parts.guard.remembered(guess.call, guess.email_key, epoch)
        return replace(answer, cookies=(*answer.cookies, device))

    async def _welcome(self, guess: Guess, grant: Grant, origin: Origin) -> None:
        """Tells the audit log, and the owner of a device that the account has not seen."""
        known = guess.admission.device is not None
        self._parts.audit.record(
            event_of(
                AuditKind.SIGNED_IN,
                guess.call,
                guess.request,
                subject=grant.account.id,
                sid=grant.session_id,
                amr=list(grant.amr),
                transport="bearer" if guess.cookie is None else "cookie",
                known_device=known,
            )
        )
        if known:
            return
        with suppress(StoreUnavailable):  # the sign-in has happened, with or without a letter
            await self._parts.notices.signed_in(
                grant.account.id,
                grant.session_id,
                user_agent=shown_user_agent(origin.user_agent),
                address=origin.address,
            )

    def _tell_failure(self, guess: Guess, account: Account | None, reason: Reason) -> None:
        """By the account's id, or by a pseudonym of the address where there is none."""
        unknown = None if account else self._parts.audit.pseudonym(guess.email_key)
        self._parts.audit.record(
            event_of(
                AuditKind.SIGN_IN_FAILED,
                guess.call,
                guess.request,
                subject=account.id if account else None,
                result=reason,
                unknown=unknown,
            )
        )

    async def _begin(self, account: Account, origin: Origin, cookie: str | None) -> Grant | Reason:
        return await self._parts.refresh_tokens.begin(
            account.id,
            origin,
            checked_hash=account.password_hash,
            verified_only=self._parts.verification == "required",
            cookie_hash=None if cookie is None else hash_of(cookie),
        )

    async def _refreshed(self, token: str, call: Call) -> Answer:
        origin = Origin(user_agent_of(call), call.client_ip)
        rotated = await self._parts.refresh_tokens.rotate(token, origin, self._parts.session_wait_s)
        if isinstance(rotated, TooSoon):
            return Refused(Reason.RATE_LIMITED, retry_after_s=rotated.wait_s)
        if isinstance(rotated, Reason):
            return Refused(rotated)
        if isinstance(rotated, Reused):
            # The answer is the same when a worker has not confirmed: the relay goes on.
            if not all(change.confirmed for change in rotated.changes):
                self._parts.audit.record(
                    event_of(
                        AuditKind.REFRESH_REUSED,
                        call,
                        result=Reason.REFRESH_TOKEN_REUSED,
                        subject=rotated.account_id,
                        sid=rotated.session_id,
                    )
                )
            await self._parts.publisher.publish(rotated.changes)
            return Refused(Reason.REFRESH_TOKEN_REUSED)
        if rotated.repeated:
            self._parts.audit.record(
                event_of(
                    AuditKind.REFRESH_REPEATED,
                    call,
                    subject=rotated.account.id,
                    sid=rotated.session_id,
                )
            )
        return self._granted(rotated)

    async def _signed_out(self, call: Call, fields: dict[str, Any]) -> Answer:
        ended = await self._ended(call.credential, fields)
        if isinstance(ended, Reason):
            return Refused(ended)
        self._tell_sign_out(call, ended)
        return await confirmed(self._parts.publisher, ended)

    def _tell_sign_out(self, call: Call, changes: Sequence[Change]) -> None:
        """By what has ended: the `sid`, whose sign-in names the account; the account itself
        where all its sessions have.  A repeat of what is over ends nothing."""
        if all(change.confirmed for change in changes):
            return
        ended = {str(change.kind): change.target for change in changes}
        self._parts.audit.record(
            event_of(
                AuditKind.SIGNED_OUT, call, subject=ended.get("subject"), sid=ended.get("session")
            )
        )

    async def _ended(
        self, credential: Credential | Reason | None, fields: dict[str, Any]
    ) -> Sequence[Change] | Reason:
        everywhere: bool = fields.get("all", False)
        principal = self._bearer(credential)
        if isinstance(principal, Principal):
            return await self._parts.sessions.sign_out(principal, everywhere=everywhere)
        token: str | None = fields.get("refresh_token")
        if token is None:
            return principal
        family = await self._parts.refresh_tokens.family_of(token)
        if family is None:
            return Reason.INVALID_REFRESH_TOKEN
        return await self._parts.sessions.sign_out_family(family, everywhere=everywhere)

    def _bearer(self, credential: Credential | Reason | None) -> Principal | Reason:
        """Who holds the token.  One that has expired or was revoked still ends its session."""
        if isinstance(credential, Reason):
            return credential
        if credential is None or credential.kind is not CredentialKind.BEARER:
            return Reason.NO_CREDENTIAL
        return self._parts.verifier.verify(credential.text, allow_expired=True)

    def _granted(self, grant: Grant) -> Said:
        account = grant.account
        issued = self._parts.issuer.issue(
            TokenSubject(
                subject=account.id,
                email=account.email,
                email_verified=account.email_verified,
                roles=account.roles,
                session_id=grant.session_id,
                client_id=None,
                amr=grant.amr,
                auth_time=grant.auth_time,
            ),
            grant.issued_at,
        )
        return Said(
            200,
            {
                "access_token": issued.text,
                "token_type": "Bearer",
                "expires_in": issued.expires_at - grant.issued_at,
                "refresh_token": grant.refresh_token,
                "refresh_expires_in": grant.expires_in_s,
                "user": {
                    "user_id": account.id,
                    "email": account.email,
                    "roles": list(account.roles),
                },
            },
        )


def _presented(call: Call, fields: dict[str, Any]) -> list[str]:
    """Every text by which a sign-out is asked for: one that is made up must not hide another
    that is good.  Where there is none, the empty one."""
    texts = [call.credential.text] if isinstance(call.credential, Credential) else []
    if "refresh_token" in fields:
        texts.append(str(fields["refresh_token"]))
    return texts or [""]


async def confirmed(publisher: RevocationPublisher, changes: Sequence[Change]) -> Answer:
    """204 is a promise: every live worker refuses what has ended."""
    if await publisher.publish(changes):
        return Said(204)
    return Refused(Reason.REVOCATION_PENDING)


def weak(found: Weak, field: str) -> Refused:
    return Refused(Reason.WEAK_PASSWORD, (FieldError(field, found.hint),), detail=found.hint)
