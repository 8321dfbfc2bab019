"""The token in a mailed link: 256 bits, valid once, for one purpose, for one e-mail address.

Law: only its hash is stored in SQL, and using it deletes it in the transaction that does what
it allows.  The token is HMAC-SHA256 of the mail's id under a key of the installation: a mail
that must be sent again, because nobody knows whether it arrived, has the same link, and the
outbox stores none.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum

from gateway.identity.base64url import encoded
from gateway.identity.opaque_tokens import hash_token, well_formed
from gateway.identity.purging import run_in_parts
from gateway.stores.protocols import Database, Row, Transaction


class Purpose(StrEnum):
    VERIFY = "verify"
    RESET = "reset"
    EMAIL_CHANGE = "address"
    """Gives the account `MailToken.new_email`, where the link was sent."""
    INVITATION = "invitation"
    """Lets an e-mail address register (`mail.invitations`): no `MailToken` is of it."""


@dataclass(frozen=True, slots=True)
class MailToken:
    """What the link allows its holder."""

    account_id: str
    purpose: Purpose
    normalized_email: str
    """The account's e-mail address when the link was sent; with another the link is not valid."""
    new_email: str | None
    expires_at: int


def token_text(key: bytes, mail_id: str) -> str:
    """`key` is `derived_key(secret, KeyPurpose.MAIL_TOKEN)`."""
    return encoded(hmac.digest(key, mail_id.encode(), hashlib.sha256))


async def store_link(tx: Transaction, text: str, mail_id: str, token: MailToken) -> None:
    """Make the link valid, or valid for longer."""
    await tx.run(
        "INSERT INTO mail_tokens (hash, account_id, purpose, email_key, created_at, expires_at,"
        " mail_id, new_email) VALUES (:hash, :account_id, :purpose, :normalized_email, :now,"
        " :expires_at, :mail_id, :new_email)"
        " ON CONFLICT (hash) DO UPDATE SET expires_at = :expires_at",
        hash=hash_token(text),
        account_id=token.account_id,
        purpose=token.purpose.value,
        normalized_email=token.normalized_email,
        now=int(await tx.now()),
        expires_at=token.expires_at,
        mail_id=mail_id,
        new_email=token.new_email,
    )


async def forget_link(tx: Transaction, text: str) -> None:
    """Make the link invalid, if it was valid."""
    await tx.run("DELETE FROM mail_tokens WHERE hash = :hash", hash=hash_token(text))


async def find_link(tx: Transaction, text: str, *purposes: Purpose) -> MailToken | None:
    """The token, if it is valid now; it stays so.  Asked before `redeem_link`, for what must not
    be done for a stranger (hashing a password)."""
    if not well_formed(text):
        return None
    row = await tx.one(f"{_SELECT} WHERE hash = :hash", hash=hash_token(text))
    return await _valid(tx, row, purposes)


async def redeem_link(tx: Transaction, text: str, *purposes: Purpose) -> MailToken | None:
    """Use the token up, with every other link of the account for the same purpose.  None for one
    that is unknown, used, expired or for something else."""
    token = await find_link(tx, text, *purposes)
    if token is None:
        return None
    # The account is locked before its links, as in `revoke_links`: else the two could wait for
    # each other.  What was valid before the wait must be valid after it.
    await tx.run("UPDATE accounts SET id = id WHERE id = :id", id=token.account_id)
    token = await find_link(tx, text, *purposes)
    if token is None:
        return None
    # Of two that come at once, one deletes the row and the other finds none to delete.
    if not await tx.run("DELETE FROM mail_tokens WHERE hash = :hash", hash=hash_token(text)):
        return None
    await revoke_links(tx, token.account_id, token.purpose)
    return token


async def revoke_links(tx: Transaction, account_id: str, *purposes: Purpose) -> None:
    """Revoke every link of the account for these purposes; without any, for every purpose.

    Mail that waits, or that nobody knows to have arrived, is not sent (again) either: that
    would make its links valid again.
    """
    for purpose in purposes or tuple(Purpose):
        await tx.run(
            "DELETE FROM mail_tokens WHERE account_id = :account_id AND purpose = :purpose",
            account_id=account_id,
            purpose=purpose.value,
        )
        await tx.run(
            "UPDATE outbox SET state = 'dropped', finished_at = :now, fields = '{}',"
            " password_hash = NULL"
            " WHERE state = 'waiting' AND purpose = :purpose"
            " AND email_key = (SELECT email_key FROM accounts WHERE id = :account_id)",
            now=int(await tx.now()),
            account_id=account_id,
            purpose=purpose.value,
        )


async def purge_links(database: Database, now: int) -> None:
    """Delete what has expired."""
    await run_in_parts(
        database, "DELETE FROM mail_tokens", "mail_tokens", "hash", "expires_at <= :now", now=now
    )


_SELECT = (
    "SELECT t.account_id, t.purpose, t.email_key, t.new_email, t.expires_at,"
    " a.email_key AS current_key FROM mail_tokens t JOIN accounts a ON a.id = t.account_id"
)


async def _valid(
    tx: Transaction, row: Row | None, purposes: tuple[Purpose, ...]
) -> MailToken | None:
    if row is None or row["purpose"] not in {purpose.value for purpose in purposes}:
        return None
    if int(row["expires_at"]) <= await tx.now() or row["current_key"] != row["email_key"]:
        return None
    return MailToken(
        account_id=str(row["account_id"]),
        purpose=Purpose(row["purpose"]),
        normalized_email=str(row["email_key"]),
        new_email=row["new_email"],
        expires_at=int(row["expires_at"]),
    )
