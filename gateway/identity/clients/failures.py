"""How often clients may fail to prove who they are.

A secret has 256 bits: nobody guesses it.  What is bounded here is what each failure costs: a
look at SQL, the check of a signature, a count in Redis.  Who proves who it is pays nothing.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from gateway.client_networks import holder
from gateway.identity.sign_in.throttle import Throttle
from gateway.model import Clock
from gateway.stores.protocols import Attempt

WINDOW_S = 60
CLIENT_FAILURES = 20
"""Of one client at one IP address.  It stops a program that was given a wrong secret, and none
beside it: those that are refused here do not count for their address."""
ADDRESS_FAILURES = 300
_REMEMBERED_MAX = 10_000


class ClientFailures:
    def __init__(self, throttle: Throttle, clock: Clock) -> None:
        self._throttle = throttle
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, client_ip: str, claimed: str) -> float:
        """Seconds for which nothing is looked at; 0.0 where it may be.  Asks no store."""
        now = self._clock.steady()
        return max(0.0, *(self._until.get(key, 0.0) - now for key in _keys(client_ip, claimed)))

    async def failed(self, client_ip: str, claimed: str) -> None:
        now = self._clock.steady()
        for key, limit in zip(
            _keys(client_ip, claimed), (CLIENT_FAILURES, ADDRESS_FAILURES), strict=True
        ):
            counted = await self._throttle.count(Attempt(key, limit, WINDOW_S))
            if counted > 0:
                self._until[key] = now + counted
                self._until.move_to_end(key)
                if len(self._until) > _REMEMBERED_MAX:
                    self._until.popitem(last=False)


def _keys(client_ip: str, claimed: str) -> tuple[str, str]:
    address = holder(client_ip)
    named = hashlib.sha256(f"{address}\x00{claimed}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"client:{named[:32]}", f"clients-at:{address}"
