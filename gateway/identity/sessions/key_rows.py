"""What the end of an account's sessions, and a change of its roles, does to its personal keys.

The keys themselves are `clients/personal_keys.py`, which stands above this room.
"""

from __future__ import annotations

from gateway.stores.protocols import Transaction


async def end_keys(tx: Transaction, account_id: str) -> None:
    """End every personal key of the account: whoever calls this refuses what it has been given."""
    await tx.run(
        "UPDATE personal_keys SET ended_at = :now WHERE account_id = :account AND ended_at IS NULL",
        account=account_id,
        now=int(await tx.now()),
    )


async def newest_key_at(tx: Transaction, account_id: str) -> int | None:
    """When the newest live key was made; None where there is none."""
    row = await tx.one(
        "SELECT MAX(created_at) AS newest FROM personal_keys"
        " WHERE account_id = :id AND ended_at IS NULL",
        id=account_id,
    )
    return None if row is None or row["newest"] is None else int(row["newest"])
