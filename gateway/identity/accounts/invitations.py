"""Whom an operator lets register: one e-mail address, once, with roles.

Law: an account is made of an invitation, and the invitation deleted, in one transaction: of two
who come with it at once, one has the account.  The e-mail address counts as confirmed only where
the mail brought the token, or the operator says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.email_address import is_same_mailbox, require_normalized
from gateway.identity.accounts.account_rows import Account, find_by_key
from gateway.identity.accounts.accounts import add
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.mail import invitations, registrations
from gateway.identity.mail.invitations import Invitation, OpenedInvitation
from gateway.identity.mail.links import Purpose
from gateway.identity.mail.mail_requests import MailRequest, queue_link
from gateway.model import Reason
from gateway.stores.protocols import Conflict, Database, Transaction


@dataclass(frozen=True, slots=True)
class NewInvitation:
    invitation: Invitation
    token: str = field(repr=False)
    """Shown once, to the operator."""


@dataclass(frozen=True, slots=True)
class InvitationTerms:
    roles: Sequence[str]
    life_s: int
    by_mail: bool
    """Whether a mail brings it."""
    verified: bool
    """Whether the operator knows that the e-mail address is the owner's."""
    invited_by: str


class Invitations:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def invite(self, email: str, terms: InvitationTerms) -> NewInvitation | Reason:
        """A new invitation, in the place of an older one; EMAIL_TAKEN where the e-mail address has
        an account.  `email` is as `display_email` gave it.  Raises ValueError for wrong roles."""
        check_roles(terms.roles)
        try:
            return await self._invite(email, terms)
        except Conflict:
            # Another operator has just invited the same address: the newer one stands.
            return await self._invite(email, terms)

    async def _invite(self, email: str, terms: InvitationTerms) -> NewInvitation | Reason:
        key, token = require_normalized(email), secrets.token_urlsafe(32)
        async with self._database.transaction() as tx:
            if await find_by_key(tx, key) is not None:
                return Reason.EMAIL_TAKEN
            now, mail_id = int(await tx.now()), None
            if terms.by_mail:
                mail_id = await queue_link(
                    tx, Purpose.INVITATION, key, MailRequest("operator", email)
                )
            invitation = Invitation(
                id=secrets.token_hex(8),
                email=email,
                normalized_email=key,
                roles=tuple(dict.fromkeys(terms.roles)),
                verified=terms.verified,
                invited_by=terms.invited_by,
                created_at=now,
                expires_at=now + terms.life_s,
                mail_id=mail_id,
            )
            await invitations.store(tx, token, invitation)
        return NewInvitation(invitation, token)

    async def every(self) -> list[Invitation]:
        async with self._database.read_transaction() as tx:
            return await invitations.every(tx)

    async def revoke(self, email: str) -> bool:
        """Whether the e-mail address had an invitation."""
        async with self._database.transaction() as tx:
            return await invitations.revoke(tx, require_normalized(email))

    async def find(self, token: str, email: str) -> OpenedInvitation | None:
        """The invitation of this very e-mail address that the token opens now."""
        key = require_normalized(email)
        async with self._database.read_transaction() as tx:
            opened = await invitations.find(tx, token)
        return opened if opened and opened.invitation.normalized_email == key else None

    async def register(
        self, token: str, email: str, password_hash: str, requester: str | None
    ) -> Account | Reason:
        """The account, with the roles of the invitation, which is used up.

        INVALID_TOKEN where it is good no more, EMAIL_TAKEN where the e-mail address has an
        account.  `requester` is who is sent a mail to confirm the e-mail address where the
        invitation does not; None where none is sent.
        """
        try:
            async with self._database.transaction() as tx:
                return await self._redeem(tx, token, email, MailRequest(requester or "", email,
                    password_hash), mails=requester is not None)  # fmt: skip
        except (Conflict, _InvitationInvalid):
            # Whoever was a moment faster with the same invitation has the account.
            return Reason.INVALID_TOKEN

    async def _redeem(
        self, tx: Transaction, token: str, email: str, request: MailRequest, *, mails: bool
    ) -> Account | Reason:
        opened = await invitations.find(tx, token)
        key = require_normalized(email)
        if opened is None or opened.invitation.normalized_email != key:
            return Reason.INVALID_TOKEN
        if await find_by_key(tx, key) is not None:
            return Reason.EMAIL_TAKEN
        # In another spelling it may be another mailbox, which nobody has confirmed.
        verified = opened.verifies and is_same_mailbox(opened.invitation.email, email)
        account = await add(
            tx, email, request.password_hash, roles=opened.invitation.roles, verified=verified
        )
        if not await invitations.use(tx, opened.invitation):
            raise _InvitationInvalid
        await registrations.delete(tx, key)
        if mails and not verified:
            await queue_link(tx, Purpose.VERIFY, key, request)
        return account


class _InvitationInvalid(Exception):
    """Rolls back what an invitation that has ended must not do."""
