"""What must be true of a database that came out of a backup.

Sessions that ended after the backup are alive in it again, and what was given since is
unknown to it: so every family, API key and mailed link ends, every token given so far is
refused, and a signing key that was revoked stays revoked.
"""

from __future__ import annotations

from gateway.identity.revocations import record
from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Transaction

ANYBODY = "*"


async def newest_token_at(tx: Transaction) -> int:
    """The largest `iat` that was given, and never less than now."""
    row = await tx.one(
        "SELECT (SELECT MAX(last_used_at) FROM families) AS families,"
        " (SELECT MAX(newest_iat) FROM clients) AS clients"
    )
    assert row is not None
    return max(int(await tx.now()), row["families"] or 0, row["clients"] or 0)


async def disown(tx: Transaction, newest_at: int) -> Change:
    """Ends all that the backup brought back.  `newest_at` is from before it was read in."""
    newest_at = max(newest_at, await newest_token_at(tx))
    now = int(await tx.now())
    await tx.run(
        "UPDATE families SET ended_at = :now, end_reason = 'restored' WHERE ended_at IS NULL",
        now=now,
    )
    for table in ("accounts", "clients"):
        await tx.run(
            f"UPDATE {table} SET not_before = :at WHERE not_before < :at",  # noqa: S608
            at=newest_at,
        )
    # Device cookies of passwords that were changed after the backup are strangers still.
    await tx.run("UPDATE accounts SET password_epoch = password_epoch + :at", at=newest_at)
    await tx.run(
        "UPDATE signing_keys SET state = 'gone', gone_at = :now WHERE state <> 'gone'"
        " AND kid IN (SELECT target FROM changes WHERE kind = 'key')",
        now=now,
    )
    # Links and keys that were used or ended after the backup are good again in it.
    await tx.run("DELETE FROM mail_tokens")
    await tx.run(
        "UPDATE outbox SET state = 'dropped', finished_at = :now, password_hash = NULL"
        " WHERE state = 'waiting'",
        now=now,
    )
    await tx.run("UPDATE api_keys SET ended_at = :now WHERE ended_at IS NULL", now=now)
    # No lease that the backup's Redis knew of says anything about this database.
    await tx.run("UPDATE installation SET value = '' WHERE name = 'stream.incarnation'")
    return await record(
        tx, ChangeKind.EVERYONE, ANYBODY, Reason.TOKEN_REVOKED, not_before=newest_at
    )
