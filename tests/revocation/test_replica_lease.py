"""What one worker believes, and for how long: its lease to the moment, on a stream in memory."""

from __future__ import annotations

import asyncio
import math

import pytest
from structlog.testing import capture_logs

from gateway.model import Reason
from gateway.revocation.replica import ReplicaOptions
from gateway.stores.protocols import LeaseState, StreamView
from tests.config.sites import principal
from tests.revocation.house import House, revoked
from tests.revocation.memory_stream import MemoryStream, Server

VIRTUAL_TIME = True


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
