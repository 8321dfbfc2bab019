"""Verifies the audit log: reads every row, and lists each that was changed, made up or is missing.

What is missing is no problem where an event of a chain under a key of ours explains it: a pruning
up to that row, or a restore of an older backup.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.audit.chain import (
    GENESIS,
    PRUNED,
    RESTORED,
    ChainKey,
    Cut,
    GapExplanation,
    cuts,
    explanations_in,
    heads_in,
    is_ours,
    key_id,
    line_time_ms,
    row_hash,
)
from gateway.stores.protocols import Database, Row

_HEAD = re.compile(r"([!-9;-~]{1,128}):([0-9]{1,18}):([0-9a-f]{64})")
_HEADS_A_LOOK = 100


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `gateway audit verify`."""

    writers: int
    events: int
    problems: tuple[str, ...]
    pruned_before: str | None = None
    """Before when rows were deleted as too old; None where none were."""
    notes: tuple[str, ...] = ()
    """Rows that are missing and explained, or present and not proven: no reason for alarm."""


async def verify(
    database: Database,
    keys: Iterable[ChainKey],
    expected_heads: tuple[str, ...] = (),
    *,
    page_rows: int = 1000,
    progress: Callable[[int], Awaitable[None]] | None = None,
) -> Verification:
    """Reads the whole log and checks every chain, every head that a chain names, and
    `expected_heads` (`writer:position:hash`, as the ordinary log has them).  `keys`: the key of
    now, and those of secrets that were in use before.  `progress` is told after each page how many
    events have been read, and what it waits for is waited for."""
    by_id = {key.id: key for key in keys}
    async with database.read_transaction() as tx:
        check = _Check(by_id, await cuts(tx, by_id))
    check.wanted += [(head, "the given heads") for head in expected_heads]
    writer, position = "", 0
    while True:
        async with database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT writer, position, at_ms, line, hash FROM audit_events"
                " WHERE writer > :writer OR (writer = :writer AND position > :position)"
                " ORDER BY writer, position LIMIT :page_rows",
                writer=writer,
                position=position,
                page_rows=page_rows,
            )
        if not rows:
            return check.verdict(await _absent(database, {head for head, _ in check.wanted}))
        for row in rows:
            check.take(row)
        if progress is not None:
            await progress(check.events)
        writer, position = str(rows[-1]["writer"]), int(rows[-1]["position"])


async def _absent(database: Database, heads: Iterable[str]) -> set[str]:
    """Those of the heads that no row is.  They are looked up, as there are few of them: to remember
    every row that was read would take a hundred bytes of each."""
    absent = set(heads)
    asked = [match.groups() for head in absent if (match := _HEAD.fullmatch(head))]
    for start in range(0, len(asked), _HEADS_A_LOOK):
        part = asked[start : start + _HEADS_A_LOOK]
        values: dict[str, Any] = {}
        for number, (writer, position, digest) in enumerate(part):
            values |= {f"w{number}": writer, f"p{number}": int(position), f"h{number}": digest}
        either = " OR ".join(
            f"(writer = :w{n} AND position = :p{n} AND hash = :h{n})" for n in range(len(part))
        )
        async with database.read_transaction() as tx:
            rows = await tx.all(
                f"SELECT writer, position, hash FROM audit_events WHERE {either}",  # noqa: S608
                **values,
            )
        absent -= {f"{row['writer']}:{row['position']}:{row['hash']}" for row in rows}
    return absent


@dataclass(frozen=True, slots=True)
class _Gap:
    """Rows that are missing before the one at `place`, and the times on either side."""

    place: str
    after: int
    last_ms: int
    at_ms: int


