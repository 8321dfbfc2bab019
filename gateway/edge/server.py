"""The public door: aiohttp's connections, reading requests with a parser of our own.

Law: every head is cut out of the stream, read by `headers.read_request` and refused unless it
can be understood in one way only; every body is counted by the framing of that head.  aiohttp's
own parser, which takes HTTP/0.9 and 2.0, codings besides `chunked`, codings in 1.0, two spaces,
and the trailers of one request as fields of the next, reads nothing here.  Nothing that was
refused is followed by another request.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.edge.call import CallReader, Peer
from gateway.edge.headers import RequestHead, read_request
from gateway.edge.responses import problem_bytes
from gateway.edge.wire import REQUEST_LINE, ChunkReader, Malformed
from gateway.model import Reason

log = structlog.get_logger(__name__)

MAX_QUEUED = 32
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
BUFFER_BYTES = 65_536


Outcome = bool | None | Coroutine[Any, Any, bool]


class Handler(Protocol):
    def serve(self, client: Connection, head: RequestHead, body: StreamReader) -> Outcome:
        """Answer one request.

        A bool when it was answered at once: whether the connection may go on after it.  None
        when the answer is under way: `client.ended` follows.  A coroutine (`async def serve`
        gives one) where there is more to wait for: it runs in the connection's task, and
        returns that bool.  `client.answer` writes an answer of aiohttp's kind.  Anything
        raised but a ConnectionError is a defect: 500 where nothing was written yet, a cut
        where it was.
        """


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What a client may take (SECURITY, Limits)."""

    head_bytes: int = 16_384
    fields: int = 100
    line_bytes: int = 8_192
    head_s: float = 10.0
    keepalive_s: float = 75.0
    body_idle_s: float = 30.0
    body_bytes_per_s: float = 500.0
    body_rate_window_s: float = 30.0
    stall_s: float = 60.0
    linger_bytes: int = 65_536
    linger_s: float = 2.0
    connections: int = 10_000
    sweep_s: float = 1.0


