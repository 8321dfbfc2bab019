"""What a signed-in caller sees and does about their own account: `/auth/me`, `/auth/me/export`,
`/auth/sessions`, `/auth/password/change` and `/auth/email/change`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from aiohttp import web

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import Recorder, event_of
from gateway.edge.endpoints.endpoint import Answer, Endpoint, Refused, Said, Unbroken, invalid
from gateway.edge.endpoints.json_body import Text, read_fields
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.sign_in import EMAIL, PASSWORD_LONGEST, confirmed, weak
from gateway.identity.accounts.accounts import Accounts, Proof
from gateway.identity.accounts.email_change import AddressChanges
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Checked, Passwords, Weak
from gateway.identity.email_address import shown_address
from gateway.identity.mail.notifications import Notices
from gateway.identity.sessions.sessions import SESSION_ID, Sessions
from gateway.identity.sign_in.throttle import Ask, Throttle
from gateway.model import Call, CredentialKind, Principal, Reason
from gateway.stores.protocols import RevocationPublisher

_ACCEPT = frozenset({CredentialKind.BEARER, CredentialKind.COOKIE})


class Identifier(Protocol):
    """As `access.authorizer.Identifier`."""

    async def identify(self, call: Call, accept: frozenset[CredentialKind]) -> Principal | Reason:
        """Who calls, expiry and revocation asked."""


@dataclass(frozen=True, slots=True)
class OwnAccountParts:
    identifier: Identifier
    accounts: Accounts
    passwords: Passwords
    sessions: Sessions
    throttle: Throttle
    publisher: RevocationPublisher
    unbroken: Unbroken
    notices: Notices
    guard: LoginGuard
    address_changes: AddressChanges
    audit: Recorder


class OwnAccount:
    def __init__(self, parts: OwnAccountParts) -> None:
        self._parts = parts

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("me",): {"GET": self.me},
            ("me", "export"): {"GET": self.export},
            ("sessions",): {"GET": self.list_sessions},
            ("sessions", "*"): {"DELETE": self.end_session},
            ("password", "change"): {"POST": self.change_password},
            ("email", "change"): {"POST": self.change_address},
        }

    async def me(self, _request: web.BaseRequest, call: Call) -> Answer:
        """What the token says.  No store is asked: a change of the account outdates it."""
        principal = await self._parts.identifier.identify(call, _ACCEPT)
        if isinstance(principal, Reason):
            return Refused(principal)
        return Said(
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

    async def export(self, _request: web.BaseRequest, call: Call) -> Answer:
        """All that is held of the caller (GDPR article 20)."""
        principal = await self._parts.identifier.identify(call, _ACCEPT)
        if isinstance(principal, Reason):
            return Refused(principal)
        held = await self._parts.accounts.held_of(principal.subject)
        # A token of an imported key may speak of somebody who has no account here.
        return Refused(Reason.ROUTE_UNKNOWN) if held is None else Said(200, held)

    async def list_sessions(self, _request: web.BaseRequest, call: Call) -> Answer:
        principal = await self._parts.identifier.identify(call, _ACCEPT)
        if isinstance(principal, Reason):
            return Refused(principal)
        families = await self._parts.sessions.live(principal.subject)
        return Said(
            200,
            {
                "sessions": [
                    {
                        "session_id": family.id,
                        "created_at": family.created_at,
                        "last_used_at": family.seen_at,
                        "expires_at": family.expires_at,
                        "address": family.address,
                        "user_agent": family.user_agent,
                        "current": family.id == principal.session_id,
                    }
                    for family in families
                ]
            },
        )

    async def end_session(self, _request: web.BaseRequest, call: Call) -> Answer:
        """404 for somebody else's session, as for one that never was."""
        principal = await self._parts.identifier.identify(call, _ACCEPT)
        if isinstance(principal, Reason):
            return Refused(principal)
        session_id = call.segments[-1]
        if not SESSION_ID.fullmatch(session_id):
            return Refused(Reason.ROUTE_UNKNOWN)
        return await self._parts.unbroken(self._end(session_id, principal.subject, call))

    async def change_password(self, request: web.BaseRequest, call: Call) -> Answer:
        """Counts as an attempt to sign in: a stolen token must not be a way to guess."""
        principal = await self._parts.identifier.identify(call, _ACCEPT)
        if isinstance(principal, Reason):
            return Refused(principal)
        text = Text(longest=PASSWORD_LONGEST)
        fields = await read_fields(request, {"password": text, "new_password": text})
        if isinstance(fields, Refused):
            return fields
        proof = await self._proven(principal, fields["password"], call)
        if isinstance(proof, Refused):
            return proof
        reservation = await self._parts.throttle.reserve_change(principal.subject)
        if reservation.wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        made = await self._parts.passwords.hash(
            fields["new_password"], words=(principal.email or "",), lane=Lane.KNOWN
        )
        if isinstance(made, Reason | Weak):  # a Reason is a str too: it must not be stored
            await self._parts.throttle.give_back(reservation)
            return weak(made, "new_password") if isinstance(made, Weak) else Refused(made)
        await self._parts.throttle.spent(reservation)
        return await self._parts.unbroken(self._replace(principal, made, proof, call))

    async def change_address(self, request: web.BaseRequest, call: Call) -> Answer:
        """Always 202 after a right password, whoever has the new address; the account moves
        when the letter that goes there is answered."""
        principal = await self._parts.identifier.identify(call, _ACCEPT)
        if isinstance(principal, Reason):
            return Refused(principal)
        fields = await read_fields(
            request, {"password": Text(longest=PASSWORD_LONGEST), "email": EMAIL}
        )
        if isinstance(fields, Refused):
            return fields
        email = shown_address(fields["email"])
        if email is None:
            return invalid("email", "is not an address that mail can reach")
        proof = await self._proven(principal, fields["password"], call)
        if isinstance(proof, Refused):
            return proof
        reservation = await self._parts.throttle.reserve_ask(call.client_ip, Ask.ADDRESS)
        if reservation.wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        await self._parts.throttle.spent(reservation)
        asked = self._parts.address_changes.ask(principal.subject, email, proof)
        refused = await self._parts.unbroken(asked)
        return Said(202, {"status": "verification_sent"}) if refused is None else Refused(refused)

    async def _proven(self, principal: Principal, password: str, call: Call) -> Proof | Refused:
        """The caller's session and password, for a change that is compared with both again.
        Counted as a sign-in is: the device cookie keeps what strangers use up from the owner."""
        account = await self._parts.accounts.by_id(principal.subject)
        if account is None or principal.session_id is None:
            # The token is of an imported key; there is no password here.
            return Refused(Reason.INVALID_CREDENTIALS)
        admission = await self._parts.guard.admit_holder(call, account.email_key)
        if isinstance(admission, Refused):
            return admission
        try:
            checked = await self._parts.passwords.check(password, account.password_hash, Lane.KNOWN)
        except BaseException:
            await self._parts.guard.give_back(admission)
            raise
        if isinstance(checked, Checked) and not checked.good:
            await self._parts.guard.failed(admission)
            return Refused(Reason.INVALID_CREDENTIALS)
        await self._parts.guard.give_back(admission)
        if isinstance(checked, Reason):
            return Refused(checked)
        return Proof(principal.session_id, account.password_hash, account.email_key)

    async def _replace(
        self, principal: Principal, password_hash: str, proof: Proof, call: Call
    ) -> Answer:
        replaced = await self._parts.accounts.change_password(
            principal.subject, password_hash, proof, notices=self._parts.notices
        )
        if isinstance(replaced, Reason):
            return Refused(replaced)
        self._parts.notices.wake()
        self._parts.audit.record(
            event_of(AuditKind.PASSWORD_CHANGED, call, subject=principal.subject)
        )
        answer = await confirmed(self._parts.publisher, replaced.changes)
        # The device cookies of the password before are strangers' now, and this browser is
        # none.  By the epoch of this change: what the owner has reset since is not its own.
        device = self._parts.guard.remembered(call, proof.email_key, replaced.password_epoch)
        return replace(answer, cookies=(*answer.cookies, device))

    async def _end(self, session_id: str, owner: str, call: Call) -> Answer:
        changes = await self._parts.sessions.end(session_id, "ended by its owner", owner=owner)
        if changes is None:
            return Refused(Reason.ROUTE_UNKNOWN)
        self._parts.audit.record(
            event_of(AuditKind.SESSION_ENDED, call, subject=owner, sid=session_id)
        )
        return await confirmed(self._parts.publisher, changes)
