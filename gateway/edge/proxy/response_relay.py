"""One response on its way from an upstream to a client, written to the client as it comes.

Law: a response that was begun is either finished as it was framed or cut off; it never ends
cleanly when the upstream's did not.  What the upstream sends is written to the client's
transport from the read callback itself: no task, no queue, and when the client is slow the
upstream is not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from gateway.edge.http1.date_header import date_line
from gateway.edge.http1.field_lines import field_line
from gateway.edge.http1.response_head import NO_BODY, Head
from gateway.edge.proxy.response_headers import (
    changed,
    limit_lines,
    response_lines,
    security_lines,
    trailer_lines,
)
from gateway.model import Reason

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.routing.routes import Route
    from gateway.edge.http1.request_head import RequestHead
    from gateway.edge.server.listener import Connection
    from gateway.edge.streams.handshake import Handshake
    from gateway.edge.streams.reevaluation import Rejudged
    from gateway.edge.streams.registry import OpenCalls
    from gateway.edge.upstream.connection import UpstreamConnection
    from gateway.edge.upstream.retry_budget import RetryBudget
    from gateway.model import Principal


@dataclass(frozen=True, slots=True)
class Failure:
    """No response came; `replayable` as in `upstream.Relay.failed`."""

    reason: Reason
    replayable: bool


NO_STATUSES: frozenset[int] = frozenset()

GONE = Failure(Reason.UPSTREAM_UNREACHABLE, replayable=False)
"""The client has gone: there is nobody to answer."""

NOBODY_WAITS = cast("asyncio.Future[Failure | None]", None)
"""On the common path the end is told to `on_end`: a future would cost a turn of the loop."""


class Relay:
    """The answering half of `forward.Exchange`, which makes it whole.

    Meets `upstream.Relay` and `server.Writer`.  `done` ends with None or a Failure.
    """

    __slots__ = (
        "_chunk",
        "_upstream",
        "answered_at",
        "awaits_continue",
        "body_read",
        "client",
        "cut_for",
        "decided_at",
        "decision",
        "done",
        "entered",
        "extra",
        "handshake",
        "head",
        "id_line",
        "keep_alive",
        "may_go_on",
        "on_end",
        "open_calls",
        "principal",
        "rejudged",
        "request_sent",
        "retry_budget",
        "retry_granted",
        "retry_statuses",
        "route",
        "scheme",
        "started",
        "status",
        "to_head",
    )

    _chunk: bool
    _upstream: UpstreamConnection | None
    client: Connection
    head: RequestHead
    decision: Decision
    route: Route
    scheme: str
    id_line: bytes
    """`X-Request-Id`, as both sides read it."""
    extra: Mapping[str, str]
    """The CORS fields of whatever answer it gets: where there are any, the upstream's go."""
    keep_alive: bool
    to_head: bool
    done: asyncio.Future[Failure | None]
    on_end: Callable[[Any, Failure | None], None] | None
    """Told at once how it ended, instead of whoever waits for `done`."""
    handshake: Handshake | None
    """Set where the upstream may answer with a tunnel."""
    open_calls: OpenCalls
    """Whom it asks, and where it is entered once it lasts."""
    entered: bool
    request_sent: bool
    body_read: bool
    """A byte of the body was taken: the request cannot be sent again."""
    retry_statuses: frozenset[int]
    """Only where there are some, the two below are set."""
    retry_budget: RetryBudget
    retry_granted: bool
    may_go_on: asyncio.Future[None] | None
    """Set while the client waits for `100 Continue`."""
    awaits_continue: bool
    started: bool
    cut_for: Reason | None
    """Why the answer that had begun was cut off; None where it was not, or the client left."""
    status: int
    decided_at: float
    answered_at: float
    """When the decision and the upstream's head were there, by the monotonic clock."""

    principal: Principal | None
    """Whose call it is, and ends with."""
    rejudged: Rejudged | None
    """Set where the route wants it judged again rather than ended."""

    def attach(self, upstream: UpstreamConnection) -> None:
        """A try begins: this connection's answer is awaited."""
        self._upstream = upstream
        self.client.relay = self
        if self.on_end is None and (self.done is NOBODY_WAITS or self.done.done()):
            self.done = asyncio.get_running_loop().create_future()

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
        elif self.head.minor:
            lines = response_lines(head, keep_length=False, own_cors=False)
            self._write(_block(head, lines, b""))

    def go_on(self) -> None:
        """Send `100 Continue`, once, if the client waits for it."""
        if self.awaits_continue:
            self.awaits_continue = False
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.may_go_on is not None and not self.may_go_on.done():
            self.may_go_on.set_result(None)

    def tries_again(self) -> bool:
        """One of `retry_statuses` came: whether the upstream may be sent one more try."""
        self.retry_granted = not self.body_read and self.retry_budget.take()
        return self.retry_granted

    def begin(self, head: Head, length: int, first: bytes, complete: bool) -> None:
        self.started = True
        self.status = status = head.status
        self.answered_at = monotonic()
        client = self.client
        lines = self._fields(head, keep_length=length >= NO_BODY and status != 204)
        if not head.dated:
            # RFC 9110 section 6.6.1: who has a clock must say when what it forwards came.
            lines.append(date_line())
        if not self.request_sent:
            # RFC 9112 section 9.6: the rest of the request is not read as another one.
            self.keep_alive = False
        if length < NO_BODY:
            if not self.head.minor:
                self.keep_alive = False
            else:
                self._chunk = True
                lines.append(b"Transfer-Encoding: chunked")
                if first:
                    first = _chunked(first)
        if not self.keep_alive:
            lines.append(b"Connection: close")
        elif not self.head.minor:
            lines.append(b"Connection: keep-alive")
        transport = client.transport
        if transport is not None:
            transport.write(_block(head, lines, first))
        if not complete and client.must_wait:
            # It was slow before this answer began, and will not say so again.
            self.pause()

    def _fields(self, head: Head, *, keep_length: bool) -> list[bytes]:
        """The upstream's fields as the client may have them, and ours."""
        route, decision = self.route, self.decision
        limit = decision.limit
        lines = response_lines(
            head,
            keep_length=keep_length,
            own_cors=bool(self.extra),
            own_limits=limit is not None,
        )
        if route.response is not None:
            lines = changed(lines, head, route.response)
        lines.append(self.id_line)
        if limit is not None:
            lines.append(limit.fields or limit_lines(limit))
        if self.extra:
            lines += [field_line(name, value) for name, value in self.extra.items()]
        if route.security_headers is not None:
            lines += security_lines(route.security_headers, head, https=self.scheme == "https")
        return lines

    def piece(self, data: bytes) -> None:
        self._write(_chunked(data) if self._chunk else data)

    def chunks(self, pieces: list[bytes], trailers: list[bytes] | None) -> None:
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        out = _chunked(content) if self._chunk and content else content
        if trailers is not None and self._chunk:
            self._chunk = False
            changes = self.route.response
            gone = frozenset[bytes]() if changes is None else changes.names
            out += b"0\r\n" + trailer_lines(trailers, gone)
        if out:
            self._write(out)

    def finished(self) -> None:
        if self._chunk:
            self._write(b"0\r\n\r\n")
        self._end(None)

    def failed(self, reason: Reason, *, replayable: bool) -> None:
        if self.started:
            self.cut_for = reason
            self.cut_off()
        self._end(Failure(reason, replayable))

    def upgrade(self, head: Head, upstream: UpstreamConnection, first: bytes) -> bool:
        handshake = self.handshake
        if handshake is None or not handshake.granted_by(head):
            return False
        self.started = True
        self.status = head.status
        self.answered_at = monotonic()
        self.keep_alive = False
        lines = self._fields(head, keep_length=False)
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
        self._write(_block(head, lines, b""))
        self._upstream = None
        handshake.open(self.client, upstream, first)
        self._end(None)
        return True

    # --- what the registry of lasting calls calls ---

    def lasts(self) -> None:
        if not self.entered and (self.principal is not None or self.rejudged is not None):
            self.entered = True
            self.open_calls.add(self)

    def refusal(self) -> Reason | None:
        return None if self.principal is None else self.open_calls.ends(self)

    @property
    def over(self) -> bool:
        return self._upstream is None or not self._upstream.carries(self)

    def end_for(self, reason: Reason, said: str = "") -> None:
        """An answer where none was begun; else a cut, which no client takes for its end."""
        if self._upstream is not None and self._upstream.carries(self):
            self._upstream.end(reason)

    def _end(self, failure: Failure | None) -> None:
        if self.entered:
            self.open_calls.discard(self)
        told, self.on_end = self.on_end, None
        if told is not None:
            told(self, failure)
        elif not self.done.done():
            # Before whoever waits goes on, it may carry the exchange of another client.
            self._upstream = None
            self.done.set_result(failure)

    def cut_off(self) -> None:
        """End what was begun in a way that no client takes for its end."""
        self.client.abort()

    def _write(self, data: bytes) -> None:
        transport = self.client.transport
        if transport is not None:
            transport.write(data)


def _block(head: Head, lines: list[bytes], first: bytes) -> bytes:
    """The head for the client, and `first` of the body behind it."""
    lines.insert(0, head.start)
    lines.append(b"")
    lines.append(first)
    return b"\r\n".join(lines)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
