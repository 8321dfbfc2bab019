"""Second factors over a restore.

Law: a backup takes no factor away and brings none back.  What was enrolled since it counts on: an
account that had become safer would else be open to its password alone; what was removed, used or
replaced since is gone again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.identity.factors.recovery_codes import drop_older_sets, drop_replaced
from gateway.identity.factors.totp import STEP_S, reseal_totp
from gateway.identity.keys.encryption import Sealer
from gateway.identity.tombstones import ALL, Ended, drop_ended, kind_of
from gateway.stores.protocols import Row, Transaction

_TABLES = {"totp_factors": "id", "passkeys": "id", "recovery_codes": "hash"}
"""Each with its key."""

_KINDS = {
    "totp_factors": Ended.FACTOR,
    "passkeys": Ended.PASSKEY,
    "recovery_codes": Ended.RECOVERY_CODE,
}


@dataclass(frozen=True, slots=True)
class HeldFactors:
    """What the database held before the restore."""

    rows: Mapping[str, Sequence[Row]]
    handles: Sequence[Row]
    """What authenticators know the accounts by: one that was made since is in passkeys that count
    on, and the backup has none in its place."""


async def held_factors(tx: Transaction) -> HeldFactors:
    """To be asked before the backup is read in, in the same transaction."""
    rows = {table: await tx.all(f"SELECT * FROM {table}") for table in _TABLES}  # noqa: S608
    rows["totp_factors"] = [r for r in rows["totp_factors"] if r["confirmed_at"] is not None]
    handles = "SELECT id, passkey_handle FROM accounts WHERE passkey_handle IS NOT NULL"
    return HeldFactors(rows, await tx.all(handles))


async def carry_factors(tx: Transaction, held: HeldFactors, then: Sealer, now: Sealer) -> int:
    """Lay what was before upon what came back; how many factors ended again.  `then` is the secret
    that the backup was written under."""
    await tx.run("DELETE FROM totp_factors WHERE confirmed_at IS NULL")
    ended = await drop_ended(tx, "totp_factors", "id", Ended.FACTOR)
    ended += await drop_ended(tx, "recovery_codes", "hash", Ended.RECOVERY_CODE)
    ended += await drop_replaced(tx)
    if then.fingerprint != now.fingerprint:
        await reseal_totp(tx, then, now)
    for table, key in _TABLES.items():
        for row in held.rows[table]:
            await _put_back(tx, table, key, row)
    await drop_older_sets(tx)
    for row in held.handles:
        await tx.run("UPDATE accounts SET passkey_handle = :passkey_handle WHERE id = :id", **row)
    for row in held.rows["passkeys"]:
        # An older counter would take a copy of the authenticator for the authenticator.
        await tx.run(
            "UPDATE passkeys SET sign_count = :sign_count WHERE id = :id"
            " AND sign_count < :sign_count",
            id=row["id"],
            sign_count=row["sign_count"],
        )
    # Codes of the steps until now may have been taken since the backup.
    await tx.run(
        "UPDATE totp_factors SET last_step = :step WHERE last_step < :step",
        step=int(await tx.now()) // STEP_S,
    )
    return ended


async def _put_back(tx: Transaction, table: str, key: str, row: Row) -> None:
    """The row, where its account is still there and the backup neither has it nor knows that it
    ended: what is held may come of an older backup."""
    account = await tx.one("SELECT 1 FROM accounts WHERE id = :id", id=row["account_id"])
    if account is None or await _is_ended(tx, _KINDS[table], row[key], row):
        return
    columns = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    if table == "totp_factors":
        await tx.run(
            "DELETE FROM totp_factors WHERE account_id = :account AND id <> :id",
            account=row["account_id"],
            id=row["id"],
        )
    await tx.run(
        f"INSERT INTO {table} ({columns}) VALUES ({values})"  # noqa: S608
        f" ON CONFLICT ({key}) DO NOTHING",
        **row,
    )


async def _is_ended(tx: Transaction, kind: Ended, target: object, row: Row) -> bool:
    """As `drop_ended` and `drop_replaced` have it."""
    ended = await tx.one(
        "SELECT 1 FROM tombstones WHERE (kind IN (:kind, :of) AND target = :target)"
        " OR (kind = :of AND target = :all AND epoch > :created_at)",
        kind=kind.value,
        of=kind_of(kind, str(row["account_id"])),
        target=target,
        all=ALL,
        created_at=row["created_at"],
    )
    return ended is not None
