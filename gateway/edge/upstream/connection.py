"""One connection to an upstream: its answers read, and handed on as they come.

Law: a connection carries one exchange at a time, and is used again only after a response that
ended cleanly, with its request sent whole and no byte left over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

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
    read_head,
)
from gateway.edge.http1.turns import SHARE, Turns
from gateway.model import Reason

if TYPE_CHECKING:
    from gateway.access.definitions import Upstream

SWEEP_S = 0.25
LASTING_S = 0.5
"""An exchange that goes on for longer is told that it lasts.  With the sweep that sees it, this
leaves room within the second in which it must end with what let it in."""
MAX_INTERIM = 32
READ_LIMIT_BYTES = 65_536


class Relay(Protocol):
    """Whoever waits for a response.  Each method is called from the read callback."""

    to_head: bool
    """The request was HEAD: its response has no body, whatever its fields say."""
    request_sent: bool
    """The request's last byte was written."""
    decided_at: float
    answered_at: float
    """When it was let in, and when its answer began; by the monotonic clock."""
    retry_statuses: frozenset[int]
    """Answers that are thrown away where `tries_again`: the request is sent once more."""

    def tries_again(self) -> bool: ...

    def refusal(self) -> Reason | None:
        """Why no more of it may pass; None while what let it in holds."""

    def interim(self, head: Head) -> None: ...

    def begin(self, head: Head, length: int, first: bytes, complete: bool) -> None:
        """The final head; `first` is the body as far as it came, unless it is chunked."""

    def piece(self, data: bytes) -> None: ...

    def chunks(self, pieces: list[bytes], trailers: list[bytes] | None) -> None:
        """Contents of chunks; `trailers` is a list once the body has ended."""

    def finished(self) -> None: ...

    def upgrade(self, head: Head, upstream: UpstreamConnection, first: bytes) -> bool:
        """A 101 came, and `first` behind it.

        True when it was asked for: the transport is then the relay's.
        """

    def lasts(self) -> None:
        """The exchange goes on for longer than a judgement may hold unasked."""

    def failed(self, reason: Reason, *, replayable: bool) -> None:
        """No response, or the rest of it, will come.

        `replayable`: a reused connection ended before its first response byte, so the
        request may never have been read.
        """


class Pool(Protocol):
    """Whoever keeps the connections of one target."""

    spec: Upstream
    connections: set[UpstreamConnection]
    turns: Turns
    in_flight: int
    """Calls that hold a place at it."""
    keeps: bool
    """Whether the target has kept a connection open after an answer."""

    def kept(self) -> None:
        """It has, for the first time."""

    def left_early(self) -> None:
        """It has closed a connection as soon as it was used again."""

    def release(self, connection: UpstreamConnection) -> None:
        """Its exchange has ended, and another may begin."""

    def forget(self, connection: UpstreamConnection) -> None:
        """It is of no more use."""

    def leave(self, met: bool | None) -> None:
        """A call has ended that held a place; `met` is whether the target did its part."""


_IDLE, _HEAD, _BODY, _CLOSED = range(4)


