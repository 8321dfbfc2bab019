"""`/auth/login` (docs/accounts.md).

Law: a stranger cannot tell a known e-mail address from an unknown one.  Whatever is asked of an
e-mail address costs the same work in the same order, and what is special about an account is
said only after a right password.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from aiohttp import web

from gateway.access.routing.csrf import AllowedOrigins
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.edge.endpoints.csrf import is_cross_origin
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    ProblemReply,
    Reply,
    ShieldedTasks,
    invalid_field,
)
from gateway.edge.endpoints.json_body import EMAIL, PASSWORD, Text, read_fields
from gateway.edge.endpoints.login_guard import AdmittedAttempt, LoginGuard
from gateway.edge.endpoints.session_opening import SessionOpener, SessionOpening
from gateway.email_address import normalize_email
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Checked, Passwords
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.model import Call, Reason
from gateway.stores.protocols import StoreUnavailable


@dataclass(frozen=True, slots=True)
class SignInDependencies:
    accounts: Accounts
    passwords: Passwords
    opener: SessionOpener
    guard: LoginGuard
    audit: AuditSink
    origins: Callable[[Call], AllowedOrigins]
    """Whose pages may call `/auth`, as the current snapshot says."""
    shielded: ShieldedTasks
    login_path: str
    """Of sign-in, as the audit log names it."""
    notifications: SecurityNotifications


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """An attempt to sign in whose password may be checked."""

    normalized_email: str
    password: str = field(repr=False)
    admission: AdmittedAttempt
    opening: SessionOpening

    @property
    def client_ip(self) -> str:
        return self.opening.call.client_ip

    @property
    def lane(self) -> Lane:
        return Lane.SIGN_IN if self.admission.device is None else Lane.KNOWN


@dataclass(frozen=True, slots=True)
class _ProvenAccount:
    account: Account
    password_known: bool
    """Whether the world knows its password."""


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
        opening = self._deps.opener.opening(
            request, call, fields.get("transport"), known_device=admission.device is not None
        )
        attempt = SignInAttempt(key, fields["password"], admission, opening)
        proven = await self._check_password(attempt)
        if isinstance(proven, ProblemReply):
            return proven
        return await self._deps.shielded(self._admit(attempt, proven))

    async def _check_password(self, attempt: SignInAttempt) -> _ProvenAccount | ProblemReply:
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
                client_ip=attempt.client_ip,
            )
        except StoreUnavailable:
            await self._deps.guard.give_back(attempt.admission)
            raise
        if isinstance(checked, Reason):
            await self._deps.guard.give_back(attempt.admission)
            return ProblemReply(checked)
        if account is None or not checked.good:
            # Written down before it is counted: who leaves meanwhile takes no event along.
            self._deps.opener.record_failure(
                attempt.opening, account or attempt.normalized_email, Reason.INVALID_CREDENTIALS
            )
            await self._deps.guard.failed(attempt.admission)
            return ProblemReply(Reason.INVALID_CREDENTIALS)
        return _ProvenAccount(account, checked.known)

    async def _renew_hash(self, account: Account, attempt: SignInAttempt) -> Account:
        """The account with its hash at this installation's cost, when there is time for it.

        Hashing takes its time: where another hash was stored meanwhile, the account stays as it
        was checked.  As it is now it would vouch for a password that nobody has given.
        """
        stored = account.password_hash
        if stored is None or not self._deps.passwords.may_renew(stored, attempt.password):
            return account
        renewed = await self._deps.passwords.rehash(
            attempt.password,
            attempt.lane,
            holder=attempt.normalized_email,
            client_ip=attempt.client_ip,
        )
        if isinstance(renewed, Reason):
            return account
        is_kept = await self._deps.accounts.renew_hash(account.id, stored, renewed)
        return replace(account, password_hash=renewed) if is_kept else account

    async def _admit(self, attempt: SignInAttempt, proven: _ProvenAccount) -> Reply:
        """Begin a session for a right password; the session of an older cookie ends."""
        await self._deps.guard.give_back(attempt.admission)
        opener, opening = self._deps.opener, attempt.opening
        opener.require_key(opening)
        account = await self._renew_hash(proven.account, attempt)
        if proven.password_known:
            with suppress(StoreUnavailable):  # the next sign-in tells of it
                await self._deps.notifications.password_known(account.id, account.password_epoch)
        reply = await opener.open(opening, account)
        if reply is Reason.INVALID_CREDENTIALS:
            # The hash was replaced between the check and the lock: by a change of the
            # password, or by another sign-in that renewed it.  The new one decides.
            current = await self._deps.accounts.by_id(account.id)
            checked = await self._deps.passwords.check(
                attempt.password,
                current.password_hash if current else None,
                attempt.lane,
                holder=attempt.normalized_email,
                client_ip=attempt.client_ip,
            )
            if current is not None and isinstance(checked, Checked) and checked.good:
                reply = await opener.open(opening, current)
        if isinstance(reply, Reason):
            opener.record_failure(opening, account, reply)
            return ProblemReply(reply)
        return reply
