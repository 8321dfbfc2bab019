"""The mails that a worker sends now: few have a place, and whatever takes long goes on without.

Law: how long a mail keeps others back is drawn, and says nothing of the mail: neither whether
anybody gets it nor what its recipient's server takes.  Only where as many as may be are under way
does the next one wait until some of them have ended.

Law: however many mails to mailboxes of a stranger's choice hang, others have places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from gateway.identity.mail.outbox_claim import ClaimedMail

AT_ONCE = 4
MOST = 20
"""Under way, with a place or without: each may have a connection to the mail server."""
MOST_LIMITED = 10
"""Of these, the limited ones (`ClaimedMail`)."""


class UnderWay:
    """Those of one worker, each a task of its own that outlives the call that began it."""

    def __init__(
        self,
        deliver: Callable[[str, asyncio.Event], Awaitable[None]],
        keep_place: Callable[[], Awaitable[None]],
        limited_may_begin: Callable[[], None],
    ) -> None:
        """`deliver` sets the event once the mail is written and SQL needed no more for it;
        `keep_place` returns once the place of one that is written is free again;
        `limited_may_begin` is called when limited ones may begin that might not before."""
        self._deliver = deliver
        self._keep_place = keep_place
        self._limited_may_begin = limited_may_begin
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By the id of the mail."""
        self._limited: set[str] = set()
        self._failures: list[BaseException] = []

    @property
    def room(self) -> int:
        """How many more may begin."""
        return MOST - len(self._tasks)

    @property
    def room_of_limited(self) -> int:
        """How many of those that may begin may be limited; none before as many may begin as there
        are places, as of all (`has_room`)."""
        room = min(self.room, MOST_LIMITED - len(self._limited))
        return room if room >= AT_ONCE else 0

    async def has_room(self) -> None:
        """Wait until as many may begin as there are places."""
        while self.room < AT_ONCE:
            await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)

    async def begin(self, mails: Iterable[ClaimedMail]) -> None:
        """Deliver these, and wait until each has had its place.

        Raises what one of them failed for, or one that was begun earlier and has ended since.
        """
        places = asyncio.Semaphore(AT_ONCE)

        async def take_turn(mail: ClaimedMail) -> None:
            async with places:
                await self._begin(mail).wait()
                await self._keep_place()

        # A machine that stood still may claim what it sends already.
        await asyncio.gather(*(take_turn(one) for one in mails if one.id not in self._tasks))
        self._raise_failure()

    async def settle(self) -> None:
        """Wait until each has ended.  Raises what one of them failed for."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        self._raise_failure()

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

    def _begin(self, mail: ClaimedMail) -> asyncio.Event:
        """Set once the mail is written, or has failed before."""
        mail_id, written = mail.id, asyncio.Event()

        def ended(task: asyncio.Task[None]) -> None:
            had_room = self.room_of_limited
            del self._tasks[mail_id]
            self._limited.discard(mail_id)
            if self.room_of_limited and not had_room:
                self._limited_may_begin()
            written.set()
            failure = asyncio.CancelledError() if task.cancelled() else task.exception()
            if failure is not None:
                self._failures.append(failure)

        async def deliver() -> None:
            await self._deliver(mail_id, written)

        self._tasks[mail_id] = task = asyncio.create_task(deliver())
        if mail.limited:
            self._limited.add(mail_id)
        task.add_done_callback(ended)
        return written

    def _raise_failure(self) -> None:
        failures, self._failures = self._failures, []
        if failures:
            raise failures[0]
