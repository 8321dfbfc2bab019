"""`/auth/email/verify`, `/auth/email/resend`, `/auth/password/forgot` and `/auth/password/reset`
(docs/mail.md): what sends a mailed link or redeems one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
    await_propagation,
    invalid_field,
)
from gateway.edge.endpoints.json_body import (
    EMAIL,
    PASSWORD,
    PASSWORD_LONGEST,
    Text,
    read_fields,
)
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.new_passwords import hash_for_link
from gateway.email_address import normalize_email
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Checked, Passwords
from gateway.identity.accounts.registration import EmailConfirmation, Registrations
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.made_up import AddressTurns
from gateway.identity.mail.recipients import requester_of
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.sign_in.throttle import RequestKind, Throttle
from gateway.model import Call, Change, Reason
from gateway.stores.protocols import RevocationPublisher, StoreUnavailable

_TOKEN = Text(longest=256)
_OPTIONAL_PASSWORD = Text(longest=PASSWORD_LONGEST, required=False)
_RESET_SENT = "reset_sent"


@dataclass(frozen=True, slots=True)
class MailLinkDependencies:
    registrations: Registrations
    registration_rules: RegistrationRules
    email_changes: EmailChanges
    passwords: Passwords
    throttle: Throttle
    guard: LoginGuard
    publisher: RevocationPublisher
    shielded: ShieldedTasks
    audit: AuditSink


class MailLinkEndpoints:
    def __init__(self, dependencies: MailLinkDependencies) -> None:
        self._deps = dependencies
        self._turns = AddressTurns()

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("email", "verify"): {"POST": self.verify},
            ("email", "resend"): {"POST": self.resend},
            ("password", "forgot"): {"POST": self.forgot},
            ("password", "reset"): {"POST": self.reset},
        }

    async def resend(self, request: web.BaseRequest, call: Call) -> Reply:
        return await self._send_link(
            request, call, self._deps.registrations.resend, RequestKind.RESEND, "verification_sent"
        )

    async def forgot(self, request: web.BaseRequest, call: Call) -> Reply:
        return await self._send_link(
            request, call, self._deps.registrations.forgot, RequestKind.RESET, _RESET_SENT
        )

    async def verify(self, request: web.BaseRequest, call: Call) -> Reply:
        """Redeem the link of a registration, with the password that this registration named; or
        one that moves an account to another e-mail address, alone."""
        fields = await read_fields(request, {"token": _TOKEN, "password": _OPTIONAL_PASSWORD})
        if isinstance(fields, ProblemReply):
            return fields
        token, password = fields["token"], fields.get("password")
        async with self._turns.turn(call.client_ip):
            # With a link of their own, too, anybody can ask without limit.
            sent = await self._deps.registrations.has_sent(token)
            confirmation = await self._deps.registrations.confirmation(token) if sent else None
        if not sent:
            return await self._bad_link(call)
        if confirmation is None:
            return await self._deps.shielded(self._change_email(token, call))
        # The rules may have been others when the link was asked for.
        takes = self._deps.registration_rules.takes_stranger
        if confirmation.account_id is None and not takes(confirmation.normalized_email):
            return await self._bad_link(call)
        if password is None:
            return invalid_field("password", "is missing")
        # Counted by the link: its holder reads the mailbox, and nobody else's failures count.
        reservation = await self._deps.throttle.reserve_link(token)
        if reservation.wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        checked = await self._deps.passwords.check(
            password,
            confirmation.password_hash,
            Lane.KNOWN,
            holder=hash_token(token),
            client_ip=call.client_ip,
        )
        if isinstance(checked, Checked) and not checked.good:
            await self._deps.throttle.failed(reservation)
            return ProblemReply(Reason.INVALID_CREDENTIALS)
        await self._deps.throttle.give_back(reservation)
        if isinstance(checked, Reason):
            return ProblemReply(checked)
        return await self._deps.shielded(self._verify(token, confirmation, call))

    async def reset(self, request: web.BaseRequest, call: Call) -> Reply:
        fields = await read_fields(request, {"token": _TOKEN, "password": PASSWORD})
        if isinstance(fields, ProblemReply):
            return fields
        return await self._deps.shielded(
            self._reset_password(fields["token"], fields["password"], call)
        )

    async def _send_link(
        self,
        request: web.BaseRequest,
        call: Call,
        send: Callable[[str, str], Coroutine[Any, Any, None]],
        purpose: RequestKind,
        status: str,
    ) -> Reply:
        """Always 202, whoever has the e-mail address; a stranger who asks too often waits."""
        fields = await read_fields(request, {"email": EMAIL})
        if isinstance(fields, ProblemReply):
            return fields
        key = normalize_email(fields["email"])
        if key is None:
            return invalid_field("email", "is not an address")
        device = self._deps.guard.some_device(call)
        wait_s = await self._deps.throttle.count_request(call.client_ip, purpose, device)
        if wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        return await self._deps.shielded(
            self._sent(
                request, call, send(fields["email"], requester_of(call.client_ip)), status, key
            )
        )

    async def _sent(
        self,
        request: web.BaseRequest,
        call: Call,
        sending: Coroutine[Any, Any, None],
        status: str,
        key: str,
    ) -> Reply:
        await sending
        # Whether there is an account is not looked up here: a pseudonym stands for the address.
        if status == _RESET_SENT:
            pseudonym = self._deps.audit.pseudonym(key)
            self._deps.audit.record(
                event_of(AuditKind.PASSWORD_RESET_REQUESTED, call, request, asked_for=pseudonym)
            )
        return JsonReply(202, {"status": status})

    async def _verify(self, token: str, confirmation: EmailConfirmation, call: Call) -> Reply:
        verified = await self._deps.registrations.verify(token, confirmation)
        if isinstance(verified, Reason):
            return ProblemReply(verified)
        with contextlib.suppress(StoreUnavailable):
            # Who failed to sign in before the address was confirmed is its owner.
            await self._deps.throttle.reset(
                confirmation.normalized_email, confirmation.password_epoch
            )
        return await self._finish(AuditKind.EMAIL_VERIFIED, *verified, call)

    async def _change_email(self, token: str, call: Call) -> Reply:
        async with self._turns.turn(call.client_ip):
            confirmed = await self._deps.email_changes.confirm(token)
        if confirmed is None:
            return await self._bad_link(call)
        return await self._finish(AuditKind.EMAIL_CHANGED, *confirmed, call)

    async def _finish(
        self, kind: AuditKind, account: Account, changes: Sequence[Change], call: Call
    ) -> Reply:
        self._deps.audit.record(event_of(kind, call, subject=account.id))
        # The address is confirmed whether or not a worker still accepts an older token.
        await self._deps.publisher.publish(changes)
        return JsonReply(204, cookies=(self._owners_device(account, call),))

    async def _bad_link(self, call: Call) -> ProblemReply:
        """Count what is no link, or none any more, against its sender.  The link is looked up
        first, so that a good one is refused for nobody's bad ones."""
        wait_s = await self._deps.throttle.count_request(call.client_ip, RequestKind.LINK)
        if wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        return ProblemReply(Reason.INVALID_TOKEN)

    async def _reset_password(self, token: str, password: str, call: Call) -> Reply:
        async with self._turns.turn(call.client_ip):
            email = await self._deps.registrations.resettable(token)
        if email is None:
            return await self._bad_link(call)
        password_hash = await hash_for_link(
            self._deps.passwords,
            self._deps.throttle,
            password,
            token=token,
            email=email,
            client_ip=call.client_ip,
        )
        if isinstance(password_hash, ProblemReply):
            return password_hash
        reset = await self._deps.registrations.reset(token, password_hash)
        if reset is None:
            return ProblemReply(Reason.INVALID_TOKEN)
        account, changes = reset
        self._deps.audit.record(event_of(AuditKind.PASSWORD_RESET, call, subject=account.id))
        with contextlib.suppress(StoreUnavailable):
            # Whoever reads the mail is the owner: a stranger's guesses lock nobody out.
            await self._deps.throttle.reset(account.normalized_email, account.password_epoch)
        reply = await await_propagation(self._deps.publisher, changes)
        if isinstance(reply, ProblemReply):
            return reply
        return replace(reply, cookies=(*reply.cookies, self._owners_device(account, call)))

    def _owners_device(self, account: Account, call: Call) -> str:
        """Those who go on guessing lock nobody out: the browser that brought the link is the
        owner's."""
        return self._deps.guard.remembered(call, account.normalized_email, account.password_epoch)
