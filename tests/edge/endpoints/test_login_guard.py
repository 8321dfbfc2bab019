from __future__ import annotations

import base64
import json
from typing import Any

import altcha
import pytest

from gateway.edge.endpoints.endpoint import JsonReply, ProblemReply
from gateway.edge.endpoints.login_guard import AdmittedAttempt, LoginGuard, device_cookie
from gateway.identity.sign_in.captcha import Captcha, CaptchaOptions
from gateway.identity.sign_in.devices import Devices
from gateway.identity.sign_in.local_attempts import LocalAttempts
from gateway.identity.sign_in.throttle import Throttle
from gateway.model import Call, Reason
from tests.databases import Hands
from tests.nonces import Once

ANN, BOB = "ann@x.example", "bob@x.example"


class House:
    def __init__(self) -> None:
        self.clock = Hands()
        self.captcha = Captcha(CaptchaOptions(b"c" * 32, cost=1, prefix="0"), Once(), self.clock)
        self.throttle = Throttle(LocalAttempts(self.clock), self.clock, lambda: 1)
        self.epoch = 0
        devices = Devices(b"d" * 32)
        self.guard = LoginGuard(self.throttle, self.captcha, devices, self, self.clock)

    async def password_epoch(self, normalized_email: str) -> int | None:
        return self.epoch if normalized_email in (ANN, BOB) else None

    def solution(self) -> str:
        challenge = altcha.Challenge.from_dict(dict(self.captcha.challenge()))
        solved = altcha.solve_challenge(challenge)
        assert solved is not None
        payload = altcha.Payload(challenge, solved).to_dict()
        return base64.b64encode(json.dumps(payload).encode()).decode()

    async def attempt(
        self,
        normalized_email: str = ANN,
        *,
        ip: str = "192.0.2.1",
        cookie: str | None = None,
        solution: str | None = None,
    ) -> AdmittedAttempt | Reason:
        admission = await self.guard.admit(call(ip, cookie), normalized_email, solution)
        return admission.reason if isinstance(admission, ProblemReply) else admission


def call(ip: str = "192.0.2.1", cookie: str | None = None) -> Call:
    headers = ((b"Cookie", b"a=1; __Host-device=" + cookie.encode()),) if cookie else ()
    return Call(
        "POST",
        "h",
        "/auth/login",
        ("auth", "login"),
        "",
        headers=headers,
        client_ip=ip,
        scheme="https",
    )


@pytest.fixture
def house() -> House:
    return House()


def known_device(house: House, normalized_email: str = ANN) -> str:
    line = house.guard.remembered(call(), normalized_email, house.epoch)
    return line.partition(";")[0].partition("=")[2]


async def fail(house: House, times: int, **how: Any) -> None:
    """Failures, and the wait after each."""
    for number in range(times):
        admission = await house.attempt(solution=house.solution(), **how)
        assert isinstance(admission, AdmittedAttempt)
        await house.guard.failed(admission)
        house.clock.move(2**number)


async def test_after_three_failures_an_attempt_needs_a_solved_challenge(house: House) -> None:
    await fail(house, 3)
    assert await house.attempt(solution="nonsense") is Reason.CAPTCHA_REQUIRED
    assert isinstance(await house.attempt(solution=house.solution()), AdmittedAttempt)


async def test_a_solution_serves_one_attempt(house: House) -> None:
    await fail(house, 3)
    solution = house.solution()
    assert isinstance(await house.attempt(solution=solution), AdmittedAttempt)
    assert await house.attempt(solution=solution) is Reason.CAPTCHA_REQUIRED


async def test_solved_challenges_buy_no_more_than_five_attempts(house: House) -> None:
    await fail(house, 5)
    assert await house.attempt(solution=house.solution()) is Reason.TOO_MANY_ATTEMPTS


async def test_the_first_failure_makes_the_next_attempt_wait(house: House) -> None:
    admission = await house.attempt()
    assert isinstance(admission, AdmittedAttempt)
    await house.guard.failed(admission)
    assert await house.attempt() is Reason.TOO_MANY_ATTEMPTS
    house.clock.move(1)
    assert isinstance(await house.attempt(), AdmittedAttempt)


async def test_who_solves_nothing_is_locked_out_too(house: House) -> None:
    await fail(house, 3)
    assert [await house.attempt() for _ in range(4)] == [
        Reason.CAPTCHA_REQUIRED,
        Reason.CAPTCHA_REQUIRED,
        Reason.TOO_MANY_ATTEMPTS,
        Reason.TOO_MANY_ATTEMPTS,
    ]


async def test_attempts_that_were_no_failure_count_nowhere(house: House) -> None:
    for _ in range(9):
        admission = await house.attempt()
        assert isinstance(admission, AdmittedAttempt)
        await house.guard.give_back(admission)


