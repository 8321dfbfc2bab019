"""`/auth/email/verify`, `/auth/email/resend`, `/auth/password/forgot` and `/auth/password/reset`
(docs/mail.md): what begins or ends with a mailed link."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import Recorder, event_of
from gateway.edge.endpoints.endpoint import Answer, Endpoint, Refused, Said, Unbroken, invalid
from gateway.edge.endpoints.json_body import Text, read_fields
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.sign_in import EMAIL, PASSWORD, PASSWORD_LONGEST, confirmed, weak
from gateway.identity.accounts.email_change import AddressChanges
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Checked, Passwords, Weak
from gateway.identity.accounts.registration import Confirmation, Enrolments
from gateway.identity.email_address import address_key
from gateway.identity.mail.recipients import requester_of
from gateway.identity.sign_in.throttle import Ask, Throttle
from gateway.model import Call, Change, Reason
from gateway.stores.protocols import RevocationPublisher, StoreUnavailable

_TOKEN = Text(longest=256)
_NAMED = Text(longest=PASSWORD_LONGEST, required=False)
_RESET_SENT = "reset_sent"


@dataclass(frozen=True, slots=True)
class MailLinkParts:
    enrolments: Enrolments
    address_changes: AddressChanges
    passwords: Passwords
    throttle: Throttle
    guard: LoginGuard
    publisher: RevocationPublisher
    unbroken: Unbroken
    audit: Recorder


class MailLinks:
    def __init__(self, parts: MailLinkParts) -> None:
        self._parts = parts

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("email", "verify"): {"POST": self.verify},
            ("email", "resend"): {"POST": self.resend},
            ("password", "forgot"): {"POST": self.forgot},
            ("password", "reset"): {"POST": self.reset},
        }

    async def resend(self, request: web.BaseRequest, call: Call) -> Answer:
        return await self._asked(
            request, call, self._parts.enrolments.resend, Ask.RESEND, "verification_sent"
        )

    async def forgot(self, request: web.BaseRequest, call: Call) -> Answer:
        return await self._asked(
            request, call, self._parts.enrolments.forgot, Ask.RESET, _RESET_SENT
        )

    async def verify(self, request: web.BaseRequest, call: Call) -> Answer:
        """A link of a registration, with the password that this registration named; or one
        that moves an account to another address, alone."""
        fields = await read_fields(request, {"token": _TOKEN, "password": _NAMED})
        if isinstance(fields, Refused):
            return fields
        token, password = fields["token"], fields.get("password")
        confirmation = await self._parts.enrolments.confirmation(token)
        if confirmation is None:
            return await self._parts.unbroken(self._moved(token, call))
        if password is None:
            return invalid("password", "is missing")
        # By the link: who has it reads the mailbox, and nobody else's failures count.
        reservation = await self._parts.throttle.reserve_link(token)
        if reservation.wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        checked = await self._parts.passwords.check(
            password, confirmation.password_hash, Lane.KNOWN
        )
        if isinstance(checked, Checked) and not checked.good:
            await self._parts.throttle.failed(reservation)
            return Refused(Reason.INVALID_CREDENTIALS)
        await self._parts.throttle.give_back(reservation)
        if isinstance(checked, Reason):
            return Refused(checked)
        return await self._parts.unbroken(self._verified(token, confirmation, call))

    async def reset(self, request: web.BaseRequest, call: Call) -> Answer:
        fields = await read_fields(request, {"token": _TOKEN, "password": PASSWORD})
        if isinstance(fields, Refused):
            return fields
        return await self._parts.unbroken(self._reset(fields["token"], fields["password"], call))

    async def _asked(
        self,
        request: web.BaseRequest,
        call: Call,
        ask: Callable[[str, str], Coroutine[Any, Any, None]],
        purpose: Ask,
        status: str,
    ) -> Answer:
        """Always 202, whoever has the address; a stranger who asks too often waits."""
        fields = await read_fields(request, {"email": EMAIL})
        if isinstance(fields, Refused):
            return fields
        key = address_key(fields["email"])
        if key is None:
            return invalid("email", "is not an address")
        reservation = await self._parts.throttle.reserve_ask(call.client_ip, purpose)
        if reservation.wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        await self._parts.throttle.spent(reservation)
        await self._parts.unbroken(ask(fields["email"], requester_of(call.client_ip)))
        # Whether there is an account is not looked up here: the address stands as a pseudonym.
        if status == _RESET_SENT:
            about = self._parts.audit.pseudonym(key)
            self._parts.audit.record(
                event_of(AuditKind.PASSWORD_RESET_ASKED, call, request, asked_for=about)
            )
        return Said(202, {"status": status})

    async def _verified(self, token: str, checked: Confirmation, call: Call) -> Answer:
        confirmed_to = await self._parts.enrolments.verify(token, checked)
        if isinstance(confirmed_to, Reason):
            return Refused(confirmed_to)
        with contextlib.suppress(StoreUnavailable):
            # Who tried to sign in before the address was confirmed has failed, and is the owner.
            await self._parts.throttle.forgive(checked.email_key)
        return await self._told(AuditKind.ADDRESS_VERIFIED, confirmed_to, call)

    async def _moved(self, token: str, call: Call) -> Answer:
        moved_to = await self._parts.address_changes.confirm(token)
        if moved_to is None:
            return await self._not_good(call)
        return await self._told(AuditKind.ADDRESS_CHANGED, moved_to, call)

    async def _told(
        self, kind: AuditKind, done: tuple[str, Sequence[Change]], call: Call
    ) -> Answer:
        account_id, changes = done
        self._parts.audit.record(event_of(kind, call, subject=account_id))
        # The address is confirmed whether or not a worker still takes an older token.
        await self._parts.publisher.publish(changes)
        return Said(204)

    async def _not_good(self, call: Call) -> Refused:
        """What is no link, or none any more, counts against its sender; a good one is looked
        for first, so that it is refused for nobody else's."""
        reservation = await self._parts.throttle.reserve_ask(call.client_ip, Ask.LINK)
        if reservation.wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        await self._parts.throttle.spent(reservation)
        return Refused(Reason.INVALID_TOKEN)

    async def _reset(self, token: str, password: str, call: Call) -> Answer:
        email = await self._parts.enrolments.resettable(token)
        if email is None:
            return await self._not_good(call)
        # By the link: anybody can have one of their own, and hold the threads with it.
        reservation = await self._parts.throttle.reserve_reset(token)
        if reservation.wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        await self._parts.throttle.spent(reservation)
        made = await self._parts.passwords.hash(password, words=(email,), lane=Lane.KNOWN)
        if isinstance(made, Reason):
            return Refused(made)
        if isinstance(made, Weak):
            return weak(made, "password")
        done = await self._parts.enrolments.reset(token, made)
        if done is None:
            return Refused(Reason.INVALID_TOKEN)
        account, changes = done
        self._parts.audit.record(event_of(AuditKind.PASSWORD_RESET, call, subject=account.id))
        with contextlib.suppress(StoreUnavailable):
            # Whoever reads the mail is the owner: a stranger's guesses lock nobody out.
            await self._parts.throttle.forgive(account.email_key)
        answer = await confirmed(self._parts.publisher, changes)
        if isinstance(answer, Refused):
            return answer
        # Nor do those who go on guessing: the browser that brought the link is the owner's.
        device = self._parts.guard.remembered(call, account.email_key, account.password_epoch)
        return replace(answer, cookies=(*answer.cookies, device))
