"""Two transports joined end to end: a WebSocket, from the upstream's own 101 on.

Law: what passes is not changed; subprotocols, extensions and compressed frames are the peers'.
The gateway speaks between two frames only: a Ping to a side that has been silent, whose answer
it keeps, and a Close at the end.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

from gateway.edge.http1.turns import SHARE
from gateway.edge.streams.frames import FrameReader, close_frame, ping_frame
from gateway.edge.streams.registry import GOODBYE_S, OpenCalls
from gateway.model import Principal, Reason

if TYPE_CHECKING:
    from gateway.access.websocket_options import Sockets
    from gateway.edge.server.connection import Connection
    from gateway.edge.streams.reevaluation import Rejudged
    from gateway.edge.upstream.connection import Pool

FLUSH_S = 3.0
"""For one side to take what is left once the other has gone."""
STALL_S = 60.0
"""A side that takes nothing for so long is cut, as on every connection."""

# RFC 6455 section 7.4.1, and the IANA registry for 1013.
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
TRY_AGAIN_LATER = 1013

PING_BYTES = 8
"""Of the payload by which an answer to us is known: drawn for each side, told to no other."""


class Side(asyncio.Protocol):
    """One end of a tunnel.  Its transport was another protocol's before."""

    __slots__ = (
        "asked_at",
        "frames",
        "heard_at",
        "other",
        "paused_at",
        "rest",
        "transport",
        "tunnel",
    )

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, max_bytes: int) -> None:
        self.tunnel = tunnel
        self.transport: asyncio.Transport | None = transport
        self.frames = FrameReader(max_bytes)
        self.other = self
        self.paused_at = 0.0
        """Since when it has not taken what it was sent; 0.0 while it does."""
        self.heard_at = tunnel.loop.time()
        self.asked_at = 0.0
        """When it was last sent a Ping of ours."""
        self.rest = b""
        """What it has said and what waits for its turn: nothing is read meanwhile."""

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # --- what the transport calls ---

    def data_received(self, data: bytes) -> None:
        tunnel = self.tunnel
        now = self.heard_at = tunnel.loop.time()
        if self.rest:
            data, self.rest = self.rest + data, b""
        if tunnel.closing:
            tunnel.hear_out(self, data)
            return
        ended = tunnel.refusal()
        if ended is not None:
            # Before any of it: to a worker that stood still the sweep comes too late.
            tunnel.end_for(ended)
            return
        passed = self.frames.feed(data, SHARE)
        if passed is None:
            tunnel.end(MESSAGE_TOO_BIG, "frame_too_large")
        elif passed:
            tunnel.active_at = now
            self.other.write(passed)
            if self.frames.rest:
                self._wait_for_turn(self.frames.rest)

    def _wait_for_turn(self, rest: bytes) -> None:
        """It has had its share of this turn of the loop."""
        self.rest = rest
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self.tunnel.turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        if self.rest and not self.other.paused_at:
            self.data_received(b"")
            if not self.rest:
                self._read_on()

    def _read_on(self) -> None:
        """The other side takes what it is sent."""
        if self.rest:
            self.tunnel.turns.wait(self._take_turn)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> None:
        self.tunnel.left(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.tunnel.buffers.release(self)
        self.tunnel.lost(self, exc)

    def pause_writing(self) -> None:
        self.paused_at = self.tunnel.loop.time()
        self.tunnel.due_at = 0.0
        self.tunnel.buffers.hold(self)
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused_at = 0.0
        self.tunnel.buffers.release(self)
        # To take is a sign of life; and the other was not read meanwhile: its silence was ours.
        self.heard_at = self.other.heard_at = self.tunnel.loop.time()
        self.other._read_on()

    def buffered(self) -> int:
        """Meets `buffers.Holder`."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def cut_off(self) -> None:
        self.tunnel.abort()

    # --- signs of life ---

    def alive(self, now: float, ping_s: float) -> bool:
        """Whether it was heard lately, or may still answer: it is asked once it is silent."""
        if self.other.paused_at:
            return True  # nobody reads what it says
        if self.asked_at > self.heard_at:
            return now - self.asked_at <= ping_s
        # What is sent to it came from the other side: that is where the frames end.
        sent = self.other.frames
        if now - self.heard_at >= ping_s and sent.between and not sent.closed:
            self.asked_at = now
            self.frames.answer = self.frames.answer or os.urandom(PING_BYTES)
            self.write(ping_frame(self.frames.answer, masked=self is self.tunnel.upstream))
        return True


class Tunnel:
    """Both ends.  Meets `open_calls.OpenCall`; `ended` is set once both transports are gone."""

    __slots__ = (
        "_connection",
        "_cut_at",
        "_goodbye",
        "_half_closes",
        "_idle_s",
        "_open_calls",
        "_over_at",
        "_ping_s",
        "_target",
        "active_at",
        "buffers",
        "client",
        "closing",
        "due_at",
        "ended",
        "loop",
        "over",
        "principal",
        "rejudged",
        "turns",
        "upstream",
    )

    def __init__(
        self,
        connection: Connection,
        upstream: asyncio.Transport,
        target: Pool,
        sockets: Sockets,
        principal: Principal | None,
        open_calls: OpenCalls,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.buffers = connection.buffers
        self.turns = connection.turns
        self.principal = principal
        self.rejudged: Rejudged | None = None
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.active_at = self.loop.time()
        """When either side last said something that passed."""
        self.due_at = 0.0
        """Until then no sweep has anything to do here."""
        self.closing = False
        self.over = False
        self._goodbye = b""
        """Our Close frame, until the client has been sent it."""
        self._half_closes = False
        self._cut_at = 0.0
        own = sockets.idle_s
        self._idle_s = target.spec.timeout_idle_s if own is None else own
        self._over_at = self.active_at + target.spec.timeout_stream_s
        self._ping_s = sockets.ping_s
        self._connection = connection
        self._target = target
        self._open_calls = open_calls
        client = cast(asyncio.Transport, connection.transport)
        self.client = Side(self, client, sockets.max_frame_bytes)
        self.upstream = Side(self, upstream, 0)
        self.client.other, self.upstream.other = self.upstream, self.client

    def open(self, from_upstream: bytes) -> None:
        """Join them: first what came behind the 101, then what came behind the handshake."""
        target, upstream = self._target, self.upstream.transport
        target.in_flight += 1
        self._open_calls.tunnels.add(self)
        assert upstream is not None
        upstream.set_protocol(self.upstream)
        if self._connection.writing_paused:
            self.client.pause_writing()
        held = self._connection.hand_over(self.client)
        # First: its session may have ended while the upstream granted it.
        self._open_calls.add(self)
        if from_upstream:
            self.upstream.data_received(from_upstream)
        if held:
            self.client.data_received(held)

    # --- ends ---

    def refusal(self) -> Reason | None:
        return None if self.principal is None else self._open_calls.ends(self)

    def end_for(self, reason: Reason, said: str = "") -> None:
        later = reason in (Reason.REPLICA_STALE, Reason.STORE_UNAVAILABLE, Reason.STORE_BUSY)
        self.end(TRY_AGAIN_LATER if later else POLICY_VIOLATION, said or reason)
        if reason is Reason.REPLICA_STALE and self._goodbye:
            # Not even the rest of a frame: nobody knows whether its session holds.
            self.abort()

    def go_away(self) -> None:
        """The listener ends, and no peer did wrong."""
        self.end(GOING_AWAY, "shutdown")

    def end(self, code: int, reason: str) -> None:
        """Close both sides with a Close frame where a frame may stand, and cut them soon."""
        if self.closing or self._cut_at:
            return
        self.closing = True
        self.due_at = 0.0
        self._cut_at = self.loop.time() + GOODBYE_S
        self._goodbye = close_frame(code, reason)
        if self.client.frames.between and not self.client.frames.closed:
            self.upstream.write(close_frame(code, reason, masked=True))
        if self.upstream.frames.between:
            self._say_goodbye()

    def hear_out(self, side: Side, data: bytes) -> None:
        """While closing: the upstream may end its frame, and the client must not be reset."""
        if side is self.upstream and self._goodbye:
            at = side.frames.step(data, 0)
            self.client.write(data[:at])
            if side.frames.between:
                self._say_goodbye()
        elif side is self.client and not self._goodbye and not self._half_closes:
            # It has answered, or talks on: TLS cannot say that we listen no longer.
            side.close()

    def _say_goodbye(self) -> None:
        goodbye, self._goodbye = self._goodbye, b""
        client = self.client.transport
        if client is not None:
            if not self.upstream.frames.closed:
                client.write(goodbye)
            # To close on unread bytes would reset the connection, and might overtake the frame.
            self._half_closes = client.can_write_eof()
            try:
                if self._half_closes:
                    client.write_eof()
                client.resume_reading()
            except OSError:
                # It was reset, and the loop has not told us yet.
                client.abort()
        self.upstream.close()

    def left(self, side: Side) -> None:
        """It sends no more: the other is given what came, and then the end."""
        self._cut_at = self._cut_at or self.loop.time() + FLUSH_S
        self.due_at = 0.0
        if not self.closing or side is self.client:
            side.other.close()

    def lost(self, side: Side, exc: Exception | None) -> None:
        other = side.other
        self._cut_at = self._cut_at or self.loop.time() + FLUSH_S
        self.due_at = 0.0
        if self.closing and side is self.upstream:
            if self._goodbye:
                # It left in the middle of a frame: no frame of ours can follow.
                other.abort()
        elif exc is not None:
            other.abort()
        else:
            other.close()
        if side is self.client:
            self._connection.connection_lost(exc)
        if self.client.transport is None and self.upstream.transport is None:
            self._over()

    def _over(self) -> None:
        if not self.over:
            self.over = True
            if not self.ended.done():
                self.ended.set_result(None)
            self._target.leave(True)
            self._open_calls.tunnels.discard(self)
            self._open_calls.discard(self)

    def abort(self) -> None:
        self.client.abort()
        self.upstream.abort()

    def sweep(self, now: float) -> None:
        if self._cut_at:
            if now > self._cut_at:
                self.abort()
            return
        if now - self.active_at > self._idle_s:
            self.end(GOING_AWAY, "idle_timeout")
            return
        if now > self._over_at:
            self.end(GOING_AWAY, "stream_timeout")
            return
        self.due_at = min(self.active_at + self._idle_s, self._over_at)
        for side in (self.client, self.upstream):
            if side.paused_at:
                self.due_at = 0.0
                if now - side.paused_at > STALL_S:
                    self._cut_at = now
            elif not self._ping_s:
                continue
            elif side.alive(now, self._ping_s):
                self.due_at = min(self.due_at, max(side.heard_at, side.asked_at) + self._ping_s)
            else:
                self.end(GOING_AWAY, "ping_timeout")
                return