async def test_sign_ins_at_once_need_no_challenge(house: House) -> None:
    admissions = [await house.attempt() for _ in range(5)]
    assert all(isinstance(admission, AdmittedAttempt) for admission in admissions)


async def test_a_stranger_who_uses_up_the_attempts_does_not_lock_the_owners_browser_out(
    house: House,
) -> None:
    cookie = known_device(house)
    await fail(house, 5, ip="203.0.113.9")
    assert await house.attempt(solution=house.solution()) is Reason.TOO_MANY_ATTEMPTS
    admission = await house.attempt(cookie=cookie)
    assert isinstance(admission, AdmittedAttempt)
    assert admission.device is not None


async def test_a_known_device_has_five_attempts_as_well(house: House) -> None:
    cookie = known_device(house)
    answers = [await house.attempt(cookie=cookie, solution=house.solution()) for _ in range(7)]
    assert [isinstance(answer, AdmittedAttempt) for answer in answers] == [True] * 5 + [False] * 2


async def test_cookies_laid_up_before_the_password_changed_are_strangers(house: House) -> None:
    stock = [known_device(house) for _ in range(20)]
    house.epoch += 1
    admitted = [await house.attempt(cookie=cookie) for cookie in stock]
    assert sum(isinstance(answer, AdmittedAttempt) for answer in admitted) == 5
    assert all(a.device is None for a in admitted if isinstance(a, AdmittedAttempt))


async def test_all_devices_of_an_account_together_have_ninety_failures_a_day(house: House) -> None:
    evaluated = 0
    for cookie in [known_device(house) for _ in range(40)]:
        for _ in range(5):
            admission = await house.attempt(cookie=cookie, solution=house.solution())
            if isinstance(admission, AdmittedAttempt):
                evaluated += 1
                await house.guard.failed(admission)
                house.clock.move(20)
    assert evaluated == 90


async def test_devices_at_one_address_have_fifty_attempts(house: House) -> None:
    """Cookies of many accounts, stolen from many browsers, used from one place.  Past the fifty
    each has three of its own."""
    evaluated = []
    for account in (ANN, BOB):
        for cookie in [known_device(house, account) for _ in range(15)]:
            evaluated.append(0)
            for number in range(5):
                admission = await house.attempt(account, cookie=cookie, solution=house.solution())
                if isinstance(admission, AdmittedAttempt):
                    await house.guard.failed(admission)
                    evaluated[-1] += 1
                    house.clock.move(2**number)
    assert evaluated == [5] * 10 + [3] * 20


async def test_a_neighbours_devices_shut_no_other_device_out(house: House) -> None:
    """Somebody behind the owner's address has an account too, and devices by the dozen: every
    sign-in without a cookie makes one."""
    own = known_device(house)
    stock = [known_device(house, BOB) for _ in range(12)]
    under_way = [await house.attempt(BOB, cookie=cookie) for cookie in stock for _ in range(5)]
    assert isinstance(await house.attempt(cookie=own), AdmittedAttempt)
    for admission in under_way:
        assert isinstance(admission, AdmittedAttempt)
        await house.guard.failed(admission)
    assert isinstance(await house.attempt(cookie=own), AdmittedAttempt)
    await fail(house, 2, cookie=own)
    assert isinstance(await house.attempt(cookie=own), AdmittedAttempt)


async def test_a_device_of_one_account_is_a_stranger_to_another(house: House) -> None:
    cookie = known_device(house, BOB)
    await fail(house, 3, cookie=cookie)
    assert await house.attempt(ANN, cookie=cookie) is Reason.CAPTCHA_REQUIRED


async def test_one_password_on_many_accounts_is_slowed_by_the_neighbourhood(house: House) -> None:
    """Each address stays under its own limit; together they are one attacker."""
    answers = [
        await house.attempt(f"{number}@x.example", ip=f"192.0.2.{number % 100}")
        for number in range(300)
    ]
    assert [isinstance(answer, AdmittedAttempt) for answer in answers].count(True) == 250
    assert isinstance(await house.attempt(ip="198.51.100.1"), AdmittedAttempt)


async def test_a_challenge_is_what_the_widget_reads(house: House) -> None:
    endpoint = house.guard.endpoints()["captcha",]["GET"]
    answer = await endpoint(None, call())  # type: ignore[arg-type]
    assert isinstance(answer, JsonReply)
    assert answer.body is not None
    assert set(answer.body) == {"parameters", "signature"}


def test_two_device_cookies_are_none() -> None:
    assert device_cookie(call(cookie="x; __Host-device=y")) is None
    assert device_cookie(call(cookie="x")) == "x"
    assert device_cookie(call()) is None
    assert device_cookie(call(cookie="x; not__Host-device=y")) == "x"
