"""What a publisher appends, marks and waits for, in time that passes where everybody waits."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Reason
from gateway.revocation import publisher as module
from gateway.revocation.process_id import lease_name
from gateway.revocation.publisher import StreamPublisher
from gateway.stores.protocols import INCARNATION, Database, LeaseState, StoreUnavailable
from tests.revocation.memory_stream import MemoryStream, Server
from tests.revocation.virtual_time import VirtualClock, VirtualTimeDatabase

VIRTUAL_TIME = True

BEHIND = LeaseState(1, 0, 0)


@pytest.fixture
def stream() -> MemoryStream:
    return MemoryStream()


@pytest.fixture
def database(timeless_database: VirtualTimeDatabase) -> VirtualTimeDatabase:
    return timeless_database


@pytest.fixture
def publisher(database: Database, stream: MemoryStream, virtual: VirtualClock) -> StreamPublisher:
    return StreamPublisher(database, stream, virtual, max_staleness_s=5)


async def commit(
    database: Database, target: str = "s1", kind: ChangeKind = ChangeKind.SESSION
) -> Change:
    async with database.transaction() as tx:
        return await revocations.record(tx, kind, target, Reason.TOKEN_REVOKED, not_before=100)


async def published(database: Database, change: Change) -> int:
    async with database.read_transaction() as tx:
        row = await tx.one("SELECT published FROM changes WHERE id = :id", id=change.id)
    assert row is not None
    return int(row["published"])


async def saved(database: Database) -> str | None:
    async with database.read_transaction() as tx:
        row = await tx.one("SELECT value FROM installation WHERE name = :name", name=INCARNATION)
    return None if row is None else str(row["value"])


async def save(database: Database, incarnation: str) -> None:
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO installation (name, value) VALUES (:name, :value)"
            " ON CONFLICT (name) DO UPDATE SET value = :value",
            name=INCARNATION,
            value=incarnation,
        )


async def test_what_nobody_has_to_hear_is_confirmed_and_marked_so(
    database: Database, stream: MemoryStream, publisher: StreamPublisher
) -> None:
    change = await commit(database)
    assert await publisher.publish([change])
    assert stream.asked("append") == [(change,)]
    assert await published(database, change) == revocations.CONFIRMED


async def test_whoever_is_behind_is_waited_for_and_the_row_says_what_is_known(
    database: Database, stream: MemoryStream, publisher: StreamPublisher
) -> None:
    stream.server.leases["a"] = BEHIND
    change = await commit(database)
    publishing = asyncio.create_task(publisher.publish([change]))
    await asyncio.sleep(1)
    assert not publishing.done()
    assert await published(database, change) == revocations.PUBLISHED
    stream.server.leases["a"] = LeaseState(2, 1, 1)
    assert await publishing
    assert await published(database, change) == revocations.CONFIRMED


async def test_a_worker_s_publisher_leaves_the_marks_to_who_calls_for_them(
    database: Database, stream: MemoryStream, virtual: VirtualClock
) -> None:
    publisher = StreamPublisher(database, stream, virtual, max_staleness_s=5, marks_at_once=False)
    change = await commit(database)
    assert await publisher.publish([change])
    assert await published(database, change) == 0
    # What is confirmed stays so, however often it is appended meanwhile.
    await publisher.append([change])
    await publisher.mark()
    assert await published(database, change) == revocations.CONFIRMED


async def test_nobody_is_waited_for_longer_than_this_and_looked_at_less_and_less(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, virtual: VirtualClock
) -> None:
    stream.server.leases["a"] = BEHIND
    change = await commit(database)
    virtual.move(10)
    assert not await publisher.publish([change])
    assert virtual.steady() == pytest.approx(11.5)
    looks = stream.times("view")
    pauses = [round(b - a, 6) for a, b in pairwise([10.0, *looks])]
    quick = [pause for pause, at in zip(pauses, looks, strict=True) if at <= 10.0501]
    assert set(quick) == {0.001}
    assert len(quick) == 50
    assert set(pauses[len(quick) + 1 :]) == {0.01}


async def test_who_asks_decides_how_long_it_waits(
    database: Database, stream: MemoryStream, virtual: VirtualClock
) -> None:
    stream.server.leases["a"] = BEHIND
    publisher = StreamPublisher(database, stream, virtual, max_staleness_s=5, confirm_timeout_s=3)
    assert not await publisher.publish([await commit(database)])
    assert virtual.steady() == pytest.approx(3)


async def test_the_own_lease_is_not_waited_for(
    database: Database, stream: MemoryStream, virtual: VirtualClock
) -> None:
    stream.server.leases["own"] = BEHIND
    publisher = StreamPublisher(
        database, stream, virtual, max_staleness_s=5, own_leases=lambda: ["own"]
    )
    assert await publisher.publish([await commit(database)])
    # But for keys, which it must read first.
    assert not await publisher.publish([await commit(database, "k1", ChangeKind.KEYS)])


async def test_a_silent_lease_is_forgotten_once_its_holder_has_surely_stopped(
    database: Database, stream: MemoryStream, virtual: VirtualClock
) -> None:
    stream.server.leases["elsewhere.1.1.ff"] = BEHIND
    publisher = StreamPublisher(database, stream, virtual, max_staleness_s=5, confirm_timeout_s=9)
    assert await publisher.publish([await commit(database)])
    assert virtual.steady() == pytest.approx(4.6, abs=0.02)
    assert stream.asked("forget") == [("elsewhere.1.1.ff", 1)]


async def test_the_lease_of_a_process_that_is_gone_is_forgotten_at_once(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, virtual: VirtualClock
) -> None:
    machine, pid, _, drawn = lease_name().rsplit(".", 3)
    gone = f"{machine}.{pid}.1.{drawn}"
    stream.server.leases[gone] = BEHIND
    assert await publisher.publish([await commit(database)])
    assert virtual.steady() < 0.01
    assert stream.asked("forget") == [(gone, 1)]


async def test_nothing_new_is_appended_nothing(
    database: Database, stream: MemoryStream, publisher: StreamPublisher
) -> None:
    known, other = await commit(database), await commit(database, "s2")
    assert await publisher.publish([])
    assert await publisher.publish([known])
    assert await publisher.publish([known])
    assert await publisher.publish([known, other])
    confirmed = Change("x", ChangeKind.SESSION, "s3", 0, Reason.TOKEN_REVOKED, 0, confirmed=True)
    assert await publisher.publish([confirmed])
    assert stream.asked("append") == [(known,), (other,)]


async def test_what_was_confirmed_last_is_remembered_and_the_oldest_forgotten(
    database: Database,
    stream: MemoryStream,
    publisher: StreamPublisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_CONFIRMED_MAX", 2)
    changes = [await commit(database, f"s{number}") for number in range(3)]
    for change in (*changes, *reversed(changes)):
        assert await publisher.publish([change])
    assert stream.server.entries == [*changes, changes[0]]


@pytest.mark.parametrize("method", ["append", "view"])
async def test_a_stream_that_cannot_be_reached_confirms_nothing(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, method: str
) -> None:
    stream.server.leases["a"] = BEHIND
    stream.away.add(method)
    assert not await publisher.publish([await commit(database)])


async def test_a_server_that_was_emptied_meanwhile_confirms_nothing_and_is_seen_at_once(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, virtual: VirtualClock
) -> None:
    stream.server.leases["a"] = BEHIND
    publishing = asyncio.create_task(publisher.publish([await commit(database)]))
    await asyncio.sleep(0.5)
    stream.server = Server(2)
    assert not await publishing
    assert virtual.steady() < 0.6


async def test_those_who_wait_at_one_time_share_what_they_see(
    database: Database, stream: MemoryStream, publisher: StreamPublisher
) -> None:
    stream.server.leases["a"] = BEHIND
    changes = [await commit(database, f"s{number}") for number in range(10)]
    async with asyncio.timeout(0.3):
        publishing = [asyncio.create_task(publisher.publish([one])) for one in changes]
        await asyncio.sleep(0.2)
        stream.server.leases["a"] = LeaseState(2, 10, 10)
        assert all(await asyncio.gather(*publishing))
    looks = stream.times("view")
    assert len(looks) == len(set(looks))


async def test_a_view_that_began_before_is_not_shared(
    database: Database, stream: MemoryStream, publisher: StreamPublisher
) -> None:
    """A lease that it does not show may be younger than it."""
    stream.server.leases["a"] = BEHIND
    stream.slow["view"] = 0.1
    publishing = [asyncio.create_task(publisher.publish([await commit(database)]))]
    await asyncio.sleep(0.05)
    publishing.append(asyncio.create_task(publisher.publish([await commit(database, "s2")])))
    await asyncio.sleep(0.05)
    assert stream.times("view") == [0.001, 0.051]
    stream.server.leases.clear()
    assert all(await asyncio.gather(*publishing))


async def test_one_who_gives_up_takes_the_view_from_nobody(
    database: Database, stream: MemoryStream, virtual: VirtualClock
) -> None:
    stream.server.leases["a"] = BEHIND
    publisher = StreamPublisher(database, stream, virtual, max_staleness_s=5, confirm_timeout_s=9)
    stream.slow["view"] = 0.1
    changes = [await commit(database), await commit(database, "s2")]
    one, other = (asyncio.create_task(publisher.publish([change])) for change in changes)
    await asyncio.sleep(0.05)
    one.cancel()
    stream.server.leases.clear()
    assert await other
    assert one.cancelled()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_view_that_nobody_waits_for_any_more_troubles_nobody(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, cancelled: bool
) -> None:
    troubles: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    stream.server.leases["a"] = BEHIND
    stream.slow["append"] = 1.4999
    assert not await publisher.publish([await commit(database)])
    stream.away.add("view")
    if cancelled:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    await asyncio.sleep(0.1)
    gc.collect()
    assert stream.asked("view") == ([] if cancelled else [()])
    assert troubles == []


async def test_marks_that_could_not_be_written_are_kept_and_newer_ones_go_over_them(
    database: Database,
    stream: MemoryStream,
    publisher: StreamPublisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other, third = [await commit(database, f"s{number}") for number in range(3)]
    written: list[Mapping[str, int]] = []

    async def fails(_: Database, marks: Mapping[str, int]) -> None:
        written.append(dict(marks))
        if len(written) == 1:
            await publisher.append([third])
            publisher._mark_confirmed([one])
            raise StoreUnavailable("sql")

    monkeypatch.setattr(revocations, "mark_published", fails)
    await publisher.append([one, other])
    with pytest.raises(StoreUnavailable):
        await publisher.mark()
    await publisher.mark()
    await publisher.mark()
    assert written == [
        {one.id: 1, other.id: 1},
        {one.id: 2, other.id: 1, third.id: 1},
    ]


async def test_what_nobody_has_appended_is_relayed_once(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, virtual: VirtualClock
) -> None:
    change = await commit(database)
    assert await publisher.relay(2) == 0
    assert stream.calls == []
    virtual.move(2)
    assert await publisher.relay(2) == 1
    assert stream.asked("append") == [(change,)]
    assert await published(database, change) == revocations.PUBLISHED
    assert await publisher.relay(2) == 0


async def test_what_waits_to_be_marked_is_not_relayed(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, virtual: VirtualClock
) -> None:
    change = await commit(database)
    await publisher.append([change])
    virtual.move(2)
    assert await publisher.relay(2) == 0
    assert stream.server.entries == [change]


async def test_the_first_stream_of_an_installation_is_saved_and_believed(
    database: Database, stream: MemoryStream, publisher: StreamPublisher
) -> None:
    assert await publisher.saved_incarnation() is None
    assert await publisher.publish([await commit(database)])
    assert await saved(database) == "1"
    # What another node makes of it later is not asked again.
    await save(database, "other")
    assert await publisher.publish([await commit(database, "s2")])
    assert await saved(database) == "other"


async def test_another_stream_than_the_saved_one_is_watched_until_every_older_lease_has_ended(
    database: Database, stream: MemoryStream, virtual: VirtualClock
) -> None:
    await save(database, "other")
    publisher = StreamPublisher(database, stream, virtual, max_staleness_s=5, confirm_timeout_s=9)
    assert await publisher.publish([await commit(database)])
    assert virtual.steady() == pytest.approx(4.6, abs=0.02)
    assert await saved(database) == "1"
    # It is believed from then on.
    assert await publisher.outlasted("1")
    assert not await publisher.outlasted("other")


async def test_a_stream_that_changes_while_it_is_watched_is_watched_whatever_sql_says(
    database: Database, stream: MemoryStream, virtual: VirtualClock
) -> None:
    await save(database, "2")
    publisher = StreamPublisher(database, stream, virtual, max_staleness_s=5, confirm_timeout_s=9)
    await publisher.observe(stream.server.view())
    stream.server = Server(2)
    assert await publisher.publish([await commit(database)])
    assert virtual.steady() == pytest.approx(4.6, abs=0.02)
    # One that comes back is not the one that was.
    await publisher.observe(Server(1).view())
    await publisher.observe(Server(2).view())
    assert not await publisher.outlasted("2")


async def test_a_worker_saves_the_stream_that_it_follows_once_older_leases_have_ended(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, virtual: VirtualClock
) -> None:
    await save(database, "other")
    await publisher.observe(stream.server.view())
    virtual.move(4.5)
    await publisher.save_followed()
    assert await saved(database) == "other"
    virtual.move(0.1)
    await publisher.save_followed()
    assert await saved(database) == "1"
    # Not again: a node on another server would write its own each time.
    await save(database, "other")
    await publisher.save_followed()
    assert await saved(database) == "other"
    # After a restore the saved name is empty.
    await save(database, "")
    await publisher.save_followed()
    assert await saved(database) == "1"


async def test_who_found_its_stream_saved_does_not_write_it_over_another_s(
    database: Database, stream: MemoryStream, publisher: StreamPublisher, virtual: VirtualClock
) -> None:
    await save(database, "1")
    await publisher.observe(stream.server.view())
    virtual.move(9)
    await publisher.save_followed()
    await save(database, "other")
    await publisher.save_followed()
    assert await saved(database) == "other"


async def test_who_has_seen_no_stream_saves_none(
    database: Database, publisher: StreamPublisher, virtual: VirtualClock
) -> None:
    virtual.move(9)
    await publisher.save_followed()
    assert await saved(database) is None


async def test_of_two_who_save_the_first_stream_at_once_one_counts(
    database: Database, publisher: StreamPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = publisher.saved_incarnation
    seen: list[str | None] = []

    async def overtaken() -> str | None:
        seen.append(await read())
        if len(seen) == 1:
            await save(database, "other")
        return seen[-1]

    monkeypatch.setattr(publisher, "saved_incarnation", overtaken)
    assert await publisher.saved_or_first("1") == "other"
    assert seen == [None, "other"]


async def test_what_is_taken_away_before_it_can_be_read_is_saved_again(
    database: Database, publisher: StreamPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = publisher.saved_incarnation
    seen: list[str | None] = []

    async def restored() -> str | None:
        if len(seen) == 1:
            async with database.transaction() as tx:
                await tx.run("DELETE FROM installation WHERE name = :name", name=INCARNATION)
        seen.append(await read())
        return seen[-1]

    monkeypatch.setattr(publisher, "saved_incarnation", restored)
    assert await publisher.saved_or_first("1") == "1"
    assert seen == [None, None, "1"]
