"""What was ended for good, kept where no backup can take it back.

Law: whatever ends a thing that a backup may hold alive (an account, a password, a role, a key)
writes its tombstone in the same transaction, and a restore lays every tombstone upon what it
brought back.  Tombstones are few words each and are never pruned, as nobody knows how old a
backup may be; they name ids and hashes, no person.  Those that were written `of` an account,
that of its password and that of its being disabled go when it is erased, as the tombstone of the
account says all of them.  Those of its addresses, links, roles and tenants stay.
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
    """Used (its hash; `epoch`: when it was made); every one of an account before `epoch` (ALL)."""
    SIGNING_KEY = "signing_key"
    """Revoked, or retired to its end (its `kid`)."""


_OF_ACCOUNTS = (Ended.ATTRIBUTE, Ended.PASSKEY, Ended.FACTOR, Ended.RECOVERY_CODE)
"""What an account's owner ends as often as they like: written `of` the account.  Earlier versions
wrote the kind alone, and both forms hold."""

ALL = "*"
"""The target that stands for all of its kind that an account had before `epoch`."""


async def add_tombstone(
    tx: Transaction, kind: Ended, target: str, epoch: int = 0, *, of: str = "", after: int = 0
) -> None:
    """Write the tombstone; of two the higher epoch counts, and the last end.  `of`: the account,
    for the kinds that go with it.  `after`: it ended later than that, whatever the clock says."""
    await tx.run(
        "INSERT INTO tombstones (kind, target, epoch, ended_at) VALUES (:kind, :target, :epoch,"
        " :now) ON CONFLICT (kind, target) DO UPDATE SET epoch = CASE WHEN tombstones.epoch >"
        " excluded.epoch THEN tombstones.epoch ELSE excluded.epoch END, ended_at ="
        " excluded.ended_at",
        kind=_kind(kind, of),
        target=target,
        epoch=epoch,
        now=max(int(await tx.now()), after + 1),
    )


async def epoch_of(tx: Transaction, kind: Ended, target: str, *, of: str = "") -> int:
    """What was given before it has ended, in either form of the kind; 0 where nothing has."""
    row = await tx.one(
        "SELECT MAX(epoch) AS epoch FROM tombstones WHERE kind IN (:kind, :earlier)"
        " AND target = :target",
        kind=_kind(kind, of),
        earlier=kind.value,
        target=target,
    )
    return int((row and row["epoch"]) or 0)


async def ended_at(tx: Transaction, kind: Ended, target: str) -> int:
    """0 where there is no tombstone."""
    row = await tx.one(
        "SELECT ended_at FROM tombstones WHERE kind = :kind AND target = :target",
        kind=kind.value,
        target=target,
    )
    return 0 if row is None else int(row["ended_at"])


async def remove_tombstone(tx: Transaction, kind: Ended, target: str) -> None:
    """Delete the tombstone: an operator or the owner has restored the thing."""
    await tx.run(
        "DELETE FROM tombstones WHERE kind = :kind AND target = :target",
        kind=kind.value,
        target=target,
    )


async def remove_tombstones_of(tx: Transaction, account_id: str) -> None:
    """Delete those that name the account: it is erased, and has one of its own."""
    for kind in (Ended.PASSWORD, Ended.DISABLED):
        await remove_tombstone(tx, kind, account_id)
    await tx.many(
        "DELETE FROM tombstones WHERE kind = :kind",
        [{"kind": kind_of(kind, account_id)} for kind in _OF_ACCOUNTS],
    )


async def drop_ended(tx: Transaction, table: str, column: str, kind: Ended) -> int:
    """For a restore: delete the rows of accounts that have a tombstone, of either form."""
    return await tx.run(
        f"DELETE FROM {table} WHERE EXISTS (SELECT 1 FROM tombstones t"  # noqa: S608 (names of our own)
        f" WHERE t.kind IN (:kind, :prefix || {table}.account_id) AND t.target = {table}.{column})",
        kind=kind.value,
        prefix=kind_of(kind, ""),
    )


async def has_tombstone(tx: Transaction, kind: Ended, target: str, *, of: str = "") -> bool:
    row = await tx.one(
        "SELECT 1 FROM tombstones WHERE kind = :kind AND target = :target",
        kind=_kind(kind, of),
        target=target,
    )
    return row is not None


def kind_of(kind: Ended, account_id: str) -> str:
    """In the kind, so that those of one account lie side by side in the table's key."""
    return f"{kind.value} {account_id}"


def _kind(kind: Ended, of: str) -> str:
    return kind_of(kind, of) if of else kind.value


def role_target(account_id: str, role: str) -> str:
    """Roles, attributes and tenants hold no space, so no two pairs read the same."""
    return f"{account_id} {role}"


def link_target(account_id: str, issuer: str, subject: str) -> str:
    """A hash: what a provider calls somebody would outlive the account."""
    return hashlib.sha256(f"{account_id} {issuer} {subject}".encode()).hexdigest()


def email_target(account_id: str, normalized_email: str) -> str:
    """A hash: the e-mail address itself would outlive the account."""
    return hashlib.sha256(f"{account_id} {normalized_email}".encode()).hexdigest()
