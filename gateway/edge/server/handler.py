"""What a connection asks of whoever answers its requests, and is told by."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from aiohttp.streams import StreamReader

from gateway.edge.http1.request_head import RequestHead
from gateway.edge.http1.turns import Turns
from gateway.edge.replies.observers import Meter
from gateway.edge.server.buffers import Buffers
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.peer import PeerReader
from gateway.model import Reason
from gateway.telemetry.metrics import Tally

Outcome = bool | None | Coroutine[Any, Any, bool]


class Writer(Protocol):
    """What the proxy gives a connection to call, while it relays an answer."""

    started: bool
    """The answer has begun: it can only be finished or cut off."""
    keep_alive: bool
    """What it says, or will say, of the connection."""

    def pause(self) -> None:
        """The client reads more slowly than the upstream sends."""

    def resume(self) -> None:
        """The client has caught up."""

    def abandon(self) -> None:
        """The client has gone: whoever is asked for its answer must notice."""


class Handler(Protocol):
    def serve(self, client: Any, head: RequestHead, body: StreamReader) -> Outcome:
        """Answer one request of `client`, a `connection.Connection`.

        A bool when it was answered at once: whether the connection may go on after it.  None
        when the answer is under way: `client.ended` follows.  A coroutine (`async def serve`
        gives one) where there is more to wait for: it runs in the connection's task, and
        returns that bool.  `client.answer` writes an answer of aiohttp's kind.  Anything
        raised but a ConnectionError is a defect: 500 where nothing was written yet, a cut
        where it was.
        """


class Listener(Protocol):
    """Whoever made a connection, as far as that asks it."""

    handler: Handler
    reader: PeerReader
    limits: ListenerLimits
    buffers: Buffers
    turns: Turns
    meter: Meter
    defects: Tally
    on_refusal: Callable[[Reason, str], None] | None

    def watch(self, connection: Any) -> None:
        """Look at it in every sweep until it says that there is nothing to see."""

    def left(self, connection: Any) -> None:
        """It takes no room any more."""
