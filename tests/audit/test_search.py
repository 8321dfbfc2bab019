"""The audit log searched, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.audit.search import EventFilter, search, search_within
from gateway.stores.protocols import Database
from tests.databases import Hands

STRANGE = 'company:"é\\"/<b>'


async def written(database: Database) -> AuditLog:
    clock = Hands()
    log = AuditLog(database, clock, b"p" * 32, b"c" * 32, writer="w")
    for kind, subject, actor in (
        (AuditKind.SIGNED_IN, "u1", None),
        (AuditKind.ROLE_CHANGED, "u1", "cli:root"),
        (AuditKind.ROLE_CHANGED, "u2", "u1"),
        (AuditKind.SIGNED_IN, STRANGE, None),
        (AuditKind.DENIED, None, None),
    ):
        detail = {"subject": "u1", "note": '"subject":"u1"'} if kind is AuditKind.DENIED else {}
        log.record(AuditEvent(kind, subject=subject, actor=actor, detail=detail))
        clock.move(10)
    await log.flush()
    return log


async def found(database: Database, **wanted: Any) -> list[tuple[str, str | None]]:
    rows = await search(database, EventFilter(**wanted), None, 50)
    return [(one.event["event"], one.event.get("subject")) for one in rows]


async def test_events_are_found_by_what_their_line_says(database: Database) -> None:
    await written(database)
    assert await found(database, event="role_changed") == [
        ("role_changed", "u2"),
        ("role_changed", "u1"),
    ]
    assert await found(database, actor="u1") == [("role_changed", "u2")]
    assert await found(database, subject="u1", event="signed_in") == [("signed_in", "u1")]
    assert await found(database, subject=STRANGE) == [("signed_in", STRANGE)]
    assert await found(database, subject="u1", actor="cli:root") == [("role_changed", "u1")]
    assert await found(database, subject="u3") == []


async def test_a_word_of_the_detail_is_no_subject(database: Database) -> None:
    await written(database)
    assert await found(database, subject="u1") == [("role_changed", "u1"), ("signed_in", "u1")]


async def test_the_newest_come_first_and_a_page_goes_on_behind_the_last(
    database: Database,
) -> None:
    await written(database)
    wanted = EventFilter()
    first = await search(database, wanted, None, 4)
    rest = await search(database, wanted, first[-1].position, 4)
    kinds = " ".join(one.event["event"] for one in (*first, *rest))
    assert kinds == "denied signed_in role_changed role_changed signed_in writer_started"


async def test_a_time_narrows_it(database: Database) -> None:
    await written(database)
    at_ms = (await search(database, EventFilter(subject="u2"), None, 1))[0].position.at_ms
    assert await found(database, since_ms=at_ms, until_ms=at_ms + 1) == [("role_changed", "u2")]


@pytest.mark.parametrize("line", ["{", "[]", "", '"\\u0000', "5"])
async def test_a_row_that_somebody_spoilt_stops_nothing(database: Database, line: str) -> None:
    await written(database)
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
            " VALUES ('x', 1, 9999999999999, :line, 'h')",
            line=line,
        )
    rows = await search(database, EventFilter(), None, 1)
    assert [one.event["event"] for one in rows] == ["unreadable"]
    assert await found(database, subject="u2") == [("role_changed", "u2")]


async def test_each_search_is_served_by_its_index(database: Database) -> None:
    await written(database)
    for name in ("event", "subject", "actor"):
        wanted: dict[str, Any] = {name: "x"}
        plan = await plan_of(database, EventFilter(**wanted))
        kind = {"event": "kind"}.get(name, name)
        assert f"audit_events_by_{kind}" in plan


async def plan_of(database: Database, wanted: EventFilter) -> str:
    """How the store would search."""
    statements: list[tuple[str, dict[str, Any]]] = []

    class Listening:
        async def all(self, sql: str, /, **parameters: Any) -> list[Any]:
            statements.append((sql, parameters))
            return []

    await search_within(Listening(), database.dialect, wanted, None, 50)  # type: ignore[arg-type]
    [(sql, parameters)] = statements
    explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
    async with database.transaction() as tx:
        if database.dialect == "postgresql":
            await tx.run("SET LOCAL enable_seqscan = off")
            await tx.run("SET LOCAL enable_sort = off")
        return str(await tx.all(f"{explain} {sql}", **parameters))
