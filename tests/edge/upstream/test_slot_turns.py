"""Whose turn it is, among those who wait for a slot, and who gives a place up where all wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from gateway.access.definitions import Upstream
from gateway.client_networks import neighbourhood
from gateway.edge.upstream.slot_reach import SlotReach
from gateway.edge.upstream.slot_shares import Shares
from gateway.edge.upstream.slot_turns import SlotTurns, Waiter

OFFICE = "10.0.1.1"
OTHERS = [f"10.0.{number}.1" for number in range(2, 8)]


class Held:
    """A target all of whose slots are held, so many by each client."""

    connections: frozenset[Any] = frozenset()
    has_capacity = False
    health = None

    def __init__(self, slots: int, *, share: int, **held: int) -> None:
        self.spec = Upstream("api", (), max_connections=slots)
        self.holders = {OFFICE: held.pop("office", 0), OTHERS[0]: held.pop("other", 0)}
        self.shares = Shares(slots, self.holders)
        self.shares.share = share
        self.in_flight = slots

    def acquire(self, client_ip: str) -> None:
        self.shares.record(client_ip)


def queue(target: Held, ips: Iterable[str]) -> SlotTurns[Any]:
    turns: SlotTurns[Any] = SlotTurns()
    for ip in ips:
        turns.add(waiter(target, ip))
    return turns


def waiter(target: Held, ip: str) -> Waiter[Any]:
    future = asyncio.get_running_loop().create_future()
    return Waiter(ip, neighbourhood(ip), (target,), future)


def served(turns: SlotTurns[Any], target: Held, count: int) -> list[str]:
    """Of so many slots that fall free one after the other, who gets each."""
    chosen = []
    target.in_flight -= 1
    for _ in range(count):
        if (one := turns.next_for(target, SlotReach(0.0))) is not None:
            chosen.append(one.client_ip)
            target.acquire(one.client_ip)
    return chosen


async def test_who_has_its_share_has_every_other_slot_that_it_waits_longer_for() -> None:
    """One upload keeps nobody of its neighbourhood away, however many others come meanwhile."""
    target = Held(8, share=1, office=1)
    turns = queue(target, (OFFICE, OFFICE, *OTHERS))
    assert served(turns, target, 4) == [OTHERS[0], OFFICE, OTHERS[1], OFFICE]


async def test_neighbourhoods_that_have_not_take_turns() -> None:
    target = Held(20, share=9)
    turns = queue(target, (OFFICE,) * 9 + (OTHERS[0], OTHERS[1]))
    assert served(turns, target, 5) == [OFFICE, OTHERS[0], OFFICE, OTHERS[1], OFFICE]


async def test_where_each_waits_with_one_call_who_came_first_is_first() -> None:
    target = Held(4, share=1)
    callers = [f"10.{number // 250}.{number % 250}.1" for number in range(1000)]
    assert served(queue(target, callers), target, 1000) == callers


async def test_where_all_have_their_share_who_waits_longest_is_first() -> None:
    target = Held(4, share=1, office=3, other=1)
    turns = queue(target, (OTHERS[0], OFFICE, OTHERS[0]))
    assert served(turns, target, 3) == [OTHERS[0], OFFICE, OTHERS[0]]


async def test_a_slot_that_is_kept_is_given_to_who_has_less_than_its_share_each_time() -> None:
    target = Held(4, share=1, office=3)
    target.shares.kept = 1
    turns = queue(target, (OFFICE, *OTHERS[1:4]))
    assert served(turns, target, 3) == OTHERS[1:4]


async def test_a_slot_that_is_kept_stands_empty_beside_nobody_who_waits() -> None:
    """Those it is kept for may never come again."""
    target = Held(4, share=1, office=3, other=1)
    target.shares.kept = 1
    turns = queue(target, (OFFICE, OTHERS[0]))
    assert served(turns, target, 2) == [OFFICE, OTHERS[0]]


async def test_whoever_has_most_gives_its_last_place_to_a_newcomer() -> None:
    """By ordinary calls alone, which are not slow, it holds all slots and all places."""
    target = Held(4, share=2, office=4)
    turns = queue(target, (OFFICE, OFFICE, OTHERS[0]))
    last = list(turns)[1]
    assert turns.make_room(neighbourhood(OTHERS[1]), (target,), 4)
    assert last.slot.result() is None
    assert [each.client_ip for each in turns] == [OFFICE, OTHERS[0]]


async def test_who_has_most_gets_no_place_from_others() -> None:
    target = Held(4, share=2, office=4)
    turns = queue(target, (OTHERS[0], OTHERS[0], OTHERS[1]))
    assert not turns.make_room(neighbourhood(OFFICE), (target,), 4)
    assert len(turns) == 3


async def test_who_has_no_more_than_its_share_gives_its_only_place_to_nobody() -> None:
    target = Held(4, share=1, office=1)
    turns = queue(target, (OFFICE,))
    newcomer = neighbourhood(OTHERS[1])
    assert not turns.make_room(newcomer, (target,), 3)
    target.acquire(OFFICE)  # one more
    turns.look_again()
    assert turns.make_room(newcomer, (target,), 3)


async def test_places_are_given_up_until_none_has_more_than_another() -> None:
    target = Held(4, share=2)
    turns = queue(target, [OFFICE] * 4 + [OTHERS[0]] * 2)
    for number in range(10, 13):
        newcomer = waiter(target, f"10.0.{number}.1")
        assert turns.make_room(newcomer.network, (target,), 4)
        turns.add(newcomer)
    left = [each.client_ip for each in turns]
    assert (left.count(OFFICE), left.count(OTHERS[0])) in {(1, 2), (2, 1)}
    turns.add(waiter(target, OTHERS[5]))
    turns.add(waiter(target, OTHERS[5]))
    for number in (20, 21):
        assert turns.make_room(neighbourhood(f"10.0.{number}.1"), (target,), 4)
    assert not turns.make_room(neighbourhood("10.0.22.1"), (target,), 4)
    assert len({each.network for each in turns}) == len(turns)


async def test_whoever_has_a_quarter_of_the_places_keeps_them() -> None:
    """In an honest overload one address may stand for many people, and lose no more than that."""
    target = Held(4, share=1)
    turns = queue(target, [OFFICE] * 3 + OTHERS[:1])
    newcomer = neighbourhood(OTHERS[1])
    assert not turns.make_room(newcomer, (target,), 12)
    turns.add(waiter(target, OFFICE))
    assert turns.make_room(newcomer, (target,), 12)
    assert not turns.make_room(newcomer, (target,), 12)