class UpstreamConnection(asyncio.Protocol):
    __slots__ = (
        "_chunks",
        "_drained",
        "_eof",
        "_held",
        "_held_back",
        "_interim",
        "_keep",
        "_left",
        "_loop",
        "_pending",
        "_pool",
        "_relay",
        "_rest",
        "_state",
        "began_at",
        "paused",
        "reused",
        "sent_at",
        "transport",
    )

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._relay: Relay | None = None
        self._state = _IDLE
        self._held = b""
        self._held_back = False
        self._left = 0
        self._chunks: ChunkReader | None = None
        self._interim = 0
        self._keep = False
        self._eof = False
        self._drained: asyncio.Future[None] | None = None
        self.reused = False
        self.paused = False
        self._pending = 0
        """Bytes that the upstream had not taken when they were last looked at."""
        self.began_at = monotonic()
        """When it was made, last fell idle, was written to or read from, by the loop's clock."""
        self.sent_at = 0.0
        self._rest = b""
        """What of a body waits for its turn: nothing is read meanwhile."""
        self.transport: asyncio.Transport | None = None

    # --- what the proxy calls ---

    def send(self, relay: Relay, head: bytes) -> None:
        """Begin an exchange.  The connection must be idle."""
        transport = self.transport
        if transport is None or self._state != _IDLE:
            relay.failed(Reason.UPSTREAM_UNREACHABLE, replayable=True)
            return
        self._relay = relay
        self._state = _HEAD
        self._interim = 0
        self.began_at = self.sent_at = monotonic()
        transport.write(head)

    def write(self, data: bytes) -> None:
        """More of the request's body; nothing once the exchange is over."""
        if self.transport is not None and self._relay is not None:
            self.began_at = monotonic()
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait while the upstream reads slower than the client sends."""
        while self.paused and self.transport is not None:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def pause_reading(self) -> None:
        if self.transport is not None and self._state == _BODY and not self._held_back:
            self._held_back = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and self._held_back:
            self._held_back = False
            self.began_at = monotonic()
            if self._rest:
                self._pool.turns.wait(self._take_turn)
            else:
                self.transport.resume_reading()

    def hand_over(self) -> tuple[asyncio.Transport, Pool]:
        """It carries no HTTP any more, and belongs to whoever takes its transport."""
        transport, self.transport = self.transport, None
        assert transport is not None
        self._relay, self._state = None, _CLOSED
        self._pool.forget(self)
        return transport, self._pool

    @property
    def ready(self) -> bool:
        """Whether an exchange can begin: its other end has not left yet."""
        transport = self.transport
        return self._state == _IDLE and transport is not None and not transport.is_closing()

    def leads_to(self, addresses: Collection[str]) -> bool:
        """Whether its other end is one of these; so is what has no address."""
        peer = None if self.transport is None else self.transport.get_extra_info("peername")
        return not isinstance(peer, tuple) or peer[0] in addresses

    def carries(self, relay: Relay) -> bool:
        return self._relay is relay

    def end(self, reason: Reason) -> None:
        """The exchange may not go on: its relay is told why."""
        self._fail(reason)

    def abort(self) -> None:
        """The exchange is of no more use to anyone: cut it, so that the upstream notices."""
        self._relay = None
        self._drop()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._pool.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        state, relay = self._state, self._relay
        self._state, self._relay, self.transport = _CLOSED, None, None
        self._pool.forget(self)
        self.resume_writing()
        if relay is None:
            if state == _IDLE and self.reused and monotonic() - self.began_at < SWEEP_S:
                self._pool.left_early()
            return
        if state == _BODY and self._left == UNTIL_CLOSE and self._eof and exc is None:
            relay.finished()
        elif state == _BODY or self._held or self._interim:
            relay.failed(Reason.UPSTREAM_MALFORMED, replayable=False)
        else:
            relay.failed(Reason.UPSTREAM_UNREACHABLE, replayable=self.reused)

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
        if self._rest:
            data, self._rest = self._rest + data, b""
        relay = self._relay
        if relay is None:
            # Bytes that nobody asked for would become the next caller's answer.
            self._drop()
            return
        try:
            if self._state == _HEAD:
                if monotonic() - self.sent_at > LASTING_S and self._ended(relay):
                    return
                self._read_head(relay, data)
            else:
                self.began_at = monotonic()
                if not self._ended(relay):
                    self._read_body(relay, data)
        except Malformed:
            self._fail(Reason.UPSTREAM_MALFORMED)

    # --- private ---

    def _ended(self, relay: Relay) -> bool:
        """Asked before bytes of what lasts pass: a worker that stood still reads first, and
        sweeps afterwards."""
        reason = relay.refusal()
        if reason is None:
            return False
        self._fail(reason)
        return True

    def _read_head(self, relay: Relay, data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        end = data.find(b"\r\n\r\n")
        if not 0 <= end <= MAX_HEAD_BYTES:
            if len(data) > MAX_HEAD_BYTES:
                raise Malformed("head")
            self._held = data
            return
        head = read_head(data[:end])
        at = end + 4
        if head.status < 200:
            self._read_interim(relay, head, data[at:])
        elif head.status in relay.retry_statuses and relay.tries_again():
            self._fail(Reason.UPSTREAM_UNREACHABLE, replayable=True)
        else:
            # What failed there may be about to hang up: uvicorn does, after the 500 of an
            # exception that Starlette answered, and says nothing of it.  A POST sent meanwhile
            # would be lost.
            self._keep = head.keeps_open and head.status != 500
            self._begin_body(relay, head, data, at)

    def _read_interim(self, relay: Relay, head: Head, rest: bytes) -> None:
        """A 1xx came: the answer itself is behind it, or still to come."""
        if head.status == 101:
            # Only an upgrade that was asked for may be granted.
            if not relay.upgrade(head, self, rest):
                raise Malformed("upgrade")
            return
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise Malformed("interim responses")
        relay.interim(head)
        if rest:
            self._read_head(relay, rest)

    def _begin_body(self, relay: Relay, head: Head, data: bytes, at: int) -> None:
        self._state = _BODY
        length = head.length
        if length is None or relay.to_head or head.status in BODILESS:
            length = body_length(head, to_head=relay.to_head)
            if relay.to_head or (length == NO_BODY and (head.length or head.chunked)):
                # RFC 9112 section 6.3 gives these no body.  A backend may send one all the same,
                # announced (204, 304) or not (what gunicorn makes of an application that
                # answers HEAD as GET), and what comes later would be the next caller's answer.
                self._keep = False
        self._left = length
        came = len(data) - at
        if 0 <= length <= came:
            relay.begin(head, length, data[at : at + length], True)
            self._finish(relay, clean=came == length)
        elif length == NO_BODY:
            relay.begin(head, length, b"", True)
            self._finish(relay, clean=not came)
        elif length == CHUNKED:
            self._chunks = ChunkReader()
            pieces: list[bytes] = []
            taken = self._chunks.feed(data, pieces, at, most=SHARE)
            relay.begin(head, length, b"", False)
            self._pass_chunks(relay, pieces, data[taken:])
        else:
            if length != UNTIL_CLOSE:
                self._left = length - came
            relay.begin(head, length, data[at:], False)

    def _read_body(self, relay: Relay, data: bytes) -> None:
        left = self._left
        if left == CHUNKED:
            pieces: list[bytes] = []
            assert self._chunks is not None
            taken = self._chunks.feed(data, pieces, most=SHARE)
            self._pass_chunks(relay, pieces, data[taken:])
        elif left == UNTIL_CLOSE:
            relay.piece(data)
        elif len(data) < left:
            self._left = left - len(data)
            relay.piece(data)
        else:
            relay.piece(data[:left] if len(data) > left else data)
            self._finish(relay, clean=len(data) == left)

    def _pass_chunks(self, relay: Relay, pieces: list[bytes], rest: bytes) -> None:
        assert self._chunks is not None
        if self._chunks.done:
            trailers, self._chunks = self._chunks.trailers, None
            relay.chunks(pieces, trailers)
            self._finish(relay, clean=not rest)
            return
        if pieces:
            relay.chunks(pieces, None)
        if rest and self._relay is relay:
            self._wait_for_turn(rest)

    def _wait_for_turn(self, rest: bytes) -> None:
        """It has had its share of this turn of the loop."""
        self._rest = rest
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        if not self._held_back:
            self._pool.turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        transport = self.transport
        if transport is None or self._held_back or not self._rest:
            return
        self.data_received(b"")
        if not (self._rest or self._held_back or transport.is_closing()):
            transport.resume_reading()

    def _finish(self, relay: Relay, *, clean: bool) -> None:
        if self._relay is not relay:
            return  # the client went away while its answer was written
        self._relay = None
        if clean and self._keep and relay.request_sent and self.transport is not None:
            # Whoever was too slow for this answer must not hold back the next one.
            self.resume_reading()
            self._state = _IDLE
            self.began_at = monotonic()
            if not self.reused:
                self.reused = True
            elif not self._pool.keeps:
                self._pool.kept()
            self._pool.release(self)
        else:
            self._pool.forget(self)
            self._drop()
        relay.finished()

    def _fail(self, reason: Reason, *, replayable: bool = False) -> None:
        relay, self._relay = self._relay, None
        self._pool.forget(self)
        self._drop()
        if relay is not None:
            relay.failed(reason, replayable=replayable)

    def _drop(self) -> None:
        self._state = _CLOSED
        self._pool.forget(self)
        if self.transport is not None:
            self.transport.abort()

    def sweep(self, now: float, spec: Upstream) -> None:
        """Cut what has taken too long (`docs/edge.md`, Time limits), and enter what lasts."""
        relay = self._relay
        if relay is None:
            # One that was just made is idle too, and about to be sent its first exchange.
            waits = self._state == _IDLE and self.reused
            if waits and now - self.began_at > spec.pool_idle_s - SWEEP_S:
                self._drop()
            return
        if now - self.sent_at > LASTING_S:
            relay.lasts()
        if self._relay is not relay:
            return  # it was not let go on
        if self._state == _HEAD:
            self._sweep_request(relay, now, spec)
        elif now - relay.answered_at > spec.timeout_stream_s:
            self._fail(Reason.UPSTREAM_TIMEOUT)
        elif now - self.began_at > spec.timeout_idle_s and not self._held_back:
            # It is the upstream that is silent, and not the client that does not read.
            self._fail(Reason.UPSTREAM_TIMEOUT)

    def _sweep_request(self, relay: Relay, now: float, spec: Upstream) -> None:
        """No answer has begun."""
        slow_client = False
        if relay.request_sent:
            over = now - self.began_at > spec.timeout_response_s
        elif self.paused:
            over = now - self._last_taken(now) > spec.timeout_idle_s
        else:
            # The client's limits count: it is its body that does not come.
            over, slow_client = False, True
        if over or now - relay.decided_at > spec.timeout_request_s:
            self._fail(Reason.REQUEST_TIMEOUT if slow_client else Reason.UPSTREAM_TIMEOUT)

    def _last_taken(self, now: float) -> float:
        """When the upstream last took some of what waits for it, as far as sweeps have seen."""
        pending = 0 if self.transport is None else self.transport.get_write_buffer_size()
        if pending != self._pending:
            self._pending, self.began_at = pending, now
        return self.began_at
