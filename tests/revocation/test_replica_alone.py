"""One worker and a stream in memory, to the moment: what it believes, asks for and gives up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.revocation.replica import Replica, ReplicaOptions
from gateway.stores.protocols import INCARNATION, LeaseState, StoreUnavailable, StreamView
from tests.config.sites import nothing, principal
from tests.revocation.memory_stream import MemoryStream, Server
from tests.revocation.virtual_time import VirtualClock, VirtualTimeDatabase

VIRTUAL_TIME = True


class House:
    """One database, one way to one stream, and the workers that are asked for."""

    def __init__(self, database: VirtualTimeDatabase, clock: VirtualClock) -> None:
        self.database = database
        self.clock = clock
        self.stream = MemoryStream()
        self.workers: list[Replica] = []

    def worker(
        self,
        options: ReplicaOptions | None = None,
        *,
        keys_changed: Callable[[], Awaitable[None]] = nothing,
        stream: MemoryStream | None = None,
    ) -> Replica:
        """One that has not begun."""
        worker = Replica(
            self.database,
            stream or self.stream,
            self.clock,
            options or ReplicaOptions(),
            keys_changed=keys_changed,
        )
        self.workers.append(worker)
        return worker

    async def live(self, options: ReplicaOptions | None = None) -> Replica:
        worker = self.worker(options)
        worker.start()
        await self.until(0.05)
        assert worker.is_live()
        return worker

    async def until(self, at: float) -> None:
        """Waits until the clock shows this."""
        await asyncio.sleep(at - self.clock.steady())

    async def commit(self, target: str = "s1", kind: ChangeKind = ChangeKind.SESSION) -> Change:
        async with self.database.transaction() as tx:
            return await revocations.record(tx, kind, target, Reason.TOKEN_REVOKED, not_before=100)

    async def published(self, change: Change) -> int | None:
        async with self.database.read_transaction() as tx:
            row = await tx.one("SELECT published FROM changes WHERE id = :id", id=change.id)
        return None if row is None else int(row["published"])

    async def saved(self) -> str:
        async with self.database.read_transaction() as tx:
            row = await tx.one(
                "SELECT value FROM installation WHERE name = :name", name=INCARNATION
            )
        return "" if row is None else str(row["value"])

    @property
    def renewed_with(self) -> list[tuple[object, ...]]:
        """Heartbeat, position and position of the keys of each renewal."""
        return [arguments[1:] for arguments in self.stream.asked("renew")]


@pytest.fixture
async def house(
    timeless_database: VirtualTimeDatabase, virtual: VirtualClock
) -> AsyncIterator[House]:
    house = House(timeless_database, virtual)
    yield house
    house.database.away = False
    house.database.answers.set()
    for worker in house.workers:
        await worker.stop()


def revoked(worker: Replica, session_id: str) -> bool:
    return worker.refusal(principal(session_id=session_id)) is Reason.TOKEN_REVOKED


# --- the lease ---


async def test_before_it_begins_it_refuses_all_and_knows_nothing(house: House) -> None:
    worker = house.worker()
    assert worker.refusal(principal()) is Reason.REPLICA_STALE
    assert not worker.is_live()
    assert (worker.staleness_s, worker.incarnation, len(worker)) == (math.inf, "", 0)
    assert worker.live_workers == 1
    assert house.worker(ReplicaOptions(workers=3)).live_workers == 3


async def test_it_is_live_once_a_renewal_counts_and_says_so(house: House) -> None:
    change = await house.commit()
    with capture_logs() as logs:
        worker = await house.live()
        await house.until(3)
    assert revoked(worker, "s1")
    assert worker.refusal(principal(session_id="other")) is None
    assert worker.incarnation == "1"
    assert logs[0] == {"event": "revocations-live", "log_level": "info", "held": 1}
    assert [entry["event"] for entry in logs[1:]] == ["revocations-relayed"]
    assert house.stream.server.entries == [change]


async def test_it_renews_twice_a_second(house: House) -> None:
    worker = await house.live()
    await house.until(2.05)
    assert house.stream.times("renew") == [0, 0, 0.5, 1.0, 1.5, 2.0]
    # The keys are read after the first.
    assert house.renewed_with == [(1, 0, -1), *((number, 0, 0) for number in range(2, 7))]
    assert house.stream.asked("register") == [(house.stream.asked("renew")[0][0],)]
    assert worker.staleness_s == pytest.approx(0.05)


async def test_what_its_tasks_do_is_told_by_their_names(house: House) -> None:
    await house.live()
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    assert {
        "revocations-lease",
        "revocations-read",
        "revocations-keys",
        "revocations-marks",
        "revocations-relay",
        "revocations-housekeeping",
    } <= tasks


async def test_without_a_renewal_that_counts_it_is_fenced_before_others_call_its_lease_over(
    house: House,
) -> None:
    with capture_logs() as logs:
        worker = await house.live(ReplicaOptions(max_staleness_s=5.05))
        await house.until(1.2)
        house.stream.away.add("renew")
        await house.until(5.549)
        assert worker.is_live()
        assert worker.refusal(principal()) is None
        await house.until(5.551)
        assert not worker.is_live()
        assert worker.refusal(principal()) is Reason.REPLICA_STALE
        await house.until(6.05)
        # Asked again ten times a second.
        assert house.stream.times("renew")[-3:] == [5.8, 5.9, 6.0]
        house.stream.away.clear()
        await house.until(6.15)
    assert worker.is_live()
    assert logs == [
        {"event": "revocations-live", "log_level": "info", "held": 0},
        {
            "event": "revocations-stale",
            "log_level": "error",
            "staleness_s": 4.6,
            "effect": "calls with a credential are refused (503 replica_stale)",
        },
        {"event": "revocations-live", "log_level": "info", "held": 0},
    ]


async def test_for_how_long_it_knows_nothing_is_told_in_tenths_of_a_second(house: House) -> None:
    house.stream.slow["renew"] = 0.033
    await house.live()
    house.stream.away.add("renew")
    with capture_logs() as logs:
        await house.until(9)
    assert [entry["staleness_s"] for entry in logs] == [4.5]


async def test_at_the_very_end_of_its_time_it_is_fenced(house: House) -> None:
    worker = await house.live()
    house.stream.away.add("renew")
    house.clock.move(4.5 - house.clock.steady())
    assert not worker.is_live()
    assert worker.refusal(principal()) is Reason.REPLICA_STALE


async def test_its_time_runs_from_when_the_renewal_was_sent(house: House) -> None:
    worker = house.worker()
    house.stream.slow["renew"] = 2
    worker.start()
    await house.until(1.9)
    assert not worker.is_live()
    house.stream.away.add("renew")
    await house.until(2.1)
    assert worker.is_live()
    assert worker.staleness_s == pytest.approx(2.1)
    await house.until(4.51)
    assert not worker.is_live()


async def test_a_stream_that_is_away_at_the_start_is_asked_again(house: House) -> None:
    house.stream.away.add("register")
    worker = house.worker()
    worker.start()
    await house.until(0.35)
    assert house.stream.times("register") == [0, 0.1, 0.2, 0.3]
    assert not worker.is_live()
    house.stream.away.clear()
    await house.until(0.45)
    assert worker.is_live()


async def test_while_it_loads_it_keeps_its_lease_and_is_not_live(house: House) -> None:
    await house.commit()
    house.database.answers.clear()
    worker = house.worker()
    worker.start()
    await house.until(1.6)
    assert house.stream.times("renew") == [0.5, 1.0, 1.5]
    assert house.renewed_with == [(1, -1, -1), (2, -1, -1), (3, -1, -1)]
    assert not worker.is_live()
    house.database.answers.set()
    await house.until(1.65)
    assert worker.is_live()
    assert revoked(worker, "s1")
    assert house.renewed_with[3] == (4, 0, -1)


async def test_a_lease_that_is_lost_while_it_loads_is_replaced(house: House) -> None:
    house.database.answers.clear()
    worker = house.worker()
    with capture_logs() as logs:
        worker.start()
        await house.until(0.45)
        house.stream.server.leases.clear()
        await house.until(0.7)
        house.stream.server.leases.clear()
        await house.until(1.3)
        house.database.answers.set()
        await house.until(1.35)
    assert house.stream.times("register") == [0, 0.6, 1.2]
    assert worker.is_live()
    # Of those that it replaces, once it counts.
    names = [name for (name,) in house.stream.asked("register")]
    assert house.stream.asked("withdraw") == [(names[1],), (names[0],)]
    assert list(house.stream.server.leases) == [names[2]]
    assert [entry["event"] for entry in logs] == ["revocations-live"]


async def test_what_could_not_be_withdrawn_is_withdrawn_later(house: House) -> None:
    worker = await house.live()
    house.stream.away.add("withdraw")
    (old,) = house.stream.server.leases
    house.stream.server.entries.append(None)
    await house.until(0.7)
    assert len(house.stream.asked("register")) == 2
    assert worker.is_live()
    assert old in house.stream.server.leases
    house.stream.away.clear()
    await house.until(1.3)
    assert old not in house.stream.server.leases
    assert house.stream.asked("withdraw")[-1] == (old,)
    await house.until(3)
    assert house.stream.asked("withdraw")[-2:] == [(old,), (old,)]


async def test_a_lease_that_is_lost_is_taken_anew_and_told_of(house: House) -> None:
    worker = await house.live()
    (name,) = house.stream.server.leases
    with capture_logs() as logs:
        house.stream.server.leases.clear()
        await house.until(0.55)
    assert house.stream.times("register") == [0, 0.5]
    assert logs == [{"event": "revocations-unconfirmed", "log_level": "info", "lease": name}]
    assert worker.is_live()
    # What SQL holds is read once more, and the keys.
    assert house.renewed_with[-2:] == [(1, 0, -1), (2, 0, 0)]


async def test_another_stream_is_not_followed_with_the_old_lease(house: House) -> None:
    worker = await house.live()
    change = await house.commit()
    house.stream.server = Server(2, [], dict(house.stream.server.leases))
    await house.until(0.55)
    assert worker.incarnation == "2"
    assert revoked(worker, change.target)
    assert len(house.stream.server.leases) == 1


async def test_a_renewal_that_is_behind_does_not_count(house: House) -> None:
    """What it reports must be the end that it reads."""
    worker = await house.live()
    house.stream.deaf = True
    await house.until(0.6)
    house.stream.server.entries.append(await house.commit())
    house.stream.slow["renew"] = 0.3
    await house.until(1.1)
    assert worker.staleness_s == pytest.approx(0.6)
    await house.until(1.35)
    assert revoked(worker, "s1")
    assert worker.staleness_s == pytest.approx(0.85)
    # And it is reported at once.
    assert house.renewed_with[-2:] == [(4, 0, 0), (5, 1, 1)]
    assert house.stream.times("renew")[-2:] == [1.0, 1.3]
    await house.until(1.65)
    assert worker.staleness_s == pytest.approx(0.35)


async def test_the_workers_are_counted_that_are_not_loading(house: House) -> None:
    worker = house.worker(ReplicaOptions(workers=2))
    house.stream.server.leases["a"] = LeaseState(1, 0, 0)
    house.stream.server.leases["b"] = LeaseState(1, -1, -1)
    worker.start()
    await house.until(0.05)
    assert worker.live_workers == 2
    house.stream.server.leases["c"] = LeaseState(1, 0, 0)
    await house.until(0.55)
    assert worker.live_workers == 3
    house.stream.server.leases.clear()
    await house.until(1.05)
    assert worker.live_workers == 2


async def test_a_silent_worker_s_lease_is_removed_in_time(house: House) -> None:
    house.stream.server.leases["elsewhere.1.1.ff"] = LeaseState(7, 0, 0)
    worker = await house.live(ReplicaOptions(max_staleness_s=2))
    house.stream.away.add("forget")
    await house.until(1.55)
    assert house.stream.asked("forget") == []
    await house.until(2.05)
    assert house.stream.asked("forget") == [("elsewhere.1.1.ff", 7)]
    # That it could not be removed costs nothing.
    await house.until(4)
    assert worker.is_live()
    house.stream.away.clear()
    await house.until(4.6)
    assert "elsewhere.1.1.ff" not in house.stream.server.leases


# --- the end ---


async def test_it_stops_fenced_and_gives_its_lease_up(house: House) -> None:
    worker = await house.live()
    (name,) = house.stream.server.leases
    await worker.stop()
    assert worker.refusal(principal()) is Reason.REPLICA_STALE
    assert house.stream.asked("withdraw") == [(name,)]
    assert worker.incarnation == ""
    calls = len(house.stream.calls)
    await house.until(3)
    assert len(house.stream.calls) == calls


async def test_leases_that_could_not_be_given_up_are_told_of(house: House) -> None:
    worker = await house.live()
    house.stream.away.add("withdraw")
    house.stream.server.entries.append(None)
    await house.until(0.7)
    names = [name for (name,) in house.stream.asked("register")]
    with capture_logs() as logs:
        await worker.stop()
    assert logs == [{"event": "lease-not-released", "log_level": "info", "leases": names}]
    house.stream.away.clear()
    asked = len(house.stream.asked("withdraw"))
    await worker.stop()
    assert len(house.stream.asked("withdraw")) == asked


async def test_an_answer_that_comes_while_it_stops_does_not_lift_the_fence(house: House) -> None:
    class Swallowing(MemoryStream):
        async def renew(
            self, worker: str, heartbeat: int, position: int, keys_position: int
        ) -> StreamView | None:
            try:
                return await super().renew(worker, heartbeat, position, keys_position)
            except asyncio.CancelledError:
                return self.server.view()

    stream = Swallowing()
    worker = house.worker(stream=stream)
    worker.start()
    await house.until(0.05)
    assert worker.is_live()
    stream.slow["renew"] = 9
    await house.until(0.6)
    await worker.stop()
    assert not worker.is_live()
    assert worker.refusal(principal()) is Reason.REPLICA_STALE


# --- what comes by the stream ---


async def test_what_is_appended_is_applied_and_reported_at_once(house: House) -> None:
    worker = await house.live()
    told: list[tuple[Change, bool]] = []
    worker.on_change.append(lambda change: told.append((change, revoked(worker, "s1"))))
    change = await house.commit()
    await house.until(0.7)
    await house.stream.append([change])
    await house.until(0.75)
    assert revoked(worker, "s1")
    assert told == [(change, True)]
    assert house.renewed_with[-1] == (4, 1, 1)
    assert house.stream.times("renew")[-1] == 0.7
    # The next one is due half a second later.
    await house.until(1.25)
    assert house.stream.times("renew")[-1] == 1.2


async def test_it_waits_for_what_is_new_as_long_as_a_connection_may(house: House) -> None:
    await house.live()
    await house.until(2.3)
    assert house.stream.asked("read_new") == [(0, 0.7)] * 4
    assert house.stream.times("read_new") == [0.1, 0.8, 1.5, 2.2]


async def test_it_reads_nothing_new_until_it_is_live(house: House) -> None:
    house.database.answers.clear()
    worker = house.worker()
    worker.start()
    await house.until(0.55)
    assert house.stream.asked("read_new") == []
    house.database.answers.set()
    await house.until(0.65)
    assert house.stream.times("read_new") == [0.6]


async def test_what_cannot_be_read_is_not_applied_and_costs_the_lease(house: House) -> None:
    await house.live()
    await house.until(0.7)
    await house.stream.append([await house.commit(), None])  # type: ignore[list-item]
    await house.until(0.75)
    assert house.stream.times("register") == [0, 0.7]
    assert house.renewed_with[-2:] == [(1, 2, -1), (2, 2, 2)]


async def test_what_the_renewal_does_not_settle_is_not_read_again_and_again(house: House) -> None:
    await house.live()
    await house.until(0.2)
    house.stream.away.add("renew")
    await house.stream.append([None])  # type: ignore[list-item]
    await house.until(2.5)
    assert house.stream.times("read_new") == [0.1, 0.9, 1.6, 2.3]


async def test_what_was_read_for_a_lease_that_is_gone_is_left_to_the_next(house: House) -> None:
    worker = await house.live()
    await house.until(0.2)
    told: list[str] = []
    worker.on_change.append(lambda change: told.append(change.target))
    before = [Change(n, ChangeKind.SESSION, n, 0, Reason.TOKEN_REVOKED, 0) for n in ("a", "b")]
    house.stream.server = Server(2, list(before))
    await house.until(0.6)
    assert worker.incarnation == "2"
    await house.stream.append([await house.commit("c")])
    await house.until(0.7)
    assert told == ["c"]


# --- keys ---


class Keys:
    """Meets `keys_changed`: reads when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.begun = 0
        self.away = False

    async def read(self) -> None:
        self.begun += 1
        await self.may.wait()
        if self.away:
            raise StoreUnavailable("sql", "refused")