class Refused(HttpProcessingError):
    """A request that is answered with `reason`, and whose connection is then closed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(code=400, message=reason)
        self.reason = reason


class Writer(Protocol):
    """What the proxy gives a connection to call, while it relays an answer."""

    started: bool
    """The answer has begun: it can only be finished or cut off."""

    def pause(self) -> None:
        """The client reads more slowly than the upstream sends."""

    def resume(self) -> None:
        """The client has caught up."""

    def abandon(self) -> None:
        """The client has gone: whoever is asked for its answer must notice."""


_HEAD, _SIZED, _CHUNKED = range(3)


class Connection(RequestHandler):
    """One client.  `peer` is known from the first byte on."""

    __slots__ = (
        "_backlog",
        "_body",
        "_body_bytes",
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
        "_queue",
        "_serving",
        "_state",
        "_work",
        "_write_mark",
        "peer",
        "relay",
    )

    def __init__(self, manager: Connections, *, loop: asyncio.AbstractEventLoop, **options: Any):
        super().__init__(manager, loop=loop, **options)
        self._parser = None
        self._door = manager.door
        self.peer = _UNKNOWN
        self.relay: Writer | None = None
        self._queue: deque[tuple[RequestHead | Refused, StreamReader]] = deque()
        self._state = _HEAD
        self._busy = False
        """A request was begun and is not answered yet."""
        self._serving = False
        self._work: tuple[Coroutine[Any, Any, bool], RequestHead, StreamReader] | None = None
        """What the task of this connection is to run."""
        self._last = False
        """Nothing more is served here."""
        self._backlog = b""
        self._held = False
        self._left = 0
        self._chunks: ChunkReader | None = None
        self._body: StreamReader = EMPTY_PAYLOAD
        self._body_bytes = 0
        self._body_mark = (0.0, 0, 0.0, 0)
        self._head_since = 0.0
        self._write_mark = (0.0, 0)
        self._broken = False
        self._linger_left = 0
        self._lingering: asyncio.Future[None] | None = None

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peername = transport.get_extra_info("peername")
        address = peername[0] if isinstance(peername, tuple) else ""
        https = transport.get_extra_info("sslcontext") is not None
        self.peer = self._door.reader.peer(address, https=https)
        super().connection_made(transport)
        self._door.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.closed(self)
        self._backlog = b""
        self._last = True
        self._queue.clear()
        if self.relay is not None:
            self.relay.abandon()
        if self._work is not None:
            self._work[0].close()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        self._end_linger()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._door.watch(self)
        if self.relay is not None:
            self.relay.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.relay is not None:
            self.relay.resume()

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self._end_linger()
            return
        if self._broken or ((self._force_close or self._close) and self._state == _HEAD):
            # A worker that ends begins nothing new, but hears out what it has begun.
            return
        if self._backlog:
            data = self._backlog + data
            self._backlog = b""
        try:
            end = data.find(b"\r\n\r\n")
            if (
                0 < end == len(data) - 4
                and self._state == _HEAD
                and not self._held
                and not self._reading_paused
            ):
                # Nearly always: one whole head, and nothing else.
                self._take_head(data[:end])
            else:
                self._take(data)
        except Malformed:
            self._refuse(Reason.REQUEST_MALFORMED)

    # --- flow: what a reader of a body calls, and what holds the transport back ---

    def pause_reading(self) -> None:
        self._reading_paused = True
        self._pause_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        self._reading_paused = False
        if resume_parser:
            self._go_on()

    def _go_on(self) -> None:
        """Take what waited, and read on unless that is enough again."""
        if self._held or self._reading_paused:
            return
        if self._backlog:
            self.data_received(b"")
        if not (self._held or self._reading_paused):
            self._resume_transport_reading()

    def _hold(self, rest: bytes) -> None:
        """Keep what came while nothing may be read.  The transport is paused: it stays short."""
        self._backlog = rest
        if len(rest) >= BUFFER_BYTES:
            self._pause_transport_reading()

    # --- the parser ---

    def _take(self, data: bytes) -> None:
        at, size = 0, len(data)
        while at < size:
            if self._held or self._reading_paused or self._broken:
                self._hold(data[at:] if at else data)
                return
            if self._state == _HEAD:
                end = data.find(b"\r\n\r\n", at)
                if end < 0:
                    self._take_part_of_head(data[at:] if at else data)
                    return
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
                at = self._take_chunks(data, at)
                if self._state == _HEAD and (self._close or self._force_close):
                    return

    def _take_head(self, block: bytes) -> None:
        """One whole head: its request is queued, and its body expected."""
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
        if isinstance(head, Reason):
            return self._refuse(head)
        body = self._begin_body(head) if head.has_body else EMPTY_PAYLOAD
        self._queue.append((head, body))
        if head.upgrade is not None or len(self._queue) >= MAX_QUEUED:
            # What follows an upgrade is no HTTP if it is granted; and a queue has an end.
            self._held = True
            self._pause_transport_reading()
        if not self._busy:
            self._serve_next()
        return None

    def _begin_body(self, head: RequestHead) -> StreamReader:
        if head.chunked:
            self._state, self._chunks = _CHUNKED, ChunkReader()
        else:
            self._state, self._left = _SIZED, head.length or 0
        self._body = StreamReader(self, BUFFER_BYTES, loop=self._loop)
        self._body_bytes = 0
        now = self._loop.time()
        self._body_mark = (now, 0, now, 0)
        self._door.watch(self)
        return self._body

    def _take_chunks(self, data: bytes, at: int) -> int:
        """The contents of chunks; extensions and trailers end here."""
        assert self._chunks is not None
        pieces: list[bytes] = []
        end = self._chunks.feed(data, pieces, at)
        self._body_bytes += end - at
        if pieces:
            self._body.feed_data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._chunks.done:
            self._chunks = None
            self._end_body()
        return end

    def _end_body(self) -> None:
        self._state = _HEAD
        self._body.feed_eof()

    def _take_part_of_head(self, data: bytes) -> None:
        """A head that is not whole yet: refuse at once what cannot become one."""
        start = data.removeprefix(b"\r\n")
        limits = self._door.limits
        line_end = start.find(b"\r\n")
        if (line_end if line_end >= 0 else len(start)) > limits.line_bytes:
            self._refuse(Reason.TARGET_TOO_LONG)
        elif len(start) > limits.head_bytes:
            self._refuse(Reason.HEADER_TOO_LARGE)
        elif not _may_become_head(start, line_end):
            self._refuse(Reason.REQUEST_MALFORMED)
        else:
            self._backlog = data
            if not self._head_since:
                self._head_since = self._loop.time()
                self._door.watch(self)

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

    # --- answers ---

    async def start(self) -> None:
        """The one task of the connection: runs what could not be answered at once.

        aiohttp's own loop makes a task, a request and a writer for each request; on the way
        to an upstream none of them is needed, and most requests never come here.
        """
        while not self._last and not self._force_close:
            if self._work is None:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            if self._work is not None:
                (work, head, body), self._work = self._work, None
                self.ended(await self._finish(work, head, body))
        await self._end()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _serve_next(self) -> None:
        """Begin the requests that wait, one after the other is answered."""
        if self._serving:
            return
        self._serving = True
        try:
            while self._queue and not (self._busy or self._last or self._force_close):
                self._serve(*self._queue.popleft())
        finally:
            self._serving = False

    def _serve(self, head: RequestHead | Refused, body: StreamReader) -> None:
        self._busy = self._request_in_progress = True
        if isinstance(head, Refused):
            self._write_problem(head, to_head=False)
            self.ended(False)
            return
        outcome: Outcome = False
        try:
            outcome = self._door.handler.serve(self, head, body)
        except ConnectionError:
            self.force_close()
        except Exception as error:  # noqa: BLE001 (the last resort: a defect must not leak)
            self._write_problem(error, to_head=head.method == "HEAD")
        if isinstance(outcome, bool):
            self.ended(outcome and body.is_eof())
        elif outcome is not None:
            self.run(outcome, head, body)

    def run(self, work: Coroutine[Any, Any, bool], head: RequestHead, body: StreamReader) -> None:
        """Let the connection's task go on with a request that was begun."""
        if self._task_handler is None or self._task_handler.done():
            # It was told to end while the answer was under way.
            work.close()
            self.abort()
            return
        self._work = work, head, body
        self._wake()

    def ended(self, keep: bool) -> None:
        """The request that was begun is answered; whether the connection may go on."""
        self._busy = self._request_in_progress = False
        self.relay = None
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        self._keepalive = keep
        if not keep or self._close or self._force_close:
            self._last = True
            if self._task_handler is not None and not self._task_handler.done():
                self._wake()
            elif self.transport is not None:
                self.transport.close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        if self._held and len(self._queue) <= MAX_QUEUED // 2:
            self._held = False
            self._go_on()
        if self._queue:
            self._serve_next()

    def _process_keepalive(self) -> None:
        if self._busy:
            # aiohttp takes a task that waits for one that has nothing to do.
            self._keepalive_handle = self._loop.call_later(
                self._keepalive_timeout, self._process_keepalive
            )
        else:
            super()._process_keepalive()

    async def _finish(
        self, work: Coroutine[Any, Any, bool], head: RequestHead, body: StreamReader
    ) -> bool:
        try:
            return await work and body.is_eof()
        except ConnectionError:
            self.force_close()
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception as error:  # noqa: BLE001 (the last resort: a defect must not leak)
            self._write_problem(error, to_head=head.method == "HEAD")
        return False

    async def answer(
        self,
        head: RequestHead,
        body: StreamReader,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> bool:
        """Let `handle` answer as any aiohttp handler does; whether to go on after it."""
        assert self._task_handler is not None
        assert self._request_factory is not None
        writer = StreamWriter(self, self._loop)
        message = _message(head)
        request = self._request_factory(message, body, self, writer, self._task_handler)
        answer, reset = await self._handle_request(request, None, handle)
        if reset:
            raise ConnectionError("the client has gone")
        return bool(answer.keep_alive)

    def write(self, data: bytes) -> None:
        """Straight to the client; nothing when it has gone."""
        transport = self.transport
        if transport is not None:
            transport.write(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A defect of an endpoint of ours, or its body broke: no banner, no echo, no trace."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        self._write_problem(exc, to_head=request.method == "HEAD")
        return _WRITTEN

    def _write_problem(self, error: BaseException | None, *, to_head: bool) -> None:
        if isinstance(error, Refused):
            reason = error.reason
        elif isinstance(error, HttpProcessingError):
            reason = Reason.REQUEST_MALFORMED
        else:
            reason = Reason.INTERNAL_ERROR
        request_id = self._door.reader.new_request_id()
        if reason is Reason.INTERNAL_ERROR:
            log.error("request-failed", request_id=request_id, exc_info=error)
        if self.relay is not None and self.relay.started:
            self.abort()
        else:
            self.write(
                problem_bytes(reason, request_id=request_id, https=self.peer.https, to_head=to_head)
            )

    def abort(self) -> None:
        """End what was begun in a way that no client takes for its end: by a reset.

        A FIN would do for a body that has a length, but to a 1.0 client it is the very end
        of the body.
        """
        transport = self.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    async def _end(self) -> None:
        if self._force_close:
            return
        if self._broken or self._state != _HEAD:
            await self._linger()
        self._task_handler = None
        if self.transport is not None:
            self.transport.close()

    async def _linger(self) -> None:
        """Read on a little before closing.

        To close on unread bytes resets the connection, and the reset may overtake the answer
        on its way to the client (RFC 9112 section 9.6).
        """
        transport = self.transport
        if transport is None:
            return
        limits = self._door.limits
        self._linger_left = limits.linger_bytes
        self._lingering = self._loop.create_future()
        timer = self._loop.call_later(limits.linger_s, self._end_linger)
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()
        try:
            await self._lingering
        finally:
            timer.cancel()

    def _end_linger(self) -> None:
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)

    # --- time ---

    def sweep(self, now: float) -> bool:
        """Cut what takes too long; False when there is nothing to watch any more."""
        transport = self.transport
        if transport is None:
            return False
        limits = self._door.limits
        if self._head_since and now - self._head_since > limits.head_s:
            transport.abort()
            return False
        receiving = self._state != _HEAD and not self._broken
        if receiving:
            self._sweep_body(now, limits)
        pending = transport.get_write_buffer_size()
        since, before = self._write_mark
        if not pending or pending != before:
            self._write_mark = (now, pending)
        elif now - since > limits.stall_s:
            transport.abort()
            return False
        return bool(receiving or pending or self._head_since or self._paused)

    def _sweep_body(self, now: float, limits: DoorLimits) -> None:
        last_at, last, window_at, window = self._body_mark
        received = self._body_bytes
        if self._reading_paused or self._held:
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
        if slow or now - last_at > limits.body_idle_s:
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


_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def _message(head: RequestHead) -> RawRequestMessage:
    """The request as aiohttp's handlers know it, its target in origin-form."""
    target = _AUTHORITY.sub("", head.target, count=1) if head.target[0] != "/" else head.target
    path, mark, query = target.partition("?")
    raw = tuple(head.headers)
    named = CIMultiDict((n.decode("latin-1"), v.decode("latin-1")) for n, v in raw)
    try:
        url = URL.build(path=path or "/", query_string=query, encoded=True)
    except ValueError as error:
        raise Refused(Reason.REQUEST_MALFORMED) from error
    return RawRequestMessage(
        head.method,
        (path or "/") + mark + query,
        HttpVersion11 if head.minor else HttpVersion10,
        CIMultiDictProxy(named),
        raw,
        not head.keeps_open,
        None,
        False,
        head.chunked,
        url,
    )


class _Written(web.StreamResponse):
    """What aiohttp is given where the answer is on the wire already."""

    def __init__(self) -> None:
        self._keep_alive = False
        self._eof_sent = True

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


_WRITTEN = _Written()
_UNKNOWN = Peer("0.0.0.0", https=False, trusted=False)  # noqa: S104 (an address of nobody)


async def _unused(request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("connections ask their door's handler")


class Connections(Server):
    """aiohttp's server, making connections of ours."""

    def __init__(self, door: Door) -> None:
        limits = door.limits
        super().__init__(
            _unused,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.keepalive_s,
            lingering_time=0.0,
        )
        self.door = door

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


class Door(web.BaseRunner):
    """One public listener.  BaseRunner, not AppRunner: CONNECT and Expect must reach us.

    Give it to `web.SockSite`.  While `draining`, answers carry `Connection: close`.
    """

    def __init__(
        self,
        handler: Handler,
        reader: CallReader,
        limits: DoorLimits | None = None,
        *,
        shutdown_timeout: float = 30.0,
    ) -> None:
        super().__init__(shutdown_timeout=shutdown_timeout)
        self.handler = handler
        self.reader = reader
        self.limits = limits or DoorLimits()
        self.draining = False
        self.open = 0
        self._watched: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, connection: Connection) -> None:
        self.open += 1
        if self.open > self.limits.connections and connection.transport is not None:
            connection.transport.abort()

    def closed(self, connection: Connection) -> None:
        self.open -= 1
        self._watched.discard(connection)

    def watch(self, connection: Connection) -> None:
        """Look at it in every sweep until it says that there is nothing to see."""
        self._watched.add(connection)

    async def shutdown(self) -> None:
        """Nothing is held besides the connections, which the runner closes."""

    async def _make_server(self) -> Server:
        self._sweep()
        return Connections(self)

    async def _cleanup_server(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.limits.sweep_s, self._sweep)
        now = loop.time()
        self._watched = {c for c in list(self._watched) if c.sweep(now)}
