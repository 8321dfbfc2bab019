"""Events of the audit log by what they say, newest first, each page by an index.

What is searched is the line itself, by indexes over parts of it: nothing beside the line, which
the chain holds, could make an event disappear from a search.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.audit.log import EventPosition
from gateway.stores.protocols import Database, Row, Transaction

# A line is JSON whose first members stand in this order (`log.AuditLog`), without a space.
_TEXT = r'"(?:[^"\\]|\\.)*"'
_THIS = r'"((?:[^"\\]|\\.)*)"'
_EVENT = f'^."at":{_TEXT},"event":'
_RESULT = f'{_EVENT}{_TEXT},"result":{_TEXT}'
_PARTS: Mapping[str, Mapping[str, str]] = {
    "postgresql": {
        "event": f"(substring(line from '{_EVENT}{_THIS}'))",
        "subject": f"""(substring(line from '{_RESULT},"subject":{_THIS}'))""",
        "actor": f"""(substring(line from '{_RESULT}(?:,"subject":{_TEXT})?,"actor":{_THIS}'))""",
    },
    "sqlite": {
        name: f"(CASE WHEN json_valid(line) THEN json_extract(line, '$.{name}') END)"
        for name in ("event", "subject", "actor")
    },
}
"""As the indexes of `0017_console.sql` have them, to the letter."""
_ORDER = "at_ms DESC, writer DESC, position DESC"


@dataclass(frozen=True, slots=True)
class EventFilter:
    event: str = ""
    subject: str = ""
    actor: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    """The first moment that is not meant any more."""


@dataclass(frozen=True, slots=True)
class FoundEvent:
    position: EventPosition
    event: Mapping[str, Any]
    """As `log.event_of` gives it; of a row that somebody has spoilt, what can be told of it."""


async def search(
    database: Database, wanted: EventFilter, before: EventPosition | None, limit: int
) -> list[FoundEvent]:
    """Newest first, those before `before`."""
    async with database.read_transaction() as tx:
        return await search_within(tx, database.dialect, wanted, before, limit)


async def search_within(
    tx: Transaction,
    dialect: str,
    wanted: EventFilter,
    before: EventPosition | None,
    limit: int,
) -> list[FoundEvent]:
    conditions, values = _conditions(dialect, wanted)
    if before is not None:
        conditions.append("(at_ms, writer, position) < (:at, :writer, :position)")
        values |= {"at": before.at_ms, "writer": before.writer, "position": before.position}
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = await tx.all(
        f"SELECT writer, position, at_ms, line, hash FROM audit_events{where}"  # noqa: S608
        f" ORDER BY {_ORDER} LIMIT :limit",
        **values,
        limit=limit,
    )
    return [_found(row) for row in rows]


def _conditions(dialect: str, wanted: EventFilter) -> tuple[list[str], dict[str, Any]]:
    parts, conditions, values = _PARTS[dialect], list[str](), dict[str, Any]()
    # The rarest first; SQLite, which knows no numbers of them, is told by `+` to use no index
    # for the others.
    for name, value in (
        ("subject", wanted.subject),
        ("actor", wanted.actor),
        ("event", wanted.event),
    ):
        if value:
            unused = "+" if conditions and dialect == "sqlite" else ""
            conditions.append(f"{unused}{parts[name]} = :{name}")
            # PostgreSQL's part is cut out of the line as it is written there.
            values[name] = json.dumps(value)[1:-1] if dialect == "postgresql" else value
    if wanted.since_ms is not None:
        conditions.append("at_ms >= :since")
        values["since"] = wanted.since_ms
    if wanted.until_ms is not None:
        conditions.append("at_ms < :until")
        values["until"] = wanted.until_ms
    return conditions, values


def _found(row: Row) -> FoundEvent:
    position = EventPosition(int(row["at_ms"]), str(row["writer"]), int(row["position"]))
    return FoundEvent(position, event_or_spoilt(row))


def event_or_spoilt(row: Row) -> dict[str, Any]:
    beside = {name: row[name] for name in ("writer", "position", "hash")}
    try:
        parsed = json.loads(str(row["line"]))
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        return {"at": "", "event": "unreadable", "result": "unreadable", **beside}
    return {**parsed, **beside}
