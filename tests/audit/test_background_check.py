"""The chains checked beside the traffic, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.audit.background_check import BackgroundCheck, CheckState
from gateway.audit.chain import ChainKey
from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.stores.protocols import Database
from tests.databases import Hands

KEY = b"c" * 32


@pytest.fixture
async def check(database: Database) -> AsyncIterator[BackgroundCheck]:
    async def keys() -> list[ChainKey]:
        return [ChainKey(KEY)]

    made = BackgroundCheck(database, Hands(), keys)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def written(database: Database, count: int) -> None:
    log = AuditLog(database, Hands(), b"p" * 32, KEY, writer="w")
    for number in range(count):
        log.record(AuditEvent(AuditKind.SIGNED_IN, subject=f"u{number}"))
    await log.flush()


async def ended(check: BackgroundCheck) -> CheckState:
    async with asyncio.timeout(10):
        while True:
            state = await check.state()
            if state is not None and state.ended_at is not None:
                return state
            await asyncio.sleep(0.01)


async def test_a_log_that_nobody_changed_is_found_whole(
    check: BackgroundCheck, database: Database
) -> None:
    await written(database, 450)
    assert await check.state() is None
    assert await check.begin()
    state = await ended(check)
    assert (state.events, state.writers, state.problem_count) == (451, 1, 0)


async def test_what_was_changed_is_told(check: BackgroundCheck, database: Database) -> None:
    await written(database, 10)
    async with database.transaction() as tx:
        await tx.run("UPDATE audit_events SET line = '{}' WHERE position = 5")
    assert await check.begin()
    state = await ended(check)
    assert state.problem_count == 1
    assert "the row was changed" in state.problems[0]


async def test_one_runs_at_a_time_and_one_that_is_lost_may_be_begun_anew(
    database: Database,
) -> None:
    async def keys() -> list[ChainKey]:
        return []

    clock = Hands()
    one, other = [BackgroundCheck(database, clock, keys) for _ in range(2)]
    assert await one.begin()
    assert not await other.begin()
    state = await other.state()
    assert state is not None
    assert state.is_running(clock.now())
    clock.move(60)  # its worker was killed
    assert not state.is_running(clock.now())
    assert await other.begin()


async def test_a_head_that_is_none_is_a_problem_and_stops_nothing(
    check: BackgroundCheck, database: Database
) -> None:
    await written(database, 1)
    line = (
        '{"at":"2027-01-15T08:00:00.000+00:00","event":"x","result":"ok","detail":{"heads":["a"]}}'
    )
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
            " VALUES ('made-up', 1, 1, :line, 'h')",
            line=line,
        )
    assert await check.begin()
    state = await ended(check)
    assert any("missing or changed, known from made-up" in text for text in state.problems)
