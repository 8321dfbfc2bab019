"""The rows of `changes`: what every worker must know, and whether the stream has it yet.

A row is written in the transaction that makes it true, so that no crash can part
the two; who committed it then announces it, and what is not announced is relayed.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Database, Row, Transaction

PAGE_ROWS = 250
"""Each worker reads all of them whenever Redis comes back: what is in hand at once, a kilobyte a
row, stays with the process."""
RELAY_ROWS = 200
PUBLISHED, CONFIRMED = 1, 2
"""Of a row: the stream has it; and every worker that was live then had it.  The latter holds
for good, since a worker that goes live later has read SQL."""
PRUNE_ROWS = 2000

_OVER = "WHERE published > 0 AND created_at <= :until"
_COLUMNS = "id, kind, target, not_before, cause, created_at"
_INSERT = (
    f"INSERT INTO changes ({_COLUMNS}, published)"  # noqa: S608 (no words of a stranger)
    " VALUES (:id, :kind, :target, :not_before, :cause, :created_at, 0)"
)


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
    change = _change(Refusal(kind, target, now if not_before is None else not_before), cause, now)
    await tx.run(_INSERT, **_row(change))
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


async def refuse(database: Database, kind: ChangeKind, target: str) -> Sequence[Change]:
    """Refuses a token by its `jti`, a session by its `sid`, or what a client has so far."""
    async with database.transaction() as tx:
        if kind is ChangeKind.CLIENT:
            return [await record(tx, kind, target, Reason.TOKEN_REVOKED)]
        return await refuse_once(tx, kind, target)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is to be refused: a session or a token, or what a subject was given until
    `not_before`."""

    kind: ChangeKind
    target: str
    not_before: int

    def met_by(self, change: Change) -> bool:
        if (change.kind, change.target) != (self.kind, self.target):
            return False
        if self.kind is not ChangeKind.SUBJECT:
            return True
        return change.cause is Reason.TOKEN_REVOKED and change.not_before >= self.not_before


async def refuse_all(tx: Transaction, refusals: Sequence[Refusal]) -> list[Change]:
    """A change for each: the one there is, so that repeating a call adds no row, else a new one.
    In three round trips, however many they are."""
    if not refusals:
        return []
    known = [change_of(row) for row in await _meeting(tx, refusals)]
    now = int(await tx.now())
    new: list[Change] = []
    changes: list[Change] = []
    for refusal in refusals:
        change = next((one for one in (*known, *new) if refusal.met_by(one)), None)
        if change is None:
            change = _change(refusal, Reason.TOKEN_REVOKED, now)
            new.append(change)
        changes.append(change)
    if new:
        await tx.many(_INSERT, [_row(change) for change in new])
    return changes


async def _meeting(tx: Transaction, refusals: Sequence[Refusal]) -> list[Row]:
    """A row that meets each of them, where there is one.  No more than that is read: of somebody
    who signs out again and again there are thousands."""
    asked: list[str] = []
    values: dict[str, Any] = {
        "subject": ChangeKind.SUBJECT.value,
        "cause": Reason.TOKEN_REVOKED.value,
    }
    for number, refusal in enumerate(refusals):
        asked.append(
            "SELECT * FROM (SELECT * FROM changes"  # noqa: S608 (numbers alone)
            f" WHERE target = :target_{number} AND kind = :kind_{number} AND (kind <> :subject"
            f" OR (cause = :cause AND not_before >= :not_before_{number})) LIMIT 1) AS met_{number}"
        )
        values[f"target_{number}"] = refusal.target
        values[f"kind_{number}"] = refusal.kind.value
        values[f"not_before_{number}"] = refusal.not_before
    return await tx.all(" UNION ALL ".join(asked), **values)


def _change(refusal: Refusal, cause: Reason, now: int) -> Change:
    return Change(
        id=secrets.token_urlsafe(12),
        kind=refusal.kind,
        target=refusal.target,
        not_before=refusal.not_before,
        cause=cause,
        created_at=now,
    )


def _row(change: Change) -> dict[str, Any]:
    return {
        "id": change.id,
        "kind": change.kind.value,
        "target": change.target,
        "not_before": change.not_before,
        "cause": change.cause.value,
        "created_at": change.created_at,
    }


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
