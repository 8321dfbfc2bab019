"""Who holds its share of a target's slots, by whatever calls, keeps others from none of theirs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, cast

import pytest

from gateway.access.definitions import Upstream
from gateway.client_networks import neighbourhood
from gateway.edge.upstream.clusters import Cluster, Clusters, TargetPool
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.slot_queue import GIVEN_UP_AFTER_S, KEPT_S, LACK_S, LOOK_EVERY_S
from gateway.edge.upstream.slot_turns import Waiter
from gateway.model import Reason
from tests.edge.rig import target

ONE, OTHER, STRANGER = "10.1.1.1", "10.2.2.1", "10.3.3.1"
WITH_SHARE = ("10.5.5.1", "10.6.6.1")


class Handle:
    def __init__(self, at: float, call: Callable[..., None], given: tuple[Any, ...]) -> None:
        self.at, self.call, self.given = at, call, given
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop in which time passes as a test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self._handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Callable[..., None], *given: Any) -> Handle:
        self._handles.append(Handle(self.now + delay_s, call, given))
        return self._handles[-1]

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def pass_s(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [one for one in self._handles if one.at <= until]:
            first = min(due, key=lambda one: one.at)
            self._handles.remove(first)
            self.now = max(self.now, first.at)
            if not first.cancelled:
                first.call(*first.given)
        self.now = until


class Shared:
    """An upstream with one target, and who calls it."""

    def __init__(self, clock: Clock, slots: int, queue: int = 0) -> None:
        self.clock = clock
        self._clusters = Clusters(cast(asyncio.AbstractEventLoop, clock))
        self.reload(slots, queue)

    def reload(self, slots: int, queue: int = 0, connect_s: float = 1.0) -> None:
        to = (target(20_000),)
        spec = Upstream("u", to, max_connections=slots, queue=queue, timeout_connect_s=connect_s)
        self._clusters.apply([spec])
        self.cluster: Cluster = self._clusters.cluster_of(spec)
        (self.pool,) = self.cluster.targets

    def call(self, ip: str) -> bool:
        """Whether it takes a slot, or waits for one."""
        if self.pool.has_capacity_for(ip):
            self.pool.acquire(ip)
            return True
        return self.waits(ip) is not None

    def waits(self, ip: str) -> Waiter[TargetPool] | None:
        cluster = self.cluster
        return cluster.waiters.add(cluster.targets, ip, cluster.spec.queue)

    def calls(self, ip: str, count: int) -> list[bool]:
        return [self.call(ip) for _ in range(count)]

    def end(self, ip: str, count: int = 1) -> None:
        for _ in range(count):
            self.pool.release(ip)

    def comes_and_goes(self, ip: str) -> bool:
        came = self.call(ip)
        if came:
            self.end(ip)
        return came


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_ordinary_calls_of_one_address_take_no_slot_that_another_wants(clock: Clock) -> None:
    shared = Shared(clock, 20)
    assert all(shared.calls(ONE, 20))
    assert not shared.call(STRANGER)
    shared.end(ONE)
    assert not shared.call(ONE)
    assert shared.call(STRANGER)


async def test_two_that_hold_half_each_take_no_slot_that_a_third_wants(clock: Clock) -> None:
    """At each look, also long after the one in which it was turned away."""
    shared = Shared(clock, 20)
    assert all(shared.calls(ONE, 10) + shared.calls(OTHER, 10))
    assert not shared.call(STRANGER)
    shared.end(ONE)
    for _ in range(15):
        assert not shared.call(ONE)
        assert not shared.call(OTHER)
        clock.pass_s(LOOK_EVERY_S)
    assert shared.call(STRANGER)


async def test_a_slot_is_kept_as_long_as_others_come(clock: Clock) -> None:
    shared = Shared(clock, 20)
    shared.calls(ONE, 20)
    assert not shared.call(STRANGER)
    shared.end(ONE)
    for number in range(20):
        assert not shared.call(ONE)
        assert shared.comes_and_goes(f"10.4.{number}.1")
        clock.pass_s(KEPT_S / 2)


async def test_once_nobody_comes_one_neighbourhood_has_them_all(clock: Clock) -> None:
    shared = Shared(clock, 20)
    shared.calls(ONE, 20)
    assert not shared.call(STRANGER)
    shared.end(ONE)
    assert not shared.call(ONE)
    clock.pass_s(KEPT_S + 2 * LOOK_EVERY_S)
    assert shared.pool.shares is None
    assert shared.call(ONE)


async def test_where_nobody_else_wants_one_it_has_them_all(clock: Clock) -> None:
    shared = Shared(clock, 4)
    assert shared.calls(ONE, 5) == [True] * 4 + [False]
    for _ in range(5):
        shared.end(ONE)
        assert shared.call(ONE)
        clock.pass_s(LOOK_EVERY_S)


async def test_what_falls_free_goes_to_others_until_they_have_half_of_their_share(
    clock: Clock,
) -> None:
    shared = Shared(clock, 20)
    shared.calls(ONE, 20)
    for _ in range(5):
        assert not shared.call(STRANGER)
        shared.end(ONE)
        assert not shared.call(ONE)
        assert shared.call(STRANGER)
        clock.pass_s(LOOK_EVERY_S)
    shared.end(ONE)
    clock.pass_s(GIVEN_UP_AFTER_S + 2 * LOOK_EVERY_S)
    assert shared.call(ONE)


async def test_nothing_is_kept_where_each_has_some(clock: Clock) -> None:
    """Five that ask for twice of what there is: a slot that stood empty would be an answer less."""
    shared = Shared(clock, 20)
    ips = [f"10.{number}.0.1" for number in range(5)]
    for ip, count in zip(ips, (6, 5, 4, 3, 2), strict=True):
        shared.calls(ip, count)
    assert not any(shared.call(ip) for ip in ips)
    shared.end(ips[4])
    shared.call(ips[4])
    clock.pass_s(LOOK_EVERY_S)
    shared.end(ips[0])
    assert shared.call(ips[0])


async def test_who_ends_all_its_calls_at_once_leaves_room_as_it_begins_anew(clock: Clock) -> None:
    shared = Shared(clock, 20)
    shared.calls(ONE, 20)
    assert not shared.call(STRANGER)
    shared.end(ONE, 20)
    assert shared.calls(ONE, 20) == [True] * 19 + [False]
    assert shared.call(STRANGER)


async def test_two_that_end_all_their_calls_at_once_leave_room_as_they_begin_anew(
    clock: Clock,
) -> None:
    shared = Shared(clock, 20)
    assert all(shared.calls(ONE, 10) + shared.calls(OTHER, 10))
    clock.pass_s(KEPT_S)
    assert not shared.call(STRANGER)
    shared.end(ONE, 10)
    shared.end(OTHER, 10)
    clock.pass_s(2 * LOOK_EVERY_S)
    assert (shared.calls(ONE, 10) + shared.calls(OTHER, 10)).count(False) == 1
    assert shared.call(STRANGER)


async def test_with_a_queue_none_is_kept_while_anybody_waits(clock: Clock) -> None:
    """Whoever is turned away from a full one goes first once there is room."""
    shared = Shared(clock, 4, queue=3)
    assert all(shared.calls(ONE, 7))
    assert shared.calls(STRANGER, 4)[-1] is False
    clock.pass_s(LOOK_EVERY_S)
    shared.end(ONE)
    shared.end(ONE)
    assert shared.pool.in_flight == 4
    shared.end(ONE, 2)
    assert shared.pool.in_flight == 3
    assert shared.pool.has_capacity_for(ONE)


@pytest.mark.parametrize(("slots", "is_kept"), [(3, False), (4, True)])
async def test_of_few_slots_none_is_kept(clock: Clock, slots: int, is_kept: bool) -> None:
    shared = Shared(clock, slots)
    shared.calls(ONE, slots)
    assert not shared.call(STRANGER)
    shared.end(ONE)
    assert shared.pool.has_capacity_for(STRANGER)
    assert shared.pool.has_capacity_for(ONE) is not is_kept


class SlowCall:
    """It has waited for its client for long."""

    def __init__(self, shared: Shared, ip: str) -> None:
        self.receiver, self.client_ip = self, ip
        self._shared = shared
        shared.pool.connections.add(cast(UpstreamConnection, self))

    def client_waited_s(self, now: float) -> float:
        return 9.0

    def sweep(self, now: float, spec: Upstream) -> None:
        pass

    def end(self, reason: Reason) -> None:
        self._shared.pool.connections.discard(cast(UpstreamConnection, self))
        self._shared.end(self.client_ip)


def crowded(clock: Clock) -> Shared:
    """One holds two slots for slow calls; two others hold one each, and fill the queue."""
    shared = Shared(clock, 4, queue=2)
    assert all(shared.call(ip) for ip in (ONE, ONE, *WITH_SHARE))
    for _ in range(2):
        SlowCall(shared, ONE)
    assert all(shared.call(ip) for ip in WITH_SHARE)
    return shared


async def test_what_a_slow_call_left_goes_to_who_waits_where_others_come_no_more(
    clock: Clock,
) -> None:
    shared = crowded(clock)
    assert not shared.call(STRANGER)
    clock.pass_s(2 * LOOK_EVERY_S)
    assert shared.pool.holders == {ONE: 1, WITH_SHARE[0]: 2, WITH_SHARE[1]: 1}
    assert len(shared.cluster.waiters) == 1


async def test_who_was_turned_away_has_a_place_where_a_slow_call_made_room(
    clock: Clock,
) -> None:
    """Though those that hold a share fill the queue again, as soon as a place of it is free."""
    shared = crowded(clock)
    assert not shared.call(STRANGER)
    clock.pass_s(2 * LOOK_EVERY_S)
    assert shared.calls(ONE, 2) == [True, False]
    assert shared.calls(STRANGER, 2) == [True, False]
    shared.end(WITH_SHARE[0])
    assert shared.pool.holders[STRANGER] == 1


async def test_nobody_has_a_place_past_a_full_queue_where_no_slow_call_made_room(
    clock: Clock,
) -> None:
    shared = Shared(clock, 4, queue=2)
    assert all(shared.call(ip) for ip in (ONE, OTHER, *WITH_SHARE, *WITH_SHARE))
    for _ in range(5):
        assert not shared.call(STRANGER)
        clock.pass_s(LOOK_EVERY_S)


async def test_who_fills_slots_and_queue_makes_room_for_who_has_neither(clock: Clock) -> None:
    shared = Shared(clock, 4, queue=3)
    assert shared.calls(ONE, 8) == [True] * 7 + [False]
    assert shared.calls(STRANGER, 2) == [True] * 2
    shared.end(ONE)
    assert shared.pool.holders == {ONE: 3, STRANGER: 1}


@pytest.mark.parametrize("limits", [(0, 8), (8, 0, 8), (4, 0, 0, 8), (12, 8)])
async def test_whoever_held_slots_before_a_reload_set_their_number_holds_them(
    clock: Clock, limits: tuple[int, ...]
) -> None:
    """It has its share and more: what falls free is for others, as if they had never been more."""
    shared = Shared(clock, limits[0])
    shared.calls(ONE, 4)
    for slots in limits[1:]:
        shared.reload(slots)
    shared.calls(ONE, 4)
    assert shared.pool.holders == {ONE: 8}
    assert not shared.call(STRANGER)
    for _ in range(20):
        shared.end(ONE)
        assert shared.comes_and_goes(STRANGER)
        clock.pass_s(LOOK_EVERY_S)
        assert shared.calls(ONE, 8 - shared.pool.in_flight)[-1] is False


async def test_while_one_has_half_what_falls_free_goes_to_those_who_have_less(clock: Clock) -> None:
    """By turns with whoever waits longest, calls that last would have all of it in the end."""
    shared = Shared(clock, 20, queue=40)
    shared.calls(ONE, 20)
    own = [shared.waits(ONE) for _ in range(10)]
    others = [shared.waits(f"10.4.{number}.1") for number in range(8)]
    clock.pass_s(LOOK_EVERY_S)
    shared.end(ONE, 8)
    assert [one.slot.done() for one in others if one] == [True] * 8
    assert not any(one.slot.done() for one in own if one)
    # It has 12 now: who comes goes first until it has less than half.
    more = [shared.waits(f"10.4.{number}.1") for number in range(6)]
    shared.end(ONE, 4)
    assert [one.slot.done() for one in more if one] == [True] * 3 + [False] * 3
    assert sum(one.slot.done() for one in own if one) == 1


async def test_the_half_of_whoever_has_most_is_all_that_it_keeps_from_many(clock: Clock) -> None:
    shared = Shared(clock, 20)
    shared.calls(ONE, 20)
    for _ in range(12):
        assert not any(shared.call(f"10.4.{number}.1") for number in range(12))
        clock.pass_s(LOOK_EVERY_S)
    for _ in range(10):
        shared.end(ONE)
        assert not shared.call(ONE)
    assert all(shared.call(f"10.4.{number}.1") for number in range(10))


async def test_what_is_reserved_is_given_up_slot_by_slot_once_nobody_lacks_it(clock: Clock) -> None:
    shared = Shared(clock, 20)
    shared.calls(ONE, 20)
    for _ in range(5):
        assert not any(shared.calls(STRANGER, 4))
        clock.pass_s(LOOK_EVERY_S)
    shared.end(ONE, 4)
    assert not shared.call(ONE)
    clock.pass_s(2 * GIVEN_UP_AFTER_S + 3 * LOOK_EVERY_S)
    assert shared.calls(ONE, 3) == [True, True, False]
    clock.pass_s(KEPT_S + 2 * GIVEN_UP_AFTER_S)
    assert shared.calls(ONE, 2) == [True, True]
    assert shared.pool.shares is None


async def test_no_more_are_reserved_than_calls_lack_one(clock: Clock) -> None:
    """One call that waits for long is no reason to leave half of all slots empty."""
    shared = Shared(clock, 20, queue=40)
    shared.calls(ONE, 20)
    own = [shared.waits(ONE) for _ in range(5)]
    other = shared.waits(STRANGER)
    clock.pass_s(LACK_S + 10 * LOOK_EVERY_S)
    shared.end(ONE, 3)
    assert other is not None
    assert other.slot.done()
    assert sum(one.slot.done() for one in own if one) == 1


async def test_with_a_queue_is_reserved_what_somebody_waited_for_in_vain(clock: Clock) -> None:
    shared = Shared(clock, 20, queue=20)
    shared.calls(ONE, 20)
    own, other = shared.waits(ONE), shared.waits(STRANGER)
    assert own is not None
    assert other is not None
    clock.pass_s(LACK_S + 2 * LOOK_EVERY_S)
    shared.end(ONE)
    assert other.slot.done()
    shared.end(STRANGER)
    assert not own.slot.done()
    assert shared.call(STRANGER)
    shared.end(STRANGER)
    clock.pass_s(4 * GIVEN_UP_AFTER_S)
    assert own.slot.done()


async def test_with_a_queue_nothing_is_reserved_where_nobody_waits_for_long(clock: Clock) -> None:
    shared = Shared(clock, 20, queue=20)
    shared.calls(ONE, 20)
    own = [shared.waits(ONE) for _ in range(3)]
    for _ in range(10):
        other = shared.waits(STRANGER)
        assert other is not None
        clock.pass_s(LACK_S - LOOK_EVERY_S)
        shared.end(ONE)
        assert other.slot.done()
        shared.end(STRANGER)
        shared.waits(ONE)
    assert all(one.slot.done() for one in own if one)


async def test_who_may_not_wait_for_long_lacks_one_sooner(clock: Clock) -> None:
    shared = Shared(clock, 20, queue=20)
    shared.reload(20, queue=20, connect_s=LACK_S)
    shared.calls(ONE, 20)
    own, other = shared.waits(ONE), shared.waits(STRANGER)
    assert own is not None
    assert other is not None
    clock.pass_s(2 * LOOK_EVERY_S)
    shared.end(ONE)
    assert other.slot.done()
    shared.end(STRANGER)
    assert not own.slot.done()


async def test_for_who_gave_up_before_anybody_looked_one_is_reserved(clock: Clock) -> None:
    """As for who found no place; else nothing ever would be, where nobody may wait for long."""
    shared = Shared(clock, 20, queue=20)
    shared.reload(20, queue=20, connect_s=LOOK_EVERY_S / 2)
    shared.calls(ONE, 20)
    for _ in range(3):
        waiter = shared.waits(STRANGER)
        assert waiter is not None
        clock.pass_s(LOOK_EVERY_S / 2)
        shared.cluster.waiters.give_up(waiter)
        clock.pass_s(LOOK_EVERY_S / 2)
    own = shared.waits(ONE)
    assert own is not None
    shared.end(ONE)
    assert not own.slot.done()
    assert not shared.pool.has_capacity_for(ONE)
    assert shared.call(STRANGER)


async def test_where_calls_end_soon_nothing_is_reserved_for_who_gives_up(clock: Clock) -> None:
    """In an overload of short calls somebody always does, and a slot would stand empty."""
    shared = Shared(clock, 20, queue=20)
    shared.reload(20, queue=20, connect_s=0.25)
    shared.calls(ONE, 20)
    first = shared.waits(STRANGER)
    assert first is not None
    shared.cluster.waiters.discard(first)
    for _ in range(10):
        for _ in range(20):
            shared.end(ONE)
            assert shared.call(ONE)
        waiter = shared.waits(STRANGER)
        assert waiter is not None
        clock.pass_s(0.25)
        waiter.slot.cancel()
        shared.cluster.waiters.give_up(waiter)
        clock.pass_s(LOOK_EVERY_S)
    assert shared.pool.shares is not None
    assert shared.pool.shares.reserve == 0


async def test_what_is_reserved_stays_for_as_long_as_the_last_of_it_is_taken(
    clock: Clock,
) -> None:
    """Whoever came a moment later would have lacked it: given up, it would be gone for long."""
    shared = Shared(clock, 20, queue=20)
    shared.calls(ONE, 20)
    own, other = shared.waits(ONE), shared.waits(STRANGER)
    assert own is not None
    assert other is not None
    clock.pass_s(LACK_S + 2 * LOOK_EVERY_S)
    shared.end(ONE)
    assert other.slot.done()
    for _ in range(8):
        clock.pass_s(LOOK_EVERY_S)
        shared.end(STRANGER)
        clock.pass_s(GIVEN_UP_AFTER_S / 2)
        assert shared.call(STRANGER)
        assert shared.pool.in_flight == 20
    assert not own.slot.done()
    clock.pass_s(LOOK_EVERY_S)
    shared.end(STRANGER)
    clock.pass_s(2 * GIVEN_UP_AFTER_S)
    assert own.slot.done()


async def test_a_call_that_waits_in_vain_is_told_to_the_queue() -> None:
    clusters = Clusters()
    spec = Upstream("u", (target(20_000),), max_connections=20, queue=20, timeout_connect_s=0.01)
    cluster = clusters.cluster_of(spec)
    (pool,) = cluster.targets
    for _ in range(20):
        pool.acquire(ONE)
    async with asyncio.timeout(60):
        while pool.shares is None or not pool.shares.reserve:
            assert await cluster.acquire_slot(STRANGER) is None
    pool.release(ONE)
    assert pool.has_capacity_for(STRANGER)
    assert not pool.has_capacity_for(ONE)
    clusters.close()


async def test_what_each_holds_is_counted_through_all_reloads(clock: Clock) -> None:
    """Worlds by chance: calls that come, wait, are turned away and end, and limits that change."""
    for seed in range(25):
        world = World(Shared(clock, 2, queue=2), Random(seed))
        for _ in range(120):
            world.step()
            world.check()
        world.end_all()
        clock.pass_s(KEPT_S + 8 * GIVEN_UP_AFTER_S)
        assert (world.shared.pool.in_flight, world.shared.pool.holders) == (0, {})
        assert world.shared.pool.shares is None


class World:
    def __init__(self, shared: Shared, random: Random) -> None:
        self.shared = shared
        self._random = random
        self._held: list[str] = []
        self._waiting: list[Waiter[TargetPool]] = []

    def step(self) -> None:
        shared, random = self.shared, self._random
        for _ in range(random.randint(0, 5)):
            ip = f"10.{random.randint(1, 6)}.1.{random.randint(1, 2)}"
            if shared.pool.has_capacity_for(ip):
                shared.pool.acquire(ip)
                self._held.append(ip)
            elif waiter := shared.waits(ip):
                self._waiting.append(waiter)
        for _ in range(random.randint(0, min(3, len(self._held)))):
            shared.end(self._held.pop(random.randrange(len(self._held))))
        if random.random() < 0.1:
            shared.reload(random.choice((0, 1, 2, 4, 8)), random.choice((0, 1, 2, 8)))
        shared.clock.pass_s(random.choice((0.01, LOOK_EVERY_S, KEPT_S / 2)))
        self._take_given()

    def _take_given(self) -> None:
        done = [waiter for waiter in self._waiting if waiter.slot.done()]
        self._waiting = [waiter for waiter in self._waiting if not waiter.slot.done()]
        self._held += [waiter.client_ip for waiter in done if waiter.slot.result() is not None]

    def check(self) -> None:
        pool = self.shared.pool
        assert (pool.in_flight, pool.holders) == (len(self._held), Counter(self._held))
        if pool.shares is not None:
            assert pool.shares.held == Counter(map(neighbourhood, self._held))

    def end_all(self) -> None:
        for waiter in self._waiting:
            self.shared.cluster.waiters.discard(waiter)
        for ip in self._held:
            self.shared.end(ip)
        self.shared.clock.pass_s(KEPT_S + 2 * LOOK_EVERY_S)
