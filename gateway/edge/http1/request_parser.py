"""Bytes of a client in; heads, bodies, their ends and refusals out.  Nothing here does I/O.

Law: every head is cut out of the stream, read by `RequestHeadReader` and refused unless it can be
understood in one way only; every body is counted by the framing of that head.  How the bytes were
cut into reads never changes what comes out: of two things that are wrong with the beginning of a
head, the one that a single byte after the other brings to light first is named.  Nothing follows a
refusal.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Literal

from gateway.edge.http1.chunked import ChunkReader
from gateway.edge.http1.grammar import REQUEST_LINE, Malformed
from gateway.edge.http1.request_head import HeadLimits, RequestHead, RequestHeadReader
from gateway.edge.http1.turns import HEAD_SHARE, SHARE
from gateway.model import Reason


class BodyEnd(Enum):
    BODY_END = auto()


BODY_END: Final = BodyEnd.BODY_END

Event = RequestHead | bytes | Literal[BodyEnd.BODY_END] | Reason
"""A head; a piece of the body of the last one, which may be empty; the end of that body; or why
nothing of this client is read any more."""

_HEAD, _SIZED, _CHUNKED = range(3)


class RequestParser:
    """`feed` it what came, and take `next_event` until there is none.

    A head whose `has_body` is true is followed by its body in pieces and by BODY_END, and only
    then by the next head.  Whoever takes no event holds the client back: what it has sent waits
    here, and `unread` says how much that is.
    """

    __slots__ = (
        "_at",
        "_chunks",
        "_data",
        "_left",
        "_reader",
        "_short_bytes",
        "_state",
        "body_bytes",
        "broken",
        "cost",
        "head_bytes",
    )

    def __init__(self, reader: RequestHeadReader) -> None:
        self._reader = reader
        self._short_bytes = min(reader.limits.line_bytes, reader.limits.head_bytes - 4)
        """A head that is no longer, less what closes it, is within both limits."""
        self._state = _HEAD
        self._data = b""
        self._at = 0
        """How far `_data` was read."""
        self._left = 0
        self._chunks: ChunkReader | None = None
        self.cost = 0
        """What the last event counts in its sender's share of a turn, in chunks."""
        self.head_bytes = 0
        """Of the last head that `next_event` gave."""
        self.body_bytes = 0
        """Of the last body, as it was framed, as far as it has come."""
        self.broken = False
        """Something was refused, or it was stopped: nothing more is read."""

    # --- where it stands ---

    @property
    def in_body(self) -> bool:
        """A body has begun and its end was not taken: what comes next is not a request."""
        return self._state != _HEAD

    @property
    def body_ended(self) -> bool:
        """The last byte of a body was taken, and its BODY_END comes next."""
        if self._state == _SIZED:
            return not self._left
        return self._chunks is not None and self._chunks.done

    @property
    def head_begun(self) -> bool:
        """Part of a head is here: more than the empty line that may stand before it."""
        return self._state == _HEAD and self._data[self._at : self._at + 3] not in (b"", b"\r\n")

    @property
    def unread(self) -> int:
        """Bytes that have come and were not taken."""
        return len(self._data) - self._at

    # --- in ---

    def whole_head(self, data: bytes) -> RequestHead | None:
        """Nearly always a read is one whole head and nothing else: that head, without a search.

        None where it is not that, or anything is wrong with it: `feed` says what.  An empty line
        within a head is no field, so what holds more than one is not taken here.
        """
        if self._data or self._state or self.broken or not data.endswith(b"\r\n\r\n"):
            return None
        block = data[:-4]
        if len(block) > self._short_bytes:
            return None
        try:
            head = self._reader.read(block)
        except Malformed:
            return None
        if not isinstance(head, RequestHead):
            return None
        if head.has_body:
            self._begin_body(head)
        return head

    def feed(self, data: bytes) -> None:
        if self.broken:
            return
        # Nothing before it, nearly always: it is taken as it is, on each build.
        left = len(self._data) - self._at
        self._data, self._at = self._data[self._at :] + data if left else data, 0

    def stop(self) -> None:
        """Nothing more of this client is read, whatever it sends."""
        self.broken = True
        self._data, self._at = b"", 0

    # --- out ---

    def next_event(self, most_chunks: int = SHARE) -> Event | None:
        """None where more bytes are needed for one, or none will come."""
        self.cost = 0
        if self.broken:
            return None
        try:
            if self._state == _HEAD:
                return self._next_head()
            return self._next_piece() if self._state == _SIZED else self._next_chunks(most_chunks)
        except Malformed:
            return self._refuse(Reason.REQUEST_MALFORMED)

    def take_unread(self) -> bytes:
        """What was not read, for whoever goes on with these bytes as something else than HTTP."""
        unread, self._data, self._at = self._data[self._at :], b"", 0
        return unread

    def _refuse(self, reason: Reason) -> Reason:
        self.stop()
        return reason

    # --- heads ---

    def _next_head(self) -> RequestHead | Reason | None:
        data, at = self._data, self._at
        if at == len(data):
            return None
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            return self._refuse_part(data[at:])
        self._advance(end + 4)
        # To read a long one takes longer.
        self.cost = HEAD_SHARE + (end - at) // 64
        # RFC 9112 section 2.2: one empty line before the request line is ignored.
        block = data[at:end].removeprefix(b"\r\n")
        if len(block) > self._short_bytes and _too_long(block + b"\r\n\r\n", self._reader.limits):
            return self._refuse_whole(block, Reason.HEADER_TOO_LARGE)
        head = self._reader.read(block)
        if not isinstance(head, RequestHead):
            return self._refuse_whole(block, head)
        self.head_bytes = len(block)
        if head.has_body:
            self._begin_body(head)
        return head

    def _refuse_whole(self, block: bytes, reason: Reason) -> Reason:
        """For what a part of it would have been refused, if any would."""
        fault = _first_fault(block + b"\r\n\r\n", self._reader.limits)
        return self._refuse(reason if fault is None else fault)

    def _refuse_part(self, data: bytes) -> Reason | None:
        """A head that is not whole yet: refuse at once what cannot become one."""
        fault = _first_fault(data.removeprefix(b"\r\n"), self._reader.limits)
        return None if fault is None else self._refuse(fault)

    # --- bodies ---

    def _begin_body(self, head: RequestHead) -> None:
        self.body_bytes = 0
        if head.chunked:
            self._state, self._chunks = _CHUNKED, ChunkReader()
        else:
            self._state, self._left = _SIZED, head.length or 0

    def _next_piece(self) -> Event | None:
        left = self._left
        if not left:
            self._state = _HEAD
            return BODY_END
        data, at = self._data, self._at
        piece = data if not at and len(data) <= left else data[at : at + left]
        if not piece:
            return None
        self._left = left - len(piece)
        self.body_bytes += len(piece)
        self._advance(self._at + len(piece))
        return piece

    def _next_chunks(self, most: int) -> Event | None:
        """The contents of chunks; extensions and trailers end here."""
        chunks = self._chunks
        assert chunks is not None
        pieces: list[bytes] = []
        end = chunks.feed(self._data, pieces, self._at, most=most)
        self.body_bytes += end - self._at
        self._advance(end)
        # It stopped at its share, of which long lines take much without a byte of contents.
        stopped = bool(self._data) and not chunks.done
        self.cost = most if stopped else len(pieces)
        if pieces or stopped:
            return b"".join(pieces)
        if not chunks.done:
            return None
        self._state, self._chunks = _HEAD, None
        return BODY_END

    def _advance(self, at: int) -> None:
        if at == len(self._data):
            self._data, self._at = b"", 0
        else:
            self._at = at


