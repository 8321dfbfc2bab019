"""Letters that nobody asked for: a new device, a changed password.

Law: they go only to an address whose owner has confirmed it, and only a few an hour: a letter
nobody asked for, to an address that somebody else typed, is spam.
"""

from __future__ import annotations

import unicodedata

from gateway.client_networks import neighbourhood
from gateway.identity.mail.messages import shown_time
from gateway.identity.mail.outbox import Postman
from gateway.identity.mail.templates import Template
from gateway.stores.protocols import Database, Transaction

_PER_HOUR = 5
_NEW_S = 86_400
_LONGEST_DEVICE = 100


class Notices:
    def __init__(self, database: Database, postman: Postman) -> None:
        self._database = database
        self._postman = postman

    async def signed_in(
        self, account_id: str, session_id: str, *, user_agent: str, address: str
    ) -> None:
        """Tells the owner of a device that the account has not seen.

        Nothing is told of the first sign-in to a new account, nor of a program that has been
        seen in the same network: a User-Agent alone says nothing, a thief's is the owner's.
        """
        async with self._database.read_transaction() as tx:
            seen = await tx.all(
                "SELECT user_agent, address FROM families WHERE account_id = :account"
                " AND id <> :session ORDER BY created_at DESC LIMIT 1000",
                account=account_id,
                session=session_id,
            )
            account = await tx.one("SELECT created_at FROM accounts WHERE id = :id", id=account_id)
            now = await tx.now()
        # Sessions are forgotten a day after their end: without any this is the first sign-in
        # of an account that was made today, and of an older one nobody knows.
        if account is None or (not seen and now - int(account["created_at"]) < _NEW_S):
            return
        here = neighbourhood(address)
        if any(
            row["user_agent"] == user_agent and neighbourhood(str(row["address"])) == here
            for row in seen
        ):
            return
        async with self._database.transaction() as tx:
            values = {
                "time": shown_time(await tx.now()),
                "address": shown(address),
                "device": shown(user_agent) or "unknown",
            }
            await self._tell(tx, account_id, Template.NEW_DEVICE, values)
        self._postman.wake()

    async def password_changed(self, tx: Transaction, account_id: str) -> None:
        """In the transaction that changes it; `wake` the postman after its commit."""
        await self.tell(tx, account_id, Template.PASSWORD_CHANGED)

    async def tell(self, tx: Transaction, account_id: str, template: Template) -> None:
        """A letter that says when it happened; in the transaction in which it does."""
        values = {"time": shown_time(await tx.now())}
        await self._tell(tx, account_id, template, values)

    def wake(self) -> None:
        self._postman.wake()

    async def _tell(
        self, tx: Transaction, account_id: str, template: Template, values: dict[str, str]
    ) -> None:
        account = await tx.one(
            "SELECT email FROM accounts WHERE id = :id AND email_verified = 1 AND disabled = 0",
            id=account_id,
        )
        if account is None:
            return
        told = await tx.one(
            "SELECT COUNT(*) AS letters FROM outbox WHERE recipient = :to AND template = :template"
            " AND email_key = '' AND created_at > :since",
            to=account["email"],
            template=template.value,
            since=int(await tx.now()) - 3600,
        )
        if told is None or int(told["letters"]) < _PER_HOUR:
            await self._postman.enqueue(tx, template, str(account["email"]), values)


def shown(text: str) -> str:
    """What a stranger sent, as it may stand in a letter: short, printable, and no link that a
    mail program would make clickable."""
    kept = "".join(c if unicodedata.category(c)[0] in "LNPSZ" else " " for c in text)
    kept = " ".join(kept.split()).replace("://", " ").replace("www.", "www ")
    return kept[:_LONGEST_DEVICE]
