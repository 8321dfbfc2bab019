"""The login throttle: how many guesses are evaluated, whoever makes them, from however many places.

Law: an attempt is counted before the hash it pays for, atomically, and given back when it was
no failure.  In any 15 minutes at most five failures of one account are evaluated, the first
of them already makes the next one wait, and a day holds at most 480 from strangers and stolen
device cookies together (`bench.lockout` lets attackers try).  A wait is an answer (429 with
Retry-After), never a held connection.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.client_networks import holder, neighbourhood
from gateway.identity.sign_in.devices import Device, device_counter, device_counters
from gateway.identity.sign_in.local_attempts import LocalAttempts
from gateway.model import Clock
from gateway.stores.protocols import Attempt, Attempts, StoreBusy, StoreUnavailable

ACCOUNT_FAILURES = 5
ACCOUNT_FAILURES_AN_HOUR = 15
"""Who is patient gets fewer than five a quarter of an hour: what is left of 480 a day is kept
for the account's own devices."""
ADDRESS_FAILURES = 50
NETWORK_FAILURES = 250
"""Of a neighbourhood of IP addresses: who tries one password on many accounts from many of them
is slowed as well."""
DEVICE_FAILURES = 5
DEVICE_FAILURES_A_DAY = 10
DEVICES_FAILURES_A_DAY = 90
"""Of all devices of one account together: nine stolen cookies, not one, shut the others out."""
CAPTCHA_AFTER_FAILURES = 3
"""After so many an attempt needs a solved challenge."""
REQUESTS = 50
"""Of one IP address and one purpose."""
NETWORK_REQUESTS = 250
"""The same of a neighbourhood: whoever has a /48 of IPv6 has 65,536 addresses."""
WINDOW_S = 900
DAY_S = 86_400
CHANGES = 10
CHANGES_WINDOW_S = 3600
"""New passwords of one account: each costs two hashes and a mail."""
RESETS = 20
"""New passwords that are tried with one mailed link: each may be weak, and costs a hash."""


FACTOR_FAILURES = 5
ENROLMENTS = 20
"""Codes by which a secret may be confirmed that was shown a moment ago."""
FACTOR_FAILURES_A_DAY = 20
STEP_UP_FAILURES_A_DAY = 10
"""Of second factors of one account, by whoever knows its password, and by whoever has a session of
it, who so keeps nobody from signing in.  Of the million codes three are good at a time, so a month
of guessing has a chance of one in 370."""


class RequestKind(StrEnum):
    """What is asked for without a password.  Each has a budget of its own: who uses up one
    (registers all day) stops nobody from another (a reset of the password)."""

    REGISTER = "register"
    RESEND = "resend"
    RESET = "reset"
    EMAIL_CHANGE = "address"
    LINK = "link"
    """A mailed link that was not good."""


@dataclass(slots=True)
class Reservation:
    """Room for one attempt, or how long to wait for it."""

    wait_s: float
    """0.0 when the attempt may be made."""
    failures: int
    """Failures in the last 15 minutes of the account, or of its device."""
    attempts: Sequence[Attempt]
    mark: str
    counter: Attempts

    @property
    def requires_captcha(self) -> bool:
        """Whether the attempt needs a solved challenge."""
        return self.failures >= CAPTCHA_AFTER_FAILURES


