"""Where those who want a slot may be sent, and how little it takes to know that for thousands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.definitions import Breaker, Health, Upstream
from gateway.edge.upstream.clusters import Cluster, Clusters
from gateway.edge.upstream.outcome import Outcome
from gateway.edge.upstream.slot_queue import LOOK_EVERY_S
from gateway.edge.upstream.slot_reach import SlotReach, callable_targets
from gateway.edge.upstream.target_health import TargetHealth
from tests.edge.rig import target
from tests.edge.upstream.test_slot_holders import Clock

HEALTH = Health("/", every_s=600.0, fall=1, rise=1, timeout_s=1.0)
BREAKER = Breaker(failures=1, window_s=10.0, open_s=60.0)
TARGETS, CALLS = 16, 200
CLIENTS = ("10.1.1.1", "10.2.2.1")


class Counting(TargetHealth):
    """Counts how often it is asked."""

    def __init__(self, spec: Upstream, asked: Callable[[], None]) -> None:
        super().__init__(spec, "http://x")
        self._asked = asked

    def admits(self, client_ip: str, now: float) -> bool:
        self._asked()
        return super().admits(client_ip, now)


class Upstreams:
    """One whose targets have no slot left, and how often they are asked."""

    def __init__(self, clock: Clock, queue: int = 0) -> None:
        self.asked = 0
        self._clusters = Clusters(cast(asyncio.AbstractEventLoop, clock))
        spec = Upstream(
            "u",
            tuple(target(20_000 + number) for number in range(TARGETS)),
            max_connections=1,
            queue=queue,
            health=HEALTH,
            breaker=BREAKER,
        )
        self.cluster: Cluster = self._clusters.cluster_of(spec)
        for each in self.cluster.targets:
            each.health = Counting(spec, self._count)
            each.acquire("10.0.0.1")

    def _count(self) -> None:
        self.asked += 1

    def many_come(self) -> None:
        cluster = self.cluster
        for number in range(CALLS):
            cluster.waiters.add(cluster.targets, f"10.9.{number}.1", cluster.spec.queue)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("queue", [0, CALLS])
@pytest.mark.parametrize("are_well", [True, False])
async def test_one_look_asks_each_target_once_however_many_want_a_slot(
    clock: Clock, are_well: bool, queue: int
) -> None:
    upstream = Upstreams(clock, queue)
    for each in upstream.cluster.targets:
        assert each.health is not None
        each.health.record_probe(are_well)
    upstream.many_come()
    upstream.asked = 0
    clock.pass_s(LOOK_EVERY_S)
    assert upstream.asked == TARGETS


async def test_while_a_breaker_is_open_each_address_is_asked_for_once(clock: Clock) -> None:
    upstream = Upstreams(clock)
    for each in upstream.cluster.targets:
        assert each.health is not None
        each.health.record_probe(False)
    upstream.cluster.targets[0].record_end(Outcome.UNREACHED, "10.0.0.1")
    upstream.many_come()
    upstream.asked = 0
    clock.pass_s(LOOK_EVERY_S)
    assert upstream.asked == TARGETS * (CALLS - 1)  # of the first one it was seen at once


async def test_a_free_slot_where_nobody_may_be_sent_is_not_asked_for_each_who_waits(
    clock: Clock,
) -> None:
    upstream = Upstreams(clock, CALLS)
    out = upstream.cluster.targets[0]
    assert out.health is not None
    out.health.record_probe(False)
    upstream.many_come()
    upstream.asked = 0
    out.release("10.0.0.1")
    assert (out.in_flight, upstream.asked) == (0, TARGETS)


@pytest.mark.parametrize("is_shut", [True, False])
async def test_a_free_slot_of_a_target_whose_breaker_is_open_is_asked_of_that_one_alone(
    clock: Clock, is_shut: bool
) -> None:
    """Its calls end by the hundred then, while thousands wait."""
    upstream = Upstreams(clock, CALLS)
    out = upstream.cluster.targets[0]
    for number in range(CALLS):
        out.record_end(Outcome.UNREACHED if is_shut else Outcome.BROKEN, f"10.9.{number}.1")
    upstream.many_come()
    upstream.asked = 0
    out.release("10.0.0.1")
    assert (out.in_flight, upstream.asked) == (0, CALLS)


async def test_of_two_free_slots_a_neighbourhood_that_tries_the_target_has_one(
    clock: Clock,
) -> None:
    clusters = Clusters(cast(asyncio.AbstractEventLoop, clock))
    spec = Upstream("u", (target(20_000),), max_connections=2, queue=2, breaker=BREAKER)
    cluster = clusters.cluster_of(spec)
    (out,) = cluster.targets
    for _ in range(2):
        out.acquire(CLIENTS[1])
    for _ in range(2):
        cluster.waiters.add(cluster.targets, CLIENTS[0], 2)
    out.record_end(Outcome.UNREACHED, CLIENTS[1])
    for _ in range(2):
        out.release(CLIENTS[1])
    assert len(cluster.waiters) == 2
    clock.pass_s(BREAKER.open_s + LOOK_EVERY_S)
    assert (out.in_flight, len(cluster.waiters)) == (1, 1)


class Known:
    def __init__(self, health: TargetHealth | None) -> None:
        self.health = health


def known(kind: str, probe: bool) -> Known:
    if kind == "plain":
        return Known(None)
    breaker = None if kind == "probed" else BREAKER
    health = TargetHealth(Upstream("u", (), health=HEALTH, breaker=breaker), "http://x")
    health.record_probe(probe)
    if kind == "open to one":
        health.record_end(Outcome.BROKEN, CLIENTS[0], 0.0)
    elif kind == "open":
        health.record_end(Outcome.UNREACHED, CLIENTS[0], 0.0)
    return Known(health)


KINDS = st.sampled_from(["plain", "probed", "closed", "open to one", "open"])


@given(st.lists(st.tuples(KINDS, st.booleans()), min_size=1, max_size=5))
def test_a_call_is_sent_to_a_bad_target_only_where_no_better_one_lets_it_pass(
    kinds: list[tuple[str, bool]],
) -> None:
    targets = [known(kind, probe) for kind, probe in kinds]
    reach: SlotReach[Known] = SlotReach(1.0)
    for client_ip in CLIENTS * 2:
        expected = {one for one in targets if may_be_called(one, client_ip, targets)}
        assert reach.of(client_ip, targets) == expected
        assert set(callable_targets(client_ip, targets, 1.0)) == expected


def may_be_called(one: Known, client_ip: str, among: Collection[Known]) -> bool:
    if one.health is None:
        return True
    if not one.health.admits(client_ip, 1.0):
        return False
    return one.health.healthy or not any(
        other.health is None or (other.health.healthy and other.health.admits(client_ip, 1.0))
        for other in among
    )


def test_what_was_known_is_asked_again_once_somebody_was_sent_somewhere() -> None:
    """The next call of its neighbourhood does not try the same target."""
    spec = Upstream("u", (), breaker=Breaker(failures=1, window_s=10.0, open_s=1.0))
    one, other = Known(TargetHealth(spec, "http://x")), Known(None)
    assert one.health is not None
    one.health.record_end(Outcome.UNREACHED, CLIENTS[0], 0.0)
    targets = [one, other]
    reach: SlotReach[Known] = SlotReach(2.0)
    assert reach.of(CLIENTS[0], targets) == {one, other}
    one.health.record_dispatch(CLIENTS[0], 2.0)
    reach.forget()
    assert reach.of(CLIENTS[0], targets) == {other}
