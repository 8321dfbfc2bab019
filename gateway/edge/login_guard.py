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
from gateway.stores.protocols import StoreUnavailable

_COOKIE = COOKIE.encode()


@dataclass(frozen=True, slots=True)
class Admission:
    """One attempt that may be made; `give_back` when it was no failure, `failed` when it was."""

    email_key: str
    reservation: Reservation
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
        """TOO_MANY_ATTEMPTS after five failures; after three CAPTCHA_REQUIRED, unless a solved
        challenge came.  Who sends none spends an attempt: guessing does not go on for ever.
        """
        device = self._devices.known(device_cookie(call), email_key, self._clock.now())
        counted = await self._throttle.reserve(email_key, call.client_ip, device)
        if counted.wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=counted.wait_s)
        admission = Admission(email_key, counted, device)
        if await self._throttle.needs_proof(email_key, device):
            try:
                proven = solution is not None and await self._captcha.passed(solution)
            except StoreUnavailable:
                await self.give_back(admission)
                raise
            if not proven:
                return Refused(Reason.CAPTCHA_REQUIRED)
        return admission

    async def give_back(self, admission: Admission) -> None:
        await self._throttle.give_back(admission.reservation)

    async def failed(self, admission: Admission) -> None:
        """The password was wrong."""
        await self._throttle.failed(admission.email_key, admission.device)

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
