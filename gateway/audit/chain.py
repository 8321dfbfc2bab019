"""The chains of the audit log: what makes an edit seen, and what checks that there was none.

Law: a row's hash is an HMAC over the row before it, its writer, its position and its line, under
a key that is not in the database.  Whoever can write rows can neither change one unseen nor make
up a chain: not one that tells of a pruning, either.  Rows of before there was a key (their writer
bears no key's name) are checked as far as a plain hash can, and believed of nothing but
themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.stores.protocols import Database, Row, Transaction

GENESIS = "0" * 64
PRUNER = "prune-"
"""The prefix of a writer that records what is pruned; see `audit.pruning`."""
PRUNED = "pruned"
RESTORED = "restored"
"""The names of the two events that explain why rows are missing."""


class ChainKey:
    """32 bytes, `derived_key(secret, KeyPurpose.AUDIT_CHAIN)`."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.id = hmac.digest(key, b"authgate audit chain key", hashlib.sha256).hex()[:8]
        """Says which key it is, and nothing of it."""

    def writer(self, name: str) -> str:
        """The name of a chain under this key."""
        return f"{name}.{self.id}"

    def chained(self, before: str, writer: str, position: int, line: str) -> str:
        """HMAC-SHA256 in hex (RFC 2104)."""
        return hmac.digest(self._key, _joined(before, writer, position, line), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Verification:
    """What `gateway audit verify` says."""

    writers: int
    events: int
    problems: tuple[str, ...]
    pruned_before: str | None = None
    """Before when rows were taken away as too old; None where none were."""
    notes: tuple[str, ...] = ()
    """What is missing and explained, or present and not proven: no reason for alarm."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The last row of a chain that was pruned."""

    position: int
    hash: str


async def heads(tx: Transaction, limit: int) -> list[str]:
    """`writer:position:hash` of the chains that began last; two look-ups in an index for each,
    however long the log is."""
    chains = await tx.all(
        "SELECT writer FROM audit_events WHERE position = 1"
        " ORDER BY at_ms DESC, writer LIMIT :limit",
        limit=limit,
    )
    newest = []
    for row in chains:
        head = await tx.one(
            "SELECT position, hash FROM audit_events WHERE writer = :writer"
            " ORDER BY position DESC LIMIT 1",
            writer=row["writer"],
        )
        if head is not None:
            newest.append(f"{row['writer']}:{head['position']}:{head['hash']}")
    return newest


async def cuts(tx: Transaction, keys: Mapping[str, ChainKey]) -> dict[str, Cut]:
    """By writer, how far its chain was pruned, as those rows of the pruners say that are ours: a
    new record must not make true what somebody else has put there."""
    rows = await _pruners(tx)
    known: dict[str, Cut] = {}
    for _ in range(2):  # the second time with the cuts of the pruners' own chains
        explanations, before = [], Cut(0, GENESIS)
        writer = ""
        for row in rows:
            if row["writer"] != writer:
                writer, before = str(row["writer"]), Cut(0, GENESIS)
            if row["position"] != before.position + 1:
                before = known.get(writer, before)
            if row["position"] == before.position + 1 and is_ours(keys, before.hash, row):
                explanations += _explanations(row, PRUNED)
            before = Cut(int(row["position"]), str(row["hash"]))
        known = _cuts(explanations)
    return known


def is_ours(keys: Mapping[str, ChainKey], before: str, row: Row) -> bool:
    """Whether the row is as its writer wrote it, its time too; `before` is the hash of the row
    before it.  `keys` by their id."""
    named = key_id(str(row["writer"]))
    if named and named not in keys:
        return False
    return bool(_hash(keys.get(named), before, row) == row["hash"]) and (
        _at_ms_of(str(row["line"])) == row["at_ms"]
    )


def heads_in(line: str) -> list[str]:
    """The heads that the first row of a chain tells of."""
    try:
        listed = json.loads(line)["detail"]["heads"]
    except (ValueError, KeyError, TypeError):
        return []
    return [head for head in listed if isinstance(head, str)]


async def verify(
    database: Database, keys: Iterable[ChainKey], expected_heads: tuple[str, ...] = ()
) -> Verification:
    """Reads the whole log and checks every chain, every head that a chain names, and
    `expected_heads` (`writer:position:hash`, as the ordinary log has them).  `keys`: the key of
    now, and those of secrets that were in use before."""
    async with database.read_transaction() as tx:
        pruned, restored = await _pruned(tx), await _restored(tx)
    check = _Check({key.id: key for key in keys}, pruned, restored)
    check.wanted += [(head, "the given heads") for head in expected_heads]
    writer, position = "", 0
    while True:
        async with database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT writer, position, at_ms, line, hash FROM audit_events"
                " WHERE writer > :writer OR (writer = :writer AND position > :position)"
                " ORDER BY writer, position LIMIT 1000",
                writer=writer,
                position=position,
            )
        if not rows:
            return check.verdict()
        for row in rows:
            check.take(row)
        writer, position = str(rows[-1]["writer"]), int(rows[-1]["position"])


