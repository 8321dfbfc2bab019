"""Which counters of the login throttle an attempt is counted by, and with what limits."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence

import pytest

from gateway.identity.sign_in.devices import Device
from gateway.identity.sign_in.local_attempts import LocalAttempts
from gateway.identity.sign_in.throttle import (
    CAPTCHA_AFTER_FAILURES,
    RequestKind,
    Reservation,
    Throttle,
    account_counter,
    account_counters,
    factor_counters,
    forget_failures,
)
from gateway.stores.protocols import Attempt, ReserveResult, StoreUnavailable
from tests.databases import Hands

ANN, HERE = "ann@x.example", "192.0.2.7"
DAY_S = 86_400
DEVICE = Device("d" * 22, ("t" * 32,), 3)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


OWN = f"login:device:{digest(ANN)}:{digest(DEVICE.id + chr(0) + '3' + chr(0) + ANN)}"
OF_DEVICES = f"login:devices-of:{digest('3' + chr(0) + ANN)}"
BY_STRANGER = [
    Attempt(f"login:account:{digest(ANN)}", 5, 900, paced=True, an_hour=15),
    Attempt("login:address:192.0.2.7", 50, 900),
    Attempt("login:network:192.0.2.0/24", 250, 900),
]
BY_DEVICE = [
    Attempt(OWN, 5, 900, paced=True),
    Attempt(f"{OWN}:day", 10, DAY_S),
    Attempt(OF_DEVICES, 90, DAY_S),
]
AT_ADDRESS = Attempt("login:devices-at:192.0.2.7", 50, 900)


def of_factors(what: str, a_day: int) -> list[Attempt]:
    key = f"{what}:{digest('a')}"
    return [Attempt(key, 5, 900), Attempt(f"{key}:day", a_day, DAY_S)]


def of_all(what: str) -> list[Attempt]:
    """By what those count who guess no password, of whichever device."""
    return [
        Attempt(f"{what}:address:192.0.2.7", 50, 900),
        Attempt(f"{what}:network:192.0.2.0/24", 250, 900),
    ]


def of_device(what: str) -> list[Attempt]:
    """By what a known device counts alone, once those of all are used up."""
    return [
        Attempt(f"{what}:device:{DEVICE.id}", 5, 900),
        Attempt(f"{what}:devices-of:{'t' * 32}", 50, 900),
    ]


class Told(LocalAttempts):
    """Counters that keep what they were told, and may be away."""

    def __init__(self, clock: Hands) -> None:
        super().__init__(clock)
        self.reserved: list[tuple[list[Attempt], str]] = []
        self.settled: list[tuple[list[Attempt], str, bool]] = []
        self.returned: list[tuple[list[Attempt], str]] = []
        self.cleared: list[list[str]] = []
        self.away = False

    async def reserve(self, attempts: Sequence[Attempt], mark: str) -> ReserveResult:
        self._ask()
        self.reserved.append((list(attempts), mark))
        return await super().reserve(attempts, mark)

    async def settle(self, attempts: Sequence[Attempt], mark: str, *, failed: bool) -> None:
        self._ask()
        self.settled.append((list(attempts), mark, failed))
        await super().settle(attempts, mark, failed=failed)

    async def give_back(self, attempts: Sequence[Attempt], mark: str) -> None:
        self._ask()
        self.returned.append((list(attempts), mark))
        await super().give_back(attempts, mark)

    async def clear(self, keys: Sequence[str]) -> None:
        self._ask()
        self.cleared.append(list(keys))
        await super().clear(keys)

    def _ask(self) -> None:
        if self.away:
            raise StoreUnavailable("redis")


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def told(clock: Hands) -> Told:
    return Told(clock)


@pytest.fixture
def limiter(told: Told, clock: Hands) -> Throttle:
    return Throttle(told, clock, lambda: 2)


Asked = Callable[[Throttle], Awaitable[Reservation]]
ASKED: list[tuple[str, Asked, list[Attempt]]] = [
    ("stranger", lambda it: it.reserve(ANN, HERE), BY_STRANGER),
    ("device", lambda it: it.reserve(ANN, HERE, DEVICE), [*BY_DEVICE, AT_ADDRESS]),
    ("link", lambda it: it.reserve_link("t"), [Attempt(f"link:{digest('t')}", 5, 900)]),
    ("change", lambda it: it.reserve_change("a"), [Attempt(f"change:{digest('a')}", 10, 3600)]),
    ("step-up", lambda it: it.reserve_factor("a"), of_factors("step-up", 10)),
    (
        "second step",
        lambda it: it.reserve_factor("a", "m"),
        [*of_factors("factor", 20), Attempt("factor-token:m", 5, 900)],
    ),
    ("passkey", lambda it: it.reserve_passkey(HERE, DEVICE), of_all("passkey")),
    ("provider", lambda it: it.reserve_provider(HERE, None), of_all("provider")),
]


@pytest.mark.parametrize(
    ("asked", "counters"), [row[1:] for row in ASKED], ids=[r[0] for r in ASKED]
)
async def test_an_attempt_counts_by_these_counters_and_no_others(
    limiter: Throttle, told: Told, asked: Asked, counters: list[Attempt]
) -> None:
    reservation = await asked(limiter)
    ((reserved, mark),) = told.reserved
    assert reserved == counters
    assert (list(reservation.attempts), reservation.mark) == (counters, mark)
    assert (reservation.wait_s, reservation.failures, reservation.counter) == (0.0, 0, told)
    assert len(mark) == 10


def of_mail(what: str) -> list[Attempt]:
    return [
        Attempt(f"{what}:192.0.2.7", 50, 900),
        Attempt(f"{what}:network:192.0.2.0/24", 250, 900),
    ]


@pytest.mark.parametrize(
    ("counted", "counters"),
    [
        (
            lambda it: it.count_request(HERE, RequestKind.RESEND),
            of_mail("mail:resend"),
        ),
        (
            lambda it: it.count_request(HERE, RequestKind.REGISTER),
            of_mail("mail:register"),
        ),
        (
            lambda it: it.count_request(HERE, RequestKind.LINK, DEVICE),
            of_mail("mail:link"),
        ),
        (lambda it: it.count_reset("t"), [Attempt(f"reset:{digest('t')}", 20, 900)]),
        (lambda it: it.count_enrolment("a"), [Attempt(f"enrolment:{digest('a')}", 20, 900)]),
    ],
    ids=["resend", "register", "link", "reset", "enrolment"],
)
async def test_what_is_requested_counts_at_once_and_by_these_counters(
    limiter: Throttle,
    told: Told,
    counted: Callable[[Throttle], Awaitable[float]],
    counters: list[Attempt],
) -> None:
    assert await counted(limiter) == 0.0
    ((reserved, mark),) = told.reserved
    assert reserved == counters
    assert len(mark) == 10
    assert told.settled == [(counters, mark, False)]


async def test_no_two_attempts_have_the_same_mark(limiter: Throttle, told: Told) -> None:
    for _ in range(5):
        await limiter.reserve(ANN, HERE)
    assert len({mark for _, mark in told.reserved}) == 5


@pytest.mark.parametrize(("settle", "failed"), [("failed", True), ("spent", False)])
async def test_an_attempt_is_settled_where_it_was_counted(
    limiter: Throttle, told: Told, settle: str, failed: bool
) -> None:
    reservation = await limiter.reserve(ANN, HERE)
    await getattr(limiter, settle)(reservation)
    assert told.settled == [(BY_STRANGER, reservation.mark, failed)]


async def test_an_attempt_is_given_back_where_it_was_counted(limiter: Throttle, told: Told) -> None:
    reservation = await limiter.reserve(ANN, HERE)
    await limiter.give_back(reservation)
    assert told.returned == [(BY_STRANGER, reservation.mark)]


async def test_forgiving_empties_each_counter_of_the_account_itself(
    limiter: Throttle, told: Told
) -> None:
    await limiter.reset(ANN, 0)
    assert told.cleared == [account_counters(ANN, 0)]
    assert account_counters(ANN, 0) == [
        f"login:account:{digest(ANN)}",
        f"login:devices-of:{digest('0' + chr(0) + ANN)}",
    ]
    assert account_counters(ANN, 3)[1] == OF_DEVICES
    assert account_counter(ANN) == account_counters(ANN, 0)[0]


async def test_an_operator_empties_the_counters_of_the_accounts_devices_too(
    limiter: Throttle, told: Told
) -> None:
    for device in (DEVICE, Device("e" * 22, ("t" * 32,), 3)):
        await limiter.failed(await limiter.reserve(ANN, HERE, device))
    await limiter.failed(await limiter.reserve("bob@x.example", HERE, DEVICE))
    await forget_failures(told, ANN, 3, "u1")
    names = [f"{what}:{digest('u1')}" for what in ("factor", "step-up")]
    assert list(factor_counters("u1")) == names
    factors = [key + of for key in names for of in ("", ":day")]
    own = [*account_counters(ANN, 3), *factors]
    assert told.cleared[0][: len(own)] == own
    assert (await limiter.reserve(ANN, HERE, DEVICE)).failures == 0
    assert (await limiter.reserve("bob@x.example", HERE, DEVICE)).failures == 1


@pytest.mark.parametrize(("workers", "limits"), [(0, (5, 15, 50, 250)), (2, (2, 7, 25, 125))])
async def test_while_the_counters_are_away_each_worker_counts_its_share(
    told: Told, clock: Hands, workers: int, limits: tuple[int, ...]
) -> None:
    told.away = True
    reservation = await Throttle(told, clock, lambda: workers).reserve(ANN, HERE)
    account, address, network = reservation.attempts
    assert (account.limit, account.an_hour, address.limit, network.limit) == limits
    assert (account.key, account.paced, address.an_hour) == (BY_STRANGER[0].key, True, 0)
    assert (reservation.wait_s, reservation.failures) == (0.0, 0)
    assert reservation.counter is not told


async def test_a_share_is_never_none_of_it(told: Told, clock: Hands) -> None:
    told.away = True
    account, *_ = (await Throttle(told, clock, lambda: 100).reserve(ANN, HERE)).attempts
    assert (account.limit, account.an_hour) == (1, 1)


async def test_a_failure_that_the_counters_could_not_be_told_is_counted_in_memory(
    limiter: Throttle, told: Told
) -> None:
    reservation = await limiter.reserve(ANN, HERE)
    told.away = True
    await limiter.failed(reservation)
    again = await limiter.reserve(ANN, HERE)
    assert (again.wait_s, again.failures) == (1.0, 1)


async def test_each_failure_that_the_counters_could_not_be_told_counts(
    limiter: Throttle, told: Told
) -> None:
    reserved = [await limiter.reserve(ANN, HERE) for _ in range(2)]
    told.away = True
    for reservation in reserved:
        await limiter.failed(reservation)
    again = await limiter.reserve(ANN, HERE)
    assert again.failures == 2


async def test_what_was_spent_untold_is_no_failure(limiter: Throttle, told: Told) -> None:
    reservation = await limiter.reserve(ANN, HERE)
    told.away = True
    await limiter.spent(reservation)
    again = await limiter.reserve(ANN, HERE)
    assert (again.wait_s, again.failures) == (0.0, 0)


async def test_forgiving_forgets_what_was_counted_in_memory_too(
    limiter: Throttle, told: Told
) -> None:
    told.away = True
    await limiter.failed(await limiter.reserve(ANN, HERE))
    told.away = False
    await limiter.reset(ANN, 0)
    told.away = True
    assert (await limiter.reserve(ANN, HERE)).failures == 0


async def test_a_device_is_not_shut_out_by_the_others_at_its_address(
    limiter: Throttle, told: Told
) -> None:
    for number in range(50):
        other = Device(f"{number:022d}", ("t" * 32,), 3)
        assert (await limiter.reserve(f"{number}@x.example", HERE, other)).wait_s == 0
    reservation = await limiter.reserve(ANN, HERE, DEVICE)
    assert reservation.wait_s == 0
    assert list(reservation.attempts) == BY_DEVICE


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("passkey", Throttle.reserve_passkey),
        ("provider", Throttle.reserve_provider),
    ],
)
async def test_what_others_use_up_at_its_address_shuts_no_known_device_out(
    limiter: Throttle,
    told: Told,
    what: str,
    asked: Callable[[Throttle, str, Device | None], Awaitable[Reservation]],
) -> None:
    for _ in range(50):
        assert (await asked(limiter, HERE, None)).wait_s == 0
    assert (await asked(limiter, HERE, None)).wait_s > 0
    reservation = await asked(limiter, HERE, DEVICE)
    assert reservation.wait_s == 0
    assert list(reservation.attempts) == of_device(what)


async def test_a_known_device_asks_for_mail_where_others_have_used_up_its_address(
    limiter: Throttle, told: Told, clock: Hands
) -> None:
    for _ in range(50):
        assert await limiter.count_request(HERE, RequestKind.RESET) == 0.0
    clock.move(100)
    assert await limiter.count_request(HERE, RequestKind.RESET) == 800.0
    assert await limiter.count_request(HERE, RequestKind.RESET, DEVICE) == 0.0
    assert told.settled[-1][0] == of_device("mail:reset")
    # A device has an end as well.
    for _ in range(4):
        assert await limiter.count_request(HERE, RequestKind.RESET, DEVICE) == 0.0
    assert await limiter.count_request(HERE, RequestKind.RESET, DEVICE) == 900.0


async def test_cookies_of_before_a_changed_password_take_nothing_from_the_owners_browser(
    limiter: Throttle,
) -> None:
    """Whoever laid them up shares the owner's address."""
    for _ in range(50):
        await limiter.count_request(HERE, RequestKind.RESET)
    waits = []
    for number in range(11):
        older = Device(f"{number:022}", ("t" * 16 + "o" * 16,))
        waits += [await limiter.count_request(HERE, RequestKind.RESET, older) for _ in range(5)]
    assert [wait_s > 0 for wait_s in waits] == [False] * 50 + [True] * 5
    assert await limiter.count_request(HERE, RequestKind.RESET, DEVICE) == 0.0


