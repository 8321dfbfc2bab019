"""To reach whatever the name of a target leads to, though some of its addresses say nothing.

Law: a silent address costs a wait, and never the call.  The next one is tried beside it after
NEXT_AFTER_S, and whichever connects first, TLS included, is taken (RFC 8305).  What connects later
is closed; what said nothing is tried last for a while.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from gateway.access.definitions import UpstreamTarget
from gateway.edge.upstream.outcome import may_be_of_callers
from gateway.edge.upstream.resolver import Endpoints

NEXT_AFTER_S = 0.25
"""The "Connection Attempt Delay" of RFC 8305 section 5."""
USED_UP = 0.9
"""Of its time, a caller that has waited for so much has seen who says nothing; one that is gone
before, by its own will, has not."""
WITHIN_TIME = 4
"""So many addresses have their turn in the time that connecting may take, however short it is."""

T = TypeVar("T")
Dial = Callable[[str], Coroutine[Any, Any, T]]


async def reach(
    target: UpstreamTarget,
    endpoints: Endpoints,
    dial: Dial[T],
    drop: Callable[[T], None],
    *,
    within_s: float,
    scarce: Callable[[], bool] = lambda: False,
) -> T:
    """What `dial` makes of the first address that answers: of those that are known, and, if nobody
    is there any more, of those where the name leads now.

    OSError as `dial` raises it.  `drop` closes what was not taken, `within_s` is what the caller
    waits at most, and `scarce` says whether there is no descriptor for one more connection.
    """
    found: OSError | None = None
    tried: set[str] = set()
    loop = asyncio.get_running_loop()
    seen_at = loop.time() + within_s * USED_UP
    try:
        for lookup in (endpoints.addresses, endpoints.looked_up):
            addresses = [a for a in await lookup(target.host, target.port) if a not in tried]
            tried.update(addresses)
            try:
                if len(addresses) == 1:
                    return await dial(addresses[0])
                if addresses:
                    next_after_s = min(NEXT_AFTER_S, within_s / min(len(addresses), WITHIN_TIME))
                    race = _Race(dial, drop, next_after_s, scarce)
                    answered = False
                    try:
                        connected = await race.run(addresses)
                        answered = True
                        return connected
                    finally:
                        if answered or loop.time() >= seen_at:
                            endpoints.record_silent(target.host, target.port, race.silent)
            except OSError as error:
                found = _telling(found, error)
        raise found or OSError("the name has no address")
    finally:
        found = None  # it holds this frame


def _telling(found: OSError | None, error: OSError) -> OSError:
    """What callers may have brought about at one address tells more than nobody at the next."""
    return error if found is None or not may_be_of_callers(found) else found


class _Race(Generic[T]):
    """Several addresses of one name, begun with in turn; `silent` are those that were given
    their time and said nothing."""

    def __init__(
        self,
        dial: Dial[T],
        drop: Callable[[T], None],
        next_after_s: float,
        scarce: Callable[[], bool],
    ) -> None:
        self._dial = dial
        self._drop = drop
        self._next_after_s = next_after_s
        self._scarce = scarce
        self._loop = asyncio.get_running_loop()
        self._begun: dict[asyncio.Task[T], tuple[str, float]] = {}
        self.silent: list[str] = []

    async def run(self, addresses: Sequence[str]) -> T:
        found: OSError | None = None
        task: asyncio.Task[T] | None = None
        done: set[asyncio.Task[T]] = set()
        left = deque(addresses)
        try:
            while left or self._begun:
                if left and not (self._begun and self._scarce()):
                    self._begin(left.popleft())
                done, _ = await asyncio.wait(
                    self._begun,
                    timeout=self._next_after_s if left else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    try:
                        connected = task.result()
                    except OSError as error:
                        del self._begun[task]
                        found = _telling(found, error)
                    else:
                        del self._begun[task]
                        return connected
            assert found is not None
            raise found
        finally:
            found = task = None  # what failed holds this frame
            done.clear()
            self._end()

    def _begin(self, address: str) -> None:
        task = self._loop.create_task(self._dial(address), name=f"dial {address}")
        self._begun[task] = address, self._loop.time()

    def _end(self) -> None:
        now = self._loop.time()
        for task, (address, began_at) in self._begun.items():
            # A timer may be early by the resolution of the clock.
            if not task.done() and now - began_at > self._next_after_s * 0.99:
                self.silent.append(address)
            task.cancel()
            task.add_done_callback(self._let_go)
        self._begun.clear()

    def _let_go(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._drop(task.result())
