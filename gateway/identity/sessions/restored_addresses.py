"""E-mail addresses over a restore.

Law: an account keeps the address that it had last, and that it was confirmed: an address that it
has left would receive its reset links again.  Where nobody knows which one that is, the account is
disabled until an operator says where its owner is to be reached.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.identity.tombstones import Ended, email_target, remove_tombstone
from gateway.stores.protocols import Row, Transaction


async def carry_addresses(tx: Transaction, held: Mapping[str, Row], now: int) -> int:
    """`held`: by account, what the database had before the restore.  How many accounts had another
    address in the backup than they have now."""
    ends = await tx.all(
        "SELECT target, ended_at FROM tombstones WHERE kind = :kind", kind=Ended.EMAIL.value
    )
    left_at = {str(row["target"]): int(row["ended_at"]) for row in ends}
    lost: list[str] = []
    moving: dict[str, Row] = {}
    of_backup: dict[str, str] = {}
    for row in await tx.all("SELECT id, email_key, email_verified FROM accounts"):
        account_id, key = str(row["id"]), str(row["email_key"])
        before = held.get(account_id)
        target = email_target(account_id, key)
        other = target if before is None else email_target(account_id, str(before["email_key"]))
        if target not in left_at and (other == target or other in left_at):
            if before is not None and other == target and before["email_verified"]:
                await tx.run("UPDATE accounts SET email_verified = 1 WHERE id = :id", id=account_id)
        elif left_at.get(other, 0) > left_at.get(target, 0):
            # The backup is the newer of the two: its address was returned to.
            await remove_tombstone(tx, Ended.EMAIL, target)
        elif before is None or other == target:
            lost.append(account_id)
        else:
            # Also where neither was left: an older backup came before, and this was set since.
            moving[account_id], of_backup[account_id] = before, key
    lost += await _move(tx, moving, of_backup, now)
    for account_id in lost:
        await tx.run(
            "UPDATE accounts SET disabled = 1, updated_at = :now WHERE id = :id",
            now=now,
            id=account_id,
        )
    return len({*lost, *moving})


async def _move(
    tx: Transaction, moving: Mapping[str, Row], of_backup: Mapping[str, str], now: int
) -> list[str]:
    """Those whose address another account has."""
    for account_id in moving:
        # One may have the address that another has left: all give theirs up first.
        await tx.run("UPDATE accounts SET email_key = id WHERE id = :id", id=account_id)
    left_out = []
    for account_id, row in moving.items():
        key = str(row["email_key"])
        if await tx.one("SELECT 1 FROM accounts WHERE email_key = :key", key=key):
            left_out.append(account_id)
            continue
        await tx.run(
            "UPDATE accounts SET email = :email, email_key = :key, email_verified = :verified,"
            " updated_at = :now WHERE id = :id",
            email=row["email"],
            key=key,
            verified=row["email_verified"],
            now=now,
            id=account_id,
        )
        # The backup may know it as one that was left: it was returned to since.
        await remove_tombstone(tx, Ended.EMAIL, email_target(account_id, key))
    for account_id in left_out:
        await tx.run(
            "UPDATE accounts SET email_key = :key WHERE id = :id"
            " AND NOT EXISTS (SELECT 1 FROM accounts WHERE email_key = :key)",
            key=of_backup[account_id],
            id=account_id,
        )
    return left_out