@dataclass(slots=True)
class _Check:
    """Takes every row, ordered by writer and position.

    Law: what explains missing rows is believed of a row that has been checked itself.
    """

    keys: Mapping[str, ChainKey]
    known: Mapping[str, Cut]
    restored: list[GapExplanation] = field(default_factory=list)
    pruned_before: list[str] = field(default_factory=list)
    wanted: list[tuple[str, str]] = field(default_factory=list)
    """Heads that must be there, and who says so."""
    writers: int = 0
    events: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unkeyed: dict[str, int] = field(default_factory=dict)
    """The newest time of each chain without a key."""
    first_keyed_ms: int | None = None
    last_ms: dict[str, int] = field(default_factory=dict)
    """When the last row of each chain was written."""
    began_ms: dict[str, int] = field(default_factory=dict)
    """When the first row of each chain was written."""
    writer: str = ""
    position: int = 0
    hash: str = GENESIS
    remainder: Row | None = None
    """The last row that was seen of those of this chain that a pruning has yet to take."""
    gaps: list[_Gap] = field(default_factory=list)

    def take(self, row: Row) -> None:
        if row["writer"] != self.writer:
            self._end_remainder()
            self.writer, self.position, self.hash = str(row["writer"]), 0, GENESIS
            self.writers += 1
            self._begin()
        self.events += 1
        position = int(row["position"])
        cut = self.known.get(self.writer)
        if cut is not None and self.position < cut.position and position != 1:
            if position <= cut.position:
                self._take_remainder(row, cut)
                return
            self._end_remainder()
            self.position, self.hash = cut.position, cut.hash
        if self._judge(row):
            self._believe(row)
        # From here on as the row says: one edit is one problem, not one for each row.
        self.position, self.hash = position, str(row["hash"])
        self.last_ms[self.writer] = int(row["at_ms"])
        if key_id(self.writer):
            if self.first_keyed_ms is None or row["at_ms"] < self.first_keyed_ms:
                self.first_keyed_ms = int(row["at_ms"])
        else:
            newest_ms = max(self.unkeyed.get(self.writer, 0), int(row["at_ms"]))
            self.unkeyed[self.writer] = newest_ms
        if position == 1:
            self.began_ms[self.writer] = int(row["at_ms"])
            self.wanted += [(head, self.writer) for head in heads_in(row["line"])]

    def verdict(self, absent: Container[str]) -> Verification:
        """`absent`: those of the heads that are wanted which no row is."""
        self._end_remainder()
        for gap in self.gaps:
            lost = self._gap_by_restore(gap)
            if lost is None:
                self.problems.append(f"{gap.place}: the rows after {gap.after} are missing")
            else:
                self.notes.append(f"{gap.place}: the rows after {gap.after}: {lost}")
        for writer, newest_ms in self.unkeyed.items():
            if self.first_keyed_ms is not None and newest_ms >= self.first_keyed_ms:
                self.problems.append(
                    f"{writer}: goes on without a key after {_shown(self.first_keyed_ms)}, when"
                    " chains had one: it was made up, or written by an older version"
                )
        if self.unkeyed:
            self.notes.append(
                f"{len(self.unkeyed)} chains are of before there was a key: who could write the"
                " database could have made them up"
            )
        for head, source in self.wanted:
            if head not in absent or self._is_pruned(head):
                continue
            place = head.rpartition(":")[0]
            lost = self._lost_by_restore(head, source)
            if lost is None:
                self.problems.append(f"{place}: missing or changed, known from {source}")
            else:
                self.notes.append(f"{place}: {lost}")
        return Verification(
            self.writers,
            self.events,
            tuple(self.problems),
            max(self.pruned_before, default=None),
            tuple(dict.fromkeys(self.notes)),
        )

    def _begin(self) -> None:
        named = key_id(self.writer)
        if named and named not in self.keys:
            self.problems.append(
                f"{self.writer}: chained under a key that is unknown here: another"
                " GATEWAY_KEY_SECRET, or it was made up"
            )

    def _take_remainder(self, row: Row, cut: Cut) -> None:
        """A row that a pruning has yet to take.  It takes the oldest first, so what is left
        follows each other up to the cut.  The first of them hangs on nothing: it is as old as
        those that went, or else somebody put it there."""
        before, position = self.remainder, int(row["position"])
        if before is not None:
            good = position == before["position"] + 1 and is_ours(self.keys, before["hash"], row)
        elif position == self.position + 1:
            good = is_ours(self.keys, self.hash, row)
        else:
            good = row["at_ms"] < cut.before_ms and line_time_ms(row["line"]) == row["at_ms"]
        if not good or (position == cut.position and row["hash"] != cut.hash):
            self.problems.append(
                f"{self.writer}:{position}: the row was changed, or put where rows were pruned"
            )
        self.remainder = row

    def _end_remainder(self) -> None:
        last, self.remainder = self.remainder, None
        cut = self.known.get(self.writer)
        if last is not None and cut is not None and last["position"] != cut.position:
            self.problems.append(
                f"{self.writer}:{last['position']}: what follows was pruned, and this was not"
            )

    def _believe(self, row: Row) -> None:
        if key_id(self.writer):
            self.restored += explanations_in(row, RESTORED)
        for pruning in explanations_in(row, PRUNED):
            self.pruned_before.append(str(pruning.detail.get("before", "")))

    def _judge(self, row: Row) -> bool:
        """Whether the row is proven to be as its writer wrote it."""
        place = f"{row['writer']}:{row['position']}"
        key = self.keys.get(key_id(self.writer))
        if row["position"] != self.position + 1:
            last_ms = self.last_ms.get(self.writer, 0)
            self.gaps.append(_Gap(place, self.position, last_ms, int(row["at_ms"])))
        elif key is None and key_id(self.writer):
            pass  # a problem once, where the chain begins
        elif row_hash(key, self.hash, row) != row["hash"]:
            self.problems.append(f"{place}: the row was changed")
        elif line_time_ms(row["line"]) != row["at_ms"]:
            self.problems.append(f"{place}: the time of the row was changed")
        else:
            return True
        return False

    def _is_pruned(self, head: str) -> bool:
        """Whether the row went with those that were too old; its hash is known of the last
        alone."""
        named = _HEAD.fullmatch(head)
        if named is None:
            return False  # no row is called so
        writer, position, digest = named.groups()
        cut = self.known.get(writer)
        if cut is None or int(position) > cut.position:
            return False
        return int(position) < cut.position or digest == cut.hash

    def _lost_by_restore(self, head: str, source: str) -> str | None:
        """Why the end of a chain may be missing: a backup of before it was restored into a
        database that had lost it.  What was there up to the backup must be there, and so must
        what a chain names that began after the restore: it has seen it."""
        last_ms = self.last_ms.get(head.rsplit(":", 2)[0])
        for times in self._restores():
            if self.began_ms.get(source, 0) > times["restored_at_ms"]:
                continue
            if last_ms is None or last_ms <= times["backup_at_ms"]:
                return _lost(times)
        return None

    def _gap_by_restore(self, gap: _Gap) -> str | None:
        """As `_lost_by_restore`, of a writer that ran on through the restore."""
        for times in self._restores():
            ran_on = gap.at_ms >= times["restored_at_ms"] - _AT_ONCE_MS
            if gap.last_ms <= times["backup_at_ms"] and ran_on:
                return _lost(times)
        return None

    def _restores(self) -> list[Mapping[str, int]]:
        """Of chains under a key of ours: nobody else can explain away what is missing."""
        return [
            {name: int(restore.detail[name]) for name in _RESTORE_TIMES}
            for restore in self.restored
            if key_id(restore.writer) in self.keys
            and restore.detail.get("lost_rows")
            and all(isinstance(restore.detail.get(name), int) for name in _RESTORE_TIMES)
        ]


_RESTORE_TIMES = ("backup_at_ms", "restored_at_ms")


_AT_ONCE_MS = 60_000
"""What a writer had queued while the restore ran bears an earlier time than the restore."""


def _lost(times: Mapping[str, int]) -> str:
    return (
        f"lost with the database; the backup of {_shown(times['backup_at_ms'])} was restored"
        f" at {_shown(times['restored_at_ms'])}"
    )


def _shown(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
