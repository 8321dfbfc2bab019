"""Deletes what is too old of the audit log, so that the rest can still be verified.

Law: before a row goes it is written down, in a chain, up to where each chain was cut: its
writer, the last position that goes, and that row's hash.  So `verify` knows what the first row
that stays hangs on, and a row that vanished in any other way is still missed.  A chain's first
row stays as long as the chain has younger ones: it tells of the chains before it.  The row that a
cut is made at is verified first, with its time, and so is what older prunings said: else this
would put its name to whatever somebody who can write rows has made up.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from gateway.audit.chain import GENESIS, PRUNER, ChainKey, Cut, cuts, heads_in, is_ours
from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.model import Clock
from gateway.stores.protocols import Database, Row, StoreUnavailable, Transaction

log = structlog.get_logger()

_CUTS_AN_EVENT = 200
_ROWS_A_STATEMENT = 1_000


@dataclass(frozen=True, slots=True)
class _Expired:
    """What of one chain is deleted: up to `cut`, and its first row too where nothing is left."""

    writer: str
    first: int
    """Of those behind the chain's first row; what went before is gone already."""
    cut: Cut
    whole: bool


def pruner_name() -> str:
    """The writer of one pruning: a chain of its own, found by its name."""
    return PRUNER + secrets.token_hex(8)


async def retained_since_s(database: Database, clock: Clock, keep_s: float) -> float:
    """What is older than this may go: by this machine's clock or by SQL's, whichever is behind.  A
    clock that is ahead must not take what is young.  Raises StoreUnavailable."""
    async with database.read_transaction() as tx:
        return min(clock.now(), await tx.now()) - keep_s


async def prune(
    database: Database, pruner: AuditLog, before_s: float, older_keys: Iterable[ChainKey] = ()
) -> int:
    """Takes away what is older than `before_s`; how many rows.  `pruner` is a writer named by
    `pruner_name`; `older_keys` are of secrets that were in use before its own.  A chain whose
    row at the cut is not ours stays as it is, for `audit verify` to tell of.

    Raises StoreUnavailable; what was noted and not yet taken goes next time.
    """
    before_ms = int(before_s * 1000)
    async with database.read_transaction() as tx:
        keys = {key.id: key for key in (pruner.chain, *older_keys)}
        known = await cuts(tx, keys)
        expired = await _expired(tx, known, before_ms, keys)
        fresh = [one for one in expired if known.get(one.writer) != one.cut]
        noted = {one.writer: one.cut for one in expired}
        noted |= {w: c for w, c in (await _needed(tx, known)).items() if w not in noted}
    if fresh:
        await _note(pruner, noted, before_s)
    gone = 0
    for one in expired:
        gone += await _take(database, one)
    if gone:
        log.info("audit-pruned", rows=gone, before=_when(before_s))
    return gone


async def _expired(
    tx: Transaction, known: Mapping[str, Cut], before_ms: int, keys: Mapping[str, ChainKey]
) -> list[_Expired]:
    chains = await tx.all(
        "SELECT writer FROM audit_events WHERE position = 1 AND at_ms < :before", before=before_ms
    )
    expired = []
    for writer in sorted({str(row["writer"]) for row in chains} | set(known)):
        ends = await tx.one(
            "SELECT MIN(CASE WHEN at_ms >= :before THEN position END) AS young,"
            " MIN(CASE WHEN position > 1 THEN position END) AS first,"
            " MAX(position) AS last FROM audit_events WHERE writer = :writer",
            before=before_ms,
            writer=writer,
        )
        if ends is None or ends["last"] is None:
            continue  # it is gone already, and only known from its cut
        whole = ends["young"] is None
        end = int(ends["last"]) if whole else int(ends["young"]) - 1
        if end < 2 and not whole:
            continue
        row = await tx.one(
            "SELECT writer, position, at_ms, line, hash FROM audit_events"
            " WHERE writer = :writer AND position = :end",
            writer=writer,
            end=end,
        )
        before = known.get(writer)
        first = int(ends["first"] or end + 1)
        cut = None if row is None else Cut(end, str(row["hash"]))
        # A cut that is recorded was verified then: what is left there is the rest of that pruning.
        if row is not None and cut != before and not await _is_ours(tx, row, before, keys):
            log.warning(
                "audit-chain-not-pruned",
                writer=writer,
                position=end,
                effect="the chain stays: this row was changed, or what it hangs on is missing;"
                " `gateway audit verify` tells more",
            )
        elif cut is not None:
            expired.append(_Expired(writer, first, cut, whole))
        elif before is not None and before.position == end and first <= end:
            expired.append(_Expired(writer, first, before, whole))
    return expired


async def _is_ours(
    tx: Transaction, row: Row, cut: Cut | None, keys: Mapping[str, ChainKey]
) -> bool:
    """All that stands before such a row in its chain is no younger than it."""
    before = int(row["position"]) - 1
    if before == 0:
        return is_ours(keys, GENESIS, row)
    if cut is not None and cut.position == before:
        return is_ours(keys, cut.hash, row)
    row_before = await tx.one(
        "SELECT hash FROM audit_events WHERE writer = :writer AND position = :before",
        writer=row["writer"],
        before=before,
    )
    return row_before is not None and is_ours(keys, str(row_before["hash"]), row)


async def _needed(tx: Transaction, known: Mapping[str, Cut]) -> dict[str, Cut]:
    """The cuts of before that something which stays hangs on, or may name."""
    if not known:
        return {}
    named: set[str] = set()
    for row in await tx.all("SELECT line FROM audit_events WHERE position = 1"):
        named |= {head.partition(":")[0] for head in heads_in(str(row["line"]))}
    for writer in set(known) - named:
        if await tx.one("SELECT 1 FROM audit_events WHERE writer = :w LIMIT 1", w=writer):
            named.add(writer)
    return {writer: cut for writer, cut in known.items() if writer in named}


async def _note(pruner: AuditLog, noted: Mapping[str, Cut], before_s: float) -> None:
    """Raises StoreUnavailable where it could not be written: then nothing may go."""
    lines = [f"{writer}:{cut.position}:{cut.hash}" for writer, cut in noted.items()]
    for some in _pieces(lines):
        detail = {"before": _when(before_s), "cuts": some}
        pruner.record(AuditEvent(AuditKind.PRUNED, detail=detail))
    await pruner.flush()
    if pruner.dropped.n:
        raise StoreUnavailable("sql", "no room to note what is pruned")
    pruner.log_head()


async def _take(database: Database, one: _Expired) -> int:
    """In steps, so that no statement takes long; the first row last."""
    gone = 0
    for low in range(one.first, one.cut.position + 1, _ROWS_A_STATEMENT):
        gone += await _delete(
            database, one.writer, low, min(low + _ROWS_A_STATEMENT - 1, one.cut.position)
        )
    if one.whole:
        gone += await _delete(database, one.writer, 1, 1)
    return gone


async def _delete(database: Database, writer: str, low: int, high: int) -> int:
    async with database.transaction() as tx:
        return await tx.run(
            "DELETE FROM audit_events WHERE writer = :writer AND position BETWEEN :low AND :high",
            writer=writer,
            low=low,
            high=high,
        )


def _pieces(lines: list[str]) -> Iterable[list[str]]:
    return (lines[at : at + _CUTS_AN_EVENT] for at in range(0, len(lines), _CUTS_AN_EVENT))


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
