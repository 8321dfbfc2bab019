"""What a connection asks of whoever answers its requests, and is told by."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from gateway.edge.http1.request_head import RequestHead, RequestHeadReader
from gateway.edge.http1.turns import Turns
from gateway.edge.server.buffers import Buffers
from gateway.edge.server.endpoint_calls import EndpointServer
from gateway.edge.server.idle_timer import IdleTimers
from gateway.edge.server.last_resort import LastResort
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.request_body import RequestBody

ServeResult = bool | None | Coroutine[Any, Any, bool]


class DownstreamWriter(Protocol):
    """Whoever writes an answer to a connection, as far as the connection calls it."""

    started: bool
    """The answer has begun: it can only be finished or cut off."""
    keep_alive: bool
    """What it says, or will say, of the connection."""

    def pause(self) -> None:
        """The client reads more slowly than the upstream sends."""

    def resume(self) -> None:
        """The client has caught up."""

    def client_disconnected(self) -> None:
        """Whoever is asked for the answer must notice."""

    def put_by(self) -> int:
        """Bytes of the answer that have come and wait in memory, beside those in transports."""


class Handler(Protocol):
    def serve(self, client: Any, head: RequestHead, body: RequestBody) -> ServeResult:
        """Answer one request of `client`, a `connection.Connection`.

        A bool when it was answered at once: whether the connection may go on after it.  None
        when the answer is under way: `client.ended` follows.  A coroutine (`async def serve`
        gives one) where there is more to wait for: it runs in a task of the connection, and
        returns that bool.  `client.answer` writes an answer of aiohttp's kind.  Anything
        raised but a ConnectionError is a defect: 500 where nothing was written yet, a cut
        where it was.
        """


class ConnectionOwner(Protocol):
    """The listener that a connection came by, as far as the connection asks it."""

    handler: Handler
    limits: ListenerLimits
    request_heads: RequestHeadReader
    endpoints: EndpointServer
    buffers: Buffers
    turns: Turns
    last_resort: LastResort
    idle_timers: IdleTimers

    def opened(self, connection: Any) -> None:
        """It has its transport now."""

    def watch(self, connection: Any) -> None:
        """Look at it in every sweep until it says that there is nothing to see."""

    def left(self, connection: Any) -> None:
        """It takes no room any more, though its transport is not gone yet."""

    def lost(self, connection: Any) -> None:
        """Its transport is gone."""