class Throttle:
    """Asks the shared counters, and this worker's own while they are unavailable."""

    def __init__(self, shared: Attempts, clock: Clock, live_workers: Callable[[], int]) -> None:
        """`live_workers` is how many share the limits when each must count alone."""
        self._shared = shared
        self._local = LocalAttempts(clock)
        self._live_workers = live_workers

    async def reserve(
        self, normalized_email: str, client_ip: str, device: Device | None = None
    ) -> Reservation:
        """Count one attempt at an account from an IP address, unless it has to wait.

        A device that this account has signed in with, with the password that it has now,
        counts by itself: what strangers use up, of the account's attempts or of an office's,
        does not shut its owner out.
        """
        if device is None:
            return await self._reserve(_by_stranger(normalized_email, client_ip))
        own = _by_device(normalized_email, device)
        reserved = await self._reserve([*own, _devices_at(client_ip)])
        if reserved.wait_s > 0 and not reserved.requires_captcha:
            # The others at this address have used up what all have there.  Any of them may have
            # an account and devices of their own: that shuts out nobody who did not fail.
            return await self._reserve(own)
        return reserved

    async def reserve_passkey(self, client_ip: str, device: Device | None) -> Reservation:
        """Count one sign-in by a passkey from an IP address, of a known device or of none.

        Nobody guesses a signature: no account is counted, so that nobody is locked out by it, and
        what passwords have is left to them.
        """
        return await self._reserve_unguessed("passkey", client_ip, device)

    async def reserve_provider(self, client_ip: str, device: Device | None) -> Reservation:
        """Count one answer that a browser brings back from a provider, from an IP address: what is
        made up costs a question to the provider, which counts them by our name."""
        return await self._reserve_unguessed("provider", client_ip, device)

    async def _reserve_unguessed(
        self, what: str, client_ip: str, device: Device | None
    ) -> Reservation:
        reserved = await self._reserve(
            [
                Attempt(f"{what}:address:{holder(client_ip)}", ADDRESS_FAILURES, WINDOW_S),
                Attempt(f"{what}:network:{neighbourhood(client_ip)}", NETWORK_FAILURES, WINDOW_S),
            ]
        )
        if reserved.wait_s == 0 or device is None:
            return reserved
        # Others at this address have used up what all have there: that shuts out nobody who has
        # signed in here before.
        return await self._reserve(_by_known_device(what, device, ADDRESS_FAILURES))

    async def reserve_link(self, token: str) -> Reservation:
        """Count one password that was tried with a mailed link, by that link alone."""
        key = "link:" + hashlib.sha256(token.encode()).hexdigest()[:32]
        return await self._reserve([Attempt(key, ACCOUNT_FAILURES, WINDOW_S)])

    async def reserve_factor(self, account_id: str, mfa_token_id: str | None = None) -> Reservation:
        """Count one answer to the question for a second factor: by the account, whoever gives it,
        and by the sign-in that it is to complete.  Without one it is a step-up of a session."""
        signs_in, steps_up = factor_counters(account_id)
        if mfa_token_id is None:
            return await self._reserve(_of_factors(steps_up, STEP_UP_FAILURES_A_DAY))
        of_token = Attempt(f"factor-token:{mfa_token_id}", FACTOR_FAILURES, WINDOW_S)
        return await self._reserve([*_of_factors(signs_in, FACTOR_FAILURES_A_DAY), of_token])

    async def count_enrolment(self, account_id: str) -> float:
        """As `count`: one code that is to confirm a new factor."""
        key = "enrolment:" + hashlib.sha256(account_id.encode()).hexdigest()[:32]
        return await self.count(Attempt(key, ENROLMENTS, WINDOW_S))

    async def reserve_change(self, account_id: str) -> Reservation:
        """Count one new password of an account, whose owner knew the old one."""
        key = "change:" + hashlib.sha256(account_id.encode()).hexdigest()[:32]
        return await self._reserve([Attempt(key, CHANGES, CHANGES_WINDOW_S)])

    async def count_request(
        self, client_ip: str, kind: RequestKind, device: Device | None = None
    ) -> float:
        """As `count`: one mail requested, or one mailed link tried, from an IP address; of a known
        `device`, which has signed in before, where others have used up what all have there."""
        what = f"mail:{kind}"
        wait_s = await self.count(
            Attempt(f"{what}:{holder(client_ip)}", REQUESTS, WINDOW_S),
            Attempt(f"{what}:network:{neighbourhood(client_ip)}", NETWORK_REQUESTS, WINDOW_S),
        )
        if wait_s == 0 or device is None:
            return wait_s
        return await self.count(*_by_known_device(what, device, REQUESTS))

    async def count_reset(self, token: str) -> float:
        """As `count`: one new password that a good link was sent with, by that link alone."""
        key = "reset:" + hashlib.sha256(token.encode()).hexdigest()[:32]
        return await self.count(Attempt(key, RESETS, WINDOW_S))

    async def count(self, *attempts: Attempt) -> float:
        """Count what has happened, up to each limit: 0.0, and once one is reached the seconds
        until there is room again."""
        reserved = await self._reserve(attempts)
        if reserved.wait_s == 0:
            await self.spent(reserved)
        return reserved.wait_s

    async def give_back(self, reservation: Reservation) -> None:
        """Uncount the attempt: the password was right, or was not checked."""
        try:
            await reservation.counter.give_back(reservation.attempts, reservation.mark)
        except StoreUnavailable:
            return  # what is not settled counts for two minutes and is then forgotten

    async def failed(self, reservation: Reservation) -> None:
        """Count a wrong password from now on, after its check; the next attempt waits."""
        await self._settle(reservation, failed=True)

    async def spent(self, reservation: Reservation) -> None:
        """Count the attempt although nothing was checked."""
        await self._settle(reservation, failed=False)

    async def reset(self, normalized_email: str, epoch: int) -> None:
        """Forget the account's failures, for operators and for whoever proved by mail to own the
        e-mail address.  `epoch` is as for `account_counters`.  Raises StoreUnavailable."""
        counters = account_counters(normalized_email, epoch)
        await self._local.clear(counters)
        await self._shared.clear(counters)

    async def _settle(self, reservation: Reservation, *, failed: bool) -> None:
        counter, attempts, mark = reservation.counter, reservation.attempts, reservation.mark
        try:
            await counter.settle(attempts, mark, failed=failed)
        except StoreUnavailable:
            # Counted in memory then: to forget a failure would be a gift.
            await self._local.settle(attempts, mark, failed=failed)

    async def _reserve(self, attempts: Sequence[Attempt]) -> Reservation:
        mark = secrets.token_hex(5)
        try:
            counted = await self._shared.reserve(attempts, mark)
            return Reservation(counted.wait_s, counted.failures, attempts, mark, self._shared)
        except StoreBusy:
            # Whoever can fill our queue must not gain counters that know of no failures yet.
            raise
        except StoreUnavailable:
            workers = max(1, self._live_workers())
            share = [
                replace(a, limit=max(1, a.limit // workers), an_hour=_share(a.an_hour, workers))
                for a in attempts
            ]
            counted = await self._local.reserve(share, mark)
            return Reservation(counted.wait_s, counted.failures, share, mark, self._local)


def account_counter(normalized_email: str) -> str:
    """The counter of an account, whether or not there is one: its name holds no e-mail address."""
    return "login:account:" + hashlib.sha256(normalized_email.encode()).hexdigest()[:32]


def account_counters(normalized_email: str, epoch: int) -> list[str]:
    """Every counter of the account itself, for `reset`; `epoch` is that of its password, by which
    its devices count."""
    return [account_counter(normalized_email), _devices_counter(normalized_email, epoch)]


def factor_counters(account_id: str) -> tuple[str, str]:
    """Of the second steps of its sign-ins, and of the step-ups of its sessions."""
    digest = hashlib.sha256(account_id.encode()).hexdigest()[:32]
    return f"factor:{digest}", f"step-up:{digest}"


async def forget_failures(
    shared: Attempts, normalized_email: str, epoch: int, account_id: str
) -> None:
    """Forget the account's failures and those of each of its devices, for operators.  The owner who
    is locked out failed in a browser that has signed in before, most of the time."""
    await shared.clear(await failure_counters(shared, normalized_email, epoch, account_id))


async def failure_counters(
    shared: Attempts, normalized_email: str, epoch: int, account_id: str
) -> Sequence[str]:
    """The keys of what `forget_failures` clears.  Looks at all keys there are."""
    factors = [key + of for key in factor_counters(account_id) for of in ("", ":day")]
    devices = await shared.keys_under(device_counters(normalized_email))
    return [*account_counters(normalized_email, epoch), *factors, *devices]


def _of_factors(key: str, a_day: int) -> list[Attempt]:
    return [Attempt(key, FACTOR_FAILURES, WINDOW_S), Attempt(f"{key}:day", a_day, DAY_S)]


def _by_stranger(normalized_email: str, client_ip: str) -> list[Attempt]:
    return [
        Attempt(
            account_counter(normalized_email),
            ACCOUNT_FAILURES,
            WINDOW_S,
            paced=True,
            an_hour=ACCOUNT_FAILURES_AN_HOUR,
        ),
        Attempt(f"login:address:{holder(client_ip)}", ADDRESS_FAILURES, WINDOW_S),
        Attempt(f"login:network:{neighbourhood(client_ip)}", NETWORK_FAILURES, WINDOW_S),
    ]


def _by_device(normalized_email: str, device: Device) -> list[Attempt]:
    key = device_counter(device, normalized_email)
    return [
        Attempt(key, DEVICE_FAILURES, WINDOW_S, paced=True),
        Attempt(f"{key}:day", DEVICE_FAILURES_A_DAY, DAY_S),
        Attempt(_devices_counter(normalized_email, device.epoch), DEVICES_FAILURES_A_DAY, DAY_S),
    ]


def _by_known_device(what: str, device: Device, of_account: int) -> list[Attempt]:
    """Of a device by itself.  Whoever has an account may have many of it."""
    return [
        Attempt(f"{what}:device:{device.id}", DEVICE_FAILURES, WINDOW_S),
        Attempt(f"{what}:devices-of:{device.latest_tag}", of_account, WINDOW_S),
    ]


def _devices_at(client_ip: str) -> Attempt:
    """Not the counter of an office: one of its people would shut out all its browsers."""
    return Attempt(f"login:devices-at:{holder(client_ip)}", ADDRESS_FAILURES, WINDOW_S)


def _devices_counter(normalized_email: str, epoch: int) -> str:
    """A new password starts a new counter: older device cookies no longer count as known."""
    digest = hashlib.sha256(f"{epoch}\x00{normalized_email}".encode()).hexdigest()
    return "login:devices-of:" + digest[:32]


def _share(limit: int, workers: int) -> int:
    return max(1, limit // workers) if limit else 0
