"""What mail proves: that whoever registered, or forgot a password, reads an address.

Law: asking costs the same and says the same for every address; only the letter, which its
owner alone reads, knows whether there is an account.  A link is used in the transaction that
does what it allows.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from gateway.identity.accounts import (
    Account,
    address_key,
    locked,
    mark_verified,
    replace_password,
)
from gateway.identity.mail import Postman
from gateway.identity.mail_tokens import MailToken, Purpose, look, take
from gateway.identity.notices import Notices
from gateway.identity.sessions import outdate
from gateway.model import Change, Reason
from gateway.stores.protocols import Database, Transaction


class Enrolments:
    """Accounts that begin, or begin again, with a letter."""

    def __init__(self, database: Database, postman: Postman, *, waits: bool = True) -> None:
        """`waits`: nobody signs in to an account whose address is not confirmed."""
        self._database = database
        self._postman = postman
        self._notices = Notices(database, postman)
        self._waits = waits

    async def enrol(self, email: str, password_hash: str) -> None:
        """An account that waits for its address to be confirmed, or a letter to its owner.

        The link carries this registration's password: whoever registered the address before
        its owner did has chosen a password for nobody.  Once two have registered it, a link
        that carries none (of `resend`) must not confirm the password of the first: there is
        none, until a link of a registration or of a reset brings one.
        """
        key = _key(email)
        async with self._database.transaction() as tx:
            # The same statement, whether or not the address has an account.
            await tx.run(
                "INSERT INTO accounts (id, email, email_key, email_verified, password_hash,"
                " created_at, updated_at) VALUES (:id, :email, :key, 0, :hash, :now, :now)"
                " ON CONFLICT (email_key) DO UPDATE SET password_hash ="
                " CASE WHEN accounts.email_verified = 0 AND :waits = 1 THEN NULL"
                " ELSE accounts.password_hash END",
                id=str(uuid.uuid4()),
                email=email,
                key=key,
                hash=password_hash,
                now=int(await tx.now()),
                waits=int(self._waits),
            )
            await self._postman.ask(
                tx, Purpose.VERIFY, key, registered=True, password_hash=password_hash
            )
        self._postman.wake()

    async def resend(self, email: str) -> None:
        await self._ask(Purpose.VERIFY, email)

    async def forgot(self, email: str) -> None:
        await self._ask(Purpose.RESET, email)

    async def verify(self, token: str) -> tuple[str, Sequence[Change]] | None:
        """Confirms the address, and gives the account's id; None for a link that is not good.

        Tokens given before say that it is not confirmed: they are outdated.
        """
        async with self._database.transaction() as tx:
            used, account = await _used(tx, token, Purpose.VERIFY)
            # A confirmed account's password is replaced by a reset alone.
            if used is None or account is None or account.email_verified:
                return None
            await mark_verified(tx, account.id)
            if used.password_hash in (None, account.password_hash):
                return account.id, [await outdate(tx, account.id, Reason.TOKEN_OUTDATED)]
            return account.id, await replace_password(tx, account.id, used.password_hash)

    async def resettable(self, token: str) -> bool:
        """Whether the link is good now: nothing is hashed for one that is not."""
        async with self._database.reading() as tx:
            return await look(tx, token, Purpose.RESET) is not None

    async def reset(
        self, token: str, password_hash: str
    ) -> tuple[Account, Sequence[Change]] | None:
        """Replaces the password and ends every session; None for a link that is not good.

        The link came by mail, so it confirms the address too.
        """
        async with self._database.transaction() as tx:
            used, account = await _used(tx, token, Purpose.RESET)
            if used is None or account is None:
                return None
            await mark_verified(tx, account.id)
            changes = await replace_password(tx, account.id, password_hash)
            await self._notices.password_changed(tx, account.id)
            account = await locked(tx, account.id) or account
        self._postman.wake()
        return account, changes

    async def _ask(self, purpose: Purpose, email: str) -> None:
        async with self._database.transaction() as tx:
            await self._postman.ask(tx, purpose, _key(email))
        self._postman.wake()


async def _used(
    tx: Transaction, token: str, purpose: Purpose
) -> tuple[MailToken | None, Account | None]:
    """The link, used up, and its account; a disabled account's links do nothing."""
    used = await take(tx, token, purpose)
    account = await locked(tx, used.account_id) if used is not None else None
    return used, None if account is None or account.disabled else account


def _key(email: str) -> str:
    key = address_key(email)
    if key is None:
        raise ValueError("not an address")
    return key
