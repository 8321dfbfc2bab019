"""What a mail that nobody gets does in the place of a mail that somebody gets.

Law: whoever has a mail beside it sees no difference.  It is under way for as long as a conversation
with the mail server lasts.  Nothing of it is kept, and it never comes back.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult

_REMEMBERED = 32
_DRAWN_FROM = 8
_FAILURE_COUNTS_S = 60.0
"""So long a mail server that was away is thought to be."""
_SHORTEST_UNKNOWN_MS = 50
_LONGEST_UNKNOWN_MS = 250


@dataclass(frozen=True, slots=True)
class Conversation:
    """One with the mail server that took place."""

    seconds: float
    failed: bool
    """Whether the mail is tried again."""
    beside: int = 1
    """How many there were, itself included, when it began: they slow each other."""


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
                failed = result is None or result.outcome is DeliveryOutcome.LATER
                self.remember(Conversation(time.monotonic() - began, failed, beside))
        return result

    def remember(self, conversation: Conversation) -> None:
        self._last.append(conversation)
        self._newest_at = self._now()

    def drawn(self, beside: int = 1) -> float:
        """How long one of the last ones took, by chance: so the times of many spread as theirs do.
        It is of the kind of the very last, as once the server is away, or back, it is so for all,
        but a failure counts for a minute; and of those that had nearly as many beside them."""
        return self._one_of(beside, failed=self._is_away())

    def _is_away(self) -> bool:
        failed = bool(self._last) and self._last[-1].failed
        return failed and self._now() - self._newest_at < _FAILURE_COUNTS_S

    def _one_of(self, beside: int, *, failed: bool) -> float:
        alike = [one for one in reversed(self._last) if one.failed is failed]
        if not alike:
            span_ms = _LONGEST_UNKNOWN_MS - _SHORTEST_UNKNOWN_MS
            return (_SHORTEST_UNKNOWN_MS + secrets.randbelow(span_ms)) / 1000
        alike.sort(key=lambda one: abs(one.beside - beside))  # of equals the newest stays first
        return secrets.choice(alike[:_DRAWN_FROM]).seconds

    def place_s(self, longest_s: float) -> float:
        """How long any mail that begins now keeps others back: as long as one of the last
        conversations took, whatever its own takes.  A server that refuses at once may be back with
        the next one: so as long at least as one that did not fail."""
        beside = self._conversations + self._kept_places + 1
        lasts_s = self.drawn(beside)
        if self._is_away():
            lasts_s = max(lasts_s, self._one_of(beside, failed=False))
        return min(longest_s, lasts_s)

    async def last_as_long(self, rehearsal: Awaitable[None]) -> None:
        """Take as long as a conversation would, `rehearsal` included."""
        self._kept_places += 1
        began = time.monotonic()
        try:
            lasts_s = self.drawn(self._conversations + self._kept_places)
            await rehearsal
            await self._rest(max(0.0, lasts_s - (time.monotonic() - began)))
        finally:
            self._kept_places -= 1
