"""Security notifications: mail about a new device, a changed password, a new key.

Law: they go only to an e-mail address whose owner has confirmed it, and only a few an hour:
unsolicited mail to an address that somebody else typed is spam.
"""

from __future__ import annotations

import re
import unicodedata

from gateway.client_networks import neighbourhood
from gateway.identity.mail.messages import format_time
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.templates import MailTemplate
from gateway.identity.mail.ways_in import ways_in
from gateway.stores.protocols import Database, Transaction

_PER_HOUR = 5
_NEW_S = 86_400
_LONGEST_DEVICE = 100
_BEFORE_A_NAME = re.compile(r"[.\u3002\uff0e\uff61@:](?=[^\W\d_])")
"""What joins a name to what is before it: `evil.example`, `x@evil`, `mailto:x`."""


class SecurityNotifications:
    def __init__(self, database: Database, outbox: MailOutbox) -> None:
        self._database = database
        self._outbox = outbox

    async def signed_in(
        self, account_id: str, session_id: str, *, user_agent: str, address: str
    ) -> None:
        """Notify the owner of a sign-in from a device that the account has not seen.

        None is sent for the first sign-in to a new account, nor for a User-Agent that was seen
        from the same network: a User-Agent alone proves nothing, a thief sends the owner's.
        """
        async with self._database.read_transaction() as tx:
            sessions = await tx.all(
                "SELECT user_agent, address FROM families WHERE account_id = :account"
                " AND id <> :session ORDER BY created_at DESC LIMIT 1000",
                account=account_id,
                session=session_id,
            )
            account = await tx.one("SELECT created_at FROM accounts WHERE id = :id", id=account_id)
            now = await tx.now()
        # Sessions are deleted a day after their end: without any, this is the first sign-in of
        # an account that was made today; of an older account nobody knows.
        if account is None or (not sessions and now - int(account["created_at"]) < _NEW_S):
            return
        network = neighbourhood(address)
        if any(
            row["user_agent"] == user_agent and neighbourhood(str(row["address"])) == network
            for row in sessions
        ):
            return
        async with self._database.transaction() as tx:
            values = {
                "time": format_time(await tx.now()),
                "address": address,
                "device": plain_text(user_agent) or "unknown",
            }
            await self._enqueue(tx, account_id, MailTemplate.NEW_DEVICE, values)
        self._outbox.wake()

    async def password_changed(self, tx: Transaction, account_id: str) -> None:
        """Queue it within the transaction that changes the password; `wake` after its commit."""
        values = {"time": format_time(await tx.now()), "ways": await ways_in(tx, account_id)}
        await self._enqueue(tx, account_id, MailTemplate.PASSWORD_CHANGED, values)

    async def password_known(self, account_id: str, password_epoch: int) -> None:
        """Tell the owner that the world knows the password of this epoch, once.  Raises
        StoreUnavailable."""
        async with self._database.transaction() as tx:
            now = int(await tx.now())
            told = await tx.run(
                "INSERT INTO known_password_notices (account_id, password_epoch, told_at)"
                " SELECT id, password_epoch, :now FROM accounts"
                " WHERE id = :account AND password_epoch = :epoch AND email_verified = 1"
                " ON CONFLICT (account_id) DO UPDATE SET password_epoch = :epoch, told_at = :now"
                " WHERE known_password_notices.password_epoch <> :epoch",
                account=account_id,
                epoch=password_epoch,
                now=now,
            )
            if told:
                await self.notify(tx, account_id, MailTemplate.KNOWN_PASSWORD)
        self._outbox.wake()

    async def key_created(self, tx: Transaction, account_id: str, name: str) -> None:
        """The same of a personal key that was made."""
        values = {"time": format_time(await tx.now()), "key": plain_text(name)}
        await self._enqueue(tx, account_id, MailTemplate.KEY_CREATED, values)

    async def passkey_refused(self, tx: Transaction, account_id: str, name: str) -> None:
        """The same of a passkey that may have been copied."""
        values = {"time": format_time(await tx.now()), "passkey": plain_text(name)}
        await self._enqueue(tx, account_id, MailTemplate.PASSKEY_REFUSED, values)

    async def factor_changed(
        self, tx: Transaction, account_id: str, template: MailTemplate, factor: str
    ) -> None:
        """The same of a second factor; `factor` as people call it."""
        values = {"time": format_time(await tx.now()), "factor": plain_text(factor)}
        await self._enqueue(tx, account_id, template, values)

    async def recovery_code_used(self, tx: Transaction, account_id: str, left: int) -> None:
        values = {"time": format_time(await tx.now()), "left": str(left)}
        await self._enqueue(tx, account_id, MailTemplate.RECOVERY_CODE_USED, values)

    async def provider_linked(self, tx: Transaction, account_id: str, provider: str) -> None:
        """The same of a provider by which somebody signs in from now on."""
        values = {"time": format_time(await tx.now()), "provider": plain_text(provider)}
        await self._enqueue(tx, account_id, MailTemplate.PROVIDER_LINKED, values)

    async def provider_unlinked(self, tx: Transaction, account_id: str, provider: str) -> None:
        """The same of one by which nobody signs in any more."""
        values = {"time": format_time(await tx.now()), "provider": plain_text(provider)}
        await self._enqueue(tx, account_id, MailTemplate.PROVIDER_UNLINKED, values)

    async def notify(self, tx: Transaction, account_id: str, template: MailTemplate) -> None:
        """Queue a mail that says when it happened, within the transaction in which it does."""
        values = {"time": format_time(await tx.now())}
        await self._enqueue(tx, account_id, template, values)

    def wake(self) -> None:
        self._outbox.wake()

    async def _enqueue(
        self, tx: Transaction, account_id: str, template: MailTemplate, values: dict[str, str]
    ) -> None:
        account = await tx.one(
            "SELECT email FROM accounts WHERE id = :id AND email_verified = 1 AND disabled = 0",
            id=account_id,
        )
        if account is None:
            return
        recent = await tx.one(
            "SELECT COUNT(*) AS mails FROM outbox WHERE recipient = :to AND template = :template"
            " AND email_key = '' AND created_at > :since",
            to=account["email"],
            template=template.value,
            since=int(await tx.now()) - 3600,
        )
        if recent is None or int(recent["mails"]) < _PER_HOUR:
            await self._outbox.enqueue(tx, template, str(account["email"]), values)


def plain_text(text: str) -> str:
    """What a stranger sent, as it may stand in a mail: short, printable, and no link that a mail
    program would make clickable."""
    printable = "".join(c if unicodedata.category(c)[0] in "LNPSZ" else " " for c in text)
    words = " ".join(printable.split()).replace("://", " ")
    return _BEFORE_A_NAME.sub(r"\g<0> ", words)[:_LONGEST_DEVICE]
