"""The body of a request as it comes, for whoever reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from gateway.model import Reason

BUFFER_BYTES = 65_536


class BadRequest(Exception):
    """The client's request broke, or does not come: it is answered with `reason`, where an answer
    can still be given, and its connection is closed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class BodyFlow(Protocol):
    """Whoever feeds a body, and can hold its sender back."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class RequestBody:
    """Read by one reader, piece by piece.

    `on_more` is told when there is more of it: bytes, its end, or what broke it.  So whoever
    waits for that can wait for something else beside it, without a task, and leave.  Past twice
    `BUFFER_BYTES` that nobody has read its sender is held back, until less than once that is left.
    """

    __slots__ = (
        "_broken",
        "_ended",
        "_flow",
        "_length",
        "_paused",
        "_pieces",
        "_size",
        "_waiter",
        "on_more",
    )

    def __init__(self, flow: BodyFlow | None = None, length: int | None = None) -> None:
        """Without `flow` nobody is held back; `length` is what was announced, if it was."""
        self._flow = flow
        self._length = length
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._broken: BadRequest | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.on_more: Callable[[], None] | None = None

    # --- whoever feeds it ---

    def feed_data(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > 2 * BUFFER_BYTES and self._flow is not None:
            self._paused = True
            self._flow.pause_reading()
        self._tell()

    def feed_eof(self) -> None:
        self._ended = True
        self._tell()

    def set_exception(self, broken: BadRequest) -> None:
        self._broken = broken
        self._tell()

    def _tell(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.on_more is not None:
            self.on_more()

    # --- whoever reads it ---

    def exception(self) -> BadRequest | None:
        """What broke it."""
        return self._broken

    def is_eof(self) -> bool:
        """All of it has come."""
        return self._ended

    def awaits_more(self) -> bool:
        """There is more to come, and its sender is not held back."""
        return not (self._ended or self._paused)

    def at_eof(self) -> bool:
        """All of it was read."""
        return self._ended and not self._pieces

    def read_nowait(self) -> bytes:
        """What is here, which may be nothing.  BadRequest where it broke."""
        if self._broken is not None:
            raise self._broken
        pieces = self._pieces
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._paused and self._flow is not None:
            self._paused = False
            self._flow.resume_reading()
        return data

    async def readany(self) -> bytes:
        """What is here, once there is something; b"" at its end.  BadRequest where it broke."""
        while not (self._pieces or self._ended or self._broken):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.read_nowait()

    async def read_whole(self, most_bytes: int) -> bytes | Reason:
        """All of it; BODY_TOO_LARGE past `most_bytes`, or the reason why it broke.  What announces
        that it is longer is not read."""
        if self._length is not None and self._length > most_bytes:
            return Reason.BODY_TOO_LARGE
        parts: list[bytes] = []
        size = 0
        try:
            while not self.at_eof():
                part = await self.readany()
                size += len(part)
                if size > most_bytes:
                    return Reason.BODY_TOO_LARGE
                parts.append(part)
        except BadRequest as bad:
            return bad.reason
        return b"".join(parts)


def whole_body(data: bytes) -> RequestBody:
    """A body that has come already."""
    body = RequestBody()
    if data:
        body.feed_data(data)
    body.feed_eof()
    return body


EMPTY_BODY: Final = whole_body(b"")
"""That of every request without one."""