@dataclass(slots=True)
class _Explanation:
    """The detail of an event that explains missing rows, and who wrote it."""

    writer: str
    detail: Mapping[str, Any]


@dataclass(slots=True)
class _Check:
    """Takes every row, ordered by writer and position."""

    keys: Mapping[str, ChainKey]
    pruned: list[_Explanation]
    restored: list[_Explanation]
    wanted: list[tuple[str, str]] = field(default_factory=list)
    """Heads that must be there, and who says so."""
    known: Mapping[str, Cut] = field(init=False)
    writers: int = 0
    events: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unkeyed: dict[str, int] = field(default_factory=dict)
    """The newest time of each chain without a key."""
    first_keyed_ms: int | None = None
    present: set[str] = field(default_factory=set)
    last_ms: dict[str, int] = field(default_factory=dict)
    """When the last row of each chain was written."""
    began_ms: dict[str, int] = field(default_factory=dict)
    """When the first row of each chain was written."""
    writer: str = ""
    position: int = 0
    hash: str = GENESIS

    def __post_init__(self) -> None:
        self.known = _cuts(
            pruning for pruning in self.pruned if key_id(pruning.writer) in {"", *self.keys}
        )

    def take(self, row: Row) -> None:
        if row["writer"] != self.writer:
            self.writer, self.position, self.hash = str(row["writer"]), 0, GENESIS
            self.writers += 1
            self._begin()
        self.events += 1
        position = int(row["position"])
        cut = self.known.get(self.writer)
        if cut is not None and self.position < cut.position and position != 1:
            if position < cut.position:
                return  # it is on its way out: the row before it may be gone
            if position == cut.position:
                if row["hash"] != cut.hash:
                    self.problems.append(f"{self.writer}:{cut.position}: the row was changed")
                return
            self.position, self.hash = cut.position, cut.hash
        self._judge(row)
        # From here on as the row says: one edit is one problem, not one for each row.
        self.position, self.hash = position, str(row["hash"])
        self.last_ms[self.writer] = int(row["at_ms"])
        if key_id(self.writer):
            if self.first_keyed_ms is None or row["at_ms"] < self.first_keyed_ms:
                self.first_keyed_ms = int(row["at_ms"])
        else:
            newest_ms = max(self.unkeyed.get(self.writer, 0), int(row["at_ms"]))
            self.unkeyed[self.writer] = newest_ms
        self.present.add(f"{self.writer}:{position}:{self.hash}")
        if position == 1:
            self.began_ms[self.writer] = int(row["at_ms"])
            self.wanted += [(head, self.writer) for head in heads_in(row["line"])]

    def verdict(self) -> Verification:
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
            if head in self.present or self._is_pruned(head):
                continue
            place = head.rpartition(":")[0]
            lost = self._lost_by_restore(head, source)
            if lost is None:
                self.problems.append(f"{place}: missing or changed, known from {source}")
            else:
                self.notes.append(f"{place}: {lost}")
        before = [str(pruning.detail.get("before", "")) for pruning in self.pruned]
        return Verification(
            self.writers,
            self.events,
            tuple(self.problems),
            max(before, default=None),
            tuple(dict.fromkeys(self.notes)),
        )

    def _begin(self) -> None:
        named = key_id(self.writer)
        if named and named not in self.keys:
            self.problems.append(
                f"{self.writer}: chained under a key that is unknown here: another"
                " GATEWAY_KEY_SECRET, or it was made up"
            )

    def _judge(self, row: Row) -> None:
        place = f"{row['writer']}:{row['position']}"
        key = self.keys.get(key_id(self.writer))
        if row["position"] != self.position + 1:
            lost = self._gap_by_restore(int(row["at_ms"]))
            if lost is None:
                self.problems.append(f"{place}: the rows after {self.position} are missing")
            else:
                self.notes.append(f"{place}: the rows after {self.position}: {lost}")
        elif key is None and key_id(self.writer):
            pass  # a problem once, where the chain begins
        elif _hash(key, self.hash, row) != row["hash"]:
            self.problems.append(f"{place}: the row was changed")
        elif _at_ms_of(row["line"]) != row["at_ms"]:
            self.problems.append(f"{place}: the time of the row was changed")

    def _is_pruned(self, head: str) -> bool:
        """Whether the row went with those that were too old; its hash is known of the last
        alone."""
        writer, position, digest = head.rsplit(":", 2)
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

    def _gap_by_restore(self, at_ms: int) -> str | None:
        """As `_lost_by_restore`, of a writer that ran on through the restore."""
        before_ms = self.last_ms.get(self.writer, 0)
        for times in self._restores():
            if before_ms <= times["backup_at_ms"] and (
                at_ms >= times["restored_at_ms"] - _AT_ONCE_MS
            ):
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


