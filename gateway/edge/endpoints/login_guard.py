"""What stands before a password is checked: the throttle, the CAPTCHA and the device cookie.

Law: an attempt is counted before it is evaluated, and all of this is the same for an address
that has an account and for one that has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from aiohttp import web

from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply
from gateway.edge.replies.cookies import single_cookie
from gateway.identity.sign_in.captcha import Captcha
from gateway.identity.sign_in.devices import COOKIE, Device, Devices, set_cookie
from gateway.identity.sign_in.throttle import Reservation, Throttle
from gateway.model import Call, Clock, Reason
from gateway.stores.protocols import StoreUnavailable


class PasswordEpochs(Protocol):
    async def password_epoch(self, normalized_email: str) -> int | None:
        """What a change of the account's password raises; None without an account.  Raises
        StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class AdmittedAttempt:
    """One attempt that may be made; `give_back` when it was no failure, `failed` when it was."""

    normalized_email: str
    reservation: Reservation
    device: Device | None
    """The device, where this account has signed in with it before, with the password that it
    has now."""


class LoginGuard:
    def __init__(
        self,
        throttle: Throttle,
        captcha: Captcha,
        devices: Devices,
        epochs: PasswordEpochs,
        clock: Clock,
    ) -> None:
        self._throttle = throttle
        self._captcha = captcha
        self._devices = devices
        self._epochs = epochs
        self._clock = clock

    def endpoints(self) -> Mapping[tuple[str, ...], Mapping[str, Endpoint]]:
        return {("captcha",): {"GET": self.challenge}}

    async def challenge(self, _request: web.BaseRequest, _call: Call) -> Reply:
        """A challenge for the ALTCHA widget."""
        return JsonReply(200, self._captcha.challenge())

    async def admit(
        self, call: Call, normalized_email: str, solution: str | None
    ) -> AdmittedAttempt | ProblemReply:
        """TOO_MANY_ATTEMPTS after five failures, and for a moment after each; after three
        CAPTCHA_REQUIRED, unless a solved challenge came.  An attempt without one is spent, so
        that guessing ends.
        """
        admission = await self.admit_holder(call, normalized_email)
        if isinstance(admission, ProblemReply):
            return admission
        if admission.reservation.requires_captcha:
            try:
                proven = solution is not None and await self._captcha.passed(solution)
            except StoreUnavailable:
                await self.give_back(admission)
                raise
            if not proven:
                await self._throttle.spent(admission.reservation)
                return ProblemReply(Reason.CAPTCHA_REQUIRED)
        return admission

    async def admit_holder(
        self, call: Call, normalized_email: str
    ) -> AdmittedAttempt | ProblemReply:
        """As `admit`, for who already holds a session or a link of the account: it counts like
        a sign-in, and asks for no challenge."""
        device = await self.known_device(call, normalized_email)
        reservation = await self._throttle.reserve(normalized_email, call.client_ip, device)
        if reservation.wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        return AdmittedAttempt(normalized_email, reservation, device)

    async def give_back(self, admission: AdmittedAttempt) -> None:
        await self._throttle.give_back(admission.reservation)

    async def failed(self, admission: AdmittedAttempt) -> None:
        """The password was wrong."""
        await self._throttle.failed(admission.reservation)

    def remembered(self, call: Call, normalized_email: str, epoch: int) -> str:
        """The `Set-Cookie` of a sign-in: this browser is now a device of the account."""
        now = self._clock.now()
        return set_cookie(self._devices.remember(device_cookie(call), normalized_email, epoch, now))

    def some_device(self, call: Call) -> Device | None:
        """The device of the call's cookie, whose account nobody knows yet."""
        return self._devices.known(device_cookie(call), self._clock.now())

    async def known_device(self, call: Call, normalized_email: str) -> Device | None:
        """The device of the call's cookie, where the account has signed in with it before, with
        the password that it has now."""
        device = self._devices.claimed(device_cookie(call), normalized_email, self._clock.now())
        if device is None:
            return None
        # Asked only for a cookie that we signed for this very account: no stranger sees by
        # the clock whether there is one.
        epoch = await self._epochs.password_epoch(normalized_email)
        if epoch is None or not self._devices.current(device, normalized_email, epoch):
            return None
        return replace(device, epoch=epoch)


def device_cookie(call: Call) -> str | None:
    """The value of `__Host-device`; None where there is none, or more than one."""
    return single_cookie(call, COOKIE)
