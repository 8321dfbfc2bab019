"""The login throttle's counters in memory: windows, waits, and what is forgotten when."""

from __future__ import annotations

import pytest

from gateway.identity.sign_in.local_attempts import LocalAttempts
from gateway.stores.protocols import Attempt
from tests.databases import Hands

PLAIN = Attempt("plain", 2, 900)
PACED = Attempt("paced", 5, 900, paced=True)
HOURLY = Attempt("hourly", 2, 900, an_hour=3)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def counters(clock: Hands) -> LocalAttempts:
    return LocalAttempts(clock)


async def wait(counters: LocalAttempts, *attempts: Attempt, mark: str = "asked") -> float:
    """How long the next one would have to wait; it is not counted."""
    result = await counters.reserve(attempts, mark)
    if result.wait_s == 0:
        await counters.give_back(attempts, mark)
    return result.wait_s


async def opens_after(
    counters: LocalAttempts, clock: Hands, attempt: Attempt, after_s: float
) -> None:
    """A second before that, there is a second to wait."""
    clock.move(after_s - 1)
    assert await wait(counters, attempt) == 1.0
    clock.move(1)
    assert await wait(counters, attempt) == 0.0


async def failed(counters: LocalAttempts, attempt: Attempt, mark: str) -> None:
    await counters.settle([attempt], mark, failed=True)


async def test_a_full_counter_waits_until_its_oldest_has_left_the_window(
    counters: LocalAttempts, clock: Hands
) -> None:
    for mark in ("a", "b"):
        assert await wait(counters, PLAIN) == 0.0
        await counters.settle([PLAIN], mark, failed=False)
        clock.move(10)
    assert await wait(counters, PLAIN) == 880.0
    await opens_after(counters, clock, PLAIN, 880)


async def test_what_is_under_way_is_waited_for_a_second(
    counters: LocalAttempts, clock: Hands
) -> None:
    for mark in ("a", "b"):
        assert (await counters.reserve([PLAIN], mark)).wait_s == 0.0
    assert await wait(counters, PLAIN) == 1.0
    await opens_after(counters, clock, PLAIN, 120)


async def test_in_a_short_window_what_is_under_way_counts_no_longer_than_that(
    counters: LocalAttempts, clock: Hands
) -> None:
    short = Attempt("short", 1, 60)
    await counters.reserve([short], "a")
    await opens_after(counters, clock, short, 60)


async def test_the_longest_wait_of_all_counters_is_told(
    counters: LocalAttempts, clock: Hands
) -> None:
    one, other = Attempt("one", 1, 900), Attempt("other", 1, 300)
    await counters.settle([one, other], "a", failed=False)
    clock.move(1)
    assert await wait(counters, one, other) == 899.0
    assert await wait(counters, other, one) == 899.0
    assert await wait(counters, other) == 299.0


async def test_each_failure_makes_the_next_attempt_wait_twice_as_long(
    counters: LocalAttempts, clock: Hands
) -> None:
    for number, pause_s in enumerate((1.0, 2.0, 4.0, 8.0)):
        await failed(counters, PACED, f"m{number}")
        result = await counters.reserve([PACED], "asked")
        assert (result.wait_s, result.failures) == (pause_s, number + 1)
        clock.move(pause_s - 0.5)
        assert await wait(counters, PACED) == 0.5
        clock.move(0.5)
        result = await counters.reserve([PACED], "asked")
        assert (result.wait_s, result.failures) == (0.0, number + 1)
        await counters.give_back([PACED], "asked")


async def test_failures_of_what_is_not_paced_are_not_told(counters: LocalAttempts) -> None:
    await failed(counters, PLAIN, "a")
    result = await counters.reserve([PLAIN], "b")
    assert (result.wait_s, result.failures) == (0.0, 0)


async def test_only_failures_within_the_window_make_anybody_wait(
    counters: LocalAttempts, clock: Hands
) -> None:
    """Kept for the hour, an older one counts there alone."""
    paced = Attempt("paced", 2, 900, paced=True, an_hour=9)
    await failed(counters, paced, "a")
    await failed(counters, paced, "b")
    clock.move(900)
    result = await counters.reserve([paced], "c")
    assert (result.wait_s, result.failures) == (0.0, 0)


