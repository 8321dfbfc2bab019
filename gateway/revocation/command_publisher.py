"""Publishes to the workers of an installation what a command of the shell has changed.

Law: it speaks only to the Redis whose stream SQL knows, and begins none.  A command that has
come to another one (a URL of yesterday, the defaults of another shell) would find nobody there
who lacks the change, and call that confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.model import Change, Clock
from gateway.revocation.publisher import StreamPublisher
from gateway.revocation.stream_identity import another_stream_is_followed
from gateway.stores.protocols import ChangeStream, Database, StoreUnavailable

_POLL_EVERY_S = 0.1


class CommandPublisher:
    """Meets `protocols.RevocationPublisher`.

    `stream` must not begin one (`RedisChangeStream(…, begins=False)`).
    """

    def __init__(
        self, database: Database, stream: ChangeStream, clock: Clock, *, max_staleness_s: float
    ) -> None:
        self._database = database
        self._stream = stream
        self._publisher = StreamPublisher(
            database,
            stream,
            clock,
            max_staleness_s=max_staleness_s,
            # A command has watched nobody's lease before: it waits until they have expired.
            confirm_timeout_s=2 * max_staleness_s + 2,
        )
        # So long the workers may take to follow a server that was emptied or replaced, and to
        # save that in SQL.
        self._find_timeout_s = max_staleness_s + 2
        self.why = ""
        """Why the last changes were published to nobody."""

    async def publish(self, changes: Sequence[Change]) -> bool:
        self.why = ""
        if changes and await self._publisher.saved_incarnation() is None:
            # No worker has ever been live: the first one reads all this in SQL.
            return True
        if changes and not await self.finds_workers():
            return False
        return await self._publisher.publish(changes)

    async def finds_workers(self) -> bool:
        """Whether this Redis is the one that the workers follow; `why` says what it is, if not."""
        try:
            async with asyncio.timeout(self._find_timeout_s):
                while (difference := await self._difference()) is not None:
                    self.why = difference
                    await asyncio.sleep(_POLL_EVERY_S)
        except StoreUnavailable as error:
            self.why = f"{error.store} could not be reached: {error.detail}"
            return False
        except TimeoutError:
            self.why = self.why or "Redis did not answer in time"
            return False
        self.why = ""
        return True

    async def _difference(self) -> str | None:
        """What is wrong with the stream; None where it is the one that SQL knows."""
        saved = await self._publisher.saved_incarnation()
        view = await self._stream.peek()
        if saved is None:
            return None
        if view is not None and view.incarnation == saved:
            if await another_stream_is_followed(self._database, self._peeked):
                return "another node of this database follows another Redis"
            return None
        if view is None:
            return "this Redis holds no revocations: it is not the one that the gateways use"
        return "this Redis is not the one that SQL knows the gateways to use"

    async def _peeked(self) -> str:
        view = await self._stream.peek()
        return "" if view is None else view.incarnation
