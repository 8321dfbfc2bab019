"""Deletes sessions that are over, with their refresh tokens, and the successors that rest sealed.

A session has as many refresh tokens as it was renewed: thousands.  They go before it, in parts, as
the store would delete all of them with it in one statement.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.identity.purging import ROWS_AT_ONCE, run_in_parts
from gateway.identity.sessions.sessions import end_every, is_live, lock
from gateway.identity.sessions.token_dates import GRACE_MS
from gateway.model import Change
from gateway.stores.protocols import Database

# How long an ended session is still shown to the tools, and its tokens still known as its own.
_KEPT_AFTER_END_S = 86_400
_SESSIONS_AT_ONCE = 200


async def erase_sealed(database: Database) -> None:
    """Erases the sealed successors whose grace is over."""
    async with database.read_transaction() as tx:
        before = int(await tx.now()) - GRACE_MS // 1000
    await run_in_parts(
        database,
        "UPDATE refresh_tokens SET successor_sealed = NULL",
        "refresh_tokens",
        "hash",
        "successor_sealed IS NOT NULL AND used_at < :before",
        before=before,
    )


async def purge_sessions(database: Database) -> None:
    """Delete sessions that ended or expired a day ago, with their tokens."""
    async with database.read_transaction() as tx:
        before = int(await tx.now()) - _KEPT_AFTER_END_S
    await _delete(database, "expires_at < :before OR ended_at < :before", before=before)


async def erase_sessions_of_many_tokens(
    database: Database, account_id: str, *, by: str | None = None
) -> Sequence[Change]:
    """End and delete the sessions of an account that is to be erased, where they have more
    tokens than go with it in one statement; else nothing is done here, nor where the session
    `by` which its owner asks has ended."""
    async with database.read_transaction() as tx:
        tokens = await tx.all(
            "SELECT t.hash FROM families f JOIN refresh_tokens t ON t.family_id = f.id"
            " WHERE f.account_id = :id LIMIT :many",
            id=account_id,
            many=ROWS_AT_ONCE,
        )
    if len(tokens) < ROWS_AT_ONCE:
        return []
    async with database.transaction() as tx:
        if await lock(tx, account_id) is None:
            return []
        if by is not None and not await is_live(tx, by, account_id):
            return []
        changes = await end_every(tx, account_id, "deleted")
    await _delete(database, "account_id = :id AND ended_at IS NOT NULL", id=account_id)
    return changes


async def _delete(database: Database, where: str, **values: int | str) -> None:
    """`where` is true for good of a session, once it is."""
    while True:
        async with database.read_transaction() as tx:
            rows = await tx.all(
                f"SELECT id FROM families WHERE {where} LIMIT {_SESSIONS_AT_ONCE}",  # noqa: S608
                **values,
            )
        if not rows:
            return
        ids = {f"id{number}": str(row["id"]) for number, row in enumerate(rows)}
        named = ", ".join(f":{name}" for name in ids)
        await run_in_parts(
            database,
            "DELETE FROM refresh_tokens",
            "refresh_tokens",
            "hash",
            f"family_id IN ({named})",
            **ids,
        )
        await run_in_parts(
            database, "DELETE FROM families", "families", "id", f"id IN ({named})", **ids
        )
