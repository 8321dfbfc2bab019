"""One client of a door: its requests served one after the other, its time kept.

Law: what can be answered at once is answered in the read callback; what has to wait goes on in
the connection's one task.  An answer that cannot be finished is cut off.  What aiohttp would
answer by itself, with its name and an echo, is answered here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_server import Server

from gateway.edge.http1.request_head import RequestHead
from gateway.edge.replies.problems import problem_bytes, problem_type
from gateway.edge.server.handler import Listener, Outcome
from gateway.edge.server.peer import Peer
from gateway.edge.server.request_parser import Refused
from gateway.edge.server.web_request import WRITTEN, message_of
from gateway.edge.server.writer import Outbound
from gateway.model import Reason

log = structlog.get_logger(__name__)

CLOCK_STEP_S = 0.01
"""More than a loop's timer may be early, and than the kernel rounds."""


class Connection(Outbound):
    """One client.  `peer` is known from the first byte on."""

    __slots__ = (
        "_gone",
        "_look_again",
        "_serving",
        "_work",
        "let_in",
        "network",
        "peer",
    )

    def __init__(
        self, manager: Server, door: Listener, *, loop: asyncio.AbstractEventLoop, **options: Any
    ):
        super().__init__(manager, door, loop=loop, **options)
        self.peer = _UNKNOWN
        self._serving = False
        self._look_again: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] | None = None
        """Ends with the connection, where somebody waits for that."""
        self.network: str | None = None
        self.let_in = False
        """It counts at its door, and so does its network."""
        self._work: tuple[Coroutine[Any, Any, bool], RequestHead, StreamReader] | None = None
        """What the task of this connection is to run."""

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.peer is _UNKNOWN:
            peername = transport.get_extra_info("peername")
            address = peername[0] if isinstance(peername, tuple) else ""
            https = transport.get_extra_info("sslcontext") is not None
            self.peer = self._door.reader.peer(address, https=https)
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.left()
        self._backlog = b""
        self._last = True
        self._queue.clear()
        if self.relay is not None:
            self.relay.abandon()
        if self._work is not None:
            self._work[0].close()
        if self._look_again is not None:
            self._look_again.cancel()
        super().connection_lost(exc)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def left(self) -> None:
        """It takes no room any more; whoever is told first, once."""
        if self.let_in:
            self.let_in = False
            self._door.left(self)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends no more.  Requests that are whole are answered all the same; True
        leaves that direction open (RFC 9112 section 9.6).

        Over TLS it is the end: the loops cannot close one direction alone.
        """
        if self._half_closed_at:
            return True  # told again: reading had been stopped, and went on
        self._end_linger()
        cut_short = self.receiving and not self._held
        if cut_short or self._last or self.peer.https or not (self._busy or self._queue):
            return None
        self._half_closed_at = self._loop.time()
        # The sweep alone would look up to a second too late for who has gone altogether.
        self._look_again = self._loop.call_later(
            self._door.limits.half_closed_s + CLOCK_STEP_S, self._cut_if_gone
        )
        self._watch()
        return True

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._queue and not self._busy:
            if self._close:
                self.ended(True)
            else:
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

    def _watch(self) -> None:
        self._door.watch(self)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _serve_next(self) -> None:
        """Begin the requests that wait, one after the other is answered.

        None while the client does not read: the answers would wait in memory, without end.
        """
        if self._serving:
            return
        self._serving = True
        try:
            while self._queue and not (
                self._busy or self._paused or self._last or self._force_close
            ):
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
        if outcome is None:
            return
        if isinstance(outcome, bool):
            self.ended(outcome and body.is_eof())
        else:
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
        self._keepalive = keep
        if not keep or self._close or self._force_close:
            if keep and self._queue:
                self._refuse_queued()
            self._last = True
            if self._task_handler is not None and not self._task_handler.done():
                self._wake()
            elif self.transport is not None:
                self.transport.close()
            return
        # The clock of both event loops is this one, without their way to it.
        self._next_keepalive_close_time = monotonic() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        waiting = len(self._queue)
        if self._held and (not waiting or (waiting == 1 and self.receiving)):
            # Nothing waits any more, or only what cannot be served without the rest of it.
            self._held = False
            self._go_on()
            self._weigh()
        if self._queue:
            self._serve_next()
        elif self._reading_paused:
            # By the body of the request that is answered: nobody reads it any more.
            self.resume_reading()
        if self._half_closed_at and not (self._busy or self._queue):
            self._last = True
            self._wake()

    def say_close(self) -> None:
        """An answer that is under way and has not begun is the last one of its connection."""
        if self.relay is not None and not self.relay.started:
            self.relay.keep_alive = False

    def close(self) -> None:
        """The listeners are closed: what has begun is answered, and nothing follows it."""
        self.say_close()
        self._close = True
        if self.idle_since() is not None:
            self.evict()
        elif not (self._busy or self._queue):
            self._last = True
            self._wake()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Until its end, or so long; then what is still under way is cut.

        aiohttp's own lets a request that waits for its turn, or is tried again, wait for ever.
        """
        self.close()
        if self.transport is None:
            return
        self._gone = self._loop.create_future()
        await asyncio.wait((self._gone,), timeout=timeout)
        if not self._gone.done():
            self.abort()

    # --- room for others ---

    @property
    def expected(self) -> bool:
        """A head is on its way, or the first one is to come."""
        return self._head_since != 0.0 and not self._busy and self.transport is not None

    def idle_since(self) -> float | None:
        """Since when nothing was asked of it, by the loop's clock; None where something is, or
        an answer is not read yet."""
        transport = self.transport
        if transport is None or self._busy or self._queue or self.receiving or self._last:
            return None
        if self._put_off or transport.get_write_buffer_size():
            return None
        return self._head_since or self._next_keepalive_close_time - self._keepalive_timeout

    def evict(self) -> None:
        """It is idle: nothing is lost, and over TLS nobody's farewell is waited for."""
        self._last = True
        self.left()
        if self.transport is not None:
            self.transport.abort()

    def _refuse_queued(self) -> None:
        """The listeners are closed, and the answer before had told that the connection goes on:
        who sent more behind it learns that nobody took it up (RFC 9112 section 9.6)."""
        head, _ = self._queue[0]
        to_head = isinstance(head, RequestHead) and head.method == "HEAD"
        self._write_problem(Refused(Reason.DRAINING), to_head=to_head)

    def _process_keepalive(self) -> None:
        if self._busy:
            # aiohttp takes a task that waits for one that has nothing to do.
            self._keepalive_handle = self._loop.call_later(
                self._keepalive_timeout, self._process_keepalive
            )
        elif self.transport is not None and self.transport.get_write_buffer_size():
            # It has not read its last answer: to close would wait for it for ever.
            self.transport.abort()
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
        if self.receiving and body is self._body:
            self._body_due_at = self._loop.time() + self._door.limits.own_body_s
        writer = StreamWriter(self, self._loop)
        message = message_of(head)
        request = self._request_factory(message, body, self, writer, self._task_handler)
        answer, reset = await self._handle_request(request, None, handle)
        if reset:
            raise ConnectionError("the client has gone")
        return bool(answer.keep_alive)

    def hand_over(self, protocol: asyncio.Protocol) -> bytes:
        """From now on `protocol` is told of this transport; what was held back is returned.

        It tells of `connection_lost` in turn.
        """
        transport = self.transport
        assert transport is not None
        held, self._backlog, self._put_off = self._backlog, b"", False
        self._door.buffers.release(self)
        if self._half_closed_at:
            transport.abort()  # it cannot speak any more
        self.relay = None
        transport.set_protocol(protocol)
        if not transport.is_closing():
            transport.resume_reading()
        return held

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
        return WRITTEN

    def _write_problem(self, error: BaseException | None, *, to_head: bool) -> None:
        if isinstance(error, Refused):
            reason = error.reason
        elif isinstance(error, HttpProcessingError):
            reason = Reason.REQUEST_MALFORMED
        else:
            reason = Reason.INTERNAL_ERROR
        request_id = self._door.reader.new_request_id()
        self._door.meter.record(reason, problem_type(reason).status, 0.0)
        if reason is Reason.INTERNAL_ERROR:
            self._door.defects.n += 1
            log.error("request-failed", request_id=request_id, exc_info=error)
        elif self._door.on_refusal is not None:
            self._door.on_refusal(reason, request_id)
        if self.relay is not None and self.relay.started:
            self.abort()
        else:
            self.write(
                problem_bytes(reason, request_id=request_id, https=self.peer.https, to_head=to_head)
            )

    async def _end(self) -> None:
        if self._force_close:
            return
        if (self._broken or self.receiving) and not self._half_closed_at:
            await self._linger()
        self._task_handler = None
        if self.transport is not None:
            # The sweep looks on: whoever does not read its last answer is cut.
            self._watch()
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

    # --- time ---

    def _cut_if_gone(self) -> None:
        if self.looks_gone(self._loop.time()):
            self.abort()

    def sweep(self, now: float) -> bool:
        """Cut what takes too long; False when there is nothing to watch any more."""
        transport = self.transport
        if transport is None:
            return False
        limits = self._door.limits
        if self._head_since:
            if self._busy or self._queue:
                # It has come early: its time begins once it is expected.
                self._head_since = now
            elif now - self._head_since > limits.head_s:
                transport.abort()
                return False
        receiving = self.receiving and not self._broken
        if receiving:
            self.sweep_body(now, limits)
        pending = transport.get_write_buffer_size()
        if self.takes_nothing(now, pending, limits):
            transport.abort()
            return False
        if self.looks_gone(now):
            self.abort()
            return False
        return bool(
            receiving or pending or self._head_since or self._paused or self._half_closed_at
        )


_UNKNOWN = Peer("0.0.0.0", https=False, trusted=False)  # noqa: S104 (an address of nobody)
