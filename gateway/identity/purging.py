"""Deletes rows whose time is over, a part at a time.

Law: no statement touches more than ROWS_AT_ONCE rows.  The store ends one that takes longer than a
second, and takes back all that it did: what has once become too much to delete at once (every
session ends with a restore) would never be deleted again.
"""

from __future__ import annotations

from gateway.stores.protocols import Database

ROWS_AT_ONCE = 1_000


async def run_in_parts(
    database: Database, statement: str, table: str, key: str, where: str, **values: int | str
) -> None:
    """Runs `statement` (`DELETE FROM t`, or an UPDATE that leaves no row as `where` says) until no
    row of the table is left for it.  Each part is a transaction of its own, and stays done where
    a later one raises StoreUnavailable.

    Reads first: where there is nothing to do no write lock is taken.
    """
    due = f"SELECT {key} FROM {table} WHERE {where} LIMIT"  # noqa: S608 (no words of a stranger)
    async with database.read_transaction() as tx:
        if await tx.one(f"{due} 1", **values) is None:
            return
    # The condition stands twice: who waited for another's part must judge the row anew.
    part = f"{statement} WHERE {key} IN ({due} {ROWS_AT_ONCE}) AND ({where})"
    while True:
        async with database.transaction() as tx:
            touched = await tx.run(part, **values)
        if touched < ROWS_AT_ONCE:
            return
