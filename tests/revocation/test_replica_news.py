"""What one worker hears, publishes and does besides, to the moment, on a stream in memory."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.revocation.replica import ReplicaOptions
from gateway.stores.protocols import INCARNATION, LeaseState, StoreUnavailable
from tests.revocation.house import House, revoked
from tests.revocation.memory_stream import Server

VIRTUAL_TIME = True


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
    house.clock.move(4200)
    # Its keeping time is over, and the minute is not.
    await house.until(options.keep_s + 0.2)
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
    assert (
        worker.refusal(Principal("u", (), None, "t1", None, kid="k", issued_at=1, expires_at=9))
        is Reason.TOKEN_REVOKED
    )
