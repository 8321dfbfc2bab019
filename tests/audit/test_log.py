from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.chain import ChainKey, heads
from gateway.audit.log import OTHERS, AuditEvent, AuditKind, AuditLog, newest
from gateway.audit.verification import Verification, verify
from gateway.model import Reason
from gateway.stores.protocols import Database, StoreUnavailable, Transaction
from tests.databases import Hands, fresh_database

PSEUDONYM_KEY, CHAIN_KEY = b"a" * 32, b"c" * 32
KEY = ChainKey(CHAIN_KEY)
W0, W1, W2 = (KEY.writer(name) for name in ("w0", "w1", "w2"))


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


class Failing:
    """A database that is away, or whose answer to a commit is lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.away = False
        self.lose_commits = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        if self.away:
            raise StoreUnavailable("sql")
        async with self._database.transaction() as tx:
            yield tx
        if self.lose_commits:
            self.lose_commits -= 1
            raise StoreUnavailable("sql", "the answer was lost")

    def migration_transaction(self, wait_s: float) -> AbstractAsyncContextManager[Transaction]:
        return self._database.migration_transaction(wait_s)

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        if self.away:
            raise StoreUnavailable("sql")
        async with self._database.read_transaction() as tx:
            yield tx

    async def close(self) -> None:
        await self._database.close()


def writer(database: Database, clock: Hands, name: str = "w1", **more: Any) -> AuditLog:
    return AuditLog(database, clock, PSEUDONYM_KEY, CHAIN_KEY, writer=name, **more)


async def written(database: Database, clock: Hands, name: str, count: int) -> AuditLog:
    audit = writer(database, clock, name)
    for number in range(count):
        audit.record(AuditEvent(AuditKind.SIGNED_IN, subject=f"s{number}"))
    await audit.flush()
    return audit


async def events(database: Database) -> list[dict[str, object]]:
    async with database.read_transaction() as tx:
        return await newest(tx, 10_000)


async def change(database: Database, sql: str) -> None:
    async with database.transaction() as tx:
        assert await tx.run(sql) > 0


async def test_the_start_of_a_writer_is_shown_before_what_it_was_told_first(
    database: Database, clock: Hands
) -> None:
    audit = writer(database, clock)
    audit.record(AuditEvent(AuditKind.SIGNED_IN, subject="u1"))
    clock.move(3)
    await audit.flush()
    assert [event["event"] for event in await events(database)] == ["writer_started", "signed_in"]


class Earlier(StrEnum):
    EMAIL_VERIFIED = "address_verified"
    EMAIL_CHANGED = "address_changed"
    PASSWORD_RESET_REQUESTED = "password_reset_asked"


async def test_events_that_an_earlier_version_named_otherwise_are_read_and_verify(
    database: Database, clock: Hands
) -> None:
    audit = writer(database, clock)
    for kind in Earlier:
        audit.record(AuditEvent(kind, subject="u1"))  # type: ignore[arg-type]
    await audit.flush()
    await written(database, clock, "w2", 1)
    assert set(Earlier) <= {event["event"] for event in await events(database)}
    assert (await verify(database, [KEY])).problems == ()


async def test_an_event_says_when_who_what_from_where_and_how_it_ended(
    database: Database, clock: Hands
) -> None:
    audit = writer(database, clock)
    audit.record(
        AuditEvent(
            AuditKind.SIGN_IN_FAILED,
            result=Reason.INVALID_CREDENTIALS,
            subject="u1",
            actor="u2",
            address="192.0.2.1",
            request_id="r1",
            detail={"amr": ["pwd"]},
        )
    )
    await audit.flush()
    started, failed = await events(database)
    assert started["event"] == "writer_started"
    assert {k: v for k, v in failed.items() if k != "hash"} == {
        "at": "2027-01-15T08:00:00.000+00:00",
        "event": "sign_in_failed",
        "result": "invalid_credentials",
        "subject": "u1",
        "actor": "u2",
        "address": "192.0.2.1",
        "request_id": "r1",
        "detail": {"amr": ["pwd"]},
        "writer": W1,
        "position": 2,
    }


async def test_the_chains_of_several_writers_verify(database: Database, clock: Hands) -> None:
    for name in ("w1", "w2", "w3"):
        await written(database, clock, name, 3)
    assert await verify(database, [KEY]) == Verification(3, 12, ())


async def test_an_empty_log_verifies(database: Database) -> None:
    assert await verify(database, [KEY]) == Verification(0, 0, ())


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        (
            "UPDATE audit_events SET line = replace(line, 's1', 's9') WHERE position = 3",
            f"{W1}:3: the row was changed",
        ),
        (
            "UPDATE audit_events SET at_ms = at_ms + 1 WHERE position = 3",
            f"{W1}:3: the time of the row",
        ),
        ("DELETE FROM audit_events WHERE position = 3", f"{W1}:4: the rows after 2 are missing"),
        ("DELETE FROM audit_events WHERE position = 1", f"{W1}:2: the rows after 0 are missing"),
        (
            "UPDATE audit_events SET hash = '00' WHERE position = 2",
            f"{W1}:2: the row was changed",
        ),
        (
            f"UPDATE audit_events SET writer = '{W0}' WHERE writer = '{W1}'",
            f"{W0}:1: the row was changed",
        ),
    ],
)
async def test_an_edit_or_a_gap_is_found_where_it_is(
    database: Database, clock: Hands, sql: str, problem: str
) -> None:
    await written(database, clock, "w1", 5)
    await change(database, sql)
    assert any(problem in found for found in (await verify(database, [KEY])).problems)


async def test_a_tail_that_was_cut_is_found_by_a_head_of_the_ordinary_log(
    database: Database, clock: Hands
) -> None:
    await written(database, clock, "w1", 5)
    async with database.read_transaction() as tx:
        known = tuple(await heads(tx, 10))
    assert (await verify(database, [KEY], known)).problems == ()
    await change(database, "DELETE FROM audit_events WHERE position > 4")
    assert (await verify(database, [KEY])).problems == ()
    (problem,) = (await verify(database, [KEY], known)).problems
    assert problem == f"{W1}:6: missing or changed, known from the given heads"


async def test_a_whole_chain_that_vanished_is_found_by_the_one_that_began_after_it(
    database: Database, clock: Hands
) -> None:
    await written(database, clock, "w1", 3)
    clock.move(5)
    await written(database, clock, "w2", 3)
    await change(database, f"DELETE FROM audit_events WHERE writer = '{W1}'")
    assert (await verify(database, [KEY])).problems == (
        f"{W1}:4: missing or changed, known from {W2}",
    )


async def test_a_chain_rewritten_whole_is_found_by_the_one_that_began_after_it(
    database: Database, clock: Hands
) -> None:
    await written(database, clock, "w1", 3)
    clock.move(5)
    await written(database, clock, "w2", 3)
    await change(database, f"DELETE FROM audit_events WHERE writer = '{W1}'")
    await written(database, clock, "w1", 3)
    assert any(
        f"known from {W2}" in problem for problem in (await verify(database, [KEY])).problems
    )


async def test_recording_never_waits_and_what_finds_no_room_is_told_in_the_log(
    database: Database, clock: Hands
) -> None:
    audit = writer(database, clock, queue=10)
    for number in range(25):
        audit.record(AuditEvent(AuditKind.SIGNED_IN, subject=f"s{number}"))
    assert audit.dropped.n == 15
    await audit.flush()
    found = await events(database)
    assert [e["event"] for e in found].count("signed_in") == 10
    (told,) = [e for e in found if e["event"] == "dropped"]
    assert told["detail"] == {"count": 15}
    assert (await verify(database, [KEY])).problems == ()


async def test_a_store_that_is_away_delays_the_log_and_loses_nothing(
    database: Database, clock: Hands
) -> None:
    failing = Failing(database)
    audit = writer(failing, clock)
    failing.away = True
    audit.record(AuditEvent(AuditKind.SIGNED_IN, subject="s1"))
    with pytest.raises(StoreUnavailable):
        await audit.flush()
    failing.away = False
    await audit.flush()
    assert len(await events(database)) == 2
    assert (await verify(database, [KEY])).problems == ()


async def test_a_commit_whose_answer_was_lost_is_not_written_twice(
    database: Database, clock: Hands
) -> None:
    failing = Failing(database)
    audit = writer(failing, clock)
    audit.record(AuditEvent(AuditKind.SIGNED_IN, subject="s1"))
    failing.lose_commits = 1
    with pytest.raises(StoreUnavailable):
        await audit.flush()
    audit.record(AuditEvent(AuditKind.SIGNED_IN, subject="s2"))
    await audit.flush()
    assert [e.get("subject") for e in await events(database)] == [None, "s1", "s2"]
    assert (await verify(database, [KEY])).problems == ()


async def test_closing_without_the_store_counts_what_is_lost(
    database: Database, clock: Hands
) -> None:
    failing = Failing(database)
    audit = writer(failing, clock)
    audit.record(AuditEvent(AuditKind.SIGNED_IN, subject="s1"))
    failing.away = True
    await audit.close()
    assert audit.dropped.n == 1


async def test_denials_cost_a_row_for_each_kind_and_not_for_each_call(
    database: Database, clock: Hands
) -> None:
    audit = writer(database, clock)
    for _ in range(5_000):
        audit.denied("no_rule", "orders.read", "u1")
        audit.denied("no_credential", "orders.read", None)
    await audit.close()
    counted = [e for e in await events(database) if e["event"] == "denied"]
    assert sorted(
        (e["result"], e.get("subject"), json.dumps(e["detail"])) for e in counted
    ) == [
        ("no_credential", None, '{"route": "orders.read", "count": 5000}'),
        ("no_rule", "u1", '{"route": "orders.read", "count": 5000}'),
    ]  # fmt: skip


async def test_a_crowd_of_subjects_is_counted_together(database: Database, clock: Hands) -> None:
    audit = writer(database, clock)
    for number in range(3_000):
        audit.denied("no_rule", "orders.read", f"u{number}")
    await audit.close()
    counted = [e for e in await events(database) if e["event"] == "denied"]
    assert len(counted) == 1_001
    (others,) = [e for e in counted if e["subject"] == OTHERS]
    assert others["detail"] == {"route": "orders.read", "count": 2_000}


async def test_denials_are_written_each_minute(database: Database, clock: Hands) -> None:
    audit = writer(database, clock)
    audit.denied("no_rule", "r", "u1")
    clock.move(0)
    running = asyncio.create_task(audit.run())
    try:
        await asyncio.sleep(0)
        clock.move(61)
        async with asyncio.timeout(10):
            while not await events(database):
                audit._woken.set()
                await asyncio.sleep(0)
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert [e["event"] for e in await events(database)] == ["writer_started", "denied"]


async def test_text_of_a_stranger_cannot_end_a_line_and_is_cut(
    database: Database, clock: Hands
) -> None:
    audit = writer(database, clock)
    audit.record(AuditEvent(AuditKind.SIGN_IN_FAILED, subject='a\r\n{"event": "x"}' + "é" * 999))
    await audit.flush()
    async with database.read_transaction() as tx:
        rows = await tx.all("SELECT line FROM audit_events")
    assert all(len(row["line"].splitlines()) == 1 for row in rows)
    assert len(str((await events(database))[1]["subject"])) == 256


def test_an_unknown_address_is_written_as_a_keyed_hash(tmp_path: Path) -> None:
    clock = Hands()
    one = AuditLog(None, clock, PSEUDONYM_KEY, CHAIN_KEY)  # type: ignore[arg-type]
    other = AuditLog(None, clock, b"b" * 32, CHAIN_KEY)  # type: ignore[arg-type]
    assert one.pseudonym("x@y.example") == one.pseudonym("x@y.example")
    assert one.pseudonym("x@y.example") != other.pseudonym("x@y.example")
    assert "x@" not in one.pseudonym("x@y.example")


async def test_a_time_just_before_a_second_is_no_edit(database: Database, clock: Hands) -> None:
    clock.move(0.9999999)
    await written(database, clock, "w1", 1)
    assert (await verify(database, [KEY])).problems == ()


def test_no_two_rows_read_the_same_to_the_hash() -> None:
    one = KEY.chained("0", "w", 1, "1line")
    assert one != KEY.chained("0", "w1", 1, "line")
    assert one != KEY.chained("0", "w", 11, "line")
    assert one != KEY.chained("0w", "", 1, "1line")


async def test_a_restore_explains_no_chain_away_that_one_has_seen_since(
    database: Database, clock: Hands
) -> None:
    told = writer(database, clock, "restorer")
    now_ms = int(clock.now() * 1000)
    detail = {"backup_at_ms": now_ms - 9_000, "restored_at_ms": now_ms, "lost_rows": True}
    told.record(AuditEvent(AuditKind.RESTORED, detail=detail))
    await told.flush()
    clock.move(60)
    await written(database, clock, "w1", 3)
    clock.move(60)
    await written(database, clock, "w2", 3)
    await change(database, f"DELETE FROM audit_events WHERE writer = '{W1}'")
    found = await verify(database, [KEY])
    assert found.problems == (f"{W1}:4: missing or changed, known from {W2}",)
