"""The secret in a mailed link: 256 bits, good once, for one purpose, for one address.

Law: only its hash rests in SQL, and using it deletes it in the transaction that does what it
allows.  The token is HMAC-SHA256 of the letter's id under a key of the installation: a letter
that must be sent again, because nobody knows whether it arrived, carries the same link, and
the outbox holds none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum

from gateway.stores.protocols import Row, Transaction

_FORM = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # 32 bytes in base64url


class Purpose(StrEnum):
    VERIFY = "verify"
    RESET = "reset"
    ADDRESS = "address"
    """Moves the account to `MailToken.new_email`, where the link was sent."""


@dataclass(frozen=True, slots=True)
class MailToken:
    """What the link allows, to whoever holds it."""

    account_id: str
    purpose: Purpose
    email_key: str
    """The account's address when the link was sent; it is worth nothing under another."""
    new_email: str | None
    expires_at: int


def token_text(key: bytes, mail_id: str) -> str:
    """`key` is `derived_key(secret, KeyPurpose.MAIL_TOKEN)`."""
    digest = hmac.digest(key, mail_id.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def well_formed(text: str) -> bool:
    """Whether the text can be the token of a link; SQL is asked about nothing else."""
    return bool(_FORM.fullmatch(text))


def hash_of(text: str) -> str:
    """SHA-256 is enough for what has 256 bits of its own (ASVS 6.5.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


async def keep(tx: Transaction, text: str, mail_id: str, token: MailToken) -> None:
    """Makes the link good, or good for longer."""
    await tx.run(
        "INSERT INTO mail_tokens (hash, account_id, purpose, email_key, created_at, expires_at,"
        " mail_id, new_email) VALUES (:hash, :account_id, :purpose, :email_key, :now,"
        " :expires_at, :mail_id, :new_email)"
        " ON CONFLICT (hash) DO UPDATE SET expires_at = :expires_at",
        hash=hash_of(text),
        account_id=token.account_id,
        purpose=token.purpose.value,
        email_key=token.email_key,
        now=int(await tx.now()),
        expires_at=token.expires_at,
        mail_id=mail_id,
        new_email=token.new_email,
    )


async def look(tx: Transaction, text: str, *purposes: Purpose) -> MailToken | None:
    """The token, if it is good now; it stays so.  For what must not be done for a stranger
    (hashing a password), before `take`."""
    if not well_formed(text):
        return None
    row = await tx.one(f"{_SELECT} WHERE hash = :hash", hash=hash_of(text))
    return await _good(tx, row, purposes)


async def take(tx: Transaction, text: str, *purposes: Purpose) -> MailToken | None:
    """The token, if it is good now: used by this, with every other link of the account for
    the same purpose.  None for one that is unknown, used, expired or for something else."""
    token = await look(tx, text, *purposes)
    if token is None:
        return None
    # The account before its links, as whoever ends them does: else the two could wait for
    # each other.  What was good before the wait must be good after it.
    await tx.run("UPDATE accounts SET id = id WHERE id = :id", id=token.account_id)
    token = await look(tx, text, *purposes)
    if token is None:
        return None
    # Of two that come at once, one deletes the row and the other finds none to delete.
    if not await tx.run("DELETE FROM mail_tokens WHERE hash = :hash", hash=hash_of(text)):
        return None
    await forget(tx, token.account_id, token.purpose)
    return token


async def forget(tx: Transaction, account_id: str, *purposes: Purpose) -> None:
    """Ends every link of the account for these purposes; without any, for every purpose.

    Letters that wait, or that nobody knows to have arrived, are not sent (again) either:
    that would make their links good again.
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


async def purge(tx: Transaction) -> int:
    """Deletes what has expired."""
    return await tx.run("DELETE FROM mail_tokens WHERE expires_at <= :now", now=int(await tx.now()))


_SELECT = (
    "SELECT t.account_id, t.purpose, t.email_key, t.new_email, t.expires_at,"
    " a.email_key AS current_key FROM mail_tokens t JOIN accounts a ON a.id = t.account_id"
)


async def _good(
    tx: Transaction, row: Row | None, purposes: tuple[Purpose, ...]
) -> MailToken | None:
    if row is None or row["purpose"] not in {purpose.value for purpose in purposes}:
        return None
    if int(row["expires_at"]) <= await tx.now() or row["current_key"] != row["email_key"]:
        return None
    return MailToken(
        account_id=str(row["account_id"]),
        purpose=Purpose(row["purpose"]),
        email_key=str(row["email_key"]),
        new_email=row["new_email"],
        expires_at=int(row["expires_at"]),
    )
