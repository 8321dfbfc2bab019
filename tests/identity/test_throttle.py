"""The login throttle: who counts with whom, and what is counted while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.email_address import normalize_email
from gateway.identity.sign_in.local_attempts import LocalAttempts
from gateway.identity.sign_in.throttle import (
    ACCOUNT_FAILURES,
    ADDRESS_FAILURES,
    NETWORK_REQUESTS,
    REQUESTS,
    WINDOW_S,
    RequestKind,
    Throttle,
    account_counter,
)
from gateway.stores.protocols import Attempt, ReserveResult, StoreBusy, StoreUnavailable
from tests.databases import Hands

ATTEMPT = [Attempt("k", 5, 900, paced=True)]
ANN, HERE = "a@example.com", "192.0.2.7"


class Away:
    """Counters that cannot be reached; meets `protocols.Attempts`."""

    async def reserve(self, attempts: Sequence[Attempt], mark: str) -> ReserveResult:
        raise StoreUnavailable("redis")

    async def settle(self, attempts: Sequence[Attempt], mark: str, *, failed: bool) -> None:
        raise StoreUnavailable("redis")

    async def give_back(self, attempts: Sequence[Attempt], mark: str) -> None:
        raise StoreUnavailable("redis")

    async def clear(self, keys: Sequence[str]) -> None:
        raise StoreUnavailable("redis")

    async def keys_under(self, prefix: str) -> Sequence[str]:
        raise StoreUnavailable("redis")


def throttle(
    shared: LocalAttempts | Away | None = None, workers: int = 1, clock: Hands | None = None
) -> Throttle:
    clock = clock or Hands()
    return Throttle(shared or LocalAttempts(clock), clock, lambda: workers)


async def fail(limiter: Throttle, clock: Hands, times: int) -> list[float]:
    """So many failures, each as soon as it is let in; how long each had to wait."""
    waits = []
    for _ in range(times):
        waited = 0.0
        while (attempt := await limiter.reserve(ANN, HERE)).wait_s > 0:
            waited += attempt.wait_s
            clock.move(attempt.wait_s)
        await limiter.failed(attempt)
        waits.append(waited)
    return waits


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


async def test_the_first_failure_already_makes_the_next_attempt_wait() -> None:
    clock = Hands()
    assert await fail(throttle(clock=clock), clock, 5) == [0, 1, 2, 4, 8]


async def test_the_sixth_waits_until_the_first_is_a_quarter_of_an_hour_old() -> None:
    clock = Hands()
    limiter = throttle(clock=clock)
    await fail(limiter, clock, 5)
    assert (await limiter.reserve(ANN, HERE)).wait_s == WINDOW_S - 15


async def test_who_is_patient_gets_fifteen_an_hour() -> None:
    clock = Hands()
    limiter = throttle(clock=clock)
    began = clock.at
    await fail(limiter, clock, 15)
    assert (await limiter.reserve(ANN, HERE)).wait_s == began + 3600 - clock.at


async def test_an_attempt_counts_from_its_evaluation_on_not_from_its_reservation() -> None:
    clock = Hands()
    limiter = throttle(clock=clock)
    slow = await limiter.reserve(ANN, HERE)
    clock.move(60)
    await limiter.failed(slow)
    await fail(limiter, clock, 4)
    clock.move(WINDOW_S - 74)  # 15 s of waits: the first is 899 s old
    assert (await limiter.reserve(ANN, HERE)).wait_s > 0


async def test_what_a_killed_worker_had_reserved_is_forgotten_after_two_minutes() -> None:
    clock = Hands()
    limiter = throttle(clock=clock)
    assert await admitted(limiter, ANN, HERE, 9) == 5
    clock.move(119)
    assert await admitted(limiter, ANN, HERE, 9) == 0
    clock.move(2)
    assert await admitted(limiter, ANN, HERE, 9) == 5


async def test_a_refused_attempt_charges_no_counter() -> None:
    attempts = LocalAttempts(Hands())
    full, other = Attempt("full", 1, 900), Attempt("other", 2, 900)
    await attempts.reserve([full], "a")
    for number in range(5):
        assert (await attempts.reserve([full, other], f"b{number}")).wait_s > 0
    assert (await attempts.reserve([other], "c")).wait_s == 0
    assert (await attempts.reserve([other], "d")).wait_s == 0


async def test_a_refused_attempt_makes_no_wait_longer() -> None:
    clock = Hands()
    limiter = throttle(clock=clock)
    await fail(limiter, clock, 5)
    waits = {(await limiter.reserve(ANN, HERE)).wait_s for _ in range(20)}
    assert waits == {WINDOW_S - 15}


async def test_counters_in_memory_are_bounded() -> None:
    attempts = LocalAttempts(Hands(), most=10)
    for n in range(100):
        await attempts.reserve([Attempt(f"k{n}", 5, 900)], "mark")
    assert len(attempts) == 10


@pytest.mark.parametrize(("workers", "expected"), [(1, 5), (2, 2), (4, 1), (50, 1)])
async def test_with_redis_away_each_worker_admits_its_share_and_never_none(
    workers: int, expected: int
) -> None:
    limiter = throttle(Away(), workers)
    assert await admitted(limiter, "a@example.com", "192.0.2.7", 30) == expected


class Crowded(Away):
    """There is no place in the queue of those who ask."""

    async def reserve(self, attempts: Sequence[Attempt], mark: str) -> ReserveResult:
        raise StoreBusy("redis")


async def test_who_fills_the_queue_before_redis_gains_no_counters_that_know_of_no_failures() -> (
    None
):
    with pytest.raises(StoreBusy):
        await throttle(Crowded()).reserve("a@example.com", "192.0.2.7")


async def test_what_was_reserved_in_memory_is_given_back_there() -> None:
    limiter = throttle(Away())
    for _ in range(20):
        reservation = await limiter.reserve("a@example.com", "192.0.2.7")
        assert reservation.wait_s == 0
        await limiter.give_back(reservation)


class Forgetful(LocalAttempts):
    """Counters that can be away once something is reserved."""

    away = False

    async def give_back(self, attempts: Sequence[Attempt], mark: str) -> None:
        if self.away:
            raise StoreUnavailable("redis")
        await super().give_back(attempts, mark)


async def test_a_sign_in_does_not_fail_because_its_attempt_cannot_be_given_back() -> None:
    counters = Forgetful(Hands())
    limiter = throttle(counters)
    reservation = await limiter.reserve("a@example.com", "192.0.2.7")
    counters.away = True
    await limiter.give_back(reservation)


async def test_forgiving_empties_the_account_and_not_the_address() -> None:
    limiter = throttle()
    assert await admitted(limiter, "a@example.com", "192.0.2.7", 9) == 5
    await limiter.reset("a@example.com", 0)
    assert await admitted(limiter, "a@example.com", "192.0.2.7", 9) == 5
    assert await admitted(limiter, "b@example.com", "192.0.2.7", 1) == 1


async def test_forgiving_fails_aloud_when_the_counters_are_away() -> None:
    with pytest.raises(StoreUnavailable):
        await throttle(Away()).reset("a@example.com", 0)


async def test_every_spelling_of_an_address_counts_at_one_account() -> None:
    spellings = [
        "alice@example.com",
        " ALICE@example.com",
        "ａlice@example.com",
        "Alice＠EXAMPLE.com ",
    ]
    keys = {normalize_email(spelling) for spelling in spellings}
    assert keys == {"alice@example.com"}


def test_a_counter_holds_no_address() -> None:
    assert "alice" not in account_counter("alice@example.com")


async def test_failures_are_told_while_redis_is_away_too() -> None:
    clock = Hands()
    limiter = throttle(Away(), clock=clock)
    await fail(limiter, clock, 3)
    clock.move(4)
    assert (await limiter.reserve(ANN, HERE)).failures == 3
    assert (await limiter.reserve("b@x.example", HERE)).failures == 0


async def test_forgiving_forgets_that_proof_was_needed() -> None:
    clock = Hands()
    limiter = throttle(clock=clock)
    await fail(limiter, clock, 3)
    await limiter.reset(ANN, 0)
    assert (await limiter.reserve(ANN, HERE)).failures == 0


@pytest.mark.parametrize("near", ["2001:db8:77:{:x}::1", "192.0.2.{}"])
async def test_a_neighbourhood_requests_no_more_mail_than_five_addresses(near: str) -> None:
    """Whoever has a /48 of IPv6 comes from 65,536 addresses."""
    limiter = throttle()
    for number in range(NETWORK_REQUESTS):
        assert await limiter.count_request(near.format(number % 200), RequestKind.RESET) == 0
    assert await limiter.count_request(near.format(201), RequestKind.RESET) > 0
    assert await limiter.count_request("198.51.100.1", RequestKind.RESET) == 0


async def test_who_registers_all_day_stops_nobody_from_a_reset() -> None:
    limiter = throttle()
    for _ in range(REQUESTS):
        assert await limiter.count_request(HERE, RequestKind.REGISTER) == 0
    assert await limiter.count_request(HERE, RequestKind.REGISTER) > 0
    assert await limiter.count_request(HERE, RequestKind.RESET) == 0
