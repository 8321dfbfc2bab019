"""One connection to an upstream: its answers read, and handed on as they come.

Law: a connection carries one exchange at a time, and is used again only after a response that
ended cleanly, with its request sent whole and no byte left over.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

from gateway.edge.http1.chunked import ChunkReader
from gateway.edge.http1.grammar import Malformed
from gateway.edge.http1.response_head import (
    BODILESS,
    CHUNKED,
    MAX_HEAD_BYTES,
    NO_BODY,
    UNTIL_CLOSE,
    Head,
    body_length,
)
from gateway.edge.http1.turns import SHARE, hold_tls_back
from gateway.edge.upstream.answer_waits import body_overdue, overdue
from gateway.edge.upstream.protocols import ConnectionPool, ResponseReceiver
from gateway.model import Reason

if TYPE_CHECKING:
    from gateway.access.definitions import Upstream

SWEEP_S = 0.25
LONG_LIVED_S = 0.5
"""An exchange that goes on for longer is told that it lasts.  With the sweep that sees it, this
leaves room within the second in which it must end with what let it in."""
MAX_INTERIM = 32

_IDLE, _HEAD, _BODY, _CLOSED = range(4)


class UpstreamConnection(asyncio.Protocol):
    __slots__ = ("_body_left", "_chunks", "_drained", "_eof", "_interim", "_keep_alive",
                 "_loop", "_partial_head", "_pending", "_pool", "_reading_paused",
                 "_state", "active_at", "held", "paused", "receiver", "rest", "reused",
                 "sent_at", "transport")  # fmt: skip

    def __init__(
        self, pool: ConnectionPool[UpstreamConnection], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._pool = pool
        self._loop = loop
        self.receiver: ResponseReceiver | None = None
        """Whose exchange it carries."""
        self._state = _IDLE
        self._partial_head = b""
        self._reading_paused = False
        self._body_left = 0
        self._chunks: ChunkReader | None = None
        self._interim = 0
        self._keep_alive = False
        self._eof = False
        self._drained: asyncio.Future[None] | None = None
        self.reused = False
        self.paused = False
        self.held = False
        """Nothing passes, either way, until `release`."""
        self._pending = 0
        """Bytes that the upstream had not taken when they were last looked at."""
        self.active_at = monotonic()
        """When it was made, last fell idle, was written to or read from, by the loop's clock."""
        self.sent_at = 0.0
        self.rest = b""
        """What of a body waits for its turn: nothing is read meanwhile.  Its end waits behind it,
        which over TLS the loops tell all the same."""
        self.transport: asyncio.Transport | None = None

    # --- what the proxy calls ---

    def send(self, receiver: ResponseReceiver, head: bytes) -> None:
        """Begin an exchange.  The connection must be idle."""
        transport = self.transport
        if transport is None or self._state != _IDLE:
            receiver.failed(Reason.UPSTREAM_UNREACHABLE, replayable=True)
            return
        self.receiver = receiver
        self._state = _HEAD
        self._interim = 0
        self.active_at = self.sent_at = monotonic()
        transport.write(head)

    def write(self, data: bytes) -> None:
        """More of the request's body; nothing once the exchange is over."""
        if self.transport is not None and self.receiver is not None:
            self.active_at = monotonic()
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait while the upstream reads slower than the client sends, or nothing may pass."""
        while self.receiver is not None and (self.paused or self.held):
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def pause_reading(self) -> None:
        if self._state == _BODY and not self._reading_paused:
            self._reading_paused = True
            if self.transport is not None:
                self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self.active_at = monotonic()
            if self.rest:
                self._pool.turns.wait(self._take_turn)
            elif self.transport is not None:
                self.transport.resume_reading()

    def release(self) -> None:
        """What was `held` goes on."""
        self.held = False
        self.active_at = monotonic()
        if not self.paused:
            self.resume_writing()
        if self.rest and not self._reading_paused:
            self._pool.turns.wait(self._take_turn)

    def detach(self) -> tuple[asyncio.Transport, ConnectionPool[UpstreamConnection]]:
        """It carries no HTTP any more, and belongs to whoever takes its transport."""
        transport, self.transport = self.transport, None
        assert transport is not None
        if not transport.is_closing():
            transport.resume_reading()  # what it said may have been held
        self.receiver, self._state = None, _CLOSED
        self._pool.discard(self)
        return transport, self._pool

    @property
    def ready(self) -> bool:
        """Whether an exchange can begin: its other end has not left yet."""
        transport = self.transport
        return self._state == _IDLE and transport is not None and not transport.is_closing()

    def carries(self, receiver: ResponseReceiver) -> bool:
        return self.receiver is receiver

    def end(self, reason: Reason, *, replayable: bool = False) -> None:
        """The exchange may not go on: its receiver is told why."""
        receiver, self.receiver = self.receiver, None
        self._drop()
        if receiver is not None:
            receiver.failed(reason, replayable=replayable)

    def abort(self) -> None:
        """The exchange is of no more use to anyone: cut it, so that the upstream notices."""
        self.receiver = None
        self._drop()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        hold_tls_back(transport)
        self._pool.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.resume_writing()
        if self.rest:
            return  # the last of its turns tells the end
        state, receiver = self._state, self.receiver
        self._state, self.receiver = _CLOSED, None
        self._pool.discard(self)
        if receiver is None:
            if state == _IDLE and self.reused and monotonic() - self.active_at < SWEEP_S:
                self._pool.record_early_close()
            return
        if state == _BODY and self._body_left == UNTIL_CLOSE and self._eof and exc is None:
            receiver.finished()
        elif state == _BODY or self._partial_head or self._interim:
            receiver.failed(Reason.UPSTREAM_MALFORMED, replayable=False)
        else:
            receiver.failed(Reason.UPSTREAM_UNREACHABLE, replayable=self.reused)

    def eof_received(self) -> None:
        self._eof = True

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data, self.rest = self.rest + data, b""
        receiver = self.receiver
        if receiver is None:
            # Bytes that nobody asked for would become the next caller's answer.
            self._drop()
            return
        if self.held:
            self._put_by(data)
            return
        try:
            if self._state == _HEAD:
                if monotonic() - self.sent_at > LONG_LIVED_S and self._refused(receiver):
                    return
                self._read_head(receiver, data)
            else:
                self.active_at = monotonic()
                if not self._refused(receiver):
                    self._read_body(receiver, data)
        except Malformed:
            self.end(Reason.UPSTREAM_MALFORMED)

    # --- private ---

    def _refused(self, receiver: ResponseReceiver) -> bool:
        """Asked before bytes of what lasts pass: a worker that stood still reads first, and
        sweeps afterwards."""
        reason = receiver.refusal()
        if reason is None:
            return False
        self.end(reason)
        return True

    def _read_head(self, receiver: ResponseReceiver, data: bytes) -> None:
        if self._partial_head:
            data = self._partial_head + data
            self._partial_head = b""
        end = data.find(b"\r\n\r\n")
        if not 0 <= end <= MAX_HEAD_BYTES:
            if len(data) > MAX_HEAD_BYTES:
                raise Malformed("head")
            self._partial_head = data
            return
        head = self._pool.heads.read(data[:end])
        body_at = end + 4
        if head.status < 200:
            self._read_interim(receiver, head, data[body_at:])
        elif head.status in receiver.retry_statuses and receiver.acquire_retry():
            self.end(Reason.UPSTREAM_UNREACHABLE, replayable=True)
        else:
            # What failed there may be about to hang up: uvicorn does, after the 500 of an
            # exception that Starlette answered, and says nothing of it.  A POST sent meanwhile
            # would be lost.
            self._keep_alive = head.keeps_open and head.status != 500
            self._begin_body(receiver, head, data, body_at)

    def _read_interim(self, receiver: ResponseReceiver, head: Head, rest: bytes) -> None:
        """A 1xx came: the answer itself is behind it, or still to come."""
        if head.status == 101:
            # Only one that was asked for may be granted, and by who is still there.
            if self.transport is None or not receiver.upgrade(head, self, rest):
                raise Malformed("upgrade")
            return
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise Malformed("interim responses")
        receiver.interim(head)
        if rest:
            self._read_head(receiver, rest)

    def _begin_body(
        self, receiver: ResponseReceiver, head: Head, data: bytes, body_at: int
    ) -> None:
        self._state = _BODY
        length = head.length
        if length is None or receiver.is_head or head.status in BODILESS:
            length = body_length(head, is_head=receiver.is_head)
            if receiver.is_head or (length == NO_BODY and (head.length or head.chunked)):
                # RFC 9112 section 6.3 gives these no body.  A backend may send one all the same,
                # announced (204, 304) or not (what gunicorn makes of an application that
                # answers HEAD as GET), and what comes later would be the next caller's answer.
                self._keep_alive = False
        self._body_left = length
        received = len(data) - body_at
        if 0 <= length <= received:
            receiver.begin(head, length, data[body_at : body_at + length], True)
            self._finish(receiver, clean=received == length)
        elif length == NO_BODY:
            receiver.begin(head, length, b"", True)
            self._finish(receiver, clean=not received)
        elif length == CHUNKED:
            self._chunks = ChunkReader()
            contents: list[bytes] = []
            consumed = self._chunks.feed(data, contents, body_at, most=SHARE)
            receiver.begin(head, length, b"", False)
            self._pass_chunks(receiver, contents, data[consumed:])
        else:
            if length != UNTIL_CLOSE:
                self._body_left = length - received
            receiver.begin(head, length, data[body_at:], False)

    def _read_body(self, receiver: ResponseReceiver, data: bytes) -> None:
        left = self._body_left
        if left == CHUNKED:
            contents: list[bytes] = []
            assert self._chunks is not None
            consumed = self._chunks.feed(data, contents, most=SHARE)
            self._pass_chunks(receiver, contents, data[consumed:])
        elif left == UNTIL_CLOSE:
            receiver.data(data)
        elif len(data) < left:
            self._body_left = left - len(data)
            receiver.data(data)
        else:
            receiver.data(data[:left] if len(data) > left else data)
            self._finish(receiver, clean=len(data) == left)

    def _pass_chunks(self, receiver: ResponseReceiver, contents: list[bytes], rest: bytes) -> None:
        assert self._chunks is not None
        if self._chunks.done:
            trailers, self._chunks = self._chunks.trailers, None
            receiver.chunks(contents, trailers)
            self._finish(receiver, clean=not rest)
            return
        if contents:
            receiver.chunks(contents, None)
        if rest and self.receiver is receiver:
            self._wait_for_turn(rest)

    def _wait_for_turn(self, rest: bytes) -> None:
        """It has had its share of this turn of the loop."""
        self._put_by(rest)
        if not self._reading_paused:
            self._pool.turns.wait(self._take_turn)

    def _put_by(self, rest: bytes) -> None:
        self.rest = rest
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def _take_turn(self) -> None:
        if self._reading_paused or self.held or not self.rest:
            return
        self.data_received(b"")
        if self.rest:
            return
        transport = self.transport
        if transport is None:
            if self.receiver is not None:
                self.connection_lost(None)  # the body was not whole
        elif not (self._reading_paused or transport.is_closing()):
            transport.resume_reading()

    def _finish(self, receiver: ResponseReceiver, *, clean: bool) -> None:
        if self.receiver is not receiver:
            return  # the client went away while its answer was written
        self.receiver = None
        if clean and self._keep_alive and receiver.request_sent and self.transport is not None:
            # Whoever was too slow for this answer must not hold back the next one.
            self.resume_reading()
            self._state = _IDLE
            self.active_at = monotonic()
            if not self.reused:
                self.reused = True
            elif not self._pool.keeps_idle:
                self._pool.record_reuse()
            self._pool.put_idle(self)
        else:
            self._drop()
        receiver.finished()

    def _drop(self) -> None:
        self._state, self.rest, self.held = _CLOSED, b"", False
        self.resume_writing()
        self._pool.discard(self)
        if self.transport is not None:
            self.transport.abort()

    def sweep(self, now: float, spec: Upstream) -> None:
        """Cut what has taken too long (`docs/edge.md`, Time limits), and enter what lasts."""
        receiver = self.receiver
        if receiver is None:
            # One that was just made is idle too, and about to be sent its first exchange.
            waits = self._state == _IDLE and self.reused
            if waits and now - self.active_at > spec.pool_idle_s - SWEEP_S:
                self._drop()
            return
        if now - self.sent_at > LONG_LIVED_S:
            receiver.mark_long_lived()
        if self.receiver is not receiver:
            return  # it was not let go on
        if self._state == _HEAD:
            if self.paused and not receiver.request_sent:
                # Whether the upstream has taken some of what waits for it, as far as sweeps see.
                pending = 0 if self.transport is None else self.transport.get_write_buffer_size()
                if pending != self._pending:
                    self._pending, self.active_at = pending, now
            reason = overdue(receiver, now, self.active_at, spec, paused=self.paused)
        else:
            unread = self._reading_paused or self.held
            reason = body_overdue(receiver, now, self.active_at, spec, unread=unread)
        if reason is not None:
            self.end(reason)
