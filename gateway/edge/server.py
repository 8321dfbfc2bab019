"""The public door: a listener's runner, the server that makes its connections, and its limits."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_server import Server

from gateway.edge.call import CallReader
from gateway.edge.connection import Connection, Handler, Outcome, Writer
from gateway.edge.inbound import DoorLimits, Refused
from gateway.model import Reason

__all__ = ["Connection", "Door", "DoorLimits", "Handler", "Outcome", "Refused", "Site", "Writer"]

log = structlog.get_logger(__name__)

ACCEPTED_AT_ONCE = 256
"""How many connections one turn of the loop may accept past the limit, before it has stopped."""


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
        return Connection(self, loop=self._loop, **self._kwargs)


class Door(web.BaseRunner):
    """One public listener.  BaseRunner, not AppRunner: CONNECT and Expect must reach us.

    A `Site` accepts for it.  While `draining`, answers carry `Connection: close`.  At
    `limits.connections` it stops accepting, and goes on when one in fifty has gone: those who
    wait meanwhile wait in the listening socket, and another worker may take them.
    """

    def __init__(
        self,
        handler: Handler,
        reader: CallReader,
        limits: DoorLimits | None = None,
        *,
        shutdown_timeout: float = 30.0,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
        on_refusal: Callable[[Reason, str], None] | None = None,
    ) -> None:
        super().__init__(shutdown_timeout=shutdown_timeout)
        self.handler = handler
        self.reader = reader
        self.limits = limits or DoorLimits()
        self.on_shutdown = on_shutdown
        """Ends what would not end by itself, once nothing is accepted any more."""
        self.on_refusal = on_refusal
        """Told of what was refused before it was a request, and of the id that it was given."""
        self.draining = False
        self.open = 0
        self._watched: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Any, socket.socket]] = []
        """Sites that do not accept now, and their listening sockets."""
        self._resuming: asyncio.Task[None] | None = None

    def opened(self, connection: Connection) -> None:
        self.open += 1
        if self.open >= self.limits.connections and not self._waiting:
            self._stop_accepting()
        if self.open > self.limits.connections + ACCEPTED_AT_ONCE:
            connection.abort()

    def closed(self, connection: Connection) -> None:
        self.open -= 1
        self._watched.discard(connection)
        if self._waiting and self._resuming is None and self.open <= self.limits.connections * 0.98:
            self._resuming = asyncio.get_running_loop().create_task(self._accept_again())

    def _stop_accepting(self) -> None:
        log.warning("connection-limit-reached", connections=self.open)
        for site in self._sites:
            server: Any = site._server
            for listening in server.sockets if server is not None else ():
                # A second descriptor keeps the socket listening while nobody accepts.
                self._waiting.append((site, socket.socket(fileno=os.dup(listening.fileno()))))
            if server is not None:
                server.close()

    async def _accept_again(self) -> None:
        waiting, self._waiting, self._resuming = self._waiting, [], None
        for site, listening in waiting:
            site._server = await self.accept_on(listening, site._ssl_context, site._backlog)

    async def accept_on(
        self, listening: socket.socket, context: ssl.SSLContext | None, backlog: int
    ) -> asyncio.AbstractServer:
        """Who dials and does not come to its first byte is cut: a handshake has the time that
        a head has, and until it ends it is no connection that anything here could count."""
        assert self._server is not None
        return await asyncio.get_running_loop().create_server(
            self._server,
            sock=listening,
            ssl=context,
            backlog=backlog,
            ssl_handshake_timeout=None if context is None else self.limits.head_s,
        )

    def drain(self) -> None:
        """From now on answers say `close`, those too that are awaited already."""
        self.draining = True
        for connection in self._server.connections if self._server is not None else ():
            if isinstance(connection, Connection):
                connection.say_close()

    def watch(self, connection: Connection) -> None:
        """Look at it in every sweep until it says that there is nothing to see."""
        self._watched.add(connection)

    async def shutdown(self) -> None:
        if self.on_shutdown is not None:
            await self.on_shutdown()

    async def _make_server(self) -> Server:
        self._sweep()
        return Connections(self)

    async def _cleanup_server(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._resuming is not None:
            self._resuming.cancel()
        for _, listening in self._waiting:
            listening.close()
        self._waiting.clear()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.limits.sweep_s, self._sweep)
        now = loop.time()
        for connection in list(self._watched):
            if not connection.sweep(now):
                self._watched.discard(connection)


class Site(web.SockSite):
    """A listening socket of a door."""

    def __init__(
        self, door: Door, sock: socket.socket, context: ssl.SSLContext | None, *, backlog: int
    ) -> None:
        super().__init__(door, sock, ssl_context=context, backlog=backlog)
        self._door = door

    async def start(self) -> None:
        await web.BaseSite.start(self)
        self._server = await self._door.accept_on(self._sock, self._ssl_context, self._backlog)