async def test_the_keys_are_read_once_it_has_loaded_and_when_one_changes(house: House) -> None:
    keys = Keys()
    worker = house.worker(keys_changed=keys.read)
    worker.start()
    await house.until(0.55)
    assert keys.begun == 1
    for kind in (ChangeKind.KEYS, ChangeKind.KEY, ChangeKind.SESSION):
        await house.stream.append([await house.commit("k1", kind)])
        await asyncio.sleep(0.01)
    assert keys.begun == 3
    assert worker.refuses_key("k1")
    assert not worker.refuses_key("k2")
    await house.until(1.2)
    assert house.renewed_with[-1][1:] == (3, 3)


async def test_until_the_keys_are_read_it_reports_what_came_before_they_changed(
    house: House,
) -> None:
    keys = Keys()
    worker = house.worker(keys_changed=keys.read)
    worker.start()
    await house.until(0.05)
    keys.may.clear()
    for kind in (ChangeKind.SESSION, ChangeKind.KEYS, ChangeKind.SESSION, ChangeKind.KEYS):
        await house.stream.append([await house.commit("k1", kind)])
        await asyncio.sleep(0.2)
    await house.until(1.3)
    assert house.renewed_with[-1][1:] == (4, 1)
    assert worker.is_live()
    assert keys.begun == 2
    keys.may.set()
    await asyncio.sleep(0.01)
    # Once more for the second change, which came while they were read; then it says so at once.
    assert keys.begun == 3
    assert house.renewed_with[-1][1:] == (4, 4)
    assert house.stream.times("renew")[-1] == 1.3


