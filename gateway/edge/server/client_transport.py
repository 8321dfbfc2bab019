"""The transport of one client: what waits to be taken, and what ends the wait.

Law: an answer that cannot be finished is cut off by a reset, which no client takes for its end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from gateway.edge.http1.turns import hold_tls_back
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.tcp import has_taken_all, reset_on_close, sent_ago_s, tune

WRITE_BUFFER_BYTES = 65_536
"""Past that the upstream is not read.  TLS of both loops would take eight times as much."""
CLOCK_STEP_S = 0.01
"""More than a loop's timer may be early, and than the kernel rounds."""


class ClientTransport:
    """Of one connection, from `attach` to `detach`.  Before and after, whatever it is told does
    nothing."""

    __slots__ = (
        "_is_tls",
        "_limits",
        "_linger_left",
        "_loop",
        "_pending_bytes",
        "_pending_since",
        "_timer",
        "half_closed_at",
        "lingers",
        "transport",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: ListenerLimits) -> None:
        self._loop = loop
        self._limits = limits
        self.transport: asyncio.Transport | None = None
        self.half_closed_at = 0.0
        """When the client sent its last byte, by the loop's clock; 0.0 while it may send more."""
        self.lingers = False
        """What still comes is thrown away, and then it is closed."""
        self._linger_left = 0
        self._is_tls = False
        self._timer: asyncio.TimerHandle | None = None
        """Of a half-closed one, of one that lingers, or whose TLS ends: it is one at a time."""
        self._pending_since, self._pending_bytes = 0.0, 0

    def attach(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        tune(transport.get_extra_info("socket"))
        if transport.get_extra_info("sslcontext") is not None:
            self._is_tls = True
            transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
            hold_tls_back(transport)

    def detach(self) -> None:
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- reading ---

    # The loops raise where the transport is being closed already, and has not told it.

    def pause_reading(self) -> None:
        if self.transport is not None:
            with suppress(RuntimeError):
                self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None:
            with suppress(RuntimeError):
                self.transport.resume_reading()

    def half_closed(self) -> None:
        """The client has sent its last byte."""
        self.half_closed_at = self._loop.time()
        # The sweep alone would look up to a second too late for who has gone altogether.
        self._timer = self._loop.call_later(
            self._limits.half_closed_s + CLOCK_STEP_S, self._reset_if_gone
        )

    # --- writing ---

    @property
    def pending(self) -> int:
        """Bytes that the client has not taken yet."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def takes_nothing(self, now: float) -> bool:
        """It was sent something, and has not moved for too long."""
        pending = self.pending
        if not pending or pending != self._pending_bytes:
            self._pending_since, self._pending_bytes = now, pending
            return False
        return now - self._pending_since > self._limits.stall_s

    def looks_gone(self, now: float) -> bool:
        """Who has sent its last byte may have gone: only what is written to it would tell."""
        if not self.half_closed_at or self.transport is None or self.pending:
            return False
        silent_s = now - self.half_closed_at
        silent_s = min(silent_s, sent_ago_s(self.transport.get_extra_info("socket"), silent_s))
        return silent_s >= self._limits.half_closed_s

    def _reset_if_gone(self) -> None:
        if self.looks_gone(self._loop.time()):
            self.reset()

    # --- its end ---

    def linger(self) -> None:
        """Read on a little before closing.

        To close on unread bytes resets the connection, and the reset may overtake the answer
        on its way to the client (RFC 9112 section 9.6).
        """
        self.lingers = True
        self._linger_left = self._limits.linger_bytes
        self._timer = self._loop.call_later(self._limits.linger_s, self.close)
        if self.transport is None:
            return
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
        except OSError:
            # It was reset, and the loop has not told us yet.
            self.transport.abort()
        self.resume_reading()

    def discard(self, data: bytes) -> None:
        """More has come while it lingers."""
        self._linger_left -= len(data)
        if self._linger_left < 0:
            self.close()

    def close(self) -> None:
        """Once what waits was taken."""
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.close()
        if self._is_tls:
            self._end_tls(had_all=False)

    def _end_tls(self, *, had_all: bool) -> None:
        """The loops wait 30 s for the client to end TLS too, which it need not do (RFC 8446 section
        6.1): who has confirmed everything for `linger_s` is waited for no longer."""
        sock = None if self.transport is None else self.transport.get_extra_info("socket")
        if self.transport is None or sock is None:
            return
        has_all = not self.pending and has_taken_all(sock)
        if has_all and had_all:
            self.transport.abort()
            return
        if self._timer is not None:
            self._timer.cancel()
        ended = partial(self._end_tls, had_all=has_all)
        self._timer = self._loop.call_later(self._limits.linger_s, ended)

    def drop(self) -> None:
        """At once; what waits is lost."""
        if self.transport is not None:
            self.transport.abort()

    def reset(self) -> None:
        """At once, and in a way that no client takes for the end of what was begun.

        A FIN would do for a body that has a length, but to a 1.0 client it is the very end
        of the body.
        """
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            reset_on_close(sock)
        self.transport.abort()