def _first_fault(start: bytes, limits: HeadLimits) -> Reason | None:
    """Why the beginning of a head, or a whole one with what closes it, can be none that is read.

    What came behind that decides nothing: it may have come later.
    """
    came = start[: limits.head_bytes + 1]
    too_long = _too_long(came, limits)
    if too_long is Reason.TARGET_TOO_LONG:
        came = came[: limits.line_bytes + 1]
    return too_long if _may_become_head(came) else Reason.REQUEST_MALFORMED


def _too_long(start: bytes, limits: HeadLimits) -> Reason | None:
    line_end = start.find(b"\r\n", 0, limits.line_bytes + 2)
    # A CR may be the first half of the line's end.
    if line_end < 0 and len(start) - start.endswith(b"\r") > limits.line_bytes:
        return Reason.TARGET_TOO_LONG
    return Reason.HEADER_TOO_LARGE if len(start) > limits.head_bytes else None


def _may_become_head(start: bytes) -> bool:
    """Whether the beginning of a head can still be completed to one."""
    if start and not start[:1].isupper():
        return start == b"\r"
    line_end = start.find(b"\r\n")
    if line_end >= 0 and REQUEST_LINE.fullmatch(start, 0, line_end) is None:
        return False
    ends = start.count(b"\r\n")
    bare_cr = start.count(b"\r") - ends - start.endswith(b"\r")
    return start.count(b"\n") == ends and not bare_cr