async def test_keys_that_come_first_are_behind_all(house: House) -> None:
    keys = Keys()
    worker = house.worker(keys_changed=keys.read)
    worker.start()
    await house.until(0.2)
    keys.may.clear()
    await house.stream.append([await house.commit("k1", ChangeKind.KEYS)])
    await house.until(0.9)
    assert house.renewed_with[-1][1:] == (1, 0)


async def test_keys_that_cannot_be_read_are_read_again_and_reported_only_then(
    house: House,
) -> None:
    keys = Keys()
    keys.away = True
    worker = house.worker(keys_changed=keys.read)
    worker.start()
    await house.until(0.55)
    assert keys.begun >= 3
    assert house.renewed_with[-1][1:] == (0, -1)
    keys.away = False
    await house.until(2)
    assert house.renewed_with[-1][1:] == (0, 0)


@pytest.mark.parametrize("kind", [ChangeKind.KEY, ChangeKind.KEYS])
async def test_a_change_of_keys_that_it_publishes_is_read_whatever_the_stream_does(
    house: House, kind: ChangeKind
) -> None:
    keys = Keys()
    worker = house.worker(keys_changed=keys.read)
    worker.start()
    await house.until(0.2)
    house.stream.away.add("append")
    assert not await worker.publish([await house.commit("k1", kind), await house.commit("s2")])
    await house.until(0.3)
    assert keys.begun == 2
    assert revoked(worker, "s2")


