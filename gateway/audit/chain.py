"""The hash chains of the audit log, which make an edit of a row visible.

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
from datetime import datetime
from typing import Any

from gateway.stores.protocols import Row, Transaction

GENESIS = "0" * 64
PRUNER = "prune-"
"""The prefix of a writer that records what is pruned; see `audit.pruning`."""
PRUNED = "pruned"
RESTORED = "restored"
"""The names of the two events that explain why rows are missing."""
_CUT = re.compile(r"([^:]+):([0-9]{1,18}):([0-9a-f]{64})")


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
class Cut:
    """The last row of a chain that was pruned."""

    position: int
    hash: str
    before_ms: int = field(default=0, compare=False)
    """What went is older than this."""


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
    rows = await pruner_rows(tx)
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
                explanations += explanations_in(row, PRUNED)
            before = Cut(int(row["position"]), str(row["hash"]))
        known = cuts_of(explanations)
    return known


def is_ours(keys: Mapping[str, ChainKey], before: str, row: Row) -> bool:
    """Whether the row is as its writer wrote it, its time too; `before` is the hash of the row
    before it.  `keys` by their id."""
    named = key_id(str(row["writer"]))
    if named and named not in keys:
        return False
    return bool(row_hash(keys.get(named), before, row) == row["hash"]) and (
        line_time_ms(str(row["line"])) == row["at_ms"]
    )


def heads_in(line: str) -> list[str]:
    """The heads of other chains that the first row of a chain lists."""
    try:
        listed = json.loads(line)["detail"]["heads"]
    except (ValueError, KeyError, TypeError):
        return []
    return [head for head in listed if isinstance(head, str)]


@dataclass(slots=True)
class GapExplanation:
    """The detail of an event that explains missing rows, and who wrote it."""

    writer: str
    detail: Mapping[str, Any]


def key_id(writer: str) -> str:
    """Which key a chain is under; empty for the chains of before there was one."""
    name, dot, key = writer.rpartition(".")
    return key if dot and name else ""


def _joined(before: str, writer: str, position: int, line: str) -> bytes:
    """Each part is preceded by its length: no two rows read the same."""
    parts = [part.encode() for part in (before, writer, str(position), line)]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def row_hash(key: ChainKey | None, before: str, row: Row) -> str:
    """The hash that the row must have behind `before`; a plain one where its chain has no key."""
    writer, position, line = str(row["writer"]), int(row["position"]), str(row["line"])
    if key is not None:
        return key.chained(before, writer, position, line)
    return hashlib.sha256(_joined(before, writer, position, line)).hexdigest()


async def pruner_rows(tx: Transaction) -> list[Row]:
    """The rows of every pruner's chain, which an index finds by the writer's name."""
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


def explanations_in(row: Row, event: str) -> list[GapExplanation]:
    """What the row explains, where it holds that event."""
    parsed = _parsed(str(row["line"]))
    detail = parsed.get("detail", {})
    if parsed.get("event") != event or not isinstance(detail, dict):
        return []
    return [GapExplanation(str(row["writer"]), detail)]


def _parsed(line: str) -> Mapping[str, Any]:
    """Empty where it is no line of ours: anything can stand in a row that somebody else wrote."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def cuts_of(prunings: Iterable[GapExplanation]) -> dict[str, Cut]:
    """By writer, the furthest cut that these events record."""
    furthest: dict[str, Cut] = {}
    for pruning in prunings:
        before_ms = _before_ms(pruning)
        texts = pruning.detail.get("cuts", ())
        for text in texts if isinstance(texts, list) else ():
            if not (fields := _CUT.fullmatch(str(text))):
                continue
            writer, position, digest = fields.groups()
            if key_id(writer) and not key_id(pruning.writer):
                continue  # a chain without a key proves nothing of one with a key
            if writer not in furthest or furthest[writer].position < int(position):
                furthest[writer] = Cut(int(position), digest, before_ms)
    return furthest


def _before_ms(pruning: GapExplanation) -> int:
    """It is told to the second, so a second is added; 0 where it tells no time."""
    try:
        return milliseconds(str(pruning.detail.get("before"))) + 1_000
    except ValueError:
        return 0


def line_time_ms(line: str) -> int | None:
    """The time of the event on the line; None where it holds none."""
    try:
        return milliseconds(_parsed(line)["at"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def milliseconds(when: str) -> int:
    """Milliseconds since the epoch, of a time as `audit.log` writes it."""
    return round(datetime.fromisoformat(when).timestamp() * 1000)
