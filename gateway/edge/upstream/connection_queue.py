"""Calls that found no idle connection at a target: who may have one made, and who waits.

No more than CONNECTS_AT_ONCE are made at a time: ten thousand calls that come at once would fill
the target's queue of new connections, or take every descriptor.  Where it does not take as many in
time there are fewer, until it does.  The others wait for their turn, or for a connection that falls
free, whichever comes first.  They give up once neither has come to anybody for as long as
connecting may take.

Law: what is handed to a call that has left meanwhile goes to the next one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from gateway.access.definitions import Upstream
from gateway.edge.upstream.connection import UpstreamConnection

CONNECTS_AT_ONCE = 64
"""Fewer than a server's queue of new connections holds where nobody thought of it: 100 of asyncio,
128 of Linux before 5.4."""
FEWEST_AT_ONCE = 8

STALL_S = 0.1
"""A timer that comes so late was kept waiting by this worker itself: what it would end may have
come already, and not been read."""

Waiter = asyncio.Future["UpstreamConnection | None"]


class ConnectionQueue:
    """Of one target.  `scarce`: whether there is no descriptor for one more connection; `put_back`
    takes a connection that nobody wanted after all."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scarce: Callable[[], bool],
        put_back: Callable[[UpstreamConnection], None],
    ) -> None:
        self._loop = loop
        self._scarce = scarce
        self._put_back = put_back
        self.connecting = 0
        """Attempts that are under way, or about to be."""
        self._most = float(CONNECTS_AT_ONCE)
        self.waiting: OrderedDict[Waiter, bool] = OrderedDict()
        """The longest first, and whether their calls may be sent again."""
        self._moved_at = 0.0
        """When a call last got a connection."""

    def begin(self) -> bool:
        """Whether a connection may be made at once; `end` follows."""
        if self.waiting or self.connecting + 1 > self._most or self._scarce():
            return False
        self.connecting += 1
        return True

    def end(self, *, connected: bool, late: bool = False) -> None:
        """An attempt is over; `late`: it was not taken, or not in time.

        As a sender does whose packets are lost (RFC 5681): half at once, then one more for as
        many as are made at a time.
        """
        self.connecting -= 1
        if connected:
            self._moved_at = self._loop.time()
            self._most = min(self._most + 1.0 / self._most, CONNECTS_AT_ONCE)
        elif late:
            self._most = max(self._most / 2, FEWEST_AT_ONCE)
        self.give_turns()

    async def wait(self, spec: Upstream, *, repeatable: bool) -> UpstreamConnection | None:
        """A connection that fell free; None once it is this call's turn to have one made, and
        `end` follows.  TimeoutError when nothing came of it."""
        waiter: Waiter = self._loop.create_future()
        self.waiting[waiter] = repeatable
        connect_s, began_at = spec.timeout_connect_s, self._loop.time()
        try:
            asked_at = began_at
            while True:
                await asyncio.wait([waiter], timeout=connect_s)
                if waiter.done():
                    return waiter.result()
                now = self._loop.time()
                stalled, asked_at = now - asked_at > connect_s + STALL_S, now
                # A timer may be early by the resolution of the clock.
                stuck = not stalled and now - max(self._moved_at, began_at) > connect_s * 0.99
                if stuck or now - began_at > spec.timeout_response_s:
                    raise TimeoutError
        except BaseException:
            self._hand_back(waiter)
            raise
        finally:
            self.waiting.pop(waiter, None)

    def _hand_back(self, waiter: Waiter) -> None:
        if not waiter.done():
            return
        freed = waiter.result()
        if freed is None:
            self.end(connected=False)
        else:
            self._put_back(freed)

    def give_turns(self) -> None:
        while self.waiting and self.connecting + 1 <= self._most and not self._scarce():
            waiter, _ = self.waiting.popitem(last=False)
            self.connecting += 1
            waiter.set_result(None)

    def hand_over(self, connection: UpstreamConnection, *, keeps_idle: bool) -> bool:
        """Whether the call that waits longest takes it.  What is sent once only goes where nobody
        is about to hang up."""
        waiter, repeatable = next(iter(self.waiting.items()))
        if not (repeatable or keeps_idle):
            return False
        del self.waiting[waiter]
        self._moved_at = self._loop.time()
        waiter.set_result(connection)
        return True


class Deadline:
    """Ends what takes too long, but for time in which this worker stood still; `last_at` is the
    end whatever happens.

    `timeout` is what it ends, from `start` to `stop`.  Nobody else holds it: what was cancelled
    keeps its frames, and with it among them they would keep themselves.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, last_at: float) -> None:
        self.timeout: asyncio.Timeout | None = None
        self._loop = loop
        self._last_at = last_at
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, due_at: float) -> None:
        self._due_at = due_at
        self._timer = self._loop.call_at(due_at, self._come)

    def stop(self) -> None:
        self.timeout = None
        if self._timer is not None:
            self._timer.cancel()

    def _come(self) -> None:
        now = self._loop.time()
        if now - self._due_at > STALL_S and now < self._last_at:
            self.start(now + STALL_S)
        elif self.timeout is not None:
            self.timeout.reschedule(now)