_CUT = re.compile(r"([^:]+):([0-9]{1,18}):([0-9a-f]{64})")
_RESTORE_TIMES = ("backup_at_ms", "restored_at_ms")
_AT_ONCE_MS = 60_000
"""What a writer had queued while the restore ran bears an earlier time than the restore."""


def key_id(writer: str) -> str:
    """Which key a chain is under; empty for the chains of before there was one."""
    name, dot, key = writer.rpartition(".")
    return key if dot and name else ""


def _joined(before: str, writer: str, position: int, line: str) -> bytes:
    """Each part is preceded by its length: no two rows read the same."""
    parts = [part.encode() for part in (before, writer, str(position), line)]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _hash(key: ChainKey | None, before: str, row: Row) -> str:
    writer, position, line = str(row["writer"]), int(row["position"]), str(row["line"])
    if key is not None:
        return key.chained(before, writer, position, line)
    return hashlib.sha256(_joined(before, writer, position, line)).hexdigest()


async def _pruned(tx: Transaction) -> list[_Explanation]:
    """What every pruner wrote, ours or not."""
    rows = await _pruners(tx)
    return [explanation for row in rows for explanation in _explanations(row, PRUNED)]


async def _pruners(tx: Transaction) -> list[Row]:
    """The rows of their chains, which are found by name, in an index."""
    chains = await tx.all(
        "SELECT writer FROM audit_events WHERE position = 1 AND writer LIKE :named",
        named=PRUNER + "%",
    )
    rows: list[Row] = []
    for chain in chains:
        rows += await tx.all(
            "SELECT writer, position, at_ms, line, hash FROM audit_events"
            " WHERE writer = :writer ORDER BY position",
            writer=chain["writer"],
        )
    return rows


async def _restored(tx: Transaction) -> list[_Explanation]:
    rows = await tx.all(
        "SELECT writer, line FROM audit_events WHERE line LIKE :event ORDER BY writer, position",
        event=f'%"event":"{RESTORED}"%',
    )
    return [explanation for row in rows for explanation in _explanations(row, RESTORED)]


def _explanations(row: Row, event: str) -> list[_Explanation]:
    parsed = _parsed(str(row["line"]))
    detail = parsed.get("detail", {})
    if parsed.get("event") != event or not isinstance(detail, dict):
        return []
    return [_Explanation(str(row["writer"]), detail)]


def _parsed(line: str) -> Mapping[str, Any]:
    """Empty where it is no line of ours: anything can stand in a row that somebody else wrote."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _cuts(prunings: Iterable[_Explanation]) -> dict[str, Cut]:
    furthest: dict[str, Cut] = {}
    for pruning in prunings:
        texts = pruning.detail.get("cuts", ())
        for text in texts if isinstance(texts, list) else ():
            if not (fields := _CUT.fullmatch(str(text))):
                continue
            writer, position, digest = fields.groups()
            if key_id(writer) and not key_id(pruning.writer):
                continue  # a chain without a key proves nothing of one with a key
            if writer not in furthest or furthest[writer].position < int(position):
                furthest[writer] = Cut(int(position), digest)
    return furthest


def _lost(times: Mapping[str, int]) -> str:
    return (
        f"lost with the database; the backup of {_shown(times['backup_at_ms'])} was restored"
        f" at {_shown(times['restored_at_ms'])}"
    )


def _at_ms_of(line: str) -> int | None:
    """None where the line tells no time."""
    try:
        return milliseconds(_parsed(line)["at"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def milliseconds(when: str) -> int:
    """Of a time as `line_of` writes it."""
    return round(datetime.fromisoformat(when).timestamp() * 1000)


def _shown(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
