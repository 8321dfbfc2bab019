"""Two transports joined end to end: a WebSocket, from the upstream's own 101 on.

Law: what passes is not changed; subprotocols, extensions and compressed frames are the peers'.
The gateway speaks between two frames only: a Ping to an end that has been silent, whose answer
it keeps, and a Close at the end.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, cast

from gateway.edge.streams.frames import close_frame
from gateway.edge.streams.registry import CLOSE_TIMEOUT_S, LongLivedRequests
from gateway.edge.streams.tunnel_end import TunnelEnd
from gateway.model import Principal, Reason

if TYPE_CHECKING:
    from gateway.access.websocket_options import WebSocketOptions
    from gateway.edge.server.connection import Connection
    from gateway.edge.streams.reevaluation import Reevaluation
    from gateway.edge.upstream.protocols import ConnectionPool

FLUSH_S = 3.0
"""For one end to take what is left once the other has gone."""
STALL_S = 60.0
"""An end that takes nothing for so long is cut, as on every connection."""

REST_BYTES = 65_536
"""Of a frame that had begun when its client was refused: what is longer is cut."""

# RFC 6455 section 7.4.1, and the IANA registry for 1013.
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013

_TEMPORARY = frozenset(
    (Reason.REPLICA_STALE, Reason.STORE_UNAVAILABLE, Reason.STORE_BUSY, Reason.ISSUER_UNAVAILABLE)
)


class Tunnel:
    """Both ends.  Meets `registry.OpenTunnel`; `ended` is set once both transports are gone."""

    __slots__ = (
        "_close_frame",
        "_connection",
        "_cut_at",
        "_half_closes",
        "_holder",
        "_idle_s",
        "_long_lived",
        "_ping_s",
        "_rest_bytes",
        "_stream_ends_at",
        "_target",
        "active_at",
        "buffers",
        "client",
        "client_ip",
        "closed",
        "closing",
        "credential_text",
        "due_at",
        "ended",
        "held",
        "loop",
        "principal",
        "reevaluation",
        "turns",
        "upstream",
    )

    def __init__(
        self,
        connection: Connection,
        upstream: asyncio.Transport,
        target: ConnectionPool[Any],
        *,
        options: WebSocketOptions,
        principal: Principal | None,
        holder: str,
        long_lived: LongLivedRequests,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.buffers = connection.buffers
        self.turns = connection.turns
        self.principal = principal
        self.reevaluation: Reevaluation | None = None
        self.credential_text = ""
        self.client_ip = ""
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.active_at = self.loop.time()
        """When either end last said something that passed."""
        self.due_at = 0.0
        """Until then no sweep has anything to do here."""
        self.held = False
        """Nothing passes, either way, until `release`."""
        self.closing = False
        self.closed = False
        self._close_frame = b""
        """Our Close frame, until the client has been sent it."""
        self._rest_bytes = sys.maxsize
        """So much of the upstream's frame may still pass while closing."""
        self._half_closes = False
        self._cut_at = 0.0
        idle_s = options.idle_s
        self._idle_s = target.spec.timeout_idle_s if idle_s is None else idle_s
        self._stream_ends_at = self.active_at + target.spec.timeout_stream_s
        self._ping_s = options.ping_s
        self._connection = connection
        self._target = target
        self._holder = holder
        self._long_lived = long_lived
        client = cast(asyncio.Transport, connection.transport)
        self.client = TunnelEnd(self, client, options.max_frame_bytes)
        self.upstream = TunnelEnd(self, upstream, 0)
        self.client.other, self.upstream.other = self.upstream, self.client

    def open(self, initial_data: bytes) -> None:
        """Join them: first what came behind the 101, then what came behind the handshake."""
        target, upstream = self._target, self.upstream.transport
        target.hold(self._holder)
        self._long_lived.tunnels.add(self)
        assert upstream is not None
        upstream.set_protocol(self.upstream)
        if self._connection.writing_paused:
            self.client.pause_writing()
        buffered = self._connection.detach(self.client)
        # First: its session may have ended while the upstream granted it.
        self._long_lived.add(self)
        if initial_data:
            self.upstream.data_received(initial_data)
        if buffered:
            self.client.data_received(buffered)

    # --- ends ---

    def refusal(self) -> Reason | None:
        return None if self.principal is None else self._long_lived.refusal_of(self)

    def hold(self) -> None:
        if not self.closing:
            self.held = True

    def release(self) -> None:
        if self.held:
            self.held = False
            for end in (self.client, self.upstream):
                # It was not read meanwhile: its silence was ours.
                end.received_at = self.loop.time()
                end.resume_reading()

    def terminate(self, reason: Reason, detail: str = "") -> None:
        temporary = reason in _TEMPORARY
        self._rest_bytes = min(self._rest_bytes, REST_BYTES)
        self.end(TRY_AGAIN_LATER if temporary else POLICY_VIOLATION, detail or reason)
        if reason is Reason.REPLICA_STALE and self._close_frame:
            # Not even the rest of a frame: nobody knows whether its session holds.
            self.abort()
        self.release()

    def go_away(self) -> None:
        """The listener ends, and no peer did wrong."""
        self.end(GOING_AWAY, "shutdown")

    def end(self, code: int, reason: str) -> None:
        """Close both sides with a Close frame where a frame may stand, and cut them soon."""
        if self.closing or self._cut_at:
            return
        self.closing = True
        self.due_at = 0.0
        self._cut_at = self.loop.time() + CLOSE_TIMEOUT_S
        self._close_frame = close_frame(code, reason)
        if self.client.frames.between and not self.client.frames.closed:
            self.upstream.write(close_frame(code, reason, masked=True))
        if self.upstream.frames.between:
            self._send_close()

    def drain_after_close(self, end: TunnelEnd, data: bytes) -> None:
        """While closing: the upstream may end its frame, and the client must not be reset."""
        if end is self.upstream and self._close_frame:
            at = end.frames.step(data, 0)
            self._rest_bytes -= at
            if self._rest_bytes < 0:
                self.abort()
                return
            self.client.write(data[:at])
            if end.frames.between:
                self._send_close()
        elif end is self.client and not self._close_frame and not self._half_closes:
            # It has answered, or talks on: TLS cannot say that we listen no longer.
            end.close()

    def _send_close(self) -> None:
        frame, self._close_frame = self._close_frame, b""
        client = self.client.transport
        if client is not None:
            if not self.upstream.frames.closed:
                client.write(frame)
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

    def on_eof(self, end: TunnelEnd) -> None:
        """It sends no more: the other is given what came, and then the end."""
        self._cut_at = self._cut_at or self.loop.time() + FLUSH_S
        self.due_at = 0.0
        if not self.closing or end is self.client:
            end.other.close()

    def client_left(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def on_lost(self, end: TunnelEnd, exc: Exception | None) -> None:
        other = end.other
        self._cut_at = self._cut_at or self.loop.time() + FLUSH_S
        self.due_at = 0.0
        if self.closing and end is self.upstream:
            if self._close_frame:
                # It left in the middle of a frame: no frame of ours can follow.
                other.abort()
        elif exc is not None:
            other.abort()
        else:
            other.close()
        if other.rest:
            # Nobody is there to take it.
            other.forget_rest()
        if self.client.transport is None and self.upstream.transport is None:
            self._finish()

    def _finish(self) -> None:
        if not self.closed:
            self.closed = True
            self.ended.set_result(None)
            # How the handshake went was told; the end of a socket says nothing of its target.
            self._target.release(self._holder)
            self._long_lived.tunnels.discard(self)
            self._long_lived.discard(self)

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
        if now > self._stream_ends_at:
            self.end(GOING_AWAY, "stream_timeout")
            return
        self.due_at = min(self.active_at + self._idle_s, self._stream_ends_at)
        for end in (self.client, self.upstream):
            if end.paused_at:
                self.due_at = 0.0
                if now - end.paused_at > STALL_S:
                    self._cut_at = now
            elif not self._ping_s:
                continue
            elif end.check_keepalive(now, self._ping_s):
                self.due_at = min(self.due_at, max(end.received_at, end.pinged_at) + self._ping_s)
            else:
                self.end(GOING_AWAY, "ping_timeout")
                return
