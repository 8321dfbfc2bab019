"""Who gets how far against the login throttle in a day, and whether the owner gets in.

    python -m bench.lockout

Runs the gateway's own throttle, CAPTCHA and device cookie, with a clock that is turned by hand;
attackers solve every challenge at no cost, know which addresses have accounts, and try every ten
seconds.  The counters are those of one worker without Redis: the shared ones admit no more.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import altcha

from gateway.edge.endpoints import Refused
from gateway.edge.login_guard import LoginGuard
from gateway.identity.captcha import Captcha, CaptchaOptions
from gateway.identity.devices import Devices
from gateway.identity.throttle import OwnAttempts, Throttle
from gateway.model import Call

DAY_S = 86_400
STEP_S = 10
OWNER = "owner@example.com"


class Clock:
    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        return self.at

    def steady(self) -> float:
        return self.at


class Used:
    def __init__(self) -> None:
        self._keys: set[str] = set()

    async def first(self, key: str, ttl_s: int) -> bool:
        del ttl_s
        new = key not in self._keys
        self._keys.add(key)
        return new


class House:
    def __init__(self) -> None:
        self.clock = Clock()
        self._captcha = Captcha(CaptchaOptions(b"c" * 32, 1, ""), Used(), self.clock)
        throttle = Throttle(OwnAttempts(self.clock), self.clock, lambda: 1)
        self.guard = LoginGuard(throttle, self._captcha, Devices(b"d" * 32), self.clock)

    def _solution(self) -> str:
        challenge = altcha.Challenge.from_dict(dict(self._captcha.challenge()))
        solved = altcha.solve_challenge(challenge)
        assert solved is not None
        payload = altcha.Payload(challenge, solved).to_dict()
        return base64.b64encode(json.dumps(payload).encode()).decode()

    async def guess(self, account: str, address: str) -> bool:
        """A wrong password; whether it was evaluated at all."""
        admission = await self.guard.admit(_call(address), account, self._solution())
        if isinstance(admission, Refused):
            return False
        await self.guard.failed(admission)
        return True

    async def sign_in(self, account: str, address: str, device: str | None = None) -> bool:
        """The right password; whether it was evaluated, and so signed in."""
        call = _call(address, device)
        admission = await self.guard.admit(call, account, self._solution())
        if isinstance(admission, Refused):
            return False
        await self.guard.give_back(admission)
        return True

    def device(self, account: str, address: str) -> str:
        line = self.guard.remembered(_call(address), account)
        return line.partition(";")[0].partition("=")[2]


def _call(address: str, device: str | None = None) -> Call:
    headers = ((b"Cookie", b"__Host-device=" + device.encode()),) if device else ()
    return Call("POST", "h", "/auth/login", ("auth", "login"), "", headers, address, "https")


@dataclass(frozen=True, slots=True)
class Day:
    """What a day brought."""

    scenario: str
    tried: int
    evaluated: int
    most_on_one_account: int
    owner_on_known_device: float
    """Share of the owner's sign-ins, one an hour, that were evaluated."""
    owner_on_new_device: float
    """From the same address.  After a reset by mail it is a known one."""


async def day(scenario: str, attack: Callable[[int], Iterable[tuple[str, str]]]) -> Day:
    """`attack(step)` gives the accounts that are guessed at in that step, and from where."""
    house = House()
    device = house.device(OWNER, "198.51.100.7")
    tried = evaluated = 0
    by_account: dict[str, int] = {}
    known: list[bool] = []
    new: list[bool] = []
    for step in range(DAY_S // STEP_S):
        for account, address in attack(step):
            tried += 1
            if await house.guess(account, address):
                evaluated += 1
                by_account[account] = by_account.get(account, 0) + 1
        if step % 360 == 359:
            known.append(await house.sign_in(OWNER, "198.51.100.7", device))
            new.append(await house.sign_in(OWNER, "198.51.100.7"))
        house.clock.at += STEP_S
    return Day(
        scenario,
        tried,
        evaluated,
        max(by_account.values(), default=0),
        sum(known) / len(known),
        sum(new) / len(new),
    )


def one_attacker(step: int) -> Iterable[tuple[str, str]]:
    yield OWNER, "203.0.113.9"


def botnet(step: int) -> Iterable[tuple[str, str]]:
    """10,000 addresses all over the world, one account."""
    number = step % 10_000
    yield OWNER, f"{11 + number % 180}.{number % 251}.{number // 251}.9"


def sprayer(step: int) -> Iterable[tuple[str, str]]:
    """One network of 250 addresses, one password on each of 20,000 accounts, in turn."""
    for number in range(step * 4, step * 4 + 4):
        yield f"user{number % 20_000}@example.com", f"203.0.113.{number % 250}"


def neighbour(step: int) -> Iterable[tuple[str, str]]:
    """Somebody in the owner's office, behind the same address, against everybody."""
    yield f"user{step % 5_000}@example.com", "198.51.100.7"


SCENARIOS = {
    "one attacker, one account": one_attacker,
    "a botnet of 10,000, one account": botnet,
    "one network, one password, 20,000 accounts": sprayer,
    "a neighbour behind the owner's address": neighbour,
}


async def simulate() -> list[Day]:
    return [await day(name, attack) for name, attack in SCENARIOS.items()]


def table(days: list[Day]) -> str:
    lines = [
        "| a day of | guesses tried | evaluated | most on one account | owner, known device"
        " | owner, new device |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {d.scenario} | {d.tried:,} | {d.evaluated:,} | {d.most_on_one_account:,}"
        f" | {d.owner_on_known_device:.0%} | {d.owner_on_new_device:.0%} |"
        for d in days
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(asyncio.run(simulate())))
