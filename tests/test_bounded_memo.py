"""A memo holds no more than its limit, and nothing for longer than it says once others come."""

from __future__ import annotations

from gateway.bounded_memo import BoundedMemo


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_full_memo_is_emptied_by_the_next_entry() -> None:
    memo: BoundedMemo[int, str] = BoundedMemo(2)
    for number in (1, 2, 3):
        memo.keep(number, "x")
    assert dict(memo) == {3: "x"}


def test_what_is_older_than_it_is_kept_for_goes_when_something_new_comes() -> None:
    clock = Clock()
    memo: BoundedMemo[int, str] = BoundedMemo(10, kept_s=60.0, clock=clock)
    memo.keep(1, "x")
    clock.now += 59.0
    memo.keep(2, "x")
    assert set(memo) == {1, 2}
    clock.now += 2.0
    assert set(memo) == {1, 2}
    memo.keep(3, "x")
    assert set(memo) == {3}
    clock.now += 59.0
    memo.keep(4, "x")
    assert set(memo) == {3, 4}


def test_without_a_time_only_the_number_of_entries_ends_one() -> None:
    clock = Clock()
    memo: BoundedMemo[int, str] = BoundedMemo(10, clock=clock)
    memo.keep(1, "x")
    clock.now += 1_000_000.0
    memo.keep(2, "x")
    assert set(memo) == {1, 2}


def test_a_key_comes_again_when_it_was_met_a_little_while_ago() -> None:
    memo: BoundedMemo[str, str] = BoundedMemo(3)
    met = [memo.comes_again(key) for key in ("a", "b", "c", "a", "b", "c")]
    assert met == [False] * 3 + [True] * 3
    assert not memo  # it only says so


def test_of_keys_that_are_met_once_no_more_are_known_than_a_memo_holds() -> None:
    memo: BoundedMemo[str, str] = BoundedMemo(3)
    assert not any(memo.comes_again(str(number)) for number in range(1_000))
    assert memo.comes_again("999")
    assert not memo.comes_again("1")
