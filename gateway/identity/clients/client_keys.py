"""The public keys of clients, as this worker read them last.

Law: whether an assertion is its client's own is told without a store.  So whoever makes assertions
up costs a look at SQL once a minute for each client that there is, and that client neither a wait
nor a turn.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gateway.identity.clients.clients import Client
from gateway.identity.keys.jwk import VerifyingKey
from gateway.model import Clock

READ_AGAIN_S = 60
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class KnownKeys:
    public_keys: tuple[VerifyingKey, ...]
    current_until: float
    """From then on SQL is asked before an assertion is refused that none of them signed."""


class ClientKeys:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[str, KnownKeys] = OrderedDict()

    def find(self, client_id: str) -> KnownKeys | None:
        return self._known.get(client_id)

    def find_current(self, client_id: str) -> KnownKeys | None:
        known = self._known.get(client_id)
        return known if known and self._clock.steady() < known.current_until else None

    def note(self, client_id: str, client: Client | None) -> KnownKeys | None:
        """What was read of it now; None where there is no such client."""
        self._known.pop(client_id, None)
        if client is None:
            return None
        known = KnownKeys(client.public_keys, self._clock.steady() + READ_AGAIN_S)
        self._known[client_id] = known
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return known
