"""WebSocket: from the upstream's own 101 on, two transports joined end to end.

Law: a tunnel opens only for a handshake (RFC 6455 section 4.1) that was allowed like any other
call, and only when the upstream granted it with a 101 that answers the very key that was sent.
What passes is not changed: subprotocols, extensions and compressed frames are the peers'.  The
gateway speaks once, at the end, and then only between two frames.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from hashlib import sha1
from typing import TYPE_CHECKING, cast

from gateway.edge.frames import FrameReader, close_frame
from gateway.edge.wire import tokens
from gateway.model import Principal, Reason

if TYPE_CHECKING:
    from gateway.edge.connection import Connection
    from gateway.edge.headers import RequestHead
    from gateway.edge.open_calls import OpenCalls
    from gateway.edge.pools import TargetPool
    from gateway.edge.upstream import UpstreamConnection
    from gateway.edge.wire import Head

MAX_FRAME_BYTES = 1_048_576
"""Of a client's frame; what an upstream sends is its own affair."""
GOODBYE_S = 0.5
"""From a Close frame of ours to the cut, for whoever does not leave."""
FLUSH_S = 3.0
"""For one side to take what is left once the other has gone."""
STALL_S = 60.0
"""A side that takes nothing for so long is cut, as on every connection."""

# RFC 6455 section 7.4.1, and the IANA registry for 1013.
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
TRY_AGAIN_LATER = 1013

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


def handshake_key(head: RequestHead) -> bytes | None:
    """The key of a whole handshake; None for what is passed on as the plain call it is.

    RFC 9110 section 7.8: a server may ignore an `Upgrade`, and must where `Connection` does
    not name it or the client speaks 1.0.
    """
    if head.upgrade is None or head.upgrade.lower() != b"websocket":
        return None
    if head.method != "GET" or not head.minor or head.has_body:
        return None
    if head.connection is None or b"upgrade" not in head.connection:
        return None
    keys = [
        line[18:].strip(b" \t") for line in head.lines if line[:18].lower() == b"sec-websocket-key:"
    ]
    return keys[0] if len(keys) == 1 and _KEY.fullmatch(keys[0]) else None


def grants(head: Head, key: bytes) -> bool:
    """Whether a 101 is the answer to a handshake with `key` (RFC 6455 section 4.1)."""
    # SHA-1 is the RFC's own; there is no secret in it.
    accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    said = [
        line.partition(b":")[2].strip(b" \t")
        for name, line in zip(head.names, head.fields, strict=True)
        if name == b"sec-websocket-accept"
    ]
    upgrade = head.values(b"upgrade")
    named = [token for value in head.values(b"connection") for token in tokens(value)]
    return (
        head.minor == 1
        and said == [accept]
        and len(upgrade) == 1
        and upgrade[0].lower() == b"websocket"
        and b"upgrade" in named
    )


class Handshake:
    """One that was allowed; `tunnel` is None until the upstream has granted it."""

    __slots__ = ("_key", "_open_calls", "_principal", "tunnel")

    def __init__(self, key: bytes, principal: Principal | None, open_calls: OpenCalls) -> None:
        self._key = key
        self._principal = principal
        self._open_calls = open_calls
        self.tunnel: Tunnel | None = None

    def granted_by(self, head: Head) -> bool:
        return grants(head, self._key)

    def open(self, client: Connection, upstream: UpstreamConnection, first: bytes) -> None:
        """The 101 was written to the client; `first` is what came behind it."""
        transport, target = upstream.hand_over()
        self.tunnel = Tunnel(client, transport, target, self._principal, self._open_calls)
        self.tunnel.open(first)


