"""What was ended for good, kept where no backup can take it back.

Law: whatever ends a thing that a backup may hold alive (an account, a password, a role, a key)
writes its tombstone in the same transaction, and a restore lays every tombstone upon what it
brought back.  Tombstones are few words each and are never pruned, as nobody knows how old a
backup may be; they name ids and hashes, no person.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from gateway.stores.protocols import Transaction


class Ended(StrEnum):
    """What a tombstone stands for; in brackets what `target` names."""

    ACCOUNT = "account"
    """Deleted (its id)."""
    DISABLED = "disabled"
    """Disabled (the account's id)."""
    PASSWORD = "password"  # noqa: S105 (the name of a kind)
    """Every password before `epoch` (the account's id)."""
    EMAIL = "email"
    """An e-mail address that the account has left (see `email_target`)."""
    ROLE = "role"
    """Taken from an account (see `role_target`)."""
    ATTRIBUTE = "attribute"
    """Every value of an account's attribute before `epoch` (see `role_target`)."""
    TENANT = "tenant"
    """Every role of an account in a tenant before `epoch` (see `role_target`)."""
    LINK = "link"
    """With somebody of a provider, by an account (see `link_target`)."""
    CLIENT = "client"
    """Deleted (its id)."""
    CLIENT_SECRET = "client_secret"  # noqa: S105
    """Replaced or ended (its hash)."""
    PASSKEY = "passkey"
    """Removed (its id)."""
    FACTOR = "factor"
    """Removed, replaced, or taken away by an operator (its id)."""
    RECOVERY_CODE = "recovery_code"
    """Used or replaced (its hash)."""
    SIGNING_KEY = "signing_key"
    """Revoked, or retired to its end (its `kid`)."""


async def add_tombstone(tx: Transaction, kind: Ended, target: str, epoch: int = 0) -> None:
    """Write the tombstone; of two the higher epoch counts."""
    await tx.run(
        "INSERT INTO tombstones (kind, target, epoch, ended_at) VALUES (:kind, :target, :epoch,"
        " :now) ON CONFLICT (kind, target) DO UPDATE SET epoch = CASE WHEN tombstones.epoch >"
        " excluded.epoch THEN tombstones.epoch ELSE excluded.epoch END",
        kind=kind.value,
        target=target,
        epoch=epoch,
        now=int(await tx.now()),
    )


async def remove_tombstone(tx: Transaction, kind: Ended, target: str) -> None:
    """Delete the tombstone: an operator or the owner has restored the thing."""
    await tx.run(
        "DELETE FROM tombstones WHERE kind = :kind AND target = :target",
        kind=kind.value,
        target=target,
    )


async def has_tombstone(tx: Transaction, kind: Ended, target: str) -> bool:
    row = await tx.one(
        "SELECT 1 FROM tombstones WHERE kind = :kind AND target = :target",
        kind=kind.value,
        target=target,
    )
    return row is not None


def role_target(account_id: str, role: str) -> str:
    """Roles, attributes and tenants hold no space, so no two pairs read the same."""
    return f"{account_id} {role}"


def link_target(account_id: str, issuer: str, subject: str) -> str:
    """A hash: what a provider calls somebody would outlive the account."""
    return hashlib.sha256(f"{account_id} {issuer} {subject}".encode()).hexdigest()


def email_target(account_id: str, normalized_email: str) -> str:
    """A hash: the e-mail address itself would outlive the account."""
    return hashlib.sha256(f"{account_id} {normalized_email}".encode()).hexdigest()
