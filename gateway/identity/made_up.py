"""What tells a credential that was good from one that anybody may have made up, where to ask about
it costs a place: of a store, or of an issuer.

Law: whoever makes them up takes the places of no credential that was good, and more than their
share of the others from nobody.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.client_networks import holder, neighbourhood
from gateway.stores.protocols import StoreBusy

K = TypeVar("K")
LOOKS_OF_ADDRESS = 16
ADDRESSES_OF_NEIGHBOURHOOD = 2
"""Where nobody waits for a turn, a neighbourhood (/24, IPv6 /48) has so many addresses' worth
together: whoever has a /48 has 65,536 addresses, and one address must not take all of it."""
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
    """The questions about others that are under way: `most` of each address, and of a
    neighbourhood ADDRESSES_OF_NEIGHBOURHOOD times as many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_address: Counter[str] = Counter()
        self._of_network: Counter[str] = Counter()
        self.under_way = 0
        """Of all addresses together."""

    def has_room(self, client_ip: str) -> bool:
        of_network = self._of_network[neighbourhood(client_ip)]
        return (
            self._of_address[holder(client_ip)] < self._most
            and of_network < self._most * ADDRESSES_OF_NEIGHBOURHOOD
        )

    def take(self, client_ip: str) -> None:
        self._of_address[holder(client_ip)] += 1
        self._of_network[neighbourhood(client_ip)] += 1
        self.under_way += 1

    def give_back(self, client_ip: str) -> None:
        self.under_way -= 1
        for counted, name in (
            (self._of_address, holder(client_ip)),
            (self._of_network, neighbourhood(client_ip)),
        ):
            counted[name] -= 1
            if not counted[name]:
                del counted[name]


@dataclass(slots=True)
class _Places:
    free: asyncio.Semaphore
    callers: int = 0
    """That have one, or wait for one."""


class _PlacesByName:
    def __init__(self, most: int) -> None:
        self._most = most
        self._by_name: dict[str, _Places] = {}

    @asynccontextmanager
    async def place(self, name: str) -> AsyncIterator[None]:
        places = self._by_name.setdefault(name, _Places(asyncio.Semaphore(self._most)))
        places.callers += 1
        try:
            async with places.free:
                yield
        finally:
            places.callers -= 1
            if not places.callers:
                del self._by_name[name]


class AddressTurns:
    """Looks at SQL that anybody can bring about: of one neighbourhood so many at a time, and the
    others of it wait for their turn, no more of an address than that.  Nobody else meets them in
    the queue of the store."""

    def __init__(self, most: int = LOOKS_OF_ADDRESS, within_s: float = LOOK_WITHIN_S) -> None:
        self._within_s = within_s
        self._of_addresses = _PlacesByName(most)
        self._of_networks = _PlacesByName(most)

    @asynccontextmanager
    async def turn(self, client_ip: str) -> AsyncIterator[None]:
        """Raises StoreBusy where it does not come in time."""
        async with AsyncExitStack() as places:
            try:
                async with asyncio.timeout(self._within_s):
                    # The address first: its neighbours wait behind no more than it may have.
                    await places.enter_async_context(self._of_addresses.place(holder(client_ip)))
                    network = neighbourhood(client_ip)
                    await places.enter_async_context(self._of_networks.place(network))
            except TimeoutError:
                raise StoreBusy("sql", "too many of one address wait for it") from None
            yield
