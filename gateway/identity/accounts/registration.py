"""What mail proves: that whoever registered, or forgot a password, reads an address.

Law: asking costs the same and says the same for every address; only the letter, which its
owner alone reads, knows whether there is an account.  A registration touches no account that
there is.  A link is used in the transaction that does what it allows.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.identity.accounts.accounts import (
    Account,
    add,
    find_by_key,
    locked,
    mark_verified,
    replace_password,
)
from gateway.identity.email_address import address_key
from gateway.identity.mail import registrations
from gateway.identity.mail.links import Purpose, forget, look, take
from gateway.identity.mail.notifications import Notices
from gateway.identity.mail.outbox import Asked, Postman
from gateway.identity.sessions.sessions import outdate
from gateway.model import Change, Reason
from gateway.stores.protocols import Conflict, Database


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a link confirms, to whoever knows the password of `password_hash` too."""

    account_id: str | None
    """None: the account is made by this."""
    email_key: str
    password_hash: str | None = field(repr=False)


class Enrolments:
    """Accounts that begin, or begin again, with a letter."""

    def __init__(self, database: Database, postman: Postman, *, waits: bool = True) -> None:
        """`waits`: there is no account before its address is confirmed."""
        self._database = database
        self._postman = postman
        self._notices = Notices(database, postman)
        self._waits = waits

    async def enrol(self, email: str, password_hash: str, requester: str) -> None:
        """A letter to the address: with a link, where the address has no account, and else one
        that says so.  The account, if there is one, stays as it is.

        Where sign-in does not wait for the address, the account is made at once.
        """
        key = _key(email)
        async with self._database.transaction() as tx:
            if not self._waits:
                # The same statement, whether or not the address has an account.
                await tx.run(
                    "INSERT INTO accounts (id, email, email_key, email_verified, password_hash,"
                    " created_at, updated_at) VALUES (:id, :email, :key, 0, :hash, :now, :now)"
                    " ON CONFLICT (email_key) DO NOTHING",
                    id=str(uuid.uuid4()),
                    email=email,
                    key=key,
                    hash=password_hash,
                    now=int(await tx.now()),
                )
            await self._postman.ask(tx, Purpose.VERIFY, key, Asked(requester, email, password_hash))
        self._postman.wake()

    async def resend(self, email: str, requester: str) -> None:
        await self._ask(Purpose.VERIFY, email, requester)

    async def forgot(self, email: str, requester: str) -> None:
        await self._ask(Purpose.RESET, email, requester)

    async def confirmation(self, token: str) -> Confirmation | None:
        """What the link would confirm now; looking uses nothing up."""
        async with self._database.read_transaction() as tx:
            waiting = await registrations.look(tx, token)
            if waiting is not None:
                return Confirmation(None, waiting.email_key, waiting.password_hash)
            found = await look(tx, token, Purpose.VERIFY)
            if found is None:
                return None
            row = await tx.one(
                "SELECT password_hash FROM accounts WHERE id = :id", id=found.account_id
            )
            stored = row["password_hash"] if row else None
            return Confirmation(found.account_id, found.email_key, stored)

    async def verify(
        self, token: str, checked: Confirmation
    ) -> tuple[str, Sequence[Change]] | Reason:
        """Confirms the address, and gives the account's id; `checked` is the confirmation
        whose password was right.  INVALID_TOKEN for a link that is not good any more, and
        INVALID_CREDENTIALS where the password was changed meanwhile: the link stays good.

        Tokens given before say that the address is not confirmed: they are outdated.
        """
        if checked.account_id is None:
            try:
                return await self._made(token)
            except (Conflict, _NotGood):
                return Reason.INVALID_TOKEN
        async with self._database.transaction() as tx:
            account = await locked(tx, checked.account_id)
            if account is None or account.disabled:
                return Reason.INVALID_TOKEN
            if account.password_hash != checked.password_hash:
                return Reason.INVALID_CREDENTIALS
            if await take(tx, token, Purpose.VERIFY) is None or account.email_verified:
                return Reason.INVALID_TOKEN
            await mark_verified(tx, account.id)
            return account.id, [await outdate(tx, account.id, Reason.TOKEN_OUTDATED)]

    async def resettable(self, token: str) -> str | None:
        """The address of the account whose link is good now; None for one that is not, for
        which nothing is hashed."""
        async with self._database.read_transaction() as tx:
            found = await look(tx, token, Purpose.RESET)
            if found is None:
                return None
            row = await tx.one("SELECT email FROM accounts WHERE id = :id", id=found.account_id)
            return None if row is None else str(row["email"])

    async def reset(
        self, token: str, password_hash: str
    ) -> tuple[Account, Sequence[Change]] | None:
        """Replaces the password and ends every session; None for a link that is not good.

        The link came by mail, so it confirms the address too.
        """
        async with self._database.transaction() as tx:
            used = await take(tx, token, Purpose.RESET)
            account = await locked(tx, used.account_id) if used is not None else None
            if account is None or account.disabled:
                return None
            await mark_verified(tx, account.id)
            changes = await replace_password(tx, account.id, password_hash)
            await self._notices.password_changed(tx, account.id)
            account = await locked(tx, account.id) or account
        self._postman.wake()
        return account, changes

    async def _made(self, token: str) -> tuple[str, Sequence[Change]]:
        """The account of a registration.  Raises Conflict where the address has one by now."""
        async with self._database.transaction() as tx:
            waiting = await registrations.look(tx, token)
            if waiting is None or await find_by_key(tx, waiting.email_key) is not None:
                raise _NotGood
            # The account first, then letters, then registrations, as the postman does: of two
            # that confirm one address at once the second waits here, and finds it taken.
            account = await add(tx, waiting.email, waiting.password_hash, verified=True)
            await forget(tx, account.id, Purpose.VERIFY)
            if not await registrations.use(tx, token):
                raise _NotGood
            await registrations.forget(tx, waiting.email_key)
            return account.id, []

    async def _ask(self, purpose: Purpose, email: str, requester: str) -> None:
        async with self._database.transaction() as tx:
            await self._postman.ask(tx, purpose, _key(email), Asked(requester))
        self._postman.wake()


class _NotGood(Exception):
    """Rolls back what a link that is not good must not do."""


def _key(email: str) -> str:
    key = address_key(email)
    if key is None:
        raise ValueError("not an address")
    return key