async def test_a_change_that_is_published_while_the_keys_are_read_has_them_read_again(
    house: House,
) -> None:
    keys = Keys()
    worker = house.worker(keys_changed=keys.read)
    worker.start()
    await house.until(0.2)
    house.stream.away.add("append")
    keys.may.clear()
    for _ in range(2):
        await worker.publish([await house.commit("k1", ChangeKind.KEYS)])
        await asyncio.sleep(0.1)
    keys.may.set()
    await asyncio.sleep(0.1)
    assert keys.begun == 3


async def test_keys_that_change_while_they_are_read_are_read_once_more(house: House) -> None:
    """By what it publishes and by what comes back of it: neither makes up for the other."""
    begun: list[float] = []

    async def takes_a_second() -> None:
        begun.append(round(house.clock.steady(), 3))
        await asyncio.sleep(1)

    worker = house.worker(keys_changed=takes_a_second)
    worker.start()
    await house.until(2)
    house.stream.server.leases["a"] = LeaseState(1, 0, 0)
    publishing = [asyncio.create_task(worker.publish([await house.commit("k", ChangeKind.KEYS)]))]
    await house.until(3.5)
    publishing.append(
        asyncio.create_task(worker.publish([await house.commit("k2", ChangeKind.KEYS)]))
    )
    await house.until(6)
    assert begun == [0, 2, 3, 4]
    assert await asyncio.gather(*publishing) == [False, False]


