"""What tells a credential that was good from one that anybody may have made up, where to ask about
it costs a place: of a store, or of an issuer.

Law: whoever makes them up takes the places of no credential that was good, and more than their
share of the others from nobody.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.client_networks import holder
from gateway.stores.protocols import StoreBusy

K = TypeVar("K")
LOOKS_OF_ADDRESS = 16
LOOK_WITHIN_S = 2.0


class GoodOnes(Generic[K]):
    """The latest that were good when they were last asked about, at most `most`; by a hash."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._digests: OrderedDict[K, None] = OrderedDict()

    def __contains__(self, digest: K) -> bool:
        return digest in self._digests

    def note(self, digest: K, *, is_good: bool) -> None:
        """What came of it now."""
        self._digests.pop(digest, None)
        if is_good:
            self._digests[digest] = None
            if len(self._digests) > self._most:
                self._digests.popitem(last=False)


class AddressShares:
    """The questions about others that are under way, by the holder of the address: `most` each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()
        self.under_way = 0
        """Of all addresses together."""

    def has_room(self, holder: str) -> bool:
        return self._taken[holder] < self._most

    def take(self, holder: str) -> None:
        self._taken[holder] += 1
        self.under_way += 1

    def give_back(self, holder: str) -> None:
        self.under_way -= 1
        self._taken[holder] -= 1
        if not self._taken[holder]:
            del self._taken[holder]


@dataclass(slots=True)
class _Places:
    free: asyncio.Semaphore
    callers: int = 0
    """That have one, or wait for one."""


class AddressTurns:
    """Looks at SQL that anybody can bring about: of one address so many at a time, and the others
    of it wait for their turn.  Nobody else meets them in the queue of the store."""

    def __init__(self, most: int = LOOKS_OF_ADDRESS, within_s: float = LOOK_WITHIN_S) -> None:
        self._most = most
        self._within_s = within_s
        self._by_address: dict[str, _Places] = {}

    @asynccontextmanager
    async def turn(self, client_ip: str) -> AsyncIterator[None]:
        """Raises StoreBusy where it does not come in time."""
        address = holder(client_ip)
        places = self._by_address.setdefault(address, _Places(asyncio.Semaphore(self._most)))
        places.callers += 1
        try:
            try:
                async with asyncio.timeout(self._within_s):
                    await places.free.acquire()
            except TimeoutError:
                raise StoreBusy("sql", "too many of one address wait for it") from None
            try:
                yield
            finally:
                places.free.release()
        finally:
            places.callers -= 1
            if not places.callers:
                del self._by_address[address]
