"""What a mail that nobody gets does in the place of a mail that somebody gets.

Law: whoever has a mail beside it sees no difference.  It keeps one of the places for as long as a
conversation with the mail server lasts, and comes back for another where that would have failed;
so it holds up others as much as one that is sent would, and no more.  Nothing of it is kept but
when it comes back: neither its address nor what it was about.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult

_REMEMBERED = 32
_DRAWN_FROM = 8
_FAILURE_COUNTS_S = 60.0
"""So long a mail server that was away is thought to be."""
_COMING_BACK = 10_000
"""A number of 100 bytes each; those beyond it do not come back."""
_SHORTEST_UNKNOWN_MS = 50
_LONGEST_UNKNOWN_MS = 250


@dataclass(frozen=True, slots=True)
class Conversation:
    """One with the mail server that took place."""

    seconds: float
    later: bool
    """Whether the mail is tried again."""
    beside: int = 1
    """How many there were, itself included, when it began: they slow each other."""


@dataclass(frozen=True, slots=True, order=True)
class ReturningMail:
    """A mail that nobody gets, once its mail server did not answer."""

    due_at: int
    created_at: int
    attempts: int
    """Those that it has had."""


@asynccontextmanager
async def place(slots: asyncio.Semaphore, at_most_s: float) -> AsyncIterator[None]:
    """One of the places, for so long at most: whatever lasts longer goes on without it, whether or
    not anybody gets it."""
    await slots.acquire()
    held = [slots]

    def give_up() -> None:
        while held:
            held.pop().release()

    timer = asyncio.get_running_loop().call_later(at_most_s, give_up)
    try:
        yield
    finally:
        timer.cancel()
        give_up()


class UnwantedMails:
    """Of one worker's outbox."""

    def __init__(
        self,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rest = rest
        self._now = now
        self._newest_at = 0.0
        self._last: deque[Conversation] = deque(maxlen=_REMEMBERED)
        self._returning: list[ReturningMail] = []
        self._conversations = self._kept_places = 0

    async def heard(self, conversation: Awaitable[DeliveryResult]) -> DeliveryResult:
        """What comes of a conversation with the mail server, which is remembered: but for one that
        its recipient ended.  Who has addresses that the server refuses would else have it that
        what nobody gets takes no time."""
        self._conversations += 1
        beside, began, result = self._conversations, time.monotonic(), None
        try:
            result = await conversation
        finally:
            self._conversations -= 1
            if result is None or not result.of_recipient:
                later = result is None or result.outcome is DeliveryOutcome.LATER
                self.remember(Conversation(time.monotonic() - began, later, beside))
        return result

    def remember(self, conversation: Conversation) -> None:
        self._last.append(conversation)
        self._newest_at = self._now()

    def drawn(self, beside: int = 1, *, again: bool = False) -> Conversation:
        """One of the last ones, by chance: so the times of many spread as theirs do.  It is of the
        kind of the very last: once the server is away, or back, it is so for all; and of those
        that had nearly as many beside them.  A failure counts for a minute; for a mail that comes
        `again` until a conversation is well, as one that somebody gets would meet it each time."""
        later = bool(self._last) and self._last[-1].later
        if later and not again:
            later = self._now() - self._newest_at < _FAILURE_COUNTS_S
        alike = [one for one in reversed(self._last) if one.later is later]
        if not alike:
            span_ms = _LONGEST_UNKNOWN_MS - _SHORTEST_UNKNOWN_MS
            return Conversation((_SHORTEST_UNKNOWN_MS + secrets.randbelow(span_ms)) / 1000, False)
        alike.sort(key=lambda one: abs(one.beside - beside))  # of equals the newest stays first
        return secrets.choice(alike[:_DRAWN_FROM])

    async def keep_place(
        self, rehearsal: Awaitable[None] | None = None, *, again: bool = False
    ) -> bool:
        """Take as long as a conversation would, `rehearsal` included; whether the mail comes back
        for another, as one that comes `again` did."""
        self._kept_places += 1
        began = time.monotonic()
        try:
            drawn = self.drawn(self._conversations + self._kept_places, again=again)
            if rehearsal is not None:
                await rehearsal
            await self._rest(max(0.0, drawn.seconds - (time.monotonic() - began)))
        finally:
            self._kept_places -= 1
        return drawn.later

    def come_back(self, mail: ReturningMail) -> None:
        if len(self._returning) < _COMING_BACK:
            heapq.heappush(self._returning, mail)

    def count_due(self, now: int, at_most: int) -> int:
        """How many `take_due` would return."""
        return sum(mail.due_at <= now for mail in heapq.nsmallest(at_most, self._returning))

    def take_due(self, now: int, at_most: int) -> list[ReturningMail]:
        taken: list[ReturningMail] = []
        while len(taken) < at_most and self._returning and self._returning[0].due_at <= now:
            taken.append(heapq.heappop(self._returning))
        return taken
