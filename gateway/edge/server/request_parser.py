"""Bytes of a client in, requests out: the parser of the public door.

Law: every head is cut out of the stream, read by `headers.read_request` and refused unless it
can be understood in one way only; every body is counted by the framing of that head.  aiohttp's
own parser, which takes HTTP/0.9 and 2.0, codings besides `chunked`, codings in 1.0, two spaces,
and the trailers of one request as fields of the next, reads nothing here.  Nothing that was
refused is followed by another request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from gateway.edge.http1.chunked import ChunkReader
from gateway.edge.http1.grammar import REQUEST_LINE, Malformed
from gateway.edge.http1.request_head import RequestHead, read_request
from gateway.edge.http1.turns import HEAD_SHARE, SHARE
from gateway.edge.server.handler import Listener
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.request_body import RequestBody
from gateway.model import Reason

MAX_QUEUED = 32
BUFFER_BYTES = 65_536


class Refused(HttpProcessingError):
    """A request that is answered with `reason`, and whose connection is then closed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(code=400, message=reason)
        self.reason = reason


_HEAD, _SIZED, _CHUNKED = range(3)


class Inbound(RequestHandler):
    """The reading half of a client's connection.  `_serve`, `_serve_next`,
    `_watch` and `_weigh` are the other half's."""

    __slots__ = (
        "_backlog",
        "_body",
        "_body_bytes",
        "_body_due_at",
        "_body_mark",
        "_broken",
        "_busy",
        "_chunks",
        "_door",
        "_head_since",
        "_held",
        "_last",
        "_left",
        "_linger_left",
        "_lingering",
        "_put_off",
        "_queue",
        "_state",
        "_waiting_bytes",
    )

    def __init__(
        self, manager: Server, door: Listener, *, loop: asyncio.AbstractEventLoop, **options: Any
    ):
        super().__init__(manager, loop=loop, **options)
        self._parser = None
        self._door = door
        self._queue: deque[tuple[RequestHead | Refused, StreamReader]] = deque()
        self._state = _HEAD
        self._busy = False
        """A request was begun and is not answered yet."""
        self._backlog = b""
        """What was received and may not be read yet, or is part of a head."""
        self._held = False
        """Nothing is read until a request is answered."""
        self._put_off = False
        """Nothing is read until others were: it has sent much at once."""
        self._last = False
        """Nothing more is served here."""
        self._left = 0
        self._chunks: ChunkReader | None = None
        self._body: StreamReader = EMPTY_PAYLOAD
        self._body_bytes = 0
        self._body_mark = (0.0, 0, 0.0, 0)
        self._body_due_at = 0.0
        """When the body must be here, by the loop's clock; 0.0 where only its pace counts."""
        self._waiting_bytes = 0
        """Of heads, since the queue was last empty."""
        self._head_since = 0.0
        self._broken = False
        self._linger_left = 0
        self._lingering: asyncio.Future[None] | None = None

    @property
    def receiving(self) -> bool:
        """A body has begun and not ended: what comes next is not a request."""
        return self._state != _HEAD

    def _serve_next(self) -> None:
        """A request was queued, and none is being answered."""
        raise NotImplementedError

    def _serve(self, head: RequestHead | Refused, body: StreamReader) -> None:
        """A request need not be queued: none is being answered, and none waits."""
        raise NotImplementedError

    def _watch(self) -> None:
        """Something has begun that must not take too long."""
        raise NotImplementedError

    def _weigh(self) -> None:
        """What waits in memory has become more, or less."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self._end_linger()
            return
        if self._broken or ((self._force_close or self._close) and self._state == _HEAD):
            # A worker that ends begins nothing new, but hears out what it has begun.
            return
        if self._put_off:
            self._backlog += data
            return
        if self._backlog:
            data = self._backlog + data
            self._backlog = b""
        try:
            if (
                self._state == _HEAD
                and not (self._held or self._reading_paused)
                and data.endswith(b"\r\n\r\n")
                and self._take_whole(data[:-4])
            ):
                return
            self._take(data)
        except Malformed:
            self._refuse(Reason.REQUEST_MALFORMED)

    # --- flow: what a reader of a body calls, and what holds the transport back ---

    def pause_reading(self) -> None:
        self._reading_paused = True
        self._pause_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """A body is read, or answered.  Its end alone (`resume_parser` is False then) frees no
        memory: who sends one request behind the other is held back by bodies nobody reads."""
        if resume_parser:
            self._reading_paused = False
            self._go_on()

    def _go_on(self) -> None:
        """Take what waited, and read on unless that is enough again."""
        if self._held or self._reading_paused or self._put_off:
            return
        if self._backlog:
            self.data_received(b"")
        if not (self._held or self._reading_paused or self._put_off):
            self._resume_transport_reading()

    def _hold(self, rest: bytes) -> None:
        """Keep what came while nothing may be read.  The transport is paused: it stays short."""
        self._backlog = rest
        if len(rest) >= BUFFER_BYTES:
            self._pause_transport_reading()
            self._weigh()

    def _wait_for_turn(self, rest: bytes) -> None:
        """It has had its share of this turn of the loop."""
        self._backlog, self._put_off = rest, True
        self._pause_transport_reading()
        self._weigh()
        self._door.turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        if self._put_off:
            self._put_off = False
            self._go_on()
            self._weigh()

    # --- the parser ---

    def _take(self, data: bytes) -> None:
        at, size, share = 0, len(data), SHARE
        while at < size:
            if self._held or self._reading_paused or self._broken:
                self._hold(data[at:] if at else data)
                return
            if share <= 0:
                self._wait_for_turn(data[at:])
                return
            if self._state == _HEAD:
                end = data.find(b"\r\n\r\n", at)
                if end < 0:
                    self._take_part_of_head(data[at:] if at else data)
                    return
                # To read a long one takes longer.
                share -= HEAD_SHARE + (end - at) // 64
                self._take_head(data[at:end])
                at = end + 4
            elif self._state == _SIZED:
                piece = data[at : at + self._left] if at or size > self._left else data
                at += len(piece)
                self._left -= len(piece)
                self._body_bytes += len(piece)
                self._body.feed_data(piece)
                if not self._left:
                    self._end_body()
                    if self._close or self._force_close:
                        return
            else:
                at, chunks = self._take_chunks(data, at, share)
                share = 0 if at < size and self._state == _CHUNKED else share - chunks
                if self._state == _HEAD and (self._close or self._force_close):
                    return

    def _take_whole(self, block: bytes) -> bool:
        """Nearly always: one whole head, and nothing else.  False where it is not that.

        An empty line within it is no field, so what holds more than a head is not taken here.
        """
        limits = self._door.limits
        if len(block) > limits.line_bytes:
            return False
        try:
            head = read_request(block, max_fields=limits.fields)
        except Malformed:
            return False
        if not isinstance(head, RequestHead):
            return False
        self._head_since = 0.0
        waits = self._busy or self._queue or self._paused or self._last
        if head.plain and not waits:
            self._serve(head, EMPTY_PAYLOAD)
        else:
            self._expect(head, len(block))
        return True

    def _take_head(self, block: bytes) -> None:
        """One whole head."""
        self._head_since = 0.0
        limits = self._door.limits
        # RFC 9112 section 2.2: one empty line before the request line is ignored.
        block = block.removeprefix(b"\r\n")
        if len(block) > limits.line_bytes:
            if block.find(b"\r\n", 0, limits.line_bytes + 2) < 0:
                return self._refuse(Reason.TARGET_TOO_LONG)
            if len(block) > limits.head_bytes - 4:
                return self._refuse(Reason.HEADER_TOO_LARGE)
        head = read_request(block, max_fields=limits.fields)
        if not isinstance(head, RequestHead):
            return self._refuse(head)
        return self._expect(head, len(block))

    def _expect(self, head: RequestHead, size: int) -> None:
        """A request is queued, and its body expected."""
        body = self._begin_body(head) if head.has_body else EMPTY_PAYLOAD
        queue = self._queue
        queue.append((head, body))
        self._waiting_bytes = size if len(queue) == 1 else self._waiting_bytes + size
        full = len(queue) >= MAX_QUEUED or self._waiting_bytes >= BUFFER_BYTES
        if full or (head.upgrade is not None and not head.has_body):
            # What follows an upgrade is no HTTP if it is granted; with a body it never is.  And
            # a queue has an end.  The transport is read on, up to BUFFER_BYTES: else nobody
            # would see the client go.
            self._held = True
        if not self._busy:
            self._serve_next()

    def _begin_body(self, head: RequestHead) -> StreamReader:
        if head.chunked:
            self._state, self._chunks = _CHUNKED, ChunkReader()
        else:
            self._state, self._left = _SIZED, head.length or 0
        self._body = RequestBody(self, BUFFER_BYTES, loop=self._loop)
        self._body_bytes = 0
        now = self._loop.time()
        self._body_mark = (now, 0, now, 0)
        self._body_due_at = 0.0
        self._watch()
        return self._body

    def _take_chunks(self, data: bytes, at: int, most: int) -> tuple[int, int]:
        """The contents of so many chunks, how far they reached and how many they were;
        extensions and trailers end here."""
        assert self._chunks is not None
        pieces: list[bytes] = []
        end = self._chunks.feed(data, pieces, at, most=most)
        self._body_bytes += end - at
        if pieces:
            self._body.feed_data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._chunks.done:
            self._chunks = None
            self._end_body()
        return end, len(pieces)

    def _end_body(self) -> None:
        self._state = _HEAD
        self._body.feed_eof()
        if self._queue:
            # Its request waits for another one: one body at a time does, whole as it may be.
            self._held = True
            self._weigh()

    def _take_part_of_head(self, data: bytes) -> None:
        """A head that is not whole yet: refuse at once what cannot become one."""
        start = data.removeprefix(b"\r\n")
        limits = self._door.limits
        line_end = start.find(b"\r\n")
        # A CR may be the first half of the line's end.
        line_bytes = line_end if line_end >= 0 else len(start) - start.endswith(b"\r")
        if line_bytes > limits.line_bytes:
            self._refuse(Reason.TARGET_TOO_LONG)
        elif len(start) > limits.head_bytes:
            self._refuse(Reason.HEADER_TOO_LARGE)
        elif not _may_become_head(start, line_end):
            self._refuse(Reason.REQUEST_MALFORMED)
        else:
            self._backlog = data
            if start and not self._head_since:
                self._expect_head()

    def _expect_head(self) -> None:
        """From now on a head has its time: from its first byte, or on a new connection from
        the beginning."""
        self._head_since = self._loop.time()
        self._watch()

    def _refuse(self, reason: Reason) -> None:
        """Nothing more of this connection is a request."""
        self._broken = True
        self._backlog = b""
        refused = Refused(reason)
        if self._state != _HEAD:
            # The request itself is under way: its handler answers, if it still can.
            self._body.set_exception(refused)
        else:
            self._queue.append((refused, EMPTY_PAYLOAD))
            if not self._busy:
                self._serve_next()

    def _end_linger(self) -> None:
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)

    def sweep_body(self, now: float, limits: ListenerLimits) -> None:
        """408 for a body that has stopped coming, or comes more slowly than is allowed."""
        last_at, last, window_at, window = self._body_mark
        received = self._body_bytes
        if self._reading_paused or self._held or self._put_off:
            # It is the upstream that is slow, not the client.
            self._body_mark = (now, received, now, received)
            return
        if received != last:
            last_at, last = now, received
        slow = False
        if now - window_at > limits.body_rate_window_s:
            slow = received - window < limits.body_bytes_per_s * limits.body_rate_window_s
            window_at, window = now, received
        self._body_mark = (last_at, last, window_at, window)
        late = 0.0 < self._body_due_at < now
        if slow or late or now - last_at > limits.body_idle_s:
            self._refuse(Reason.REQUEST_TIMEOUT)


def _may_become_head(start: bytes, line_end: int) -> bool:
    """Whether the beginning of a head can still be completed to one."""
    if start and not start[:1].isupper():
        return start == b"\r"
    if line_end >= 0 and REQUEST_LINE.fullmatch(start, 0, line_end) is None:
        return False
    ends = start.count(b"\r\n")
    bare_cr = start.count(b"\r") - ends - start.endswith(b"\r")
    return start.count(b"\n") == ends and not bare_cr
