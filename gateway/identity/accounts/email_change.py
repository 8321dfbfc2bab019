"""Changing the e-mail address of an account: the new one confirms it, and both are notified.

Law: the caller has given the password; nothing changes until the link that was sent to the new
address is opened.  A request is answered the same whether or not the new address has an
account.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.email_address import display_email, normalize_email
from gateway.identity.accounts.account_rows import Account, locked
from gateway.identity.accounts.accounts import Proof, outdated
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.mail.links import Purpose, find_link, redeem_link, revoke_links
from gateway.identity.mail.mail_requests import MailRequest, queue_link
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.templates import MailTemplate
from gateway.identity.sessions.sessions import outdate
from gateway.identity.tombstones import (
    Ended,
    add_tombstone,
    email_target,
    ended_at,
    remove_tombstone,
)
from gateway.model import Change, Reason
from gateway.stores.protocols import Conflict, Database


class EmailChanges:
    def __init__(
        self,
        database: Database,
        outbox: MailOutbox,
        rules: RegistrationRules | None = None,
        *,
        barring_roles: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """`rules` are those of now: those of a link that was sent before may have been others.
        Whoever has one of `barring_roles` could come back without it by the address that is free
        again."""
        self._database = database
        self._outbox = outbox
        self._rules = rules or RegistrationRules()
        self._barring_roles = barring_roles
        self._notifications = SecurityNotifications(database, outbox)

    async def request(self, account_id: str, new_email: str, proof: Proof) -> Reason | None:
        """Send a link to `new_email`, which is as `display_email` gave it; a Reason, as of
        `outdated`, where the proof is no longer good; NO_RULE for who has a barring role."""
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            refusal = await outdated(tx, account, proof)
            if account is None or refusal is not None:
                return refusal
            if self._is_barred(account):
                return Reason.NO_RULE
            # An earlier request is void: one link at a time can change the address.
            await revoke_links(tx, account_id, Purpose.EMAIL_CHANGE)
            request = MailRequest(f"account:{account_id}", new_email)
            await queue_link(tx, Purpose.EMAIL_CHANGE, account.normalized_email, request)
            await self._notifications.notify(tx, account_id, MailTemplate.EMAIL_CHANGE_REQUESTED)
        self._outbox.wake()
        return None

    async def confirm(self, token: str) -> tuple[Account, Sequence[Change]] | None:
        """Change the e-mail address; the account as it is then and its changes, or None for a link
        that is not valid.

        Older tokens name the old address: they are outdated, and a refresh brings the new one.
        """
        async with self._database.read_transaction() as tx:
            # Takes no write lock for what is no link: a stranger can try without limit.
            link = await find_link(tx, token, Purpose.EMAIL_CHANGE)
        key = normalize_email(link.new_email or "") if link is not None else None
        if key is None or not self._rules.takes_domain(key):
            return None
        try:
            return await self._confirm(token)
        except Conflict:  # the address was taken meanwhile; the link stays valid
            return None

    def _is_barred(self, account: Account) -> bool:
        return not self._barring_roles().isdisjoint(account.roles)

    async def _confirm(self, token: str) -> tuple[Account, Sequence[Change]] | None:
        async with self._database.transaction() as tx:
            link = await redeem_link(tx, token, Purpose.EMAIL_CHANGE)
            account = await locked(tx, link.account_id) if link is not None else None
            if link is None or account is None or account.disabled or self._is_barred(account):
                return None
            email = display_email(link.new_email or "")
            key = normalize_email(email) if email is not None else None
            if email is None or key is None:
                return None
            # Before the change: the owner of the old address is notified.
            await self._notifications.notify(tx, account.id, MailTemplate.EMAIL_CHANGED)
            # Links to the old address could take the account back.
            await revoke_links(tx, account.id, Purpose.RESET, Purpose.VERIFY)
            await tx.run(
                "UPDATE accounts SET email = :email, email_key = :key, email_verified = 1,"
                " updated_at = :now WHERE id = :id",
                email=email,
                key=key,
                now=int(await tx.now()),
                id=account.id,
            )
            left, returned_to = (
                email_target(account.id, one) for one in (account.normalized_email, key)
            )
            # The one that is returned to was left before, though the clock was set back since.
            earlier = await ended_at(tx, Ended.EMAIL, returned_to)
            await add_tombstone(tx, Ended.EMAIL, left, after=earlier)
            await remove_tombstone(tx, Ended.EMAIL, returned_to)
            changes = [await outdate(tx, account.id, Reason.TOKEN_OUTDATED)]
        self._outbox.wake()
        return replace(account, email=email, normalized_email=key, email_verified=True), changes
