"""What goes with an account when it is erased: everything but its id in the audit log, and the
tombstone that keeps a restored backup from bringing it back."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.identity.accounts.account_rows import account_by_id
from gateway.identity.mail.links import Purpose
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.templates import MailTemplate
from gateway.identity.sessions.purging import erase_sessions_of_many_tokens
from gateway.identity.sessions.sessions import end_every, is_live, lock
from gateway.identity.tombstones import Ended, add_tombstone, remove_tombstones_of
from gateway.model import Change, Reason
from gateway.stores.protocols import Database, Row, Transaction


async def erase(
    tx: Transaction, account_id: str, notifications: SecurityNotifications | None = None
) -> Sequence[Change]:
    """Erase the account and all that belongs to it, mail to it and from it included; refuse every
    token that it was given.  `notifications` tells the owner, with the last mail that they get.

    What others sent to the address goes only with an account that has proven to have it: whoever
    registered somebody else's takes no invitation away.
    """
    row = await lock(tx, account_id)
    if row is None:
        return []
    changes = await end_every(tx, account_id, "deleted")
    await add_tombstone(tx, Ended.ACCOUNT, account_id)
    await _erase_mail(tx, row)
    if row["email_verified"]:
        key = row["email_key"]
        await tx.run("DELETE FROM registrations WHERE email_key = :key", key=key)
        await tx.run("DELETE FROM invitations WHERE email_key = :key", key=key)
    if notifications is not None:
        await notifications.notify(tx, account_id, MailTemplate.ACCOUNT_DELETED)
    await tx.run("DELETE FROM accounts WHERE id = :id", id=account_id)
    # Last: a recovery code that was being used has left its tombstone before its row could go.
    await remove_tombstones_of(tx, account_id)
    return changes


async def _erase_mail(tx: Transaction, account: Row) -> None:
    """Mail to an address that the account has confirmed goes; of what went elsewhere by its doing
    nothing is left but that it counts: whoever deletes an account fills no mailbox by that."""
    key = account["email_key"]
    if account["email_verified"]:
        await tx.run(
            "DELETE FROM outbox WHERE recipient_key = :key OR recipient = :email",
            key=key,
            email=account["email"],
        )
    await tx.run(
        "DELETE FROM outbox WHERE email_key = :key AND prepared_at IS NULL"
        " AND (purpose = :move OR password_hash = :password_hash)",
        key=key,
        move=Purpose.EMAIL_CHANGE.value,
        password_hash=account["password_hash"],
    )
    await tx.run(
        "UPDATE outbox SET state = 'dropped', finished_at = :now, email_key = '', recipient = NULL,"
        " fields = '{}', password_hash = NULL WHERE email_key = :key AND prepared_at IS NOT NULL"
        " AND COALESCE(purpose, '') <> :invitation"
        # That of somebody else, who has registered the address besides.
        " AND NOT (COALESCE(purpose, '') = :verify AND state = 'waiting'"
        " AND COALESCE(password_hash, :password_hash) <> :password_hash)",
        now=int(await tx.now()),
        key=key,
        invitation=Purpose.INVITATION.value,
        verify=Purpose.VERIFY.value,
        password_hash=account["password_hash"] or "",
    )


async def erase_own(
    database: Database,
    account_id: str,
    session_id: str,
    notifications: SecurityNotifications,
    *,
    barring_roles: frozenset[str],
) -> Sequence[Change] | Reason:
    """The same for its owner, who asks by a session of theirs: SESSION_UNKNOWN where the session,
    or the account, has ended meanwhile.  NO_RULE for who has one of `barring_roles`, and would
    come back without it."""
    async with database.read_transaction() as tx:
        if not await is_live(tx, session_id, account_id):
            return Reason.SESSION_UNKNOWN
        if await _is_barred(tx, account_id, barring_roles):
            return Reason.NO_RULE
    ended = await erase_sessions_of_many_tokens(database, account_id, by=session_id)
    async with database.transaction() as tx:
        await lock(tx, account_id)
        # Once its sessions have ended it is erased, whatever came meanwhile: it was asked before.
        if not ended and not await is_live(tx, session_id, account_id):
            return Reason.SESSION_UNKNOWN
        if not ended and await _is_barred(tx, account_id, barring_roles):
            return Reason.NO_RULE
        return [*ended, *await erase(tx, account_id, notifications)]


async def _is_barred(tx: Transaction, account_id: str, barring_roles: frozenset[str]) -> bool:
    account = await account_by_id(tx, account_id)
    return account is not None and not barring_roles.isdisjoint(account.roles)