# --- what it publishes ---


async def test_what_it_publishes_holds_here_whatever_fails(house: House) -> None:
    worker = await house.live()
    house.stream.away.add("append")
    told: list[Change] = []
    worker.on_change.append(told.append)
    change = await house.commit()
    assert not await worker.publish([change])
    assert told == [change]
    assert revoked(worker, "s1")


async def test_its_own_lease_is_not_waited_for_and_the_row_is_marked_soon(house: House) -> None:
    worker = await house.live()
    await house.until(0.3)
    house.stream.slow["renew"] = 0.9
    house.stream.deaf = True
    change = await house.commit()
    assert await worker.publish([change])
    assert house.clock.steady() < 0.31
    assert await house.published(change) == 0
    await house.until(0.51)
    assert await house.published(change) == revocations.CONFIRMED


async def test_another_s_lease_is_waited_for_as_long_as_the_options_say(house: House) -> None:
    worker = await house.live(ReplicaOptions(confirm_timeout_s=0.7))
    house.stream.server.leases["a"] = LeaseState(1, 0, 0)
    await house.until(0.2)
    assert not await worker.publish([await house.commit()])
    assert house.clock.steady() == pytest.approx(0.9)


async def test_while_nodes_differ_it_appends_and_confirms_nothing(house: House) -> None:
    worker = await house.live()
    worker.confirms_nothing = lambda: True
    change = await house.commit()
    assert not await worker.publish([change])
    assert revoked(worker, "s1")
    assert house.stream.server.entries == [change]
    await house.until(1)
    # A worker that follows the other stream relays it there.
    assert await house.published(change) == 0
    house.stream.away.add("append")
    assert not await worker.publish([change])


