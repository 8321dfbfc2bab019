"""Registrations whose e-mail address is not confirmed yet.

Law: such a registration is no account: nobody can sign in to it, no role can be granted to it,
and it is deleted when its link has expired.  Two things make an account of it: the link, which
only the reader of the mailbox has, and the password that this very registration named, so that
whoever registers somebody else's address has chosen a password for nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.identity.opaque_tokens import hash_token, well_formed
from gateway.identity.purging import run_in_parts
from gateway.stores.protocols import Database, Row, Transaction


@dataclass(frozen=True, slots=True)
class Registration:
    email: str
    """As it was typed."""
    normalized_email: str
    requester: str
    """Who asked, as `requester_of` says."""
    asked_ms: int
    expires_at: int
    password_hash: str = field(repr=False)


async def store(tx: Transaction, token: str, mail_id: str, registration: Registration) -> None:
    """Make the link valid, or valid for longer.  Older links of the same requester to the same
    address end, and their mail that waits for another try is not sent again."""
    await tx.run(
        "INSERT INTO registrations (hash, mail_id, email, email_key, password_hash, requester,"
        " asked_ms, expires_at) VALUES (:hash, :mail_id, :email, :key, :password_hash,"
        " :requester, :asked_ms, :expires_at)"
        " ON CONFLICT (hash) DO UPDATE SET expires_at = :expires_at",
        hash=hash_token(token),
        mail_id=mail_id,
        email=registration.email,
        key=registration.normalized_email,
        password_hash=registration.password_hash,
        requester=registration.requester,
        asked_ms=registration.asked_ms,
        expires_at=registration.expires_at,
    )
    await tx.run(
        "DELETE FROM registrations WHERE email_key = :key AND requester = :requester"
        " AND asked_ms < :asked_ms",
        key=registration.normalized_email,
        requester=registration.requester,
        asked_ms=registration.asked_ms,
    )
    await tx.run(
        "UPDATE outbox SET state = 'dropped', finished_at = :now, fields = '{}',"
        " password_hash = NULL WHERE state = 'waiting' AND purpose = 'verify'"
        " AND email_key = :key AND requester = :requester AND asked_ms < :asked_ms",
        now=int(await tx.now()),
        key=registration.normalized_email,
        requester=registration.requester,
        asked_ms=registration.asked_ms,
    )


async def find(tx: Transaction, token: str) -> Registration | None:
    """The registration of a link that is valid now; this does not use it up."""
    if not well_formed(token):
        return None
    row = await tx.one(
        f"{_SELECT} WHERE hash = :hash AND expires_at > :now",
        hash=hash_token(token),
        now=int(await tx.now()),
    )
    return _registration(row)


async def newest(tx: Transaction, normalized_email: str, requester: str) -> Registration | None:
    """The registration that a repeated mail is about: the newest of the same requester, else the
    newest of all."""
    row = await tx.one(
        f"{_SELECT} WHERE email_key = :key AND expires_at > :now"
        " ORDER BY CASE WHEN requester = :requester THEN 0 ELSE 1 END, asked_ms DESC LIMIT 1",
        key=normalized_email,
        requester=requester,
        now=int(await tx.now()),
    )
    return _registration(row)


async def use(tx: Transaction, token: str) -> bool:
    """Use the link up; whether it was valid until now."""
    deleted = await tx.run(
        "DELETE FROM registrations WHERE hash = :hash AND expires_at > :now",
        hash=hash_token(token),
        now=int(await tx.now()),
    )
    return deleted == 1


async def delete(tx: Transaction, normalized_email: str) -> None:
    """Delete every registration of the e-mail address: it has an account, or must have none."""
    await tx.run("DELETE FROM registrations WHERE email_key = :key", key=normalized_email)


async def purge(database: Database, now: int) -> None:
    """Deletes what was not confirmed in time."""
    await run_in_parts(
        database,
        "DELETE FROM registrations",
        "registrations",
        "hash",
        "expires_at <= :now",
        now=now,
    )


_SELECT = (
    "SELECT email, email_key, password_hash, requester, asked_ms, expires_at FROM registrations"
)


def _registration(row: Row | None) -> Registration | None:
    if row is None:
        return None
    return Registration(
        email=str(row["email"]),
        normalized_email=str(row["email_key"]),
        requester=str(row["requester"]),
        asked_ms=int(row["asked_ms"]),
        expires_at=int(row["expires_at"]),
        password_hash=str(row["password_hash"]),
    )
