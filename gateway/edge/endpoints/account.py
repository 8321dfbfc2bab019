"""A caller's own account: `/auth/me`, `/auth/me/export`, `/auth/password/change` and
`/auth/email/change`.

Law: what takes the account from its owner asks for more than a session, which may be stolen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.caller_fields import read_caller_fields
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import (
    ACCEPTED,
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
    await_propagation,
    invalid_field,
)
from gateway.edge.endpoints.factor_changes import FreshCallers
from gateway.edge.endpoints.json_body import EMAIL, PASSWORD, Fields
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.new_passwords import hash_or_refusal
from gateway.edge.endpoints.password_prover import PasswordProver
from gateway.edge.endpoints.rate_limits import EventWait
from gateway.edge.endpoints.registration import OTHER_DOMAIN
from gateway.edge.replies.cookies import cookie_of
from gateway.email_address import display_email, normalize_email
from gateway.identity.accounts.accounts import Accounts, Proof
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.erasure import erase_own
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Passwords
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.sign_in.session_cookies import EXPIRED
from gateway.identity.sign_in.throttle import RequestKind, Throttle
from gateway.model import Call, Principal, Reason
from gateway.stores.protocols import Database, RevocationPublisher

_BARRED = ProblemReply(
    Reason.NO_RULE,
    detail="A role of this account keeps it away from something: only whoever runs this service"
    " may delete it or move it to another address.",
    told="account.barred",
)
_NEW_PASSWORD: Fields = {"password": PASSWORD, "new_password": PASSWORD}
_NEW_EMAIL: Fields = {"password": PASSWORD, "email": EMAIL}
_OTHER_HOST = "With a session cookie an account is deleted at the host of the public URL alone."


@dataclass(frozen=True, slots=True)
class AccountDependencies:
    authenticator: Authenticator
    accounts: Accounts
    passwords: Passwords
    password_prover: PasswordProver
    throttle: Throttle
    publisher: RevocationPublisher
    shielded: ShieldedTasks
    notifications: SecurityNotifications
    guard: LoginGuard
    email_changes: EmailChanges
    audit: AuditSink
    registration_rules: RegistrationRules
    cookies: CookieSessions
    fresh_callers: FreshCallers
    event_wait_s: EventWait
    database: Database
    barring_roles: Callable[[], frozenset[str]]


class AccountEndpoints:
    def __init__(self, dependencies: AccountDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("me",): {"GET": self.me, "DELETE": self.delete},
            ("me", "export"): {"GET": self.export},
            ("password", "change"): {"POST": self.change_password},
            ("email", "change"): {"POST": self.change_email},
        }

    async def me(self, _request: web.BaseRequest, call: Call) -> Reply:
        """What the credential says.  No store is asked: a change of the account outdates it."""
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        return JsonReply(
            200,
            {
                "user_id": principal.subject,
                "email": principal.email,
                "email_verified": principal.email_verified,
                "roles": list(principal.roles),
                "session_id": principal.session_id,
                "expires_at": principal.expires_at,
            },
        )

    async def export(self, _request: web.BaseRequest, call: Call) -> Reply:
        """All that is stored about the caller (GDPR article 20)."""
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        data = await self._deps.accounts.export(principal.subject)
        # A token of an imported key may name somebody who has no account here.
        return ProblemReply(Reason.ROUTE_UNKNOWN) if data is None else JsonReply(200, data)

    async def delete(self, request: web.BaseRequest, call: Call) -> Reply:
        """Erase the account, for who has signed in or stepped up just now, with a factor where
        the account has one."""
        principal = await self._deps.fresh_callers.caller(call, _OTHER_HOST)
        if isinstance(principal, ProblemReply):
            return principal
        return await self._deps.shielded(self._delete(request, call, principal))

    async def change_password(self, request: web.BaseRequest, call: Call) -> Reply:
        """Counts as an attempt to sign in: a stolen token must not be a way to guess."""
        asked = await read_caller_fields(self._deps.authenticator, request, call, _NEW_PASSWORD)
        if isinstance(asked, ProblemReply):
            return asked
        principal, fields = asked
        proof = await self._prove(principal, fields["password"], call, wants="password_changed")
        if isinstance(proof, ProblemReply):
            return proof
        reservation = await self._deps.throttle.reserve_change(principal.subject)
        if reservation.wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        hashed = await self._deps.passwords.hash(
            fields["new_password"],
            words=(principal.email or "",),
            lane=Lane.KNOWN,
            holder=proof.normalized_email,
            client_ip=call.client_ip,
        )
        password_hash = hash_or_refusal(hashed, "new_password")
        if isinstance(password_hash, ProblemReply):
            await self._deps.throttle.give_back(reservation)
            return password_hash
        await self._deps.throttle.spent(reservation)
        return await self._deps.shielded(
            self._replace_password(principal, password_hash, proof, call)
        )

    async def change_email(self, request: web.BaseRequest, call: Call) -> Reply:
        """Always 202 after a right password, and a factor of now where the account has one, whoever
        has the new e-mail address; the account gets it when the link that is sent there is
        opened."""
        asked = await read_caller_fields(self._deps.authenticator, request, call, _NEW_EMAIL)
        if isinstance(asked, ProblemReply):
            return asked
        principal, fields = asked
        email = display_email(fields["email"])
        if email is None:
            return invalid_field("email", "is not an address that mail can reach")
        if not self._deps.registration_rules.takes_domain(normalize_email(email) or ""):
            return OTHER_DOMAIN
        # The address is a way in, as a new password is sent to it.
        lacking = await self._deps.fresh_callers.lacking_factor(principal)
        if lacking is not None:
            return lacking
        proof = await self._prove(principal, fields["password"], call, wants="email_changed")
        if isinstance(proof, ProblemReply):
            return proof
        holder = principal.session_id or principal.token_id
        wait_s = await self._deps.event_wait_s(holder, principal.subject)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        wait_s = await self._deps.throttle.count_request(
            call.client_ip, RequestKind.EMAIL_CHANGE, self._deps.guard.some_device(call)
        )
        if wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        return await self._deps.shielded(
            self._request_change(request, call, principal, email, proof)
        )

    async def _request_change(
        self,
        request: web.BaseRequest,
        call: Call,
        principal: Principal,
        email: str,
        proof: Proof,
    ) -> Reply:
        refusal = await self._deps.email_changes.request(principal.subject, email, proof)
        if refusal is not None:
            return _BARRED if refusal is Reason.NO_RULE else ProblemReply(refusal)
        self._deps.audit.record(
            event_of(
                AuditKind.EMAIL_CHANGE_REQUESTED,
                call,
                request,
                subject=principal.subject,
                sid=principal.session_id,
            )
        )
        return JsonReply(202, {"status": "verification_sent"})

    async def _prove(
        self, principal: Principal, password: str, call: Call, *, wants: str
    ) -> Proof | ProblemReply:
        """As the prover.  A wrong password is written down: with a stolen session it is a guess."""
        proof = await self._deps.password_prover.prove(principal, password, call)
        if isinstance(proof, ProblemReply) and proof.reason is Reason.INVALID_CREDENTIALS:
            self._deps.audit.record(
                event_of(
                    AuditKind.STEP_UP_FAILED,
                    call,
                    subject=principal.subject,
                    result=proof.reason,
                    sid=principal.session_id,
                    wants=wants,
                )
            )
        return proof

    async def _delete(self, request: web.BaseRequest, call: Call, principal: Principal) -> Reply:
        deps = self._deps
        cookies = await deps.accounts.cookie_hashes(principal.subject)
        changes = await erase_own(
            deps.database,
            principal.subject,
            principal.session_id or "",
            deps.notifications,
            barring_roles=deps.barring_roles(),
        )
        if isinstance(changes, Reason):
            # It has ended while it was asked, or is of an imported key and has no account here.
            return ProblemReply(changes) if changes is not Reason.NO_RULE else _BARRED
        deps.notifications.wake()
        deps.audit.record(
            event_of(
                AuditKind.ACCOUNT_CHANGED,
                call,
                request,
                subject=principal.subject,
                sid=principal.session_id,
                change="deleted",
            )
        )
        await deps.cookies.erase(cookies)
        reply = await await_propagation(deps.publisher, changes)
        return replace(reply, cookies=(*reply.cookies, EXPIRED)) if cookie_of(call) else reply

    async def _replace_password(
        self, principal: Principal, password_hash: str, proof: Proof, call: Call
    ) -> Reply:
        replaced = await self._deps.accounts.change_password(
            principal.subject, password_hash, proof, notifications=self._deps.notifications
        )
        if isinstance(replaced, Reason):
            return ProblemReply(replaced)
        self._deps.notifications.wake()
        self._deps.audit.record(
            event_of(AuditKind.PASSWORD_CHANGED, call, subject=principal.subject)
        )
        reply = await await_propagation(self._deps.publisher, replaced.changes)
        # The older password's device cookies no longer count; this browser gets a new one, by
        # the epoch of this change: after a reset that came since it does not count either.
        device = self._deps.guard.remembered(call, proof.normalized_email, replaced.password_epoch)
        return replace(reply, cookies=(*reply.cookies, device))