# --- what is done besides ---


async def test_what_was_left_behind_is_relayed_two_seconds_later(house: House) -> None:
    worker = await house.live()
    await house.until(0.5)
    change = await house.commit()
    with capture_logs() as logs:
        await house.until(1.95)
        assert not revoked(worker, "s1")
        await house.until(2.05)
        assert revoked(worker, "s1")
        await house.until(5)
    assert await house.published(change) == revocations.PUBLISHED
    assert house.stream.times("append") == [2.0]
    assert logs == [{"event": "revocations-relayed", "log_level": "info", "changes": 1}]


async def test_what_it_follows_is_saved_while_it_is_live(house: House) -> None:
    async with house.database.transaction() as tx:
        await tx.run("INSERT INTO installation (name, value) VALUES (:n, 'other')", n=INCARNATION)
    await house.live()
    await house.until(4.95)
    assert await house.saved() == "other"
    await house.until(5.05)
    assert await house.saved() == "1"


async def test_who_is_fenced_saves_nothing_of_what_it_followed(house: House) -> None:
    async with house.database.transaction() as tx:
        await tx.run("INSERT INTO installation (name, value) VALUES (:n, 'other')", n=INCARNATION)
    worker = await house.live()
    house.stream.away.add("renew")
    await house.until(6.05)
    assert not worker.is_live()
    assert await house.saved() == "other"


