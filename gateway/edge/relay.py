"""One response on its way from an upstream to a client, written to the client as it comes.

Law: a response that was begun is either finished as it was framed or cut off; it never ends
cleanly when the upstream's did not.  What the upstream sends is written to the client's
transport from the read callback itself: no task, no queue, and when the client is slow the
upstream is not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from gateway.edge.answers import changed, response_lines, security_lines, trailer_lines
from gateway.edge.wire import CHUNKED, NO_BODY, UNTIL_CLOSE, Head
from gateway.model import Reason

if TYPE_CHECKING:
    from gateway.access.upstreams import HeaderChanges, SecurityHeaders
    from gateway.edge.open_calls import OpenCalls
    from gateway.edge.rejudging import Rejudged
    from gateway.edge.retrying import RetryBudget
    from gateway.edge.server import Connection
    from gateway.edge.upstream import UpstreamConnection
    from gateway.edge.websocket import Handshake
    from gateway.model import Principal


@dataclass(frozen=True, slots=True)
class Failure:
    """No response came; `replayable` as in `upstream.Relay.failed`."""

    reason: Reason
    replayable: bool


NO_STATUSES: frozenset[int] = frozenset()

GONE = Failure(Reason.UPSTREAM_UNREACHABLE, replayable=False)
"""The client has gone: there is nobody to answer."""

_NOBODY_WAITS = cast("asyncio.Future[Failure | None]", None)
"""On the common path the end is told to `on_end`: a future would cost a turn of the loop."""


class Relay:
    """Meets `upstream.Relay` and `server.Writer`.  `done` ends with None or a Failure.

    It is made with what every answer needs; the rest is set where it differs from what is
    usual, before the first try.
    """

    __slots__ = (
        "_chunk",
        "_client",
        "_loop",
        "_upstream",
        "awaits_continue",
        "began_at",
        "changes",
        "done",
        "extra",
        "handshake",
        "http10",
        "https",
        "keep_alive",
        "may_go_on",
        "on_end",
        "open_calls",
        "own_cors",
        "own_limits",
        "principal",
        "rejudged",
        "request_sent",
        "retry_budget",
        "retry_granted",
        "retry_statuses",
        "security",
        "started",
        "status",
        "to_head",
    )

    def __init__(
        self,
        client: Connection,
        loop: asyncio.AbstractEventLoop,
        *,
        to_head: bool,
        http10: bool,
        keep_alive: bool,
        security: SecurityHeaders | None,
        extra: list[bytes],
    ) -> None:
        self._client = client
        self._loop = loop
        self._upstream: UpstreamConnection | None = None
        self._chunk = False
        self.done: asyncio.Future[Failure | None] = _NOBODY_WAITS
        self.on_end: Callable[[Failure | None], None] | None = None
        """Told at once how it ended, instead of whoever waits for `done`."""
        self.to_head = to_head
        self.http10 = http10
        self.changes: HeaderChanges | None = None
        self.https = False
        self.keep_alive = keep_alive
        self.security = security
        self.extra = extra
        """Lines of ours for the answer."""
        self.principal: Principal | None = None
        """Whose call it is, and ends with."""
        self.rejudged: Rejudged | None = None
        """Set where the route wants it judged again rather than ended."""
        self.handshake: Handshake | None = None
        """Set where the upstream may answer with a tunnel."""
        self.open_calls: OpenCalls | None = None
        """Where it is entered, once it lasts."""
        self.own_cors = False
        self.own_limits = False
        self.request_sent = True
        self.retry_statuses = NO_STATUSES
        """Only where there are some, the two beside it are set."""
        self.retry_budget: RetryBudget
        self.retry_granted: bool
        self.may_go_on: asyncio.Future[None] | None = None
        """Set while the client waits for `100 Continue`."""
        self.awaits_continue = False
        self.started = False
        self.status = 0
        self.began_at = 0.0

    def attach(self, upstream: UpstreamConnection) -> None:
        """A try begins: this connection's answer is awaited."""
        self._upstream = upstream
        self._client.relay = self
        if self.on_end is None and (self.done is _NOBODY_WAITS or self.done.done()):
            self.done = self._loop.create_future()

    # --- what the client's connection calls ---

    def pause(self) -> None:
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume(self) -> None:
        if self._upstream is not None:
            self._upstream.resume_reading()

    def abandon(self) -> None:
        if self._upstream is not None:
            self._upstream.abort()
        if self.on_end is not None:
            self._end(GONE)

    # --- what the upstream's connection calls ---

    def interim(self, head: Head) -> None:
        """RFC 9110 section 15.2: 1xx are passed on, but never to an HTTP/1.0 client."""
        if head.status == 100:
            self.go_on()
        elif not self.http10:
            self._write(_block(head, response_lines(head, keep_length=False, own_cors=False)))

    def go_on(self) -> None:
        """Send `100 Continue`, once, if the client waits for it."""
        if self.awaits_continue:
            self.awaits_continue = False
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.may_go_on is not None and not self.may_go_on.done():
            self.may_go_on.set_result(None)

    def tries_again(self) -> bool:
        """One of `retry_statuses` came: whether the upstream may be sent one more try."""
        self.retry_granted = self.retry_budget.take()
        return self.retry_granted

    def begin(self, head: Head, length: int, first: bytes, complete: bool) -> None:
        self.started = True
        self.status = status = head.status
        self.began_at = self._loop.time()
        lines = response_lines(
            head,
            keep_length=length >= NO_BODY and status != 204,
            own_cors=self.own_cors,
            own_limits=self.own_limits,
        )
        if self.changes is not None:
            lines = changed(lines, head, self.changes)
        lines += self.extra
        if self.security is not None:
            lines += security_lines(self.security, head, https=self.https)
        if not self.request_sent:
            # RFC 9112 section 9.6: the rest of the request is not read as another one.
            self.keep_alive = False
        if length in (CHUNKED, UNTIL_CLOSE):
            if self.http10:
                self.keep_alive = False
            else:
                self._chunk = True
                lines.append(b"Transfer-Encoding: chunked")
        if not self.keep_alive:
            lines.append(b"Connection: close")
        elif self.http10:
            lines.append(b"Connection: keep-alive")
        block = _block(head, lines)
        if first:
            block += _chunked(first) if self._chunk else first
        self._write(block)
        if self._client.writing_paused and not complete:
            # It was slow before this answer began, and will not say so again.
            self.pause()

    def piece(self, data: bytes) -> None:
        self._write(_chunked(data) if self._chunk else data)

    def chunks(self, pieces: list[bytes], trailers: list[bytes] | None) -> None:
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        out = _chunked(content) if self._chunk and content else content
        if trailers is not None and self._chunk:
            self._chunk = False
            gone = frozenset[bytes]() if self.changes is None else self.changes.names
            out += b"0\r\n" + trailer_lines(trailers, gone)
        if out:
            self._write(out)

    def finished(self) -> None:
        if self._chunk:
            self._write(b"0\r\n\r\n")
        self._end(None)

    def failed(self, reason: Reason, *, replayable: bool) -> None:
        if self.started:
            self.cut_off()
        self._end(Failure(reason, replayable))

    def upgrade(self, head: Head, upstream: UpstreamConnection, first: bytes) -> bool:
        handshake = self.handshake
        if handshake is None or not handshake.granted_by(head):
            return False
        self.started = True
        self.status = head.status
        self.began_at = self._loop.time()
        self.keep_alive = False
        lines = response_lines(
            head, keep_length=False, own_cors=self.own_cors, own_limits=self.own_limits
        )
        if self.changes is not None:
            lines = changed(lines, head, self.changes)
        lines += self.extra
        if self.security is not None:
            lines += security_lines(self.security, head, https=self.https)
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
        self._write(_block(head, lines))
        self._upstream = None
        handshake.open(self._client, upstream, first)
        self._end(None)
        return True

    # --- what the registry of lasting calls calls ---

    def lasts(self, open_calls: OpenCalls) -> None:
        judged = self.principal is not None or self.rejudged is not None
        if judged and self.open_calls is None:
            self.open_calls = open_calls
            open_calls.add(self)

    @property
    def over(self) -> bool:
        return self._upstream is None or not self._upstream.carries(self)

    def end_for(self, reason: Reason, said: str = "") -> None:
        """An answer where none was begun; else a cut, which no client takes for its end."""
        if self._upstream is not None and self._upstream.carries(self):
            self._upstream.end(reason)

    def _end(self, failure: Failure | None) -> None:
        if self.open_calls is not None:
            self.open_calls.discard(self)
        told, self.on_end = self.on_end, None
        if told is not None:
            told(failure)
        elif not self.done.done():
            self.done.set_result(failure)

    def cut_off(self) -> None:
        """End what was begun in a way that no client takes for its end."""
        self._client.abort()

    def _write(self, data: bytes) -> None:
        transport = self._client.transport
        if transport is not None:
            transport.write(data)


def _block(head: Head, lines: list[bytes]) -> bytes:
    return b"HTTP/1.1 %d %b\r\n%b\r\n\r\n" % (head.status, head.reason, b"\r\n".join(lines))


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