async def test_the_most_failures_of_any_counter_are_told(counters: LocalAttempts) -> None:
    one, other = Attempt("one", 9, 900, paced=True), Attempt("other", 9, 900, paced=True)
    for mark in ("a", "b"):
        await failed(counters, one, mark)
    await failed(counters, other, "c")
    assert (await counters.reserve([one, other], "d")).failures == 2
    assert (await counters.reserve([other, one], "d")).failures == 2


async def test_once_a_window_was_full_the_hour_counts_as_well(
    counters: LocalAttempts, clock: Hands
) -> None:
    for mark in ("a", "b"):
        await counters.settle([HOURLY], mark, failed=False)
    clock.move(900)
    assert await wait(counters, HOURLY) == 0.0
    await counters.settle([HOURLY], "c", failed=False)
    assert await wait(counters, HOURLY) == 2700.0
    await opens_after(counters, clock, HOURLY, 2700)


async def test_what_never_filled_a_window_is_forgotten_with_it(
    counters: LocalAttempts, clock: Hands
) -> None:
    bound = Attempt("k", 2, 900, an_hour=2)
    for number in range(3):
        await counters.settle([bound], f"m{number}", failed=False)
        clock.move(900)
    assert await wait(counters, bound) == 0.0


async def test_what_was_never_settled_is_not_kept_for_the_hour(
    counters: LocalAttempts, clock: Hands
) -> None:
    bound = Attempt("k", 2, 900, an_hour=3)
    await counters.reserve([bound], "killed")
    await counters.settle([bound], "a", failed=False)
    clock.move(901)
    await counters.settle([bound], "b", failed=False)
    clock.move(1)
    assert await wait(counters, bound) == 0.0


async def test_a_settled_attempt_counts_once(counters: LocalAttempts) -> None:
    await counters.reserve([PLAIN], "a")
    await counters.settle([PLAIN], "a", failed=True)
    assert await wait(counters, PLAIN) == 0.0


async def test_an_attempt_that_is_given_back_counts_nowhere(counters: LocalAttempts) -> None:
    other = Attempt("other", 1, 900)
    for mark in ("a", "b", "c"):
        assert (await counters.reserve([PLAIN, other], mark)).wait_s == 0.0
        await counters.give_back([PLAIN, other], mark)
    await counters.give_back([Attempt("unknown", 1, 900)], "a")
    await counters.give_back([PLAIN], "never reserved")


async def test_a_cleared_counter_is_empty_and_the_others_are_not(counters: LocalAttempts) -> None:
    other = Attempt("other", 1, 900)
    await counters.settle([PLAIN, other], "a", failed=False)
    await counters.clear(["unknown", "other"])
    assert len(counters) == 1
    assert await wait(counters, other) == 0.0
    assert (await counters.reserve([PLAIN], "b")).wait_s == 0.0
    assert (await counters.reserve([PLAIN], "c")).wait_s > 0


async def test_the_counter_that_was_asked_longest_ago_makes_room(clock: Hands) -> None:
    counters = LocalAttempts(clock, most=2)
    one, two, three = (Attempt(key, 1, 900) for key in ("one", "two", "three"))
    await counters.settle([one], "a", failed=False)
    await counters.settle([two], "a", failed=False)
    assert await wait(counters, one) == 900.0
    await counters.settle([three], "a", failed=False)
    assert len(counters) == 2
    assert await wait(counters, one) == 900.0
    assert await wait(counters, two) == 0.0


async def test_fifty_thousand_counters_are_kept_at_most(clock: Hands) -> None:
    counters = LocalAttempts(clock)
    await counters.settle([Attempt(str(n), 1, 900) for n in range(50_002)], "a", failed=False)
    assert len(counters) == 50_000


async def test_the_counters_that_begin_alike_are_cleared_together(counters: LocalAttempts) -> None:
    names = ("a:1", "a:2", "b:a:")
    await counters.settle([Attempt(name, 1, 900) for name in names], "m", failed=False)
    await counters.clear(await counters.keys_under("a:"))
    assert len(counters) == 1
    assert await wait(counters, Attempt("b:a:", 1, 900)) == 900.0
