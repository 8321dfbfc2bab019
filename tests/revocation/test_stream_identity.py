"""Two nodes of one database follow one stream, or confirm nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from gateway.revocation import stream_identity
from gateway.revocation.stream_identity import (
    EXPIRES_AFTER_MS,
    FOLLOWS_WITHIN_MS,
    FORGOTTEN_MS,
    HEARTBEAT_S,
    StreamIdentity,
    another_stream_is_followed,
)
from gateway.stores.protocols import Database
from tests.databases import NOON
from tests.revocation.virtual_time import VirtualClock, virtual_clock

VIRTUAL_TIME = True


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = virtual_clock()
    monkeypatch.setattr(stream_identity, "monotonic", clock.steady)
    return clock


@pytest.fixture
async def database(timeless_database: Database) -> Database:
    return timeless_database


def node(database: Database, incarnation: str, max_staleness_s: float = 5) -> StreamIdentity:
    return StreamIdentity(database, lambda: incarnation, max_staleness_s)


async def heartbeats(clock: VirtualClock, *nodes: StreamIdentity, times: int = 4) -> None:
    for _ in range(times):
        for node in nodes:
            await node.heartbeat()
        clock.move(HEARTBEAT_S)


async def test_nodes_that_follow_one_stream_confirm(
    database: Database, clock: VirtualClock
) -> None:
    one, two = node(database, "a"), node(database, "a")
    await heartbeats(clock, one, two)
    assert not one.differs
    assert not two.differs


async def test_a_name_of_a_stream_may_hold_any_sign(
    database: Database, clock: VirtualClock
) -> None:
    one, two = node(database, "a/b"), node(database, "a/b")
    await heartbeats(clock, one, two)
    assert not one.differs


async def test_nodes_that_follow_two_streams_confirm_nothing_and_say_so_once(
    database: Database, clock: VirtualClock
) -> None:
    one, two = node(database, "a"), node(database, "b")
    with capture_logs() as logs:
        await heartbeats(clock, one, two, times=5)
    assert one.differs
    assert two.differs
    assert [entry["event"] for entry in logs] == ["redis-differs", "redis-differs"]


async def test_two_workers_that_speak_one_after_the_other_hide_no_other_node(
    database: Database, clock: VirtualClock
) -> None:
    here = [node(database, "a"), node(database, "a")]
    there = [node(database, "b"), node(database, "b")]
    await heartbeats(clock, *here, *there)
    assert all(worker.differs for worker in [*here, *there])


async def test_each_of_three_nodes_that_follow_three_streams_sees_it(
    database: Database, clock: VirtualClock
) -> None:
    nodes = [node(database, "a"), node(database, "b"), node(database, "c")]
    for number in range(6):
        await heartbeats(clock, *nodes[number % 3 :], *nodes[: number % 3], times=1)
    assert all(worker.differs for worker in nodes)


async def test_nodes_that_wait_for_different_times_confirm_nothing_and_say_which_setting_it_is(
    database: Database, clock: VirtualClock
) -> None:
    patient, hasty = node(database, "a", 60), node(database, "a", 2)
    with capture_logs() as logs:
        await heartbeats(clock, patient, hasty)
    assert patient.differs
    assert hasty.differs
    assert len(logs) == 2
    assert all("GATEWAY_MAX_STALENESS_S" in entry["effect"] for entry in logs)


async def test_a_row_of_somebody_who_is_long_gone_is_deleted(
    database: Database, clock: VirtualClock
) -> None:
    await node(database, "a").heartbeat()
    clock.move(FORGOTTEN_MS / 1000 + 1)
    await node(database, "b").heartbeat()
    async with database.read_transaction() as tx:
        rows = await tx.all("SELECT name FROM installation WHERE name LIKE 'stream.followed%'")
    assert [row["name"] for row in rows] == ["stream.followed:b/5"]


async def test_a_row_is_kept_for_a_minute_and_renewed_by_whoever_follows(
    database: Database, clock: VirtualClock
) -> None:
    one = node(database, "a", 2.5)
    await one.heartbeat()
    clock.move(1.5)
    await one.heartbeat()
    began_ms = int(clock.now() * 1000)
    clock.move(FORGOTTEN_MS / 1000)
    await node(database, "b").heartbeat()
    async with database.read_transaction() as tx:
        rows = await tx.all("SELECT name, value FROM installation WHERE name LIKE 'stream.f%'")
    assert {row["name"]: row["value"] for row in rows} == {
        "stream.followed:a/2.5": str(began_ms),
        "stream.followed:b/5": str(began_ms + FORGOTTEN_MS),
    }


async def test_the_times_of_a_stream_s_followers_are_these() -> None:
    assert (HEARTBEAT_S, EXPIRES_AFTER_MS, FOLLOWS_WITHIN_MS) == (2.0, 6_000, 2_500)


async def test_which_redis_differs_is_told_with_what_mends_it(
    database: Database, clock: VirtualClock
) -> None:
    one, two = node(database, "a"), node(database, "b")
    with capture_logs() as logs:
        await heartbeats(clock, one, two)
    assert logs[0] == {
        "event": "redis-differs",
        "log_level": "error",
        "effect": "sign-outs are answered 503: another node of this database follows another Redis,"
        " and would not hear of them; give every node the same GATEWAY_REDIS_URL",
    }


async def test_a_difference_of_patience_is_told_with_what_mends_it(
    database: Database, clock: VirtualClock
) -> None:
    one, two = node(database, "a", 60), node(database, "a", 2)
    with capture_logs() as logs:
        await heartbeats(clock, one, two)
    assert logs[0]["effect"] == (
        "sign-outs are answered 503: another node of this database may let a token pass for longer"
        " than this one waits; give every node the same GATEWAY_MAX_STALENESS_S"
    )


async def test_that_all_agree_again_is_told_once(database: Database, clock: VirtualClock) -> None:
    one, two = node(database, "a"), node(database, "b")
    await heartbeats(clock, one, two)
    clock.move(EXPIRES_AFTER_MS / 1000)
    with capture_logs() as logs:
        await heartbeats(clock, one, times=3)
    assert logs == [{"event": "redis-agrees", "log_level": "info"}]


async def test_what_another_said_just_now_holds_nothing_up_and_goes_on_holding_it_up(
    database: Database, clock: VirtualClock
) -> None:
    """It differs once it has gone on for as long as a fail-over takes, and until it is silent."""
    one, two = node(database, "a"), node(database, "b")
    seen = []
    await one.heartbeat()
    clock.move(2.5)
    await two.heartbeat()
    await one.heartbeat()
    seen.append(one.differs)
    clock.move(0.001)
    await two.heartbeat()
    await one.heartbeat()
    seen.append(one.differs)
    for wait_s in (EXPIRES_AFTER_MS / 1000 - 0.001, 0.001):
        clock.move(wait_s)
        await one.heartbeat()
        seen.append(one.differs)
    assert seen == [False, True, True, False]


async def test_who_begins_to_follow_another_stream_gives_the_others_time_again(
    database: Database, clock: VirtualClock
) -> None:
    follows = "a"
    one = StreamIdentity(database, lambda: follows, 5)
    other = node(database, "c")
    await one.heartbeat()
    clock.move(10)
    follows = "b"
    await other.heartbeat()
    await one.heartbeat()
    assert not one.differs


async def test_it_speaks_every_two_seconds_once_it_follows_and_looks_more_often_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    follows = ["", "a"]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError
        follows.pop(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await StreamIdentity(database, lambda: follows[0], 5).run()
    assert pauses == [0.3, 2.0]


async def test_once_the_other_has_gone_it_confirms_again(
    database: Database, clock: VirtualClock
) -> None:
    one, two = node(database, "a"), node(database, "b")
    await heartbeats(clock, one, two)
    assert one.differs
    clock.move(EXPIRES_AFTER_MS / 1000)
    await heartbeats(clock, one)
    assert not one.differs


async def test_a_fail_over_that_one_node_sees_a_moment_later_is_no_difference(
    database: Database, clock: VirtualClock
) -> None:
    follows = {"one": "a", "two": "a"}
    one, two = (StreamIdentity(database, lambda name=name: follows[name], 5) for name in follows)  # type: ignore[misc]
    await heartbeats(clock, one, two)
    follows["one"] = "b"
    await one.heartbeat()
    await two.heartbeat()
    follows["two"] = "b"
    await heartbeats(clock, one, two)
    assert not one.differs
    assert not two.differs


async def test_who_follows_nothing_yet_says_nothing(
    database: Database, clock: VirtualClock
) -> None:
    one, two = node(database, ""), node(database, "b")
    await heartbeats(clock, one, two)
    assert not two.differs


async def test_who_differs_and_follows_yet_another_stream_differs_until_the_others_are_silent(
    database: Database, clock: VirtualClock
) -> None:
    follows = "a"
    one, other = StreamIdentity(database, lambda: follows, 5), node(database, "b")
    await heartbeats(clock, one, other)
    assert one.differs
    follows = "c"
    await other.heartbeat()
    await one.heartbeat()
    assert one.differs
    clock.move(EXPIRES_AFTER_MS / 1000)
    await one.heartbeat()
    assert not one.differs


async def b() -> str:
    return "b"


@asynccontextmanager
async def running(*nodes: StreamIdentity) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(node.run()) for node in nodes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def test_a_start_beside_a_node_that_follows_another_stream_is_seen_when_it_says_so_again(
    database: Database, clock: VirtualClock
) -> None:
    there = node(database, "a")
    await there.heartbeat()
    async with running(there):
        assert await another_stream_is_followed(database, b)
    assert clock.steady() == pytest.approx(2.1)


async def test_a_start_beside_nodes_that_follow_the_same_stream_sees_nothing(
    database: Database, clock: VirtualClock
) -> None:
    here = node(database, "b")
    await here.heartbeat()
    async with running(here):
        assert not await another_stream_is_followed(database, b)
    assert clock.steady() == 0


async def test_what_a_node_said_that_is_gone_holds_nobody_up(
    database: Database, clock: VirtualClock
) -> None:
    await node(database, "a").heartbeat()
    clock.move(EXPIRES_AFTER_MS / 1000)
    assert not await another_stream_is_followed(database, b)


async def test_what_a_node_said_that_is_going_is_no_other_stream(
    database: Database, clock: VirtualClock
) -> None:
    await node(database, "a").heartbeat()
    assert not await another_stream_is_followed(database, b)
    assert clock.steady() == pytest.approx(6.0)


async def test_where_the_clock_of_sql_stands_still_nobody_waits_for_ever(
    database: Database, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOON)
    await node(database, "a").heartbeat()
    assert not await another_stream_is_followed(database, b)
    assert clock.steady() == pytest.approx(8.1)
