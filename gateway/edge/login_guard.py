"""What stands before a password is checked: the throttle, the CAPTCHA and the device cookie.

Law: an attempt is counted before it is evaluated, and all of this is the same for an address
that has an account and for one that has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from gateway.edge.endpoints import Answer, Endpoint, Refused, Said
from gateway.identity.captcha import Captcha
from gateway.identity.devices import COOKIE, Device, Devices, set_cookie
from gateway.identity.throttle import Reservation, Throttle
from gateway.model import Call, Clock, Reason

_COOKIE = COOKIE.encode()


@dataclass(frozen=True, slots=True)
class Admission:
    """One attempt that may be made; `give_back` when it was no failure."""

    reservations: tuple[Reservation, ...]
    device: Device | None
    """The device, where this account has signed in with it before."""


class LoginGuard:
    def __init__(
        self, throttle: Throttle, captcha: Captcha, devices: Devices, clock: Clock
    ) -> None:
        self._throttle = throttle
        self._captcha = captcha
        self._devices = devices
        self._clock = clock

    def endpoints(self) -> Mapping[tuple[str, ...], Mapping[str, Endpoint]]:
        return {("captcha",): {"GET": self.challenge}}

    async def challenge(self, _request: web.BaseRequest, _call: Call) -> Answer:
        """What the ALTCHA widget asks for."""
        return Said(200, self._captcha.challenge())

    async def admit(self, call: Call, email_key: str, solution: str | None) -> Admission | Refused:
        """CAPTCHA_REQUIRED after three failures that came without one; TOO_MANY_ATTEMPTS after
        five, with or without."""
        device = self._devices.known(device_cookie(call), email_key, self._clock.now())
        held: list[Reservation] = []
        # A solution that came is used, so that who solves one keeps the three free attempts.
        if solution is None or not await self._captcha.passed(solution):
            unproven = await self._throttle.reserve_unproven(email_key, device)
            if unproven.wait_s > 0:
                return Refused(Reason.CAPTCHA_REQUIRED)
            held.append(unproven)
        counted = await self._throttle.reserve(email_key, call.client_ip, device)
        if counted.wait_s > 0:
            for reservation in held:
                await self._throttle.give_back(reservation)
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=counted.wait_s)
        return Admission((counted, *held), device)

    async def give_back(self, admission: Admission) -> None:
        for reservation in admission.reservations:
            await self._throttle.give_back(reservation)

    def remembered(self, call: Call, email_key: str) -> str:
        """The `Set-Cookie` of a sign-in: this browser is now a device of the account."""
        value = self._devices.remember(device_cookie(call), email_key, self._clock.now())
        return set_cookie(value)


def device_cookie(call: Call) -> str | None:
    """The value of `__Host-device`; None where there is none, or more than one."""
    found = [
        value.strip()
        for name, line in call.headers
        if name.lower() == b"cookie" and _COOKIE in line
        for word, _, value in (pair.partition(b"=") for pair in line.split(b";"))
        if word.strip() == _COOKIE
    ]
    if len(found) != 1 or not found[0].isascii():
        return None
    return found[0].decode("ascii")