async def test_a_device_that_has_failed_itself_waits_with_the_others(
    limiter: Throttle, told: Told, clock: Hands
) -> None:
    for wait_s in (1, 2, 4):
        await limiter.failed(await limiter.reserve(ANN, HERE, DEVICE))
        clock.move(wait_s)
    for number in range(50):
        other = Device(f"{number:022d}", ("t" * 32,), 3)
        await limiter.reserve(f"{number}@x.example", HERE, other)
    reservation = await limiter.reserve(ANN, HERE, DEVICE)
    assert reservation.wait_s > 0
    assert reservation.requires_captcha
    assert list(reservation.attempts) == [*BY_DEVICE, AT_ADDRESS]


@pytest.mark.parametrize("failures", range(CAPTCHA_AFTER_FAILURES + 2))
async def test_after_three_failures_a_challenge_is_needed(told: Told, failures: int) -> None:
    assert Reservation(0.0, failures, [], "m", told).requires_captcha is (failures >= 3)


async def test_what_has_happened_is_counted_up_to_its_limit(
    limiter: Throttle, clock: Hands
) -> None:
    attempt = Attempt("k", 2, 900)
    assert await limiter.count(attempt) == 0.0
    clock.move(1)
    assert await limiter.count(attempt) == 0.0
    clock.move(200)  # longer than what is never settled counts
    assert await limiter.count(attempt) == 699.0
