"""The rows of `changes`: what every worker must know, and whether the stream has it yet.

A row is written in the transaction that makes it true, so that no crash can part
the two; who committed it then announces it, and what is not announced is relayed.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence

from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Database, Row, Transaction

PAGE_ROWS = 1000
RELAY_ROWS = 200
PUBLISHED, CONFIRMED = 1, 2
"""Of a row: the stream has it; and every worker that was live then had it.  The latter holds
for good, since a worker that goes live later has read SQL."""
PRUNE_ROWS = 2000

_OVER = "WHERE published > 0 AND created_at <= :until"
_COLUMNS = "id, kind, target, not_before, cause, created_at"


async def record(
    tx: Transaction,
    kind: ChangeKind,
    target: str,
    cause: Reason,
    *,
    not_before: int | None = None,
) -> Change:
    """Writes the change; `not_before` is the store's now unless the caller knows better.

    Commit, then `RevocationPublisher.publish` it: until that says True, nothing is promised.
    """
    now = int(await tx.now())
    change = Change(
        id=secrets.token_urlsafe(12),
        kind=kind,
        target=target,
        not_before=now if not_before is None else not_before,
        cause=cause,
        created_at=now,
    )
    await tx.run(
        f"INSERT INTO changes ({_COLUMNS}, published)"  # noqa: S608 (no words of a stranger)
        " VALUES (:id, :kind, :target, :not_before, :cause, :created_at, 0)",
        id=change.id,
        kind=kind.value,
        target=target,
        not_before=change.not_before,
        cause=cause.value,
        created_at=now,
    )
    return change


async def refuse_once(tx: Transaction, kind: ChangeKind, target: str) -> Sequence[Change]:
    """The change that refuses `target`: the one there is, so that repeating a call adds no
    row, else a new one."""
    row = await tx.one(
        "SELECT * FROM changes WHERE target = :target AND kind = :kind",
        target=target,
        kind=kind.value,
    )
    return [change_of(row) if row else await record(tx, kind, target, Reason.TOKEN_REVOKED)]


async def refuse_before(tx: Transaction, target: str, not_before: int) -> Sequence[Change]:
    """The change that refuses what a subject was given until `not_before`: the one there is, so
    that repeating a call adds no row, else a new one."""
    row = await tx.one(
        "SELECT * FROM changes WHERE target = :target AND kind = :kind AND cause = :cause"
        " AND not_before >= :not_before ORDER BY not_before LIMIT 1",
        target=target,
        kind=ChangeKind.SUBJECT.value,
        cause=Reason.TOKEN_REVOKED.value,
        not_before=not_before,
    )
    if row:
        return [change_of(row)]
    return [
        await record(tx, ChangeKind.SUBJECT, target, Reason.TOKEN_REVOKED, not_before=not_before)
    ]


def change_of(row: Row) -> Change:
    """A row of `changes`; ValueError when a newer version wrote a kind that this one lacks."""
    return Change(
        id=str(row["id"]),
        kind=ChangeKind(row["kind"]),
        target=str(row["target"]),
        not_before=int(row["not_before"]),
        cause=Reason(row["cause"]),
        created_at=int(row["created_at"]),
        confirmed=row.get("published") == CONFIRMED,
    )


async def every(database: Database, keep_s: float) -> AsyncIterator[tuple[Change, float]]:
    """Each change that may still refuse a token, with the seconds for which it must.

    Read in pages, each a transaction of its own: a change that is committed meanwhile may
    be missed, and is then in the stream, since it is appended after its commit.
    """
    after = ""
    while True:
        async with database.read_transaction() as tx:
            now = await tx.now()
            rows = await tx.all(
                f"SELECT {_COLUMNS} FROM changes"  # noqa: S608
                " WHERE id > :after AND created_at > :since ORDER BY id LIMIT :rows",
                after=after,
                since=int(now - keep_s),
                rows=PAGE_ROWS,
            )
        for row in rows:
            yield change_of(row), min(int(row["created_at"]) + keep_s - now, keep_s)
        if len(rows) < PAGE_ROWS:
            return
        after = str(rows[-1]["id"])


async def unpublished(database: Database, older_than_s: int) -> list[Change]:
    """The oldest changes that the stream may lack, written longer ago than that."""
    async with database.read_transaction() as tx:
        rows = await tx.all(
            f"SELECT {_COLUMNS} FROM changes"  # noqa: S608
            " WHERE published = 0 AND created_at <= :until ORDER BY created_at LIMIT :rows",
            until=int(await tx.now()) - older_than_s,
            rows=RELAY_ROWS,
        )
    return [change_of(row) for row in rows]


async def mark_published(database: Database, marks: Mapping[str, int]) -> None:
    """PUBLISHED or CONFIRMED, by the ids of the changes; what a row says already is not undone."""
    async with database.transaction() as tx:
        await tx.many(
            "UPDATE changes SET published = :mark WHERE id = :id AND published < :mark",
            [{"id": id_, "mark": mark} for id_, mark in marks.items()],
        )


async def prune(database: Database, keep_s: float) -> int:
    """Deletes, a part at a time, what no token can be touched by any more; how many went.

    Reads first: where there is nothing to do no write lock is taken.
    """
    async with database.read_transaction() as tx:
        until = int(await tx.now() - keep_s)
        due = await tx.one(f"SELECT id FROM changes {_OVER} LIMIT 1", until=until)  # noqa: S608
    if due is None:
        return 0
    async with database.transaction() as tx:
        return await tx.run(
            "DELETE FROM changes WHERE id IN"  # noqa: S608
            f" (SELECT id FROM changes {_OVER} ORDER BY created_at LIMIT :rows)",
            until=until,
            rows=PRUNE_ROWS,
        )
