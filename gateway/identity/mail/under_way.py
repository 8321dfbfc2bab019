"""The mails that a worker sends now: few have a place, and whatever takes long goes on without.

Law: a mail keeps others back for as long as it has its place and no longer, whether or not anybody
gets it; only where as many as may be are under way does the next one wait until one of them has
ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

AT_ONCE = 4
MOST = 20
"""Under way, with a place or without: each may have a connection to the mail server."""


class UnderWay:
    """Those of one worker, each a task of its own that outlives the call that began it."""

    def __init__(self, deliver: Callable[[str], Awaitable[None]], place_s: float) -> None:
        """`place_s`: whatever lasts longer goes on without its place."""
        self._deliver = deliver
        self._place_s = place_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By the id of the mail."""
        self._failures: list[BaseException] = []

    @property
    def room(self) -> int:
        """How many more may begin."""
        return MOST - len(self._tasks)

    async def has_room(self) -> None:
        """Wait until as many may begin as there are places."""
        while self.room < AT_ONCE:
            await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)

    async def begin(self, mail_ids: Iterable[str]) -> None:
        """Deliver these, and wait until each has ended or lost its place.

        Raises what one of them failed for, or one that was begun earlier and has ended since.
        """
        places = asyncio.Semaphore(AT_ONCE)
        # A machine that stood still may claim what it sends already.
        left = [self._begin(one, places) for one in mail_ids if one not in self._tasks]
        if left:
            await asyncio.wait(left)
        failures, self._failures = self._failures, []
        if failures:
            raise failures[0]

    async def end(self) -> None:
        """Cancel all of them, and wait until they have ended; a cancellation that comes meanwhile
        is raised then."""
        asked_again: asyncio.CancelledError | None = None
        while self._tasks:
            for task in self._tasks.values():
                task.cancel()
            try:
                await asyncio.wait(self._tasks.values())
            except asyncio.CancelledError as again:
                # Whoever waits asks for it again, as those under way may have missed it.
                asked_again = again
        # Nobody is to be told that they were cancelled.
        self._failures.clear()
        if asked_again is not None:
            raise asked_again

    def _begin(self, mail_id: str, places: asyncio.Semaphore) -> asyncio.Future[None]:
        """Done once it has ended or lost its place."""
        left = asyncio.get_running_loop().create_future()

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[mail_id]
            failure = asyncio.CancelledError() if task.cancelled() else task.exception()
            if failure is not None:
                self._failures.append(failure)
            if not left.done():
                left.set_result(None)

        task = asyncio.create_task(self._in_turn(mail_id, places, left))
        self._tasks[mail_id] = task
        task.add_done_callback(ended)
        return left

    async def _in_turn(
        self, mail_id: str, places: asyncio.Semaphore, left: asyncio.Future[None]
    ) -> None:
        await places.acquire()

        def give_up() -> None:
            places.release()
            left.set_result(None)

        timer = asyncio.get_running_loop().call_later(self._place_s, give_up)
        try:
            await self._deliver(mail_id)
        finally:
            timer.cancel()
            if not left.done():
                places.release()
