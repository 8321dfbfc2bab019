"""Who gets how far against the login throttle in a day, and whether the owner gets in.

    python -m bench.lockout

Runs the gateway's own throttle, CAPTCHA and device cookie, with a clock that is turned by hand.
Attackers solve every challenge at no cost, know which addresses have accounts, use every address
that they have, hold stolen or laid-up device cookies, and are patient: they try again in the very
second in which they are let in.  The counters are those of one worker without Redis, which a test
holds to judge as the shared ones do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.access.simulation import FixedClock
from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.identity.sign_in.captcha import Captcha, CaptchaOptions
from gateway.identity.sign_in.devices import Devices
from gateway.identity.sign_in.local_attempts import LocalAttempts
from gateway.identity.sign_in.throttle import WINDOW_S, Throttle
from gateway.model import Call

DAY_S = 86_400
STEP_S = 5
"""How often attackers come."""
OWNER = "owner@example.com"
OFFICE = "198.51.100.7"
NETWORKS = 1_000
STOLEN, MANY_STOLEN = 8, 40
LAID_UP = 40
NEIGHBOURS = 60
"""Accounts of attackers behind the owner's address, with nine devices each: all that count."""


class Used:
    def __init__(self) -> None:
        self._keys: set[str] = set()

    async def claim(self, key: str, ttl_s: int) -> bool:
        del ttl_s
        new = key not in self._keys
        self._keys.add(key)
        return new


class Solved(Captcha):
    """Every challenge is solved: what the work is worth is not what is looked at here."""

    async def passed(self, text: str) -> bool:
        return text == "solved" or await super().passed(text)


class House:
    def __init__(self) -> None:
        self.clock = FixedClock(1_800_000_000.0)
        self.epoch = 0
        captcha = Solved(CaptchaOptions(b"c" * 32, 1, ""), Used(), self.clock)
        self.throttle = Throttle(LocalAttempts(self.clock), self.clock, lambda: 1)
        self.guard = LoginGuard(self.throttle, captcha, Devices(b"d" * 32), self, self.clock)

    async def password_epoch(self, normalized_email: str) -> int | None:
        """Meets `login_guard.PasswordEpochs`: every account's password changes with the owner's."""
        del normalized_email
        return self.epoch

    async def guess(self, guess: Guess) -> bool:
        """A wrong password; whether it was evaluated at all."""
        call = _call(guess.address, guess.cookie)
        admission = await self.guard.admit(call, guess.account, "solved")
        if isinstance(admission, ProblemReply):
            return False
        await self.guard.failed(admission)
        return True

    async def sign_in(self, address: str, cookie: str | None = None) -> bool:
        """The right password; whether it was evaluated, and so signed in."""
        admission = await self.guard.admit(_call(address, cookie), OWNER, "solved")
        if isinstance(admission, ProblemReply):
            return False
        await self.guard.give_back(admission)
        return True

    def device(self, account: str, address: str) -> str:
        line = self.guard.remembered(_call(address), account, self.epoch)
        return line.partition(";")[0].partition("=")[2]

    def reset(self, address: str) -> str:
        """The owner opens a mailed link: a new password, and a device that is known by it."""
        self.epoch += 1
        return self.device(OWNER, address)


def _call(address: str, cookie: str | None = None) -> Call:
    headers = ((b"Cookie", b"__Host-device=" + cookie.encode()),) if cookie else ()
    return Call(
        "POST",
        "h",
        "/auth/login",
        ("auth", "login"),
        "",
        headers=headers,
        client_ip=address,
        scheme="https",
    )


@dataclass(frozen=True, slots=True)
class Guess:
    address: str
    account: str = OWNER
    cookie: str | None = None


@dataclass(slots=True)
class Stock:
    """The device cookies of the owner's account that attackers hold."""

    laid_up: list[str] = field(default_factory=list)
    """From before the password was changed."""
    stolen: list[str] = field(default_factory=list)
    """Of now."""
    neighbours: list[tuple[str, str]] = field(default_factory=list)
    """Accounts of attackers behind the owner's address, and device cookies of them."""


Attack = Callable[[int, Stock], Iterable[Guess]]
"""The guesses of one step."""


@dataclass(frozen=True, slots=True)
class Day:
    """What a day brought."""

    scenario: str
    tried: int
    evaluated: int
    most_on_one_account: int
    most_in_a_window: int
    """On one account, in any 15 minutes."""
    owner_on_known_device: float
    """Share of the owner's sign-ins, one an hour, that were evaluated."""
    owner_on_new_device: float
    owner_after_a_link: float
    """As on a known device, in a browser that opened a mailed link at noon."""


