"""Registrations and password resets by mail: a link proves who reads an e-mail address.

Law: a request costs the same and is answered the same for every e-mail address; only the mail,
which its owner alone reads, tells whether there is an account.  A registration changes no
existing account.  A link is used up in the transaction that does what it allows.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gateway.email_address import is_same_mailbox, require_normalized
from gateway.identity.accounts.account_facts import take_back_own
from gateway.identity.accounts.account_rows import (
    Account,
    find_by_key,
    locked,
)
from gateway.identity.accounts.accounts import add, mark_verified, replace_password
from gateway.identity.mail import registrations
from gateway.identity.mail.links import Purpose, find_link, redeem_link, revoke_links
from gateway.identity.mail.mail_requests import MailRequest, queue_link
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.opaque_tokens import hash_token, well_formed
from gateway.identity.password_epochs import first_epoch
from gateway.identity.sessions.sessions import outdate
from gateway.model import Change, Reason
from gateway.stores.protocols import Conflict, Database, Transaction

EraseFactors = Callable[[Transaction, str], Awaitable[None]]
"""Ends every passkey and second factor of an account."""


@dataclass(frozen=True, slots=True)
class EmailConfirmation:
    """What a link confirms, for whoever knows the password of `password_hash` too."""

    account_id: str | None
    """None: confirming makes the account."""
    normalized_email: str
    password_hash: str | None = field(repr=False)
    password_epoch: int = 0
    """Of an account that is there: one that is made has no devices yet."""


class Registrations:
    """Registers accounts, confirms e-mail addresses and resets passwords by mailed links."""

    def __init__(
        self,
        database: Database,
        outbox: MailOutbox,
        *,
        waits: bool = True,
        erase_factors: EraseFactors | None = None,
    ) -> None:
        """`waits`: there is no account before its e-mail address is confirmed."""
        self._database = database
        self._outbox = outbox
        self._notifications = SecurityNotifications(database, outbox)
        self._waits = waits
        self._erase_factors = erase_factors

    async def register(self, email: str, password_hash: str, requester: str) -> None:
        """Send a mail to the e-mail address: with a link where it has no account, else one that
        says so.  An existing account stays as it is.

        Where sign-in does not wait for the confirmation, the account is made at once; but of a
        spelling that may be another mailbox, once it is confirmed.
        """
        key = require_normalized(email)
        async with self._database.transaction() as tx:
            # Whoever has not shown that mail of this spelling is theirs takes no address of
            # another one: its owner's mail would go there.
            if not self._waits and is_same_mailbox(email, key):
                # The same statement, whether or not the address has an account.
                now = int(await tx.now())
                await tx.run(
                    "INSERT INTO accounts (id, email, email_key, email_verified, password_hash,"
                    " password_epoch, created_at, updated_at)"
                    " VALUES (:id, :email, :key, 0, :hash, :epoch, :now, :now)"
                    " ON CONFLICT (email_key) DO NOTHING",
                    id=str(uuid.uuid4()),
                    email=email,
                    key=key,
                    hash=password_hash,
                    epoch=first_epoch(now),
                    now=now,
                )
            await queue_link(tx, Purpose.VERIFY, key, MailRequest(requester, email, password_hash))
        self._outbox.wake()

    async def resend(self, email: str, requester: str) -> None:
        await self._ask(Purpose.VERIFY, email, requester)

    async def forgot(self, email: str, requester: str) -> None:
        await self._ask(Purpose.RESET, email, requester)

    async def has_sent(self, token: str) -> bool:
        """Whether any link of ours has this token, valid or not: one question for what a stranger
        makes up, who can ask it without limit."""
        if not well_formed(token):
            return False
        async with self._database.read_transaction() as tx:
            row = await tx.one(
                "SELECT (EXISTS (SELECT 1 FROM registrations WHERE hash = :hash)"
                " OR EXISTS (SELECT 1 FROM mail_tokens WHERE hash = :hash)) AS sent",
                hash=hash_token(token),
            )
        return bool(row and row["sent"])

    async def confirmation(self, token: str) -> EmailConfirmation | None:
        """What the link would confirm now; this does not use it up."""
        async with self._database.read_transaction() as tx:
            registration = await registrations.find(tx, token)
            if registration is not None:
                return EmailConfirmation(
                    None, registration.normalized_email, registration.password_hash
                )
            link = await find_link(tx, token, Purpose.VERIFY)
            if link is None:
                return None
            row = await tx.one(
                "SELECT password_hash, password_epoch FROM accounts WHERE id = :id",
                id=link.account_id,
            )
            stored, epoch = (row["password_hash"], int(row["password_epoch"])) if row else (None, 0)
            return EmailConfirmation(link.account_id, link.normalized_email, stored, epoch)

    async def verify(
        self, token: str, checked: EmailConfirmation
    ) -> tuple[Account, Sequence[Change]] | Reason:
        """Confirm the e-mail address, and return the account; `checked` is the confirmation
        whose password was right.  INVALID_TOKEN for a link that is no longer valid, and
        INVALID_CREDENTIALS where the password was changed meanwhile: the link stays valid.

        Older tokens say that the address is not confirmed: they are outdated.
        """
        if checked.account_id is None:
            try:
                return await self._create_account(token)
            except (Conflict, _LinkInvalid):
                return Reason.INVALID_TOKEN
        async with self._database.transaction() as tx:
            account = await locked(tx, checked.account_id)
            if account is None or account.disabled:
                return Reason.INVALID_TOKEN
            if account.password_hash != checked.password_hash:
                return Reason.INVALID_CREDENTIALS
            if await redeem_link(tx, token, Purpose.VERIFY) is None or account.email_verified:
                return Reason.INVALID_TOKEN
            await mark_verified(tx, account.id)
            return account, [await outdate(tx, account.id, Reason.TOKEN_OUTDATED)]

    async def resettable(self, token: str) -> str | None:
        """The e-mail address of the account whose link is valid now; None for a link that is not,
        for which nothing is hashed."""
        async with self._database.read_transaction() as tx:
            link = await find_link(tx, token, Purpose.RESET)
            if link is None:
                return None
            row = await tx.one("SELECT email FROM accounts WHERE id = :id", id=link.account_id)
            return None if row is None else str(row["email"])

    async def reset(
        self, token: str, password_hash: str
    ) -> tuple[Account, Sequence[Change]] | None:
        """Replace the password and end every session; None for a link that is not valid.

        The link came by mail, so it confirms the address too.  Until then nobody had: whoever
        registered the address may be somebody else, and keeps no way in.
        """
        async with self._database.transaction() as tx:
            link = await redeem_link(tx, token, Purpose.RESET)
            account = await locked(tx, link.account_id) if link is not None else None
            if account is None or account.disabled:
                return None
            changes: list[Change] = []
            if not account.email_verified:
                changes += await take_back_own(tx, account.id)
                if self._erase_factors is not None:
                    await self._erase_factors(tx, account.id)
            await mark_verified(tx, account.id)
            changes += await replace_password(tx, account.id, password_hash)
            await self._notifications.password_changed(tx, account.id)
            account = await locked(tx, account.id) or account
        self._outbox.wake()
        return account, changes

    async def _create_account(self, token: str) -> tuple[Account, Sequence[Change]]:
        """Make the account of a registration.  Raises Conflict where the e-mail address has one
        by now."""
        async with self._database.transaction() as tx:
            registration = await registrations.find(tx, token)
            if (
                registration is None
                or await find_by_key(tx, registration.normalized_email) is not None
            ):
                raise _LinkInvalid
            # The account first, then mail, then registrations, as the outbox locks them: of two
            # that confirm one address at once the second waits here, and finds it taken.
            account = await add(tx, registration.email, registration.password_hash, verified=True)
            await revoke_links(tx, account.id, Purpose.VERIFY)
            if not await registrations.use(tx, token):
                raise _LinkInvalid
            await registrations.delete(tx, registration.normalized_email)
            return account, []

    async def _ask(self, purpose: Purpose, email: str, requester: str) -> None:
        async with self._database.transaction() as tx:
            await queue_link(tx, purpose, require_normalized(email), MailRequest(requester))
        self._outbox.wake()


class _LinkInvalid(Exception):
    """Rolls back what a link that is not valid must not do."""
