"""What a command of the shell publishes, and what it says where it finds nobody to hear it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Reason
from gateway.revocation.command_publisher import CommandPublisher
from gateway.revocation.stream_identity import StreamIdentity
from gateway.stores.protocols import (
    INCARNATION,
    Database,
    Entry,
    LeaseState,
    StoreUnavailable,
    StreamView,
)
from tests.revocation.virtual_time import VirtualClock, virtual_clock

VIRTUAL_TIME = True


class Stream:
    """Meets `protocols.ChangeStream` without a server."""

    def __init__(self, incarnation: str | None) -> None:
        self.hangs = False
        self.incarnation = incarnation
        self.appended: list[Change] = []
        self.peeked = 0
        self.away = False
        self.leases: dict[str, LeaseState] = {}

    async def peek(self) -> StreamView | None:
        self.peeked += 1
        if self.away:
            raise StoreUnavailable("redis", "refused")
        if self.hangs:
            await asyncio.Event().wait()
        return None if self.incarnation is None else await self.view()

    async def view(self) -> StreamView:
        assert self.incarnation is not None
        return StreamView(self.incarnation, len(self.appended), self.leases, [])

    async def append(self, changes: Sequence[Change]) -> StreamView:
        self.appended.extend(changes)
        return await self.view()

    async def forget(self, worker: str, heartbeat: int) -> None: ...

    async def register(self, worker: str) -> StreamView:
        return await self.view()

    async def renew(
        self, worker: str, heartbeat: int, position: int, keys_position: int
    ) -> StreamView | None:
        return await self.view()

    async def withdraw(self, worker: str) -> None: ...

    async def read_new(self, position: int, wait_s: float) -> Sequence[Entry]:
        return []

    async def trim(self, older_than_s: float) -> None: ...


@pytest.fixture
async def clock() -> VirtualClock:
    return virtual_clock()


@pytest.fixture
async def database(timeless_database: Database) -> Database:
    return timeless_database


async def save(database: Database, incarnation: str) -> None:
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO installation (name, value) VALUES (:name, :value)",
            name=INCARNATION,
            value=incarnation,
        )


async def committed(database: Database) -> Change:
    async with database.transaction() as tx:
        return await revocations.record(
            tx, ChangeKind.SESSION, "s1", Reason.TOKEN_REVOKED, not_before=100
        )


def publisher(database: Database, stream: Stream, clock: VirtualClock) -> CommandPublisher:
    return CommandPublisher(database, stream, clock, max_staleness_s=5)


async def test_what_the_workers_follow_is_published_to(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")
    stream = Stream("i")
    change = await committed(database)
    command = CommandPublisher(database, stream, clock, max_staleness_s=5)
    assert await command.publish([change])
    assert stream.appended == [change]
    assert command.why == ""
    assert await revocations.unpublished(database, -5) == []


async def test_before_any_worker_was_live_nobody_has_to_be_told(
    database: Database, clock: VirtualClock
) -> None:
    stream = Stream(None)
    assert await publisher(database, stream, clock).publish([await committed(database)])
    assert (stream.appended, stream.peeked) == ([], 0)


async def test_nothing_to_tell_is_told_without_looking_for_anybody(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")
    stream = Stream("j")
    assert await publisher(database, stream, clock).publish([])
    assert stream.peeked == 0


@pytest.mark.parametrize(
    ("incarnation", "why"),
    [
        (None, "this Redis holds no revocations: it is not the one that the gateways use"),
        ("j", "this Redis is not the one that SQL knows the gateways to use"),
    ],
)
async def test_another_redis_is_published_nothing_to(
    database: Database, clock: VirtualClock, incarnation: str | None, why: str
) -> None:
    await save(database, "i")
    stream = Stream(incarnation)
    command = publisher(database, stream, clock)
    assert command.why == ""
    change = await committed(database)
    assert not await command.publish([change])
    assert command.why == why
    assert stream.appended == []
    # As long as a worker may take to follow a server that was emptied, and to say so in SQL.
    assert clock.steady() == pytest.approx(7)
    assert await command.publish([])
    assert command.why == ""


async def test_a_store_that_cannot_be_reached_is_named(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")
    stream = Stream("i")
    stream.away = True
    command = publisher(database, stream, clock)
    assert not await command.finds_workers()
    assert command.why == "redis could not be reached: refused"
    stream.away = False
    assert await command.finds_workers()
    assert command.why == ""


async def test_another_node_on_another_redis_is_told(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")

    class Beside(Stream):
        async def peek(self) -> StreamView | None:
            # Goes on saying that it follows another one.
            clock.move(0.5)
            await StreamIdentity(database, lambda: "other", 5.0).heartbeat()
            return await super().peek()

    command = CommandPublisher(database, Beside("i"), clock, max_staleness_s=5)
    assert not await command.finds_workers()
    assert command.why == "another node of this database follows another Redis"


async def test_a_redis_that_is_followed_in_the_meantime_is_found(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")

    class Late(Stream):
        async def peek(self) -> StreamView | None:
            self.incarnation = "i" if self.peeked else None
            return await super().peek()

    command = CommandPublisher(database, Late(None), clock, max_staleness_s=5)
    assert await command.finds_workers()
    assert command.why == ""


async def test_after_a_restore_the_saved_name_is_empty_and_no_stream_is_the_one(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "")
    assert not await publisher(database, Stream("i"), clock).finds_workers()


async def test_without_a_saved_name_any_stream_will_do(
    database: Database, clock: VirtualClock
) -> None:
    assert await publisher(database, Stream("i"), clock).finds_workers()


async def test_a_lease_that_stays_behind_leaves_it_unconfirmed(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")

    class Renewed(Stream):
        async def view(self) -> StreamView:
            self.leases = {"a": LeaseState(round(clock.steady()), 0, 0)}
            return await super().view()

    stream = Renewed("i")
    command = CommandPublisher(database, stream, clock, max_staleness_s=5)
    change = await committed(database)
    assert not await command.publish([change])
    assert stream.appended == [change]
    assert clock.steady() == pytest.approx(12)


async def test_a_silent_lease_is_waited_for_until_its_holder_has_surely_stopped(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")

    class Forgetting(Stream):
        async def forget(self, worker: str, heartbeat: int) -> None:
            del self.leases[worker]

    stream = Forgetting("i")
    stream.leases = {"elsewhere.1.1.ff": LeaseState(1, 0, 0)}
    command = CommandPublisher(database, stream, clock, max_staleness_s=5)
    assert await command.publish([await committed(database)])
    assert clock.steady() == pytest.approx(4.6, abs=0.02)


async def test_a_redis_that_does_not_answer_is_told_of(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")
    stream = Stream("i")
    stream.hangs = True
    command = publisher(database, stream, clock)
    assert not await command.publish([await committed(database)])
    assert command.why == "Redis did not answer in time"
    assert clock.steady() == pytest.approx(7)


async def test_the_last_difference_is_told_of_a_redis_that_answers_no_more(
    database: Database, clock: VirtualClock
) -> None:
    await save(database, "i")

    class Falls(Stream):
        async def peek(self) -> StreamView | None:
            self.hangs = self.peeked > 0
            return await super().peek()

    command = publisher(database, Falls("j"), clock)
    assert not await command.finds_workers()
    assert command.why == "this Redis is not the one that SQL knows the gateways to use"


async def test_nodes_that_follow_this_redis_are_no_other_nodes(
    database: Database, clock: VirtualClock
) -> None:
    """They go on saying so, and it is no difference even where the server seems to be empty for
    a moment."""
    await save(database, "i")

    class Followed(Stream):
        async def peek(self) -> StreamView | None:
            clock.move(0.5)
            await StreamIdentity(database, lambda: "i", 5.0).heartbeat()
            view = await super().peek()
            return None if self.peeked == 2 else view

    stream = Followed("i")
    command = publisher(database, stream, clock)
    assert await command.finds_workers()
    assert stream.peeked == 3
