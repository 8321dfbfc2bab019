"""How often clients may fail to prove who they are by a secret.

A secret has 256 bits: nobody guesses it.  What is bounded here is what each failure costs: a
look at SQL, a count in Redis.  Who proves who it is pays nothing, and is kept out by no neighbour
of the same address.  Whoever signs assertions neither counts here nor waits (`client_auth`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from gateway.client_networks import holder
from gateway.identity.clients.client_auth import Assertion, BasicSecret, claimed_client
from gateway.identity.made_up import GoodOnes
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.sign_in.throttle import Throttle
from gateway.model import Clock
from gateway.stores.protocols import Attempt

WINDOW_S = 60
CLIENT_FAILURES = 20
"""Of one client at one IP address.  It stops a program that was given a wrong secret, and none
beside it: those that are refused here do not count for their address."""
ADDRESS_FAILURES = 300
_REMEMBERED_MAX = 10_000
_GOOD_MAX = 10_000


class ClientFailures:
    def __init__(self, throttle: Throttle, clock: Clock) -> None:
        self._throttle = throttle
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()
        self._good: GoodOnes[str] = GoodOnes(_GOOD_MAX)
        """Secrets, and clients at their addresses, that this worker has believed."""

    def wait_s(self, client_ip: str, proof: BasicSecret) -> float:
        """Seconds for which nothing is looked at; 0.0 where it may be.  Asks no store.

        A secret that was good waits for nobody's failures, and a client that was believed at this
        address for none but those in its own name.
        """
        if _secret_digest(proof) in self._good:
            return 0.0
        now = self._clock.steady()
        of_client, of_address = _keys(client_ip, claimed_client(proof))
        keys = (of_client,) if of_client in self._good else (of_client, of_address)
        return max(0.0, *(self._until.get(key, 0.0) - now for key in keys))

    def is_known(self, client_ip: str, proof: BasicSecret) -> bool:
        """Whether this worker has believed the secret, or the client at this address."""
        of_client, _ = _keys(client_ip, claimed_client(proof))
        return of_client in self._good or _secret_digest(proof) in self._good

    def believed(self, client_ip: str, proof: BasicSecret | Assertion) -> None:
        of_client, _ = _keys(client_ip, claimed_client(proof))
        self._good.note(of_client, is_good=True)
        if isinstance(proof, BasicSecret):
            self._good.note(_secret_digest(proof), is_good=True)

    async def failed(self, client_ip: str, proof: BasicSecret) -> None:
        self._good.note(_secret_digest(proof), is_good=False)
        now, claimed = self._clock.steady(), claimed_client(proof)
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


def _secret_digest(proof: BasicSecret) -> str:
    return hash_token(f"{claimed_client(proof)}\x00{proof.client_secret}")
