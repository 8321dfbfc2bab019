"""Moving an account to another address: the new one confirms it, and both are told.

Law: whoever asks has given the password; nothing moves until the link that was sent to the new
address is used.  Asking says the same whether or not the new address has an account.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.identity.accounts.accounts import Proof, locked, outdated
from gateway.identity.email_address import address_key, shown_address
from gateway.identity.mail.links import Purpose, forget, look, take
from gateway.identity.mail.notifications import Notices
from gateway.identity.mail.outbox import Asked, Postman
from gateway.identity.mail.templates import Template
from gateway.identity.sessions.sessions import outdate
from gateway.identity.tombstones import Ended, bury, email_target, unearth
from gateway.model import Change, Reason
from gateway.stores.protocols import Conflict, Database


class AddressChanges:
    def __init__(self, database: Database, postman: Postman) -> None:
        self._database = database
        self._postman = postman
        self._notices = Notices(database, postman)

    async def ask(self, account_id: str, new_email: str, proof: Proof) -> Reason | None:
        """`new_email` is as `shown_address` gave it; as `outdated` where the proof is not good
        any more."""
        async with self._database.transaction() as tx:
            account = await locked(tx, account_id)
            refused = await outdated(tx, account, proof)
            if account is None or refused is not None:
                return refused
            # An earlier wish is void: one link at a time can move the account.
            await forget(tx, account_id, Purpose.ADDRESS)
            asked = Asked(f"account:{account_id}", new_email)
            await self._postman.ask(tx, Purpose.ADDRESS, account.email_key, asked)
            await self._notices.tell(tx, account_id, Template.ADDRESS_ASKED)
        self._postman.wake()
        return None

    async def confirm(self, token: str) -> tuple[str, Sequence[Change]] | None:
        """The account's id and its changes; None for a link that is not good.

        Its tokens say the address of before: they are outdated, and a refresh brings the new.
        """
        async with self._database.read_transaction() as tx:
            # Takes no write lock for what is no link: a stranger can try as many as they like.
            if await look(tx, token, Purpose.ADDRESS) is None:
                return None
        try:
            return await self._confirm(token)
        except Conflict:  # the address was taken meanwhile; the link is as good as before
            return None

    async def _confirm(self, token: str) -> tuple[str, Sequence[Change]] | None:
        async with self._database.transaction() as tx:
            used = await take(tx, token, Purpose.ADDRESS)
            account = await locked(tx, used.account_id) if used is not None else None
            if used is None or account is None or account.disabled:
                return None
            email = shown_address(used.new_email or "")
            key = address_key(email) if email is not None else None
            if email is None or key is None:
                return None
            # Before it moves: the owner of the old address is told.
            await self._notices.tell(tx, account.id, Template.ADDRESS_CHANGED)
            # Links to the old address could take the account back.
            await forget(tx, account.id, Purpose.RESET, Purpose.VERIFY)
            await tx.run(
                "UPDATE accounts SET email = :email, email_key = :key, email_verified = 1,"
                " updated_at = :now WHERE id = :id",
                email=email,
                key=key,
                now=int(await tx.now()),
                id=account.id,
            )
            await bury(tx, Ended.EMAIL, email_target(account.id, account.email_key))
            await unearth(tx, Ended.EMAIL, email_target(account.id, key))
            changes = [await outdate(tx, account.id, Reason.TOKEN_OUTDATED)]
        self._postman.wake()
        return account.id, changes
