"""Bounds how many callers use a store at once: whoever finds no free slot waits a bounded while.

A queue before our own connections says nothing of the server behind them: a caller that gives up
in it raises StoreBusy, and the store does not count as unavailable.

Law: neighbourhoods (/24, IPv6 /48) take turns in it, and where it is full one that has few callers
there takes a place from the one that has most.  Whoever has an account may ask as often as they
have addresses, and must keep nobody from elsewhere waiting.  Every second slot is for what the
worker asks of itself, as long as that waits: else who asks from many neighbourhoods would stop all
mail, and what keeps workers in step.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.client_networks import OWN_TASKS, asking_for
from gateway.stores.protocols import StoreBusy

WAITING_MAX = 500
WAIT_S = 0.5


class ConnectionSlots:
    """At most `count` callers at once, and `waiting_max` behind them for `wait_s`."""

    def __init__(
        self, store: str, count: int, *, waiting_max: int = WAITING_MAX, wait_s: float = WAIT_S
    ) -> None:
        self._store = store
        self._free = count
        """None while anybody waits."""
        self._by_network: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._waiting = 0
        self._was_own = False
        """Whether the last slot that came free went to the worker's own."""
        self._waiting_max = waiting_max
        self._wait_s = wait_s

    async def acquire(self, wait_s: float | None = None) -> None:
        """Takes a slot, which the caller releases; raises StoreBusy."""
        if self._free > 0:
            self._free -= 1
            return
        network = asking_for.get()
        if self._waiting >= self._waiting_max and not self._make_room(network):
            raise StoreBusy(self._store, "too many are waiting")
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._by_network.setdefault(network, deque()).append(granted)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s if wait_s is None else wait_s):
                await granted
        except TimeoutError:
            self._give_up(network, granted)
            raise StoreBusy(self._store, "no place in time") from None
        except BaseException:
            self._give_up(network, granted)
            raise

    def release(self) -> None:
        while self._by_network:
            network = self._next()
            granted = self._by_network[network][0]
            self._leave(network, granted)
            if not granted.done():  # else its caller has gone, and has not noticed yet
                granted.set_result(None)
                return
        self._free += 1

    def _next(self) -> str:
        """Whose turn it is, of those who wait."""
        others = (network for network in self._by_network if network != OWN_TASKS)
        network = next(others, OWN_TASKS)
        self._was_own = not self._was_own and OWN_TASKS in self._by_network
        if self._was_own:
            return OWN_TASKS
        self._by_network.move_to_end(network)
        return network

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds a slot while the block runs."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()

    def _make_room(self, network: str) -> bool:
        """Whether the latest of the neighbourhood that has most here, and more than this one even
        then, has given its place up."""
        others = (item for item in self._by_network.items() if item[0] != OWN_TASKS)
        crowd, queue = max(others, key=lambda item: len(item[1]), default=(network, deque()))
        own = 0 if network == OWN_TASKS else len(self._by_network.get(network, ())) + 1
        if len(queue) <= own:
            return False
        displaced = queue[-1]
        self._leave(crowd, displaced)
        if not displaced.done():
            displaced.set_exception(StoreBusy(self._store, "too many of one network are waiting"))
        return True

    def _give_up(self, network: str, granted: asyncio.Future[None]) -> None:
        """A slot that came in the moment in which its caller left is another's."""
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self.release()
        elif granted in self._by_network.get(network, ()):
            self._leave(network, granted)

    def _leave(self, network: str, granted: asyncio.Future[None]) -> None:
        queue = self._by_network[network]
        queue.remove(granted)
        self._waiting -= 1
        if not queue:
            del self._by_network[network]
