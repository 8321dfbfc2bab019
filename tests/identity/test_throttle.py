"""The login throttle: who counts with whom, and what is counted while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.identity.accounts import address_key
from gateway.identity.throttle import (
    ACCOUNT_FAILURES,
    ADDRESS_FAILURES,
    WINDOW_S,
    OwnAttempts,
    Throttle,
    account_counter,
    address_counter,
)
from gateway.stores.protocols import Attempt, StoreUnavailable
from tests.databases import Hands

ATTEMPT = [Attempt("k", 5, 900)]


class Away:
    """Counters that cannot be reached; meets `protocols.Attempts`."""

    async def reserve(self, attempts: Sequence[Attempt]) -> float:
        raise StoreUnavailable("redis")

    async def give_back(self, attempts: Sequence[Attempt]) -> None:
        raise StoreUnavailable("redis")

    async def charged(self, attempt: Attempt) -> int:
        raise StoreUnavailable("redis")

    async def clear(self, keys: Sequence[str]) -> None:
        raise StoreUnavailable("redis")


def throttle(shared: OwnAttempts | Away | None = None, workers: int = 1) -> Throttle:
    clock = Hands()
    return Throttle(shared or OwnAttempts(clock), clock, lambda: workers)


async def admitted(limiter: Throttle, key: str, address: str, times: int) -> int:
    answers = await asyncio.gather(*(limiter.reserve(key, address) for _ in range(times)))
    return sum(answer.wait_s == 0 for answer in answers)


async def test_of_thirty_guesses_at_once_five_are_admitted() -> None:
    assert await admitted(throttle(), "a@example.com", "192.0.2.7", 30) == ACCOUNT_FAILURES


async def test_one_address_has_fifty_attempts_over_all_accounts() -> None:
    limiter = throttle()
    admitted_in_all = 0
    for n in range(30):
        admitted_in_all += await admitted(limiter, f"u{n}@example.com", "192.0.2.7", 3)
    assert admitted_in_all == ADDRESS_FAILURES


async def test_an_attempt_that_was_no_failure_is_given_back() -> None:
    limiter = throttle()
    for _ in range(20):
        reservation = await limiter.reserve("a@example.com", "192.0.2.7")
        assert reservation.wait_s == 0
        await limiter.give_back(reservation)


async def test_waits_grow_from_one_second_to_fifteen_minutes() -> None:
    attempts = OwnAttempts(Hands())
    for _ in range(5):
        assert await attempts.reserve(ATTEMPT) == 0
    waits = [await attempts.reserve(ATTEMPT) for _ in range(12)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


async def test_failures_are_forgotten_after_the_window() -> None:
    clock = Hands()
    attempts = OwnAttempts(clock)
    for _ in range(5):
        await attempts.reserve(ATTEMPT)
    clock.move(WINDOW_S - 1)
    assert await attempts.reserve(ATTEMPT) > 0
    clock.move(2)
    assert await attempts.reserve(ATTEMPT) == 0


async def test_a_refused_attempt_charges_no_counter() -> None:
    attempts = OwnAttempts(Hands())
    full, other = Attempt("full", 1, 900), Attempt("other", 2, 900)
    await attempts.reserve([full])
    for _ in range(5):
        assert await attempts.reserve([full, other]) > 0
    assert await attempts.reserve([other]) == 0
    assert await attempts.reserve([other]) == 0


async def test_counters_in_memory_are_bounded() -> None:
    attempts = OwnAttempts(Hands(), most=10)
    for n in range(100):
        await attempts.reserve([Attempt(f"k{n}", 5, 900)])
    assert len(attempts) == 10


@pytest.mark.parametrize(("workers", "expected"), [(1, 5), (2, 2), (4, 1), (50, 1)])
async def test_with_redis_away_each_worker_admits_its_share_and_never_none(
    workers: int, expected: int
) -> None:
    limiter = throttle(Away(), workers)
    assert await admitted(limiter, "a@example.com", "192.0.2.7", 30) == expected


async def test_what_was_reserved_in_memory_is_given_back_there() -> None:
    limiter = throttle(Away())
    for _ in range(20):
        reservation = await limiter.reserve("a@example.com", "192.0.2.7")
        assert reservation.wait_s == 0
        await limiter.give_back(reservation)


class Forgetful(OwnAttempts):
    """Counters that can be away once something is reserved."""

    away = False

    async def give_back(self, attempts: Sequence[Attempt]) -> None:
        if self.away:
            raise StoreUnavailable("redis")
        await super().give_back(attempts)


async def test_a_sign_in_does_not_fail_because_its_attempt_cannot_be_given_back() -> None:
    counters = Forgetful(Hands())
    limiter = throttle(counters)
    reservation = await limiter.reserve("a@example.com", "192.0.2.7")
    counters.away = True
    await limiter.give_back(reservation)


async def test_forgiving_empties_the_account_and_not_the_address() -> None:
    limiter = throttle()
    assert await admitted(limiter, "a@example.com", "192.0.2.7", 9) == 5
    await limiter.forgive("a@example.com")
    assert await admitted(limiter, "a@example.com", "192.0.2.7", 9) == 5
    assert await admitted(limiter, "b@example.com", "192.0.2.7", 1) == 1


async def test_forgiving_fails_aloud_when_the_counters_are_away() -> None:
    with pytest.raises(StoreUnavailable):
        await throttle(Away()).forgive("a@example.com")


async def test_every_spelling_of_an_address_counts_at_one_account() -> None:
    spellings = [
        "alice@example.com",
        " ALICE@example.com",
        "ａlice@example.com",
        "Alice＠EXAMPLE.com ",
    ]
    keys = {address_key(spelling) for spelling in spellings}
    assert keys == {"alice@example.com"}


def test_a_counter_holds_no_address() -> None:
    assert "alice" not in account_counter("alice@example.com")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2:3::4", "2001:db8:1:2:ffff::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::2"),
        ("", "not an address"),
    ],
)
def test_addresses_of_one_holder_count_together(one: str, other: str) -> None:
    assert address_counter(one) == address_counter(other)


@pytest.mark.parametrize(
    ("one", "other"), [("2001:db8:1:2::1", "2001:db8:1:3::1"), ("192.0.2.7", "192.0.2.8")]
)
def test_addresses_of_two_holders_count_apart(one: str, other: str) -> None:
    assert address_counter(one) != address_counter(other)


async def test_failures_ask_for_proof_while_redis_is_away_too() -> None:
    limiter = throttle(Away())
    for _ in range(3):
        assert not await limiter.needs_proof("a@x.example")
        await limiter.failed("a@x.example")
    assert await limiter.needs_proof("a@x.example")
    assert not await limiter.needs_proof("b@x.example")


async def test_forgiving_forgets_that_proof_was_needed() -> None:
    limiter = throttle()
    for _ in range(3):
        await limiter.failed("a@x.example")
    await limiter.forgive("a@x.example")
    assert not await limiter.needs_proof("a@x.example")