async def day(scenario: str, attack: Attack) -> Day:
    house = House()
    stock = Stock(laid_up=[house.device(OWNER, OFFICE) for _ in range(LAID_UP)])
    house.epoch += 1
    device = house.device(OWNER, OFFICE)
    stock.stolen = [house.device(OWNER, OFFICE) for _ in range(MANY_STOLEN)]
    accounts = [f"neighbour{number}@example.com" for number in range(NEIGHBOURS)]
    stock.neighbours = [(a, house.device(a, OFFICE)) for a in accounts for _ in range(9)]
    evaluated: dict[str, list[float]] = {}
    known, new, by_link = [], [], []
    tried = 0
    for step in range(DAY_S // STEP_S):
        for guess in attack(step, stock):
            tried += 1
            if await house.guess(guess):
                evaluated.setdefault(guess.account, []).append(house.clock.at)
        if step % (3600 // STEP_S) == 0:
            known.append(await house.sign_in(OFFICE, device))
            new.append(await house.sign_in(OFFICE))
            # Another browser each time, and a house of its own: the reset changes nothing here.
            by_link.append(await _by_link(house))
        house.clock.at += STEP_S
    times = evaluated.values()
    return Day(
        scenario,
        tried,
        sum(map(len, times)),
        max(map(len, times), default=0),
        max((_most_within(found, WINDOW_S) for found in times), default=0),
        _share(known),
        _share(new),
        _share(by_link),
    )


async def _by_link(house: House) -> bool:
    """Whether a browser that has just opened a mailed link signs in.  The password is then put
    back, so that the attackers' cookies stay what they were."""
    cookie = house.reset(OFFICE)
    signed_in = await house.sign_in(OFFICE, cookie)
    house.epoch -= 1
    return signed_in


def _most_within(times: list[float], window_s: float) -> int:
    """The most that lie in any window, its end not included."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def _share(found: list[bool]) -> float:
    return sum(found) / len(found)


def network(number: int) -> str:
    """An address of one of a thousand networks."""
    return f"{11 + number % NETWORKS // 8}.{number % NETWORKS % 8}.1.9"


def one_attacker(step: int, stock: Stock) -> Iterable[Guess]:
    yield Guess("203.0.113.9")


def botnet(step: int, stock: Stock) -> Iterable[Guess]:
    for number in range(3):
        yield Guess(network(3 * step + number))


def laid_up(step: int, stock: Stock) -> Iterable[Guess]:
    yield Guess(network(step), cookie=stock.laid_up[step % LAID_UP])
    yield Guess(network(step + 1), cookie=stock.laid_up[(step + 1) % LAID_UP])


def just_under(step: int, stock: Stock) -> Iterable[Guess]:
    """Four guesses, and then silence until a quarter of an hour has forgotten them: who never
    uses up a window is not remembered for an hour."""
    if step % (915 // STEP_S) < 4:
        yield Guess(network(step))


def stolen(step: int, stock: Stock) -> Iterable[Guess]:
    for number, cookie in enumerate(stock.stolen[:STOLEN]):
        yield Guess(network(step + number), cookie=cookie)
    yield from just_under(step, stock)


def many_stolen(step: int, stock: Stock) -> Iterable[Guess]:
    cookie = stock.stolen[step % MANY_STOLEN]
    yield Guess(network(step), cookie=cookie)
    yield from just_under(step, stock)


def sprayer(step: int, stock: Stock) -> Iterable[Guess]:
    for number in range(step * 2, step * 2 + 2):
        yield Guess(f"203.0.113.{number % 250}", f"user{number % 20_000}@example.com")


def neighbour(step: int, stock: Stock) -> Iterable[Guess]:
    yield Guess(OFFICE, f"user{step % 5_000}@example.com")


def neighbours(step: int, stock: Stock) -> Iterable[Guess]:
    account, cookie = stock.neighbours[step % len(stock.neighbours)]
    yield Guess(OFFICE, account, cookie)


SCENARIOS: dict[str, Attack] = {
    "one attacker, one account": one_attacker,
    f"{NETWORKS:,} networks, one account": botnet,
    f"{NETWORKS:,} networks that never use up a window": just_under,
    f"{NETWORKS:,} networks with {LAID_UP} cookies of the password before": laid_up,
    f"{NETWORKS:,} networks with {STOLEN} stolen cookies": stolen,
    f"{NETWORKS:,} networks with {MANY_STOLEN} stolen cookies": many_stolen,
    "one network, one password, 20,000 accounts": sprayer,
    "a neighbour behind the owner's address": neighbour,
    f"a neighbour with {NEIGHBOURS} accounts and 9 devices of each": neighbours,
}


async def simulate() -> list[Day]:
    return [await day(name, attack) for name, attack in SCENARIOS.items()]


def table(days: list[Day]) -> str:
    lines = [
        "| a day of | tried | evaluated | most on one account | … in any 15 minutes"
        " | owner, known device | owner, new device | owner, by a mailed link |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {d.scenario} | {d.tried:,} | {d.evaluated:,} | {d.most_on_one_account:,}"
        f" | {d.most_in_a_window} | {d.owner_on_known_device:.0%}"
        f" | {d.owner_on_new_device:.0%} | {d.owner_after_a_link:.0%} |"
        for d in days
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(asyncio.run(simulate())))
