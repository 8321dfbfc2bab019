"""The public door: a listener's runner, the server that makes its connections, and its limits."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from heapq import nsmallest
from time import monotonic
from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_server import Server

from gateway.edge.http1.turns import Turns
from gateway.edge.replies.observers import Meter, NoMetrics
from gateway.edge.server.accepting import Acceptor
from gateway.edge.server.admission import Admission
from gateway.edge.server.buffers import Buffers
from gateway.edge.server.connection import Connection
from gateway.edge.server.handler import Handler, Outcome, Writer
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.peer import Peer, PeerReader
from gateway.edge.server.request_parser import Refused
from gateway.model import Reason
from gateway.telemetry.metrics import Metrics, Tally

__all__ = [
    "Connection",
    "Door",
    "Handler",
    "ListenerLimits",
    "Outcome",
    "Refused",
    "Site",
    "Writer",
]

log = structlog.get_logger(__name__)

EVICTED_AT_ONCE = 64
"""How many of the longest idle are looked for at a time: to look goes through all."""
LOOK_AGAIN_S = 0.1
SAID_AGAIN_S = 10.0
LAST_HANDSHAKES_S = 0.3
"""For connections that the kernel was completing when it was told to make no new ones."""
LAST_HEADS_S = 1.0
"""For the request of who has come just before the listeners close."""


async def _unused(request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("connections ask their door's handler")


class Connections(Server):
    """aiohttp's server, making connections of ours."""

    def __init__(self, door: Door) -> None:
        limits = door.limits
        super().__init__(
            _unused,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.keepalive_s,
            lingering_time=0.0,
        )
        self.door = door

    def __call__(self) -> Connection:
        return Connection(self, self.door, loop=self._loop, **self._kwargs)


class Door(web.BaseRunner):
    """One public listener.  BaseRunner, not AppRunner: CONNECT and Expect must reach us.

    A `Site` accepts for it.  While `draining`, answers carry `Connection: close`.  At
    `limits.connections` the longest idle connection makes room for a new one; where none is
    idle, those who come wait in the listening socket until one in fifty has gone.
    """

    def __init__(
        self,
        handler: Handler,
        reader: PeerReader,
        limits: ListenerLimits | None = None,
        *,
        shutdown_timeout: float = 30.0,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
        on_refusal: Callable[[Reason, str], None] | None = None,
        metrics: Metrics | None = None,
        meter: Meter | None = None,
        defects: Tally | None = None,
    ) -> None:
        super().__init__(shutdown_timeout=shutdown_timeout)
        self.handler = handler
        self.reader = reader
        self.limits = limits or ListenerLimits()
        self.on_shutdown = on_shutdown
        """Ends what would not end by itself, once nothing is accepted any more."""
        self.on_refusal = on_refusal
        """Told of what was refused before it was a request, and of the id that it was given."""
        self.meter = meter or NoMetrics()
        """Counts what its connections answer by themselves."""
        self.defects = defects or Tally()
        self.draining = False
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
        self._acceptors: list[Acceptor] = []
        self._accepting = True
        self._watched: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[tuple[float, Connection]] = []
        """Some of the longest idle, the longest last, as they were when it was looked."""
        self._looked_at = self._said_at = self._full_said_at = -SAID_AGAIN_S

    @property
    def open(self) -> int:
        """Connections that are open, and handshakes under way."""
        return self.admission.open

    # --- who is let in ---

    def accept_on(self, listening: socket.socket, context: ssl.SSLContext | None) -> Acceptor:
        acceptor = Acceptor(self, listening, context)
        self._acceptors.append(acceptor)
        if self._accepting:
            acceptor.start()
        return acceptor

    def new_connection(self, peer: Peer, network: str | None) -> Connection:
        """For somebody who was let in; it tells by `left` when that is over."""
        assert isinstance(self._server, Connections)
        connection = self._server()
        connection.peer = peer
        connection.network = network
        connection.let_in = True
        return connection

    def left(self, connection: Connection) -> None:
        self.admission.leave(connection.network)
        self._watched.discard(connection)
        if not self._accepting and self.open <= self.admission.most * 0.98:
            self._accept_again()

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
            if now - self._looked_at < LOOK_AGAIN_S or self._server is None:
                return False
            self._looked_at = now
            ours = (one for one in self._server.connections if isinstance(one, Connection))
            found = ((one.idle_since() or now, one) for one in ours)
            idle = (pair for pair in found if now - pair[0] >= self.limits.evict_after_s)
            self._idle = nsmallest(EVICTED_AT_ONCE, idle, key=lambda pair: pair[0])[::-1]
            if not self._idle:
                return False

    def stop_accepting(self, error: int = 0) -> None:
        """There is no room, or (`error` then says which) no means to take anybody up."""
        self._accepting = False
        for acceptor in self._acceptors:
            acceptor.pause()
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
        for acceptor in self._acceptors:
            acceptor.start()

    # --- the end ---

    def drain(self) -> None:
        """From now on answers say `close`, those too that are awaited already."""
        self.draining = True
        for connection in self._server.connections if self._server is not None else ():
            if isinstance(connection, Connection):
                connection.say_close()

    async def last_calls(self) -> None:
        """Closes the listeners without losing anybody: the kernel makes no new connections,
        those that it has made are taken up, and who has come is heard."""
        filtered = [acceptor.refuse_new() for acceptor in self._acceptors]
        if any(filtered):
            await asyncio.sleep(LAST_HANDSHAKES_S)
        for acceptor in self._acceptors:
            acceptor.close()
        until = monotonic() + LAST_HEADS_S
        while self._somebody_comes() and monotonic() < until:  # noqa: ASYNC110 (twice in a life)
            await asyncio.sleep(0.02)

    def _somebody_comes(self) -> bool:
        return any(acceptor.handshaking for acceptor in self._acceptors) or any(
            connection.expected for connection in self._watched
        )

    async def shutdown(self) -> None:
        for acceptor in self._acceptors:
            acceptor.abandon()
        if self.on_shutdown is not None:
            await self.on_shutdown()

    async def _make_server(self) -> Server:
        self._sweep()
        return Connections(self)

    async def _cleanup_server(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._acceptors.clear()
        self._idle.clear()

    # --- buffers ---

    def _relaying(self) -> list[Connection]:
        connections = [] if self._server is None else self._server.connections
        return [c for c in connections if isinstance(c, Connection) and c.relay is not None]

    def _stop_reading(self) -> None:
        now = monotonic()
        if now - self._full_said_at >= SAID_AGAIN_S:
            self._full_said_at = now
            log.warning("buffers-are-full", bytes=self.buffers.total_bytes)
        for connection in self._relaying():
            if connection.relay is not None:
                connection.relay.pause()

    def _read_on(self) -> None:
        for connection in self._relaying():
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


class Site(web.SockSite):
    """A listening socket of a door."""

    def __init__(
        self, door: Door, sock: socket.socket, context: ssl.SSLContext | None, *, backlog: int
    ) -> None:
        super().__init__(door, sock, ssl_context=context, backlog=backlog)
        self._door = door

    async def start(self) -> None:
        await web.BaseSite.start(self)
        self._sock.listen(self._backlog)
        acceptor: Any = self._door.accept_on(self._sock, self._ssl_context)
        self._server = acceptor
