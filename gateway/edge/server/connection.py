"""One client of a listener: its requests served one after the other, its time kept.

Law: what can be answered at once is answered in the read callback; what has to wait goes on in a
task of the connection.  An answer that cannot be finished is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import Any, cast

from gateway.edge.http1.request_head import RequestHead
from gateway.edge.http1.turns import Turns
from gateway.edge.server.buffers import Buffers
from gateway.edge.server.client_transport import ClientTransport
from gateway.edge.server.endpoint_calls import EndpointHandler
from gateway.edge.server.handler import ConnectionOwner, DownstreamWriter, ServeResult
from gateway.edge.server.idle_timer import IdleTimer
from gateway.edge.server.peer import Peer
from gateway.edge.server.request_body import BUFFER_BYTES, EMPTY_BODY, RequestBody
from gateway.edge.server.request_intake import RequestIntake
from gateway.model import Reason


class Connection(asyncio.Protocol):
    """One client, from before its TLS handshake on."""

    __slots__ = (
        "_busy",
        "_closing",
        "_cut",
        "_finished",
        "_idle",
        "_intake",
        "_link",
        "_listener",
        "_loop",
        "_serving",
        "_task",
        "network",
        "peer",
        "relay",
        "transport",
        "writing_paused",
    )

    def __init__(self, listener: ConnectionOwner, peer: Peer, network: str | None) -> None:
        self.peer = peer
        self.network = network
        """In whose share it counts; None where it has none."""
        self.transport: asyncio.Transport | None = None
        """None before it has one, and once it was closed at once or is lost."""
        self.relay: DownstreamWriter | None = None
        """Whoever writes an answer now."""
        self.writing_paused = False
        """The client does not read as fast as it is written to."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._link = ClientTransport(self._loop, listener.limits)
        self._intake = RequestIntake(self, self._link, listener.request_heads, listener.turns)
        self._idle = IdleTimer(listener.idle_timers, self._close_idle)
        self._busy = False
        """A request was begun and is not answered yet."""
        self._serving = False
        self._closing = False
        """The listeners are closed: nothing new begins."""
        self._finished = False
        """Nothing more is served here."""
        self._cut = False
        """It was closed whatever it was doing, or is lost."""
        self._task: asyncio.Task[bool] | None = None

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._link.attach(self.transport)
        self._listener.opened(self)
        self._intake.expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finished = self._cut = True
        self._intake.stop()
        self._idle.cancel()
        if self.relay is not None:
            self.relay.client_disconnected()
        self.transport = None
        self._link.detach()
        self._listener.buffers.release(self)
        self._listener.lost(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        intake = self._intake
        if not (intake.held or intake.reading_paused or intake.closing):
            head = intake.parser.whole_head(data)
            if head is not None:
                if head.plain and not (
                    self._busy or intake.queue or self.writing_paused or self._finished
                ):
                    intake.head_since = 0.0
                    self._serve(head, EMPTY_BODY)
                else:
                    intake.take_head(head, len(data))
                return
        if self._link.lingers:
            self._link.discard(data)
        else:
            intake.feed(data)

    def eof_received(self) -> bool:
        """The client sends no more.  Requests that are whole are answered all the same; True
        leaves that direction open (RFC 9112 section 9.6).

        Over TLS it is the end: the loops cannot close one direction alone.
        """
        if self._link.half_closed_at:
            return True  # told again: reading had been stopped, and went on
        asked = self._busy or self._intake.queue
        if self._intake.cut_short or self._finished or self.peer.https or not asked:
            return False
        self._link.half_closed()
        self.watch()
        self._intake.end()
        return True

    def pause_writing(self) -> None:
        self.writing_paused = True
        self.watch()
        self.weigh()
        if self.relay is not None:
            self.relay.pause()

    def resume_writing(self) -> None:
        self.writing_paused = False
        self.weigh()
        if self.relay is not None and not self._listener.buffers.full:
            self.relay.resume()
        if self._intake.queue and not self._busy:
            if self._closing:
                self.ended(True)
            else:
                self.serve_next()

    # --- what its intake calls ---

    def serve_next(self) -> None:
        """Begin the requests that wait, one after the other is answered.

        None while the client does not read: the answers would wait in memory, without end.
        """
        if self._serving or self._busy:
            return
        queue = self._intake.queue
        self._serving = True
        try:
            while queue and not (self._busy or self.writing_paused or self._finished):
                head, body = self._intake.next_request()
                if isinstance(head, Reason):
                    self._busy = True
                    self._answer_problem(head, is_head=False)
                    self.ended(False)
                else:
                    self._serve(head, body)
        finally:
            self._serving = False

    def watch(self) -> None:
        self._listener.watch(self)

    def weigh(self) -> None:
        """Whether it holds more than a transport should, and so counts among the slow."""
        buffers, intake = self._listener.buffers, self._intake
        ahead = intake.puts_by and self.buffered() >= BUFFER_BYTES
        if ahead or self.writing_paused or intake.reading_paused:
            buffers.hold(self)
        else:
            buffers.release(self)

    # --- answers ---

    def _serve(self, head: RequestHead, body: RequestBody) -> None:
        self._busy = True
        result: ServeResult = False
        try:
            result = self._listener.handler.serve(self, head, body)
        except ConnectionError:
            self._close_now()
        except Exception as error:  # noqa: BLE001 (the last resort: a defect must not leak)
            self._answer_problem(error, is_head=head.method == "HEAD")
        if result is None:
            return
        if isinstance(result, bool):
            self.ended(result and body.is_eof())
        else:
            self.run(result, head, body)

    def run(self, work: Coroutine[Any, Any, bool], head: RequestHead, body: RequestBody) -> None:
        """Let a task go on with a request that was begun."""
        if self.transport is None:
            work.close()
            return

        def done(task: asyncio.Task[bool]) -> None:
            self._task = None
            keep = False
            error = None if task.cancelled() else task.exception()
            if task.cancelled() or isinstance(error, ConnectionError):
                self._close_now()
            elif error is not None:
                self._answer_problem(error, is_head=head.method == "HEAD")
            else:
                keep = task.result() and body.is_eof()
            self.ended(keep)

        self._task = self._loop.create_task(work)
        self._task.add_done_callback(done)

    async def answer(self, head: RequestHead, body: RequestBody, handler: EndpointHandler) -> bool:
        """Let `handler` answer as any aiohttp handler does; whether to go on after it."""
        due_at = self._loop.time() + self._listener.limits.own_body_s
        self._intake.expect_body_by(due_at, body)
        return await self._listener.endpoints.serve(self, head, body, handler)

    def write(self, data: bytes) -> None:
        """Straight to the client; nothing when it has gone."""
        transport = self.transport
        if transport is not None:
            transport.write(data)

    def ended(self, keep: bool) -> None:
        """The request that was begun is answered; whether the connection may go on."""
        self._busy = False
        self.relay = None
        intake = self._intake
        if not keep or self._closing or self._cut:
            if keep and intake.queue:
                # The answer before had told that the connection goes on: who sent more behind it
                # learns that nobody took it up (RFC 9112 section 9.6).
                head = intake.queue[0][0]
                is_head = isinstance(head, RequestHead) and head.method == "HEAD"
                self._answer_problem(Reason.DRAINING, is_head=is_head)
            self._finish()
            return
        idle = self._idle
        idle.since = monotonic()
        if idle.running is None:
            idle.start()
        if intake.held:
            intake.answered()
        if intake.queue:
            self.serve_next()
        elif intake.reading_paused:
            # By the body of the request that is answered: nobody reads it any more.
            intake.resume_reading()
        if self._link.half_closed_at and not (self._busy or intake.queue):
            self._finish()

    def _answer_problem(self, why: Reason | BaseException, *, is_head: bool) -> None:
        """The connection's own answer, or a cut where another one has begun."""
        answer = self._listener.last_resort.answer(why, self.peer, is_head=is_head)
        if self.relay is not None and self.relay.started:
            self.abort()
        else:
            self.write(answer)

    def detach(self, protocol: asyncio.Protocol) -> bytes:
        """From now on `protocol` is told of this transport; what was held back is returned.

        It tells of `connection_lost` in turn.
        """
        transport = self.transport
        assert transport is not None
        held = self._intake.take_unread()
        self._listener.buffers.release(self)
        if self._link.half_closed_at:
            transport.abort()  # it cannot speak any more
        self.relay = None
        transport.set_protocol(protocol)
        if not transport.is_closing():
            transport.resume_reading()
        return held

    # --- who is slow ---

    @property
    def must_wait(self) -> bool:
        """An answer that begins may not be read on: its reader is slow, or all buffers are full."""
        return self.writing_paused or self._listener.buffers.full

    @property
    def buffers(self) -> Buffers:
        return self._listener.buffers

    @property
    def turns(self) -> Turns:
        return self._listener.turns

    def buffered(self) -> int:
        """Meets `buffers.Holder`."""
        put_by = 0 if self.relay is None else self.relay.put_by()
        return self._link.pending + self._intake.buffered() + put_by

    def cut_off(self) -> None:
        """Meets `buffers.Holder`."""
        self.abort()

    # --- its end ---

    def disable_keepalive(self) -> None:
        """An answer that is under way and has not begun is the last one of its connection."""
        if self.relay is not None and not self.relay.started:
            self.relay.keep_alive = False

    def close(self) -> None:
        """The listeners are closed: what has begun is answered, and nothing follows it."""
        self.disable_keepalive()
        self._closing = self._intake.closing = True
        if self.idle_since() is not None:
            self.evict()
        elif not (self._busy or self._intake.queue):
            self._finish()

    def abort(self) -> None:
        """End what was begun in a way that no client takes for its end: by a reset."""
        self._link.reset()

    def evict(self) -> None:
        """It is idle: nothing is lost, and over TLS nobody's farewell is waited for."""
        self._finished = True
        self._listener.left(self)
        self._link.drop()

    def _finish(self) -> None:
        """Nothing more is served: close, and where a body was not read, read on a little first."""
        self._finished = True
        if self._cut or self._link.lingers:
            return
        # The sweep looks on: whoever does not read its last answer is cut.
        self.watch()
        parser = self._intake.parser
        if (parser.broken or parser.in_body) and not self._link.half_closed_at:
            self._link.linger()
        else:
            self._link.close()

    def _close_now(self) -> None:
        """Whatever it is doing; what was written is still sent."""
        self._finished = self._cut = self._intake.closing = True
        self._link.close()
        self.transport = None

    # --- time ---

    @property
    def expected(self) -> bool:
        """A head is on its way, or the first one is to come."""
        return self._intake.head_since != 0.0 and not self._busy and self.transport is not None

    def idle_since(self) -> float | None:
        """Since when nothing was asked of it, by the loop's clock; None where something is, or
        an answer is not read yet."""
        intake = self._intake
        if self.transport is None or self._busy or intake.queue or intake.parser.in_body:
            return None
        if self._finished or intake.put_off or self._link.pending:
            return None
        return intake.head_since or self._idle.since

    def _close_idle(self) -> None:
        if self._busy:
            self._idle.since = monotonic()
            self._idle.start()
        elif self._link.pending:
            # It has not read its last answer: to close would wait for it for ever.
            self._link.drop()
        elif not self._finished:
            self._close_now()

    def sweep(self, now: float) -> bool:
        """Cut what takes too long; False when there is nothing to watch any more."""
        if self.transport is None:
            return False
        intake, link, limits = self._intake, self._link, self._listener.limits
        asked = self._busy or bool(intake.queue)
        late = intake.sweep_head(now, limits, asked=asked)
        receiving = intake.sweep_body(now, limits)
        if late or link.takes_nothing(now):
            link.drop()
            return False
        if link.looks_gone(now):
            self.abort()
            return False
        waits = link.pending or intake.head_since or self.writing_paused or link.half_closed_at
        return bool(receiving or waits)
