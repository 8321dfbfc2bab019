"""Each neighbourhood its share of a target's slots, while somebody wants one."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.upstream.slot_shares import (
    PATIENCE_S,
    Shares,
    SlowCall,
    Want,
    share_of,
    to_end,
)

LONG, SHORT = 2 * PATIENCE_S, PATIENCE_S / 2


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
        self.held: Counter[str] = Counter()
        for number, count in slow.items():
            self.held[network(number)] += count
            self.slow[network(number)] = [SlowCall(waited_s, cast(Any, None)) for _ in range(count)]
        for number, count in (busy or {}).items():
            self.held[network(number)] += count

    def ended_for(self, *wants: int, share: int, half: int) -> dict[str, int]:
        """Of each neighbourhood, how many make room."""
        asking = [Want(ip(number), network(number)) for number in wants]
        before = {name: len(calls) for name, calls in self.slow.items()}
        to_end(self.slow, asking, self.held, share=share, half=half)
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
    pairs = to_end(target.slow, [Want(ip(2), network(2))], target.held, share=1, half=1)
    assert [call for _, call in pairs] == [longest]


def shared(held: dict[int, int], *, share: int, kept: int = 0) -> Shares:
    shares = Shares(20, {ip(number): count for number, count in held.items()})
    shares.share, shares.kept = share, kept
    return shares


def test_who_holds_its_share_takes_no_slot_that_is_kept_for_others() -> None:
    shares = shared({1: 2}, share=2, kept=1)
    assert not shares.admits(ip(1), 1)
    assert shares.admits(ip(2), 1)


def test_of_more_free_slots_than_are_kept_it_takes_one() -> None:
    shares = shared({1: 3}, share=3, kept=2)
    assert [shares.admits(ip(1), free) for free in (1, 2, 3)] == [False, False, True]


def test_clients_of_one_neighbourhood_hold_together() -> None:
    shares = Shares(20, {"10.0.1.1": 1, "10.0.1.2": 1, "10.0.2.1": 1})
    assert shares.held == {network(1): 2, network(2): 1}


def test_what_is_taken_and_given_back_counts_at_once() -> None:
    shares = shared({1: 1}, share=2, kept=1)
    assert shares.admits(ip(1), 1)
    shares.record(ip(1))
    assert not shares.admits(ip(1), 1)
    shares.record_end(ip(1))
    assert shares.admits(ip(1), 1)


def test_who_takes_more_than_its_share_has_not_come_for_a_kept_slot() -> None:
    shares = shared({1: 2}, share=2)
    shares.record(ip(1))
    shares.record(ip(2))
    assert shares.came == {network(2)}
    assert [shares.past(network(number)) for number in (1, 2, 3)] == [1, 0, 0]


def test_an_end_that_was_not_seen_to_begin_counts_for_nothing() -> None:
    shares = shared({1: 1}, share=2)
    for _ in range(2):
        shares.record_end(ip(1))
    assert not shares.held
