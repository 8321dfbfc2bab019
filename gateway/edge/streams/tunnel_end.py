"""One end of a tunnel: the frames that it says, passed on in shares, and its end behind them.

Law: what came before an end is passed on before the end is told, and no end is told twice.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Protocol

from gateway.edge.http1.turns import SHARE
from gateway.edge.streams.frames import FrameReader, ping_frame

if TYPE_CHECKING:
    from gateway.edge.http1.turns import Turns
    from gateway.edge.server.buffers import Buffers
    from gateway.model import Reason

MESSAGE_TOO_BIG = 1009  # RFC 6455 section 7.4.1

PING_BYTES = 8
"""Of the payload by which an answer to us is known: drawn for each end, told to no other."""


class Joint(Protocol):
    """The tunnel, as far as its ends ask it and tell it."""

    loop: asyncio.AbstractEventLoop
    turns: Turns
    buffers: Buffers
    client: TunnelEnd
    upstream: TunnelEnd
    active_at: float
    due_at: float
    closing: bool
    held: bool
    """Nothing may pass for now."""

    def refusal(self) -> Reason | None:
        """Why no more may pass."""

    def terminate(self, reason: Reason, detail: str = "") -> None: ...

    def end(self, code: int, reason: str) -> None: ...

    def abort(self) -> None: ...

    def drain_after_close(self, end: TunnelEnd, data: bytes) -> None: ...

    def client_left(self, exc: Exception | None) -> None:
        """The client's transport is gone, whatever waits of what it said."""

    def on_eof(self, end: TunnelEnd) -> None:
        """This end sends no more, and what it said was passed on."""

    def on_lost(self, end: TunnelEnd, exc: Exception | None) -> None:
        """Its transport is gone, and what it said was passed on."""


class TunnelEnd(asyncio.Protocol):
    """One end of a tunnel.  Its transport was another protocol's before."""

    __slots__ = (
        "_eof",
        "_lost",
        "_lost_for",
        "frames",
        "other",
        "paused_at",
        "pinged_at",
        "received_at",
        "rest",
        "transport",
        "tunnel",
    )

    def __init__(self, tunnel: Joint, transport: asyncio.Transport, max_bytes: int) -> None:
        self.tunnel = tunnel
        self.transport: asyncio.Transport | None = transport
        self.frames = FrameReader(max_bytes)
        self.other = self
        self.paused_at = 0.0
        """Since when it has not taken what it was sent; 0.0 while it does."""
        self.received_at = tunnel.loop.time()
        self.pinged_at = 0.0
        """When it was last sent a Ping of ours."""
        self.rest = b""
        """What it has said and what waits for its turn: nothing is read meanwhile."""
        self._eof = self._lost = False
        """Its end has come, and waits behind `rest`.  Over TLS the loops tell it although nothing
        is read."""
        self._lost_for: Exception | None = None

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        self.forget_rest()
        if self.transport is not None:
            self.transport.abort()

    def forget_rest(self) -> None:
        """What waits for its turn goes nowhere any more."""
        self.rest = b""
        self._tell_end()

    # --- what the transport calls ---

    def data_received(self, data: bytes) -> None:
        tunnel = self.tunnel
        now = self.received_at = tunnel.loop.time()
        if self.rest:
            data, self.rest = self.rest + data, b""
        if tunnel.held:
            self._put_by(data)
            return
        if tunnel.closing:
            tunnel.drain_after_close(self, data)
            return
        refusal = tunnel.refusal()
        if refusal is not None:
            # Before any of it: to a worker that stood still the sweep comes too late.
            tunnel.terminate(refusal)
            return
        passed = self.frames.feed(data, SHARE)
        if passed is None:
            tunnel.end(MESSAGE_TOO_BIG, "frame_too_large")
            return
        if passed:
            tunnel.active_at = now
            self.other.write(passed)
        if self.frames.rest:
            self._wait_for_turn(self.frames.rest)

    def _wait_for_turn(self, rest: bytes) -> None:
        """It has had its share of this turn of the loop."""
        self._put_by(rest)
        self.tunnel.turns.wait(self._take_turn)

    def _put_by(self, rest: bytes) -> None:
        self.rest = rest
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def _take_turn(self) -> None:
        if self.rest and not (self.other.paused_at or self.tunnel.held):
            self.data_received(b"")
            if not self.rest:
                self._tell_end()
                self.resume_reading()

    def resume_reading(self) -> None:
        """Once the other end takes what it is sent."""
        if self.other.paused_at:
            return
        if self.rest:
            self.tunnel.turns.wait(self._take_turn)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> None:
        self._eof = True
        if not self.rest:
            self._tell_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.tunnel.buffers.release(self)
        if self is self.tunnel.client:
            self.tunnel.client_left(exc)
        self._lost, self._lost_for = True, exc
        if not self.rest:
            self._tell_end()
        elif self.other.transport is None:
            self.forget_rest()

    def _tell_end(self) -> None:
        if self._eof:
            self._eof = False
            self.tunnel.on_eof(self)
        if self._lost:
            self._lost = False
            self.tunnel.on_lost(self, self._lost_for)

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
        self.received_at = self.other.received_at = self.tunnel.loop.time()
        self.other.resume_reading()

    def buffered(self) -> int:
        """Meets `buffers.Holder`: what the other end has said and this one has not taken."""
        written = 0 if self.transport is None else self.transport.get_write_buffer_size()
        return written + len(self.other.rest)

    def cut_off(self) -> None:
        self.tunnel.abort()

    # --- signs of life ---

    def check_keepalive(self, now: float, ping_s: float) -> bool:
        """Whether it was heard lately, or may still answer: it is asked once it is silent."""
        if self.other.paused_at:
            return True  # nobody reads what it says
        if self.pinged_at > self.received_at:
            return now - self.pinged_at <= ping_s
        # What is sent to it came from the other end: that is where the frames end.
        outgoing = self.other.frames
        if now - self.received_at >= ping_s and outgoing.between and not outgoing.closed:
            self.pinged_at = now
            self.frames.answer = self.frames.answer or os.urandom(PING_BYTES)
            self.write(ping_frame(self.frames.answer, masked=self is self.tunnel.upstream))
        return True
