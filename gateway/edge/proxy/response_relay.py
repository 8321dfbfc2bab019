"""One response on its way from an upstream to a client, written to the client as it comes.

Law: a response that was begun is either finished as it was framed or aborted; it never ends
cleanly when the upstream's did not.  What the upstream sends is written to the client's
transport from the read callback itself: no task, no queue, and when the client is slow the
upstream is not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from gateway.edge.http1.date_header import date_line
from gateway.edge.http1.field_lines import field_line
from gateway.edge.http1.response_head import NO_BODY, Head
from gateway.edge.proxy.client_wait import READ_ON, ClientWait
from gateway.edge.proxy.response_headers import (
    changed,
    limit_lines,
    response_lines,
    security_lines,
    trailer_lines,
)
from gateway.model import Credential, Reason

if TYPE_CHECKING:
    from gateway.edge.proxy.exchange import Exchange
    from gateway.edge.streams.handshake import Handshake
    from gateway.edge.streams.reevaluation import Reevaluation
    from gateway.edge.streams.registry import LongLivedRequests
    from gateway.edge.upstream.clusters import TargetPool
    from gateway.edge.upstream.connection import UpstreamConnection
    from gateway.edge.upstream.protocols import UpgradedConnection
    from gateway.edge.upstream.retry_budget import RetryBudget
    from gateway.model import Principal


@dataclass(frozen=True, slots=True)
class Failure:
    """No response came; `replayable` as in `ResponseReceiver.failed`."""

    reason: Reason
    replayable: bool


NO_STATUSES: frozenset[int] = frozenset()

CLIENT_GONE = Failure(Reason.UPSTREAM_UNREACHABLE, replayable=False)
"""The client has disconnected: there is nobody to answer."""

NO_FUTURE = cast("asyncio.Future[Failure | None]", None)
"""On the common path the end is told to `on_end`: a future would cost a turn of the loop."""


class ResponseRelay:
    """Passes the response to one exchange on, through all attempts until one brings it.

    Meets `connection.ResponseReceiver`, `registry.LongLivedRequest` and `server.handler.Writer`.
    """

    __slots__ = (
        "_chunked",
        "_upstream",
        "aborted_for",
        "answered_at",
        "awaits_continue",
        "body_read",
        "chosen",
        "client",
        "client_wait",
        "continue_sent",
        "done",
        "exchange",
        "handshake",
        "held_back",
        "id_line",
        "is_head",
        "keep_alive",
        "long_lived",
        "on_end",
        "principal",
        "reevaluation",
        "registered",
        "replayed",
        "request_sent",
        "retry_budget",
        "retry_granted",
        "retry_statuses",
        "started",
        "status",
        "tried",
        "upstream_head",
    )

    retry_budget: RetryBudget
    retry_granted: bool
    """Both are set only where there are `retry_statuses`."""

    def __init__(self, exchange: Exchange, long_lived: LongLivedRequests, keep_alive: bool) -> None:
        self.exchange = exchange
        self.client = exchange.client
        self.long_lived = long_lived
        self.id_line = b"X-Request-Id: " + exchange.request_id.encode("ascii")
        """As both sides read it."""
        self.is_head = exchange.head.method == "HEAD"
        self.answered_at = 0.0
        """When the upstream's head was there, by the monotonic clock."""
        self.principal: Principal | None = exchange.decision.principal
        """Whose request it is, and ends with."""
        self.reevaluation: Reevaluation | None = None
        """Set where the route wants it judged again rather than ended."""
        self.registered = False
        """Whether it stands in `long_lived`."""
        self.handshake: Handshake | None = None
        """Set where the upstream may answer with a tunnel."""
        self.done = NO_FUTURE
        """Ends with None once the response was relayed, or with a Failure."""
        self.on_end: Callable[[Any, Failure | None], None] | None = None
        """Told at once how it ended, instead of whoever waits for `done`."""
        self.request_sent = True
        self.body_read = False
        """A byte of the body was taken: the request cannot be sent again."""
        self.retry_statuses = NO_STATUSES
        self.continue_sent: asyncio.Future[None] | None = None
        """Set while the client waits for `100 Continue`."""
        self.awaits_continue = False
        self.keep_alive = keep_alive
        self.started = False
        self.aborted_for: Reason | None = None
        """Why the response that had begun was aborted; None where it was not, or the client
        left."""
        self.held_back = False
        """Reading of the answer waited for the client."""
        self.status = 0
        self._upstream: UpstreamConnection | None = None
        self._chunked = False
        self.tried: list[TargetPool] = []
        """A target for each attempt, the current one last."""
        self.chosen: TargetPool | None = None
        """The target whose turn it is, and which was not tried yet."""
        self.replayed = False
        """Whether it was sent once more because a reused connection had ended."""
        self.upstream_head = b""
        """The head as the upstream is sent it."""
        self.client_wait: ClientWait | None = None
        """None where it never had to wait for the client."""

    @property
    def decided_at(self) -> float:
        return self.exchange.decided_at

    def attach(self, upstream: UpstreamConnection) -> None:
        """An attempt begins: this connection's response is awaited."""
        self._upstream = upstream
        self.client.relay = self
        if self.on_end is None and (self.done is NO_FUTURE or self.done.done()):
            self.done = asyncio.get_running_loop().create_future()

    # --- what the client's connection calls ---

    def pause(self) -> None:
        self.held_back = self.started
        if self._upstream is not None:
            if self.started and self.client.writing_paused:
                self.await_client(READ_ON)
            self._upstream.pause_reading()

    def resume(self) -> None:
        self.client_moved(READ_ON)
        if self._upstream is not None:
            self._upstream.resume_reading()

    def client_disconnected(self) -> None:
        if self._upstream is not None:
            self._upstream.abort()
        if self.on_end is not None:
            self._end(CLIENT_GONE)

    def put_by(self) -> int:
        return 0 if self._upstream is None else len(self._upstream.rest)

    # --- what the upstream's connection calls ---

    def interim(self, head: Head) -> None:
        """RFC 9110 section 15.2: 1xx are passed on, but never to an HTTP/1.0 client."""
        if head.status == 100:
            self.send_continue()
        elif self.exchange.head.minor:
            lines = response_lines(head, keep_length=False, own_cors=False)
            self._write(_block(head, lines, b""))

    def send_continue(self) -> None:
        """Send `100 Continue`, once, if the client waits for it."""
        if self.awaits_continue:
            self.awaits_continue = False
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.continue_sent is not None and not self.continue_sent.done():
            self.continue_sent.set_result(None)

    def acquire_retry(self) -> bool:
        """One of `retry_statuses` came: whether the upstream may be sent one more attempt."""
        self.retry_granted = not self.body_read and self.retry_budget.take()
        return self.retry_granted

    def begin(self, head: Head, length: int, initial_data: bytes, complete: bool) -> None:
        self.started = True
        self.status = status = head.status
        self.answered_at = monotonic()
        self._record_answer()
        client = self.client
        client_minor = self.exchange.head.minor
        lines = self._fields(head, keep_length=length >= NO_BODY and status != 204)
        if not head.dated:
            # RFC 9110 section 6.6.1: who has a clock must say when what it forwards came.
            lines.append(date_line())
        if not self.request_sent:
            # RFC 9112 section 9.6: the rest of the request is not read as another one.
            self.keep_alive = False
        if length < NO_BODY:
            if not client_minor:
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"Transfer-Encoding: chunked")
                if initial_data:
                    initial_data = _chunk(initial_data)
        if not self.keep_alive:
            lines.append(b"Connection: close")
        elif not client_minor:
            lines.append(b"Connection: keep-alive")
        transport = client.transport
        if transport is not None:
            transport.write(b"\r\n".join((head.start, *lines, b"", initial_data)))
        if not complete and client.must_wait:
            # It was slow before this response began, and will not say so again.
            self.pause()

    def _record_answer(self) -> None:
        health = self.tried[-1].health
        if health is not None:
            health.record_answer(self.exchange.call.client_ip, self.answered_at)

    def _fields(self, head: Head, *, keep_length: bool) -> list[bytes]:
        """The upstream's fields as the client may have them, and ours."""
        exchange = self.exchange
        route, limit, cors_headers = exchange.route, exchange.decision.limit, exchange.cors_headers
        lines = response_lines(
            head,
            keep_length=keep_length,
            own_cors=bool(cors_headers),
            own_limits=limit is not None,
        )
        if route.response is not None:
            lines = changed(lines, head, route.response)
        lines.append(self.id_line)
        if limit is not None:
            lines.append(limit.fields or limit_lines(limit))
        if cors_headers:
            lines += [field_line(name, value) for name, value in cors_headers.items()]
        if route.security_headers is not None:
            https = exchange.call.scheme == "https"
            lines += security_lines(route.security_headers, head, https=https)
        return lines

    def data(self, data: bytes) -> None:
        self._write(_chunk(data) if self._chunked else data)

    def chunks(self, contents: list[bytes], trailers: list[bytes] | None) -> None:
        content = contents[0] if len(contents) == 1 else b"".join(contents)
        out = _chunk(content) if self._chunked and content else content
        if trailers is not None and self._chunked:
            self._chunked = False
            changes = self.exchange.route.response
            removed = frozenset[bytes]() if changes is None else changes.names
            out += b"0\r\n" + trailer_lines(trailers, removed)
        if out:
            self._write(out)

    def finished(self) -> None:
        if self._chunked:
            self._write(b"0\r\n\r\n")
        self._end(None)

    def failed(self, reason: Reason, *, replayable: bool) -> None:
        if self.started:
            self.aborted_for = reason
            self.abort()
        self._end(Failure(reason, replayable))

    def upgrade(self, head: Head, upstream: UpgradedConnection, initial_data: bytes) -> bool:
        handshake = self.handshake
        if handshake is None or not handshake.granted_by(head):
            return False
        self.started = True
        self.status = head.status
        self.answered_at = monotonic()
        self._record_answer()
        self.keep_alive = False
        lines = self._fields(head, keep_length=False)
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
        self._write(_block(head, lines, b""))
        self._upstream = None
        handshake.open(self.client, upstream, initial_data)
        self._end(None)
        return True

    # --- how long the client lets it wait ---

    def await_client(self, what: int) -> None:
        """The client is to do `what` before it goes on."""
        if self.client_wait is None:
            self.client_wait = ClientWait()
        self.client_wait.begin(what, monotonic())

    def client_moved(self, what: int) -> None:
        """It has done so."""
        if self.client_wait is not None:
            self.client_wait.end(what, monotonic())

    def client_waited_s(self, now: float) -> float:
        wait = self.client_wait
        if wait is None or (wait.waits_for == READ_ON and not self.client.writing_paused):
            return 0.0  # the client has caught up: it is all buffers that are full
        return wait.in_all_s(now)

    # --- what the registry of long-lived requests calls ---

    def mark_long_lived(self) -> None:
        """Register it, once, where something may end it."""
        if not self.registered and (self.principal is not None or self.reevaluation is not None):
            self.registered = True
            self.long_lived.add(self)

    def refusal(self) -> Reason | None:
        return None if self.principal is None else self.long_lived.refusal_of(self)

    @property
    def credential_text(self) -> str:
        credential = self.exchange.call.credential
        return credential.text if isinstance(credential, Credential) else ""

    @property
    def client_ip(self) -> str:
        return self.exchange.call.client_ip

    @property
    def closed(self) -> bool:
        return self._upstream is None or not self._upstream.carries(self)

    def hold(self) -> None:
        if self._upstream is not None and self._upstream.carries(self):
            self._upstream.held = True

    def release(self) -> None:
        if self._upstream is not None and self._upstream.carries(self):
            self._upstream.release()

    def terminate(self, reason: Reason, detail: str = "") -> None:
        """Refuse where no response was begun; else abort, which no client takes for its end."""
        if self._upstream is not None and self._upstream.carries(self):
            self._upstream.end(reason)

    def _end(self, failure: Failure | None) -> None:
        if self.registered:
            # Another attempt may follow, and last.
            self.registered = False
            self.long_lived.discard(self)
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self, failure)
        elif not self.done.done():
            # Before whoever waits goes on, it may carry the exchange of another client.
            self._upstream = None
            self.done.set_result(failure)

    def abort(self) -> None:
        """End what was begun in a way that no client takes for its end."""
        self.client.abort()

    def _write(self, data: bytes) -> None:
        transport = self.client.transport
        if transport is not None:
            transport.write(data)


def _block(head: Head, lines: list[bytes], initial_data: bytes) -> bytes:
    """The head for the client, and the beginning of the body behind it."""
    lines.insert(0, head.start)
    lines.append(b"")
    lines.append(initial_data)
    return b"\r\n".join(lines)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
