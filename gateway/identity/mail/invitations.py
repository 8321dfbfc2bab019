"""Invitations, as SQL holds them: one for an e-mail address, gone once it is used.

Law: two tokens lead to an invitation, and only their hashes are stored.  The mail carries one,
and whoever has it reads the mailbox; the operator is shown the other, which proves nothing of
the kind.  Rows are locked in the order in which the outbox locks them: the account, its mail,
the invitation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.identity.opaque_tokens import hash_token, well_formed
from gateway.identity.purging import run_in_parts
from gateway.stores.protocols import Database, Row, Transaction


@dataclass(frozen=True, slots=True)
class Invitation:
    id: str
    email: str
    """As the operator wrote it."""
    normalized_email: str
    roles: tuple[str, ...]
    verified: bool
    """The operator knows that the e-mail address is the owner's."""
    invited_by: str
    created_at: int
    expires_at: int
    mail_id: str | None = None
    """Of the mail that carries it; None where the operator brings it themselves."""
    mailed: bool = False
    """Whether that mail has been written."""


@dataclass(frozen=True, slots=True)
class OpenedInvitation:
    """What a token opens."""

    invitation: Invitation
    by_mail: bool
    """It is the token that the mail carried: its holder reads the mailbox."""

    @property
    def verifies(self) -> bool:
        """Whether the e-mail address counts as confirmed."""
        return self.by_mail or self.invitation.verified


async def store(tx: Transaction, token: str, invitation: Invitation) -> None:
    """In the place of an older one to the same e-mail address, whose tokens end."""
    await revoke(tx, invitation.normalized_email)
    await tx.run(
        "INSERT INTO invitations (id, hash, mail_id, email, email_key, roles, verified,"
        " invited_by, created_at, expires_at) VALUES (:id, :hash, :mail_id, :email, :key, :roles,"
        " :verified, :invited_by, :created_at, :expires_at)",
        id=invitation.id,
        hash=hash_token(token),
        mail_id=invitation.mail_id,
        email=invitation.email,
        key=invitation.normalized_email,
        roles=" ".join(invitation.roles),
        verified=int(invitation.verified),
        invited_by=invitation.invited_by,
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
    )


async def find(tx: Transaction, token: str) -> OpenedInvitation | None:
    """The invitation that the token opens now; this does not use it up."""
    if not well_formed(token):
        return None
    row = await tx.one(
        f"{_SELECT} WHERE (hash = :hash OR mailed_hash = :hash) AND expires_at > :now",
        hash=hash_token(token),
        now=int(await tx.now()),
    )
    if row is None:
        return None
    return OpenedInvitation(_invitation(row), by_mail=row["mailed_hash"] == hash_token(token))


async def every(tx: Transaction) -> list[Invitation]:
    """Those that are still good, by e-mail address."""
    rows = await tx.all(
        f"{_SELECT} WHERE expires_at > :now ORDER BY email_key", now=int(await tx.now())
    )
    return [_invitation(row) for row in rows]


async def use(tx: Transaction, invitation: Invitation) -> bool:
    """Use it up; whether it was good until now."""
    await _drop_mail(tx, invitation.mail_id)
    deleted = await tx.run(
        "DELETE FROM invitations WHERE id = :id AND expires_at > :now",
        id=invitation.id,
        now=int(await tx.now()),
    )
    return deleted == 1


async def revoke(tx: Transaction, normalized_email: str) -> bool:
    """Whether the e-mail address had an invitation."""
    row = await tx.one(f"{_SELECT} WHERE email_key = :key", key=normalized_email)
    if row is None:
        return False
    await _drop_mail(tx, row["mail_id"])
    return await tx.run("DELETE FROM invitations WHERE id = :id", id=row["id"]) == 1


async def mark_mailed(tx: Transaction, mail_id: str, token: str) -> Invitation | None:
    """Make the token that a mail carries good; None where the invitation has ended."""
    row = await tx.one(
        "UPDATE invitations SET mailed_hash = :hash WHERE mail_id = :mail_id AND expires_at > :now"
        " RETURNING *",
        hash=hash_token(token),
        mail_id=mail_id,
        now=int(await tx.now()),
    )
    return None if row is None else _invitation(row)


async def purge(database: Database, now: int) -> None:
    """Deletes what was not used in time."""
    await run_in_parts(
        database, "DELETE FROM invitations", "invitations", "id", "expires_at <= :now", now=now
    )


async def _drop_mail(tx: Transaction, mail_id: str | None) -> None:
    """A mail that waits is not sent any more: nobody could use its link."""
    await tx.run(
        "UPDATE outbox SET state = 'dropped', finished_at = :now, fields = '{}'"
        " WHERE id = :id AND state = 'waiting'",
        now=int(await tx.now()),
        id=mail_id or "",
    )


_SELECT = (
    "SELECT id, email, email_key, roles, verified, invited_by, created_at, expires_at, mail_id,"
    " mailed_hash FROM invitations"
)


def _invitation(row: Row) -> Invitation:
    roles: Sequence[str] = str(row["roles"]).split()
    return Invitation(
        id=str(row["id"]),
        email=str(row["email"]),
        normalized_email=str(row["email_key"]),
        roles=tuple(roles),
        verified=bool(row["verified"]),
        invited_by=str(row["invited_by"]),
        created_at=int(row["created_at"]),
        expires_at=int(row["expires_at"]),
        mail_id=row["mail_id"],
        mailed=row["mailed_hash"] is not None,
    )
