"""Each neighbourhood its share of a target's slots, while somebody wants one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.slot_shares import (
    PATIENCE_S,
    Shares,
    SlowCall,
    Want,
    share_of,
    to_end,
)

LONG, SHORT = 2 * PATIENCE_S, PATIENCE_S / 2


@dataclass
class Receiver:
    client_ip: str


@dataclass
class Connection:
    receiver: Receiver | None = field(default=None)


def ip(number: int) -> str:
    return f"10.0.{number}.1"


def network(number: int) -> str:
    return f"10.0.{number}.0/24"


class Target:
    """Slots that are held by so many slow calls of each neighbourhood, and by busy ones."""

    def __init__(
        self, slow: dict[int, int], busy: dict[int, int] | None = None, *, waited_s: float = LONG
    ) -> None:
        self.slow: dict[str, list[SlowCall]] = {}
        self.connections: list[Any] = [Connection()]
        for number, count in slow.items():
            own = [Connection(Receiver(ip(number))) for _ in range(count)]
            self.connections += own
            self.slow[network(number)] = [
                SlowCall(waited_s, cast(UpstreamConnection, each)) for each in own
            ]
        for number, count in (busy or {}).items():
            self.connections += [Connection(Receiver(ip(number))) for _ in range(count)]

    def ended_for(self, *wants: int, share: int, half: int) -> dict[str, int]:
        """Of each neighbourhood, how many make room."""
        asking = [Want(ip(number), network(number)) for number in wants]
        before = {name: len(calls) for name, calls in self.slow.items()}
        to_end(self.slow, asking, self.connections, share=share, half=half)
        return {
            name: count - len(self.slow[name])
            for name, count in before.items()
            if count > len(self.slow[name])
        }


@given(st.integers(2, 200), st.data())
def test_shares_leave_room_to_one_more_neighbourhood(slots: int, data: st.DataObject) -> None:
    holders = data.draw(st.integers(1, slots - 1))
    assert holders * share_of(slots, holders + 1) < slots


@given(st.integers(1, 200), st.integers(1, 300))
def test_a_share_is_half_at_most_and_one_at_least(slots: int, neighbourhoods: int) -> None:
    assert 1 <= share_of(slots, neighbourhoods) <= (slots + 1) // 2


def test_the_neighbourhood_that_has_most_makes_room_call_by_call() -> None:
    target = Target({1: 8, 2: 10, 3: 2})
    assert target.ended_for(9, 9, 9, 9, share=5, half=10) == {network(1): 1, network(2): 3}


def test_nobody_gives_more_than_what_is_past_the_share() -> None:
    target = Target({1: 7, 2: 7})
    wants = list(range(20, 40))
    assert target.ended_for(*wants, share=6, half=10) == {network(1): 1, network(2): 1}


def test_who_wants_a_slot_gets_none_that_would_give_it_as_many() -> None:
    assert not Target({1: 3, 2: 1}, {3: 2}).ended_for(3, share=1, half=3)
    assert Target({1: 3, 2: 1}, {3: 1}).ended_for(3, 3, share=1, half=3) == {network(1): 1}


def test_who_has_more_than_half_gives_it_to_whoever_wants_a_slot() -> None:
    assert Target({1: 4}, {2: 4}).ended_for(2, share=3, half=3) == {network(1): 1}
    assert Target({1: 4}).ended_for(1, 1, share=3, half=3) == {network(1): 1}


def test_who_has_not_waited_for_long_makes_no_room() -> None:
    assert not Target({1: 4}, waited_s=SHORT).ended_for(2, share=2, half=2)


def test_of_one_neighbourhood_those_that_have_waited_longest_make_room() -> None:
    target = Target({1: 2})
    longest = target.slow[network(1)][-1]
    pairs = to_end(target.slow, [Want(ip(2), network(2))], target.connections, share=1, half=1)
    assert [call for _, call in pairs] == [longest]


def test_one_that_has_its_share_takes_no_slot_that_is_kept_for_others() -> None:
    shares = Shares(2, Target({1: 2}).slow, {network(2): 1}, most_kept=100)
    assert not shares.admits(ip(1), 1)
    assert shares.admits(ip(2), 1)
    assert shares.admits(ip(3), 1)


def test_of_more_free_slots_than_are_kept_it_takes_one() -> None:
    shares = Shares(3, Target({1: 3}).slow, {network(2): 2}, most_kept=100)
    assert [shares.admits(ip(1), free) for free in (1, 2, 3)] == [False, False, True]


def test_no_more_than_its_share_is_kept_for_a_neighbourhood() -> None:
    shares = Shares(2, Target({1: 2}).slow, {network(2): 500}, most_kept=100)
    assert [shares.admits(ip(1), free) for free in (2, 3)] == [False, True]


def test_nothing_is_kept_for_who_has_its_share() -> None:
    shares = Shares(1, Target({1: 1, 2: 1}).slow, {network(2): 1}, most_kept=100)
    assert shares.admits(ip(1), 1)


def test_what_is_taken_between_two_looks_counts() -> None:
    shares = Shares(2, Target({1: 1}).slow, {network(2): 1}, most_kept=100)
    assert shares.admits(ip(1), 1)
    shares.record(ip(1))
    assert not shares.admits(ip(1), 1)
    assert shares.came == {network(1)}


def test_who_has_no_slow_call_takes_as_many_as_there_are() -> None:
    shares = Shares(1, {}, {network(2): 1}, most_kept=100)
    for _ in range(10):
        assert shares.admits(ip(1), 1)
        shares.record(ip(1))


def test_who_ends_all_its_slow_calls_at_once_does_not_have_the_slots_again_at_once() -> None:
    shares = Shares(10, Target({1: 20}).slow, {network(2): 1}, most_kept=100)
    looks = 0
    while not shares.admits(ip(1), 1):
        shares = Shares(10, {}, {network(2): 1}, shares, most_kept=100)
        looks += 1
    assert looks == 6


def test_no_more_is_kept_than_was_said() -> None:
    kept = {network(number): 1 for number in range(2, 22)}
    shares = Shares(1, Target({1: 1}).slow, kept, most_kept=10)
    assert [shares.admits(ip(1), free) for free in (10, 11)] == [False, True]


def test_it_is_crowded_where_somebody_has_more_than_a_share() -> None:
    assert [Shares(2, Target({1: n, 2: 1}).slow, {}, most_kept=1).is_crowded for n in (2, 3)] == [
        False,
        True,
    ]
