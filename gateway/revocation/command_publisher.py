"""How a command of the shell tells the workers of an installation what it has changed.

Law: it speaks only to the Redis whose stream SQL knows, and begins none.  A command that has
come to another one (a URL of yesterday, the defaults of another shell) would find nobody there
who does not have it yet, and call that confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.model import Change, Clock
from gateway.revocation.publisher import Announcements
from gateway.stores.protocols import ChangeStream, Database, StoreUnavailable

_LOOK_EVERY_S = 0.1


class CommandAnnouncements(Announcements):
    """`stream` must not begin one (`RedisChangeStream(…, begins=False)`)."""

    def __init__(
        self, database: Database, stream: ChangeStream, clock: Clock, *, max_staleness_s: float
    ) -> None:
        super().__init__(
            database,
            stream,
            clock,
            max_staleness_s=max_staleness_s,
            # Whoever has watched nobody's lease before needs to see them out.
            confirm_within_s=2 * max_staleness_s + 2,
        )
        self._stream_of_commands = stream
        # So long the workers may take to follow a server that was emptied or replaced, and to
        # tell SQL.
        self._found_within_s = max_staleness_s + 2
        self.why = ""
        """Why the last announcement was told to nobody."""

    async def announce(self, changes: Sequence[Change]) -> bool:
        self.why = ""
        if changes and await self.known_to_sql() is None:
            # No worker has ever been live: the first one reads all this in SQL.
            return True
        if changes and not await self.is_theirs():
            return False
        return await super().announce(changes)

    async def is_theirs(self) -> bool:
        """Whether this Redis is the one that the workers follow; `why` says what it is, if not."""
        try:
            async with asyncio.timeout(self._found_within_s):
                while (found := await self._other()) is not None:
                    self.why = found
                    await asyncio.sleep(_LOOK_EVERY_S)
        except StoreUnavailable as error:
            self.why = f"{error.store} could not be reached: {error.detail}"
            return False
        except TimeoutError:
            self.why = self.why or "Redis did not answer in time"
            return False
        self.why = ""
        return True

    async def _other(self) -> str | None:
        """What is wrong with the stream; None where it is the one that SQL knows."""
        known = await self.known_to_sql()
        view = await self._stream_of_commands.peek()
        if known is None or (view is not None and view.incarnation == known):
            return None
        if view is None:
            return "this Redis holds no revocations: it is not the one that the gateways use"
        return "this Redis is not the one that SQL knows the gateways to use"
