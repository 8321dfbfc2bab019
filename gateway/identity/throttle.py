"""The login throttle: 5 failures in 15 minutes by account, 50 by address.

Law: an attempt is counted before the hash it pays for, atomically, and given back when it was
no failure.  So of thirty guesses sent at once at most five are evaluated.  A wait is an answer
(429 with Retry-After), never a held connection.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.identity.devices import Device, device_counter
from gateway.model import Clock
from gateway.stores.protocols import Attempt, Attempts, StoreUnavailable

ACCOUNT_FAILURES = 5
ADDRESS_FAILURES = 50
NETWORK_FAILURES = 250
"""Of a neighbourhood of addresses: who tries one password on many accounts from many of them
is slowed as well."""
UNPROVEN_FAILURES = 3
"""After so many an attempt needs a solved challenge."""
WINDOW_S = 900
LONGEST_WAIT_S = 900


@dataclass(slots=True)
class Reservation:
    """Room for one attempt, or how long to wait for it."""

    wait_s: float
    """0.0 when the attempt may be made."""
    attempts: Sequence[Attempt]
    counter: Attempts


class Throttle:
    """Asks the shared counters, and this worker's own while they are away."""

    def __init__(self, shared: Attempts, clock: Clock, live_workers: Callable[[], int]) -> None:
        """`live_workers` is how many share the limits when each must count alone."""
        self._shared = shared
        self._own = OwnAttempts(clock)
        self._live_workers = live_workers

    async def reserve(
        self, email_key: str, client_ip: str, device: Device | None = None
    ) -> Reservation:
        """Counts one attempt at an account from an address, unless it has to wait.

        A device that this account has signed in with counts by itself: what strangers use up,
        of the account's attempts or of an office's, does not shut its owner out.
        """
        if device is not None:
            key = device_counter(device, email_key)
            return await self._reserve([Attempt(key, ACCOUNT_FAILURES, WINDOW_S)])
        return await self._reserve(
            [
                Attempt(account_counter(email_key), ACCOUNT_FAILURES, WINDOW_S),
                Attempt(address_counter(client_ip), ADDRESS_FAILURES, WINDOW_S),
                Attempt(network_counter(client_ip), NETWORK_FAILURES, WINDOW_S),
            ]
        )

    async def needs_proof(self, email_key: str, device: Device | None = None) -> bool:
        """Whether so many attempts have failed that the next needs a solved challenge."""
        attempt = _unproven(email_key, device)
        try:
            return await self._shared.charged(attempt) >= UNPROVEN_FAILURES
        except StoreUnavailable:
            return await self._own.charged(attempt) >= UNPROVEN_FAILURES

    async def failed(self, email_key: str, device: Device | None = None) -> None:
        """The password was wrong.  Counted after the fact: what bounds attempts that come at
        once is `reserve`."""
        await self._reserve([_unproven(email_key, device)])

    async def reserve_ask(self, client_ip: str) -> Reservation:
        """Counts one letter asked for, or one mailed link tried, from an address."""
        key = address_counter(client_ip).replace("login:", "mail:", 1)
        return await self._reserve([Attempt(key, ADDRESS_FAILURES, WINDOW_S)])

    async def give_back(self, reservation: Reservation) -> None:
        """The attempt was no failure: the password was right, or nothing was evaluated."""
        try:
            await reservation.counter.give_back(reservation.attempts)
        except StoreUnavailable:
            return  # one failure too many stays counted until its window ends

    async def forgive(self, email_key: str) -> None:
        """Forgets the account's failures; raises StoreUnavailable.  For operators, and for
        whoever proved by mail to own the address."""
        counters = account_counters(email_key)
        await self._own.clear(counters)
        await self._shared.clear(counters)

    async def _reserve(self, attempts: Sequence[Attempt]) -> Reservation:
        try:
            return Reservation(await self._shared.reserve(attempts), attempts, self._shared)
        except StoreUnavailable:
            workers = max(1, self._live_workers())
            share = [Attempt(a.key, max(1, a.limit // workers), a.window_s) for a in attempts]
            return Reservation(await self._own.reserve(share), share, self._own)


def account_counter(email_key: str) -> str:
    """The counter of an account, whether or not there is one: it holds no address."""
    return "login:account:" + hashlib.sha256(email_key.encode()).hexdigest()[:32]


def _unproven(email_key: str, device: Device | None) -> Attempt:
    key = account_counter(email_key) if device is None else device_counter(device, email_key)
    key = key.replace("login:", "unproven:", 1)
    # The limit only ends the counting: whoever asks compares for themselves.
    return Attempt(key, ACCOUNT_FAILURES, WINDOW_S)


def account_counters(email_key: str) -> list[str]:
    """Every counter that is the account's own, for who forgives it."""
    key = account_counter(email_key)
    return [key, key.replace("login:", "unproven:", 1)]


def network_counter(client_ip: str) -> str:
    """The counter of the address's neighbourhood: /24, and /48 of IPv6."""
    try:
        address = ipaddress.ip_address(client_ip.partition("%")[0])
    except ValueError:
        return "login:network:unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"login:network:{ipaddress.ip_network((address, 48), strict=False)}"
        address = address.ipv4_mapped
    return f"login:network:{ipaddress.ip_network((address, 24), strict=False)}"


def address_counter(client_ip: str) -> str:
    """The counter of an address.  IPv6 counts by /64: who has one address of it has all."""
    try:
        address = ipaddress.ip_address(client_ip.partition("%")[0])
    except ValueError:
        return "login:address:unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return f"login:address:{address.ipv4_mapped}"
        return f"login:address:{ipaddress.ip_network((address, 64), strict=False)}"
    return f"login:address:{address}"


@dataclass(slots=True)
class _Counter:
    charged_at: list[float] = field(default_factory=list)
    refusals: int = 0
    open_at: float = 0.0
    """When one more attempt is let in past the limit; 0 where it was, or none was refused."""
    forget_at: float = 0.0
    """When the refusals no longer count."""


class OwnAttempts:
    """Counters in this worker's memory: bounded, and gone when it ends.

    They judge as the shared ones do: past its limit a counter lets one attempt in after each
    wait, and the next wait is longer.
    """

    def __init__(self, clock: Clock, *, most: int = 50_000) -> None:
        self._clock = clock
        self._most = most
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    async def reserve(self, attempts: Sequence[Attempt]) -> float:
        now = self._clock.steady()
        counters = [self._current(attempt, now) for attempt in attempts]
        full = [
            counter
            for attempt, counter in zip(attempts, counters, strict=True)
            if len(counter.charged_at) >= attempt.limit
        ]
        wait_s = 0.0
        for counter in full:
            if not counter.open_at or now < counter.open_at:
                pause_s = min(LONGEST_WAIT_S, 2.0 ** min(10, counter.refusals))
                counter.refusals += 1
                counter.open_at = now + pause_s
                counter.forget_at = counter.open_at + WINDOW_S
                wait_s = max(wait_s, pause_s)
        if wait_s:
            return wait_s
        for counter in counters:
            counter.charged_at.append(now)
        for counter in full:
            counter.open_at = 0.0
        return 0.0

    async def give_back(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            counter = self._counters.get(attempt.key)
            if counter is not None and counter.charged_at:
                counter.charged_at.pop()

    async def charged(self, attempt: Attempt) -> int:
        return len(self._current(attempt, self._clock.steady()).charged_at)

    async def clear(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._counters.pop(key, None)

    def __len__(self) -> int:
        return len(self._counters)

    def _current(self, attempt: Attempt, now: float) -> _Counter:
        """The counter without what is older than its window; the newest of all."""
        counter = self._counters.pop(attempt.key, None) or _Counter()
        self._counters[attempt.key] = counter
        while len(self._counters) > self._most:
            self._counters.popitem(last=False)
        oldest = now - attempt.window_s
        counter.charged_at = [at for at in counter.charged_at if at > oldest]
        if counter.forget_at <= now:
            counter.refusals, counter.open_at = 0, 0.0
        return counter
