"""The writing half of a client's connection: what waits to be taken, and what ends the wait.

Law: an answer that cannot be finished is cut off by a reset, which no client takes for its end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp.web_server import Server

from gateway.edge.http1.turns import Turns
from gateway.edge.server.buffers import Buffers
from gateway.edge.server.handler import Listener, Writer
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.request_parser import BUFFER_BYTES, Inbound
from gateway.edge.server.tcp import reset_on_close, sent_ago_s

WRITE_BUFFER_BYTES = 65_536
"""Past that the upstream is not read.  TLS of both loops would take eight times as much."""
BODY_BYTES = 2 * BUFFER_BYTES + 262_144
"""What a body holds at most that is not read on: its reader's, and one read of the loop."""


class Outbound(Inbound):
    __slots__ = ("_half_closed_at", "_write_mark", "relay")

    def __init__(
        self, manager: Server, door: Listener, *, loop: asyncio.AbstractEventLoop, **options: Any
    ):
        super().__init__(manager, door, loop=loop, **options)
        self.relay: Writer | None = None
        self._half_closed_at = 0.0
        """When the client sent its last byte, by the loop's clock; 0.0 while it may send more."""
        self._write_mark = (0.0, 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None and transport.get_extra_info("sslcontext") is not None:
            self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._door.buffers.release(self)

    # --- who is slow ---

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()
        self._door.buffers.hold(self)
        if self.relay is not None:
            self.relay.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._weigh()
        if self.relay is not None and not self._door.buffers.full:
            self.relay.resume()

    def pause_reading(self) -> None:
        super().pause_reading()
        self._door.buffers.hold(self)

    def resume_reading(self, resume_parser: bool = True) -> None:
        paused = self._reading_paused
        super().resume_reading(resume_parser)
        if paused and resume_parser:
            self._weigh()

    def _weigh(self) -> None:
        buffers = self._door.buffers
        ahead = (self._held or self._put_off) and self.buffered() >= BUFFER_BYTES
        if ahead or self._paused or self._reading_paused:
            buffers.hold(self)
        else:
            buffers.release(self)

    @property
    def must_wait(self) -> bool:
        """An answer that begins may not be read on: its reader is slow, or all buffers are full."""
        return self._paused or self._door.buffers.full

    @property
    def buffers(self) -> Buffers:
        """Whoever takes over its transport counts there too."""
        return self._door.buffers

    @property
    def turns(self) -> Turns:
        """The same for who takes its turn to be read."""
        return self._door.turns

    def buffered(self) -> int:
        """Meets `buffers.Holder`."""
        waiting = 0 if self.transport is None else self.transport.get_write_buffer_size()
        if self._reading_paused:
            waiting += BODY_BYTES
        elif self._held:
            waiting += self._body_bytes
        return waiting + len(self._backlog)

    def cut_off(self) -> None:
        self.abort()

    # --- what is written ---

    def write(self, data: bytes) -> None:
        """Straight to the client; nothing when it has gone."""
        transport = self.transport
        if transport is not None:
            transport.write(data)

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
            reset_on_close(sock)
        transport.abort()

    def takes_nothing(self, now: float, pending: int, limits: ListenerLimits) -> bool:
        """It was sent something, and has not moved for too long."""
        since, before = self._write_mark
        if not pending or pending != before:
            self._write_mark = (now, pending)
            return False
        return now - since > limits.stall_s

    def looks_gone(self, now: float) -> bool:
        """Who has sent its last byte may have gone: only what is written to it would tell."""
        transport = self.transport
        if not self._half_closed_at or transport is None or transport.get_write_buffer_size():
            return False
        silent_s = now - self._half_closed_at
        silent_s = min(silent_s, sent_ago_s(transport.get_extra_info("socket"), silent_s))
        return silent_s >= self._door.limits.half_closed_s
