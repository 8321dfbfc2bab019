"""A listener: who is let in by it, what its connections may hold, and its end."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from heapq import nsmallest
from time import monotonic

import structlog

from gateway.edge.http1.request_head import HeadLimits, RequestHeadReader
from gateway.edge.http1.turns import Turns
from gateway.edge.replies.observers import Meter
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.server.accepting import ListeningSocket
from gateway.edge.server.admission import Admission
from gateway.edge.server.buffers import Buffers
from gateway.edge.server.connection import Connection
from gateway.edge.server.endpoint_calls import EndpointServer
from gateway.edge.server.handler import DownstreamWriter, Handler, ServeResult
from gateway.edge.server.idle_timer import IdleTimers
from gateway.edge.server.last_resort import LastResort
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.peer import Peer, PeerReader
from gateway.edge.server.request_body import BadRequest
from gateway.model import Reason
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.metrics import Metrics, Tally

__all__ = [
    "BadRequest",
    "Connection",
    "DownstreamWriter",
    "Handler",
    "Listener",
    "ListenerLimits",
    "ServeResult",
]

log = structlog.get_logger(__name__)

EVICTED_AT_ONCE = 64
"""How many of the longest idle are looked for at a time: to look goes through all."""
LOOK_AGAIN_S = 0.1
SAID_AGAIN_S = 10.0
BACKLOG = 2_048
"""Connections that the kernel has made and nobody has taken up yet, at most."""
LAST_HANDSHAKES_S = 0.3
"""For connections that the kernel was completing when it was told to make no new ones."""
LAST_HEADS_S = 1.0
"""For the request of who has come just before the listeners close."""


class Listener:
    """Made inside the running loop.  `start` it, `listen` on sockets, and `stop` it once.

    While `draining`, answers carry `Connection: close`.  At `limits.connections` the longest idle
    connection makes room for a new one; where none is idle, those who come wait in the listening
    socket until one in fifty has gone.
    """

    def __init__(
        self,
        handler: Handler,
        reader: PeerReader,
        limits: ListenerLimits | None = None,
        *,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
        on_refusal: Callable[[Reason, AnsweredRequest], None] | None = None,
        problem_types: ProblemTypes | None = None,
        metrics: Metrics | None = None,
        meter: Meter | None = None,
        defects: Tally | None = None,
    ) -> None:
        """`on_shutdown` ends what would not end by itself, once nothing is accepted any more; the
        last three and `on_refusal` are told what the connections answer by themselves."""
        self.handler = handler
        self.reader = reader
        self.limits = limits or ListenerLimits()
        self.draining = False
        self.connections: set[Connection] = set()
        """Those that have a transport."""
        heads = HeadLimits(self.limits.head_bytes, self.limits.fields, self.limits.line_bytes)
        self.request_heads = RequestHeadReader(heads)
        self.endpoints = EndpointServer(heads)
        self.last_resort = LastResort(
            reader, meter=meter, defects=defects, types=problem_types, on_refusal=on_refusal
        )
        self._on_shutdown = on_shutdown
        tally = (metrics or Metrics()).tally
        self._evicted = tally("connections_evicted", "Idle connections closed for new ones.")
        self.admission = Admission(
            self.limits.connections,
            self.limits.connections_of_one,
            tally("connections_refused", "Connections closed, as their address had its share."),
        )
        self.slow_cut = tally(
            "slow_clients_cut", "Connections cut, as the buffers were full and they slow."
        )
        self.buffers = Buffers(
            self.limits.buffered_bytes,
            self.limits.slow_after_s,
            self.slow_cut,
            self._stop_reading,
            self._read_on,
        )
        self.turns = Turns()
        self.idle_timers = IdleTimers(self.limits.keepalive_s)
        self._admitted: set[Connection] = set()
        """Those that take room: handshakes too, and none that was evicted."""
        self._sockets: list[ListeningSocket] = []
        self._accepting = True
        self._watched: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Event | None = None
        """Set once no connection is left, where somebody waits for that."""
        self._idle: list[tuple[float, Connection]] = []
        """Some of the longest idle, the longest last, as they were when it was looked."""
        self._looked_at = self._said_at = self._full_said_at = -SAID_AGAIN_S

    @property
    def open(self) -> int:
        """Connections that are open, and handshakes under way."""
        return self.admission.open

    def start(self) -> None:
        """Time begins to be kept."""
        self._sweep()

    # --- who is let in ---

    def listen(
        self, bound: socket.socket, context: ssl.SSLContext | None = None, *, backlog: int = BACKLOG
    ) -> None:
        """Let in who comes by this socket; with `context` over TLS."""
        listening = ListeningSocket(self, bound, context)
        listening.listen(backlog)
        self._sockets.append(listening)
        if self._accepting:
            listening.start()

    def new_connection(self, peer: Peer, network: str | None) -> Connection:
        """For somebody who was let in; `left` says when that is over."""
        connection = Connection(self, peer, network)
        self._admitted.add(connection)
        return connection

    def opened(self, connection: Connection) -> None:
        """It has its transport now."""
        self.connections.add(connection)

    def left(self, connection: Connection) -> None:
        """It takes no room any more; whoever tells it first, once."""
        if connection not in self._admitted:
            return
        self._admitted.discard(connection)
        self.admission.leave(connection.network)
        self._watched.discard(connection)
        if not self._accepting and self.open <= self.admission.most * 0.98:
            self._accept_again()

    def lost(self, connection: Connection) -> None:
        """Its transport is gone."""
        self.left(connection)
        self.connections.discard(connection)
        if self._all_gone is not None and not self.connections:
            self._all_gone.set()

    def make_room(self) -> bool:
        """Close the connection that was idle for longest; False where none was for a moment."""
        now = monotonic()
        while True:
            while self._idle:
                since, connection = self._idle.pop()
                if connection.idle_since() == since:
                    self._evicted.n += 1
                    connection.evict()
                    return True
            if now - self._looked_at < LOOK_AGAIN_S:
                return False
            self._looked_at = now
            since_each = ((one.idle_since() or now, one) for one in self.connections)
            idle = (pair for pair in since_each if now - pair[0] >= self.limits.evict_after_s)
            self._idle = nsmallest(EVICTED_AT_ONCE, idle, key=lambda pair: pair[0])[::-1]
            if not self._idle:
                return False

    def stop_accepting(self, error: int = 0) -> None:
        """There is no room, or (`error` then says which) no means to take anybody up."""
        self._accepting = False
        for listening in self._sockets:
            listening.pause()
        now = monotonic()
        if now - self._said_at >= SAID_AGAIN_S:
            self._said_at = now
            if error:
                name = errno.errorcode.get(error, str(error))
                log.error("connections-wait", why=name, connections=self.open)
            else:
                log.warning("connection-limit-reached", connections=self.open)

    def _accept_again(self) -> None:
        self._accepting = True
        for listening in self._sockets:
            listening.start()

    # --- the end ---

    def drain(self) -> None:
        """From now on answers say `close`, those too that are awaited already."""
        self.draining = True
        for connection in self.connections:
            connection.disable_keepalive()

    async def last_calls(self) -> None:
        """Closes the listeners without losing anybody: the kernel makes no new connections,
        those that it has made are taken up, and who has come is heard."""
        filtered = [listening.refuse_new() for listening in self._sockets]
        if any(filtered):
            await asyncio.sleep(LAST_HANDSHAKES_S)
        for listening in self._sockets:
            listening.close()
        until = monotonic() + LAST_HEADS_S
        while self._somebody_comes() and monotonic() < until:  # noqa: ASYNC110 (twice in a life)
            await asyncio.sleep(0.02)

    def _somebody_comes(self) -> bool:
        return any(listening.handshaking for listening in self._sockets) or any(
            connection.expected for connection in self._watched
        )

    async def stop(self, within_s: float = 30.0) -> None:
        """Nobody is accepted any more.  What is under way has so long to end, then it is cut.

        A request that waits for its turn, or is tried again, is under way too.
        """
        for listening in self._sockets:
            listening.close()
        # Whoever was taken up just now is heard before idle connections are closed.
        await asyncio.sleep(0)
        for connection in list(self.connections):
            connection.close()
        for listening in self._sockets:
            listening.abandon()
        if self._on_shutdown is not None:
            await self._on_shutdown()
        await self._until_gone(within_s)
        if self._timer is not None:
            self._timer.cancel()
        self._sockets.clear()
        self._idle.clear()

    async def _until_gone(self, within_s: float) -> None:
        for connection in list(self.connections):
            connection.close()
        self._all_gone = asyncio.Event()
        if self.connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._all_gone.wait()
        for connection in list(self.connections):
            connection.abort()

    # --- buffers ---

    def _stop_reading(self) -> None:
        now = monotonic()
        if now - self._full_said_at >= SAID_AGAIN_S:
            self._full_said_at = now
            log.warning("buffers-are-full", bytes=self.buffers.total_bytes)
        for connection in list(self.connections):
            if connection.relay is not None:
                connection.relay.pause()

    def _read_on(self) -> None:
        for connection in list(self.connections):
            if connection.relay is not None and not connection.writing_paused:
                connection.relay.resume()

    # --- time ---

    def watch(self, connection: Connection) -> None:
        """Look at it in every sweep until it says that there is nothing to see."""
        self._watched.add(connection)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.limits.sweep_s, self._sweep)
        now = loop.time()
        for connection in list(self._watched):
            if not connection.sweep(now):
                self._watched.discard(connection)
        self.buffers.sweep()
        if not self._accepting:
            # Some may be idle for long enough by now, or descriptors be free again.
            self._accept_again()