async def test_the_first_worker_of_all_saves_what_it_follows_before_it_is_live(
    house: House,
) -> None:
    await house.live()
    assert await house.saved() == "1"


async def test_what_no_token_can_be_touched_by_is_given_up_once_a_minute(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "PRUNE_ROWS", 1)
    options = ReplicaOptions(max_token_life_s=60)
    assert options.keep_s == 7260
    old = [await house.commit(f"old{number}") for number in range(3)]
    await revocations.mark_published(house.database, {one.id: 1 for one in old})
    house.clock.move(3000)
    worker = house.worker(options)
    worker.start()
    await asyncio.sleep(0.3)
    late = await house.commit("late")
    assert await worker.publish([late])
    assert len(worker) == 4
    # As old as its keeping time is no more.
    house.clock.move(4200)
    await asyncio.sleep(60)
    assert len(worker) == 4
    assert [await house.published(one) for one in old] == [1, 1, 1]
    await asyncio.sleep(120)
    assert len(worker) == 1
    assert [await house.published(one) for one in old] == [None, None, None]
    house.clock.move(2950)
    await asyncio.sleep(120)
    assert len(worker) == 0
    assert set(house.stream.asked("trim")) == {(7260,)}
    times = house.stream.times("trim")
    assert times[1] - times[0] >= 60


async def test_housekeeping_is_done_every_minute_and_not_at_once(house: House) -> None:
    await house.live()
    await house.until(120.05)
    assert house.stream.times("trim") == [60, 120]


async def test_what_another_node_may_need_is_kept_in_the_stream_and_in_sql(house: House) -> None:
    options = ReplicaOptions(max_token_life_s=60)
    change = await house.commit()
    worker = await house.live(options)
    worker.confirms_nothing = lambda: True
    assert len(worker) == 1
    house.clock.move(options.keep_s)
    await asyncio.sleep(120)
    # This one itself needs it no more.
    assert len(worker) == 0
    assert house.stream.asked("trim") == []
    worker.confirms_nothing = lambda: False
    await asyncio.sleep(61)
    assert len(house.stream.asked("trim")) == 1
    assert await house.published(change) is None


async def test_a_principal_without_a_session_is_asked_too(house: House) -> None:
    worker = await house.live()
    await worker.publish([await house.commit("t1", ChangeKind.TOKEN)])
    assert worker.refusal(Principal("u", (), None, "t1", None, "k", 1, 9)) is Reason.TOKEN_REVOKED