class Side(asyncio.Protocol):
    """One end of a tunnel.  Its transport was another protocol's before."""

    __slots__ = ("frames", "other", "paused_at", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, max_bytes: int) -> None:
        self.tunnel = tunnel
        self.transport: asyncio.Transport | None = transport
        self.frames = FrameReader(max_bytes)
        self.other = self
        self.paused_at = 0.0
        """Since when it has not taken what it was sent; 0.0 while it does."""

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
        tunnel.active_at = tunnel.loop.time()
        if tunnel.closing:
            tunnel.hear_out(self, data)
        elif self.frames.feed(data):
            self.other.write(data)
        else:
            tunnel.end(MESSAGE_TOO_BIG, "frame_too_large")

    def eof_received(self) -> None:
        self.tunnel.left(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.tunnel.lost(self, exc)

    def pause_writing(self) -> None:
        self.paused_at = self.tunnel.loop.time()
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused_at = 0.0
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class Tunnel:
    """Both ends.  Meets `open_calls.OpenCall`; `ended` is set once both transports are gone."""

    __slots__ = (
        "_client",
        "_connection",
        "_cut_at",
        "_goodbye",
        "_half_closes",
        "_idle_s",
        "_open_calls",
        "_target",
        "_upstream",
        "active_at",
        "closing",
        "ended",
        "loop",
        "over",
        "principal",
    )

    def __init__(
        self,
        connection: Connection,
        upstream: asyncio.Transport,
        target: TargetPool,
        principal: Principal | None,
        open_calls: OpenCalls,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.principal = principal
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.active_at = self.loop.time()
        self.closing = False
        self.over = False
        self._goodbye = b""
        """Our Close frame, until the client has been sent it."""
        self._half_closes = False
        self._cut_at = 0.0
        self._idle_s = target.spec.timeout_idle_s
        self._connection = connection
        self._target = target
        self._open_calls = open_calls
        client = cast(asyncio.Transport, connection.transport)
        self._client = Side(self, client, MAX_FRAME_BYTES)
        self._upstream = Side(self, upstream, 0)
        self._client.other, self._upstream.other = self._upstream, self._client

    def open(self, from_upstream: bytes) -> None:
        """Join them: first what came behind the 101, then what came behind the handshake."""
        target, upstream = self._target, self._upstream.transport
        target.in_flight += 1
        self._open_calls.tunnels.add(self)
        assert upstream is not None
        upstream.set_protocol(self._upstream)
        if self._connection.writing_paused:
            self._client.pause_writing()
        held = self._connection.hand_over(self._client)
        if from_upstream:
            self._upstream.data_received(from_upstream)
        if held:
            self._client.data_received(held)
        self._open_calls.add(self)

    # --- ends ---

    def end_for(self, reason: Reason) -> None:
        stale = reason is Reason.REPLICA_STALE
        self.end(TRY_AGAIN_LATER if stale else POLICY_VIOLATION, reason)

    def end(self, code: int, reason: str) -> None:
        """Close both sides with a Close frame where a frame may stand, and cut them soon."""
        if self.closing or self._cut_at:
            return
        self.closing = True
        self._cut_at = self.loop.time() + GOODBYE_S
        self._goodbye = close_frame(code, reason)
        if self._client.frames.between:
            self._upstream.write(close_frame(code, reason, masked=True))
        if self._upstream.frames.between:
            self._say_goodbye()

    def hear_out(self, side: Side, data: bytes) -> None:
        """While closing: the upstream may end its frame, and the client must not be reset."""
        if side is self._upstream and self._goodbye:
            at = side.frames.step(data, 0)
            self._client.write(data[:at])
            if side.frames.between:
                self._say_goodbye()
        elif side is self._client and not self._goodbye and not self._half_closes:
            # It has answered, or talks on: TLS cannot say that we listen no longer.
            side.close()

    def _say_goodbye(self) -> None:
        goodbye, self._goodbye = self._goodbye, b""
        client = self._client.transport
        if client is not None:
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
        self._upstream.close()

    def left(self, side: Side) -> None:
        """It sends no more: the other is given what came, and then the end."""
        self._cut_at = self._cut_at or self.loop.time() + FLUSH_S
        if not self.closing or side is self._client:
            side.other.close()

    def lost(self, side: Side, exc: Exception | None) -> None:
        other = side.other
        self._cut_at = self._cut_at or self.loop.time() + FLUSH_S
        if self.closing and side is self._upstream:
            if self._goodbye:
                # It left in the middle of a frame: no frame of ours can follow.
                other.abort()
        elif exc is not None:
            other.abort()
        else:
            other.close()
        if side is self._client:
            self._connection.connection_lost(exc)
        if self._client.transport is None and self._upstream.transport is None:
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
        self._client.abort()
        self._upstream.abort()

    def sweep(self, now: float) -> None:
        if self._cut_at:
            if now > self._cut_at:
                self.abort()
            return
        if now - self.active_at > self._idle_s:
            self.end(GOING_AWAY, "idle_timeout")
        for side in (self._client, self._upstream):
            if side.paused_at and now - side.paused_at > STALL_S:
                self._cut_at = now
