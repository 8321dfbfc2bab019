"""A call that may pass, on its way to an upstream: its head written anew, tried and tried again.

Law: every byte of the request line, the fields and the framing that an upstream reads is
written here.  The common path waits once, for the end of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.access.routing.csrf import CsrfCheck
from gateway.edge.http1.field_lines import field_line
from gateway.edge.http1.request_head import CSRF_NAMES, RequestHead
from gateway.edge.proxy.request_body import BodyPump, BodyTooLarge
from gateway.edge.proxy.request_headers import (
    appended_headers,
    foreign_cookies,
    forwarded_headers,
    identity_headers,
    kept,
    without,
)
from gateway.edge.proxy.response_relay import GONE, NO_STATUSES, NOBODY_WAITS, Failure, Relay
from gateway.edge.server.request_body import RequestBody
from gateway.edge.streams.registry import OpenCalls
from gateway.edge.upstream.clusters import TargetPool, UpstreamPool, Upstreams, authority
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.model import Call, Reason

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.definitions import Upstream
    from gateway.access.routing.routes import Route
    from gateway.edge.proxy.request import CallReader
    from gateway.edge.server.listener import Connection

# RFC 9110 section 9.2.2, less TRACE, which is refused: a request that may be sent again.
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
_FAULTS = frozenset(
    (Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_MALFORMED, Reason.UPSTREAM_TIMEOUT)
)
# RFC 9110 sections 9.3.1, 9.3.2, 9.3.5, 9.3.7: content has no defined meaning here.  A backend
# that ignores it would read it as the next request, of whoever is served next.
_NO_CONTENT_EXPECTED = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
_LENGTH_EXPECTED = frozenset(("POST", "PUT", "PATCH"))


class Exchange(Relay):
    """One request on its way: what the steps of forwarding share, and what relays its answer."""

    __slots__ = (
        "body",
        "call",
        "chosen",
        "decided_s",
        "replayed",
        "request_id",
        "sent",
        "tried",
        "upstream",
    )

    def __init__(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        decision: Decision,
        route: Route,
        upstream: Upstream,
        request_id: str,
        extra: Mapping[str, str],
        decided_s: float,
        decided_at: float,
        keep_alive: bool,
    ) -> None:
        self.client = client
        self.head = head
        self.body = body
        self.call = call
        self.decision = decision
        self.route = route
        self.upstream = upstream
        self.scheme = call.scheme
        self.principal = decision.principal
        self.rejudged = None
        self.request_id = request_id
        self.id_line = b"X-Request-Id: " + request_id.encode("ascii")
        self.extra = extra
        self.decided_s = decided_s
        self.decided_at = decided_at
        self.keep_alive = keep_alive
        self.to_head = head.method == "HEAD"
        self.tried: list[TargetPool] = []
        self.chosen: TargetPool | None = None
        """The target whose turn it is, and which was not tried yet."""
        self.replayed = False
        self.sent = b""
        """The head for the upstream."""
        self.body_read = False
        self.cut_for = None
        self.done = NOBODY_WAITS
        self.on_end = None
        self.handshake = None
        self.entered = False
        self.request_sent = True
        self.retry_statuses = NO_STATUSES
        self.may_go_on = None
        self.awaits_continue = False
        self.started = False
        self.status = 0
        self.answered_at = 0.0
        self._upstream = None
        self._chunk = False


class Forwarder:
    def __init__(
        self,
        reader: CallReader,
        upstreams: Upstreams,
        open_calls: OpenCalls,
        csrf: CsrfCheck | None = None,
    ) -> None:
        self._reader = reader
        self._csrf = csrf
        self._upstreams = upstreams
        self._open_calls = open_calls
        self._loop = asyncio.get_running_loop()

    def begin(self, exchange: Exchange, on_end: Callable[[Exchange, Failure | None], None]) -> bool:
        """Send at once, where there is no body to wait for and an idle connection to send on.

        `on_end` is then told of the end, and whether `again` may follow is asked by it.
        """
        if exchange.body is not EMPTY_PAYLOAD:
            return False
        pool = self._upstreams.pool(exchange.upstream)
        target = pool.choose()
        if target is None or (pool.spec.max_connections and not target.has_room):
            exchange.chosen = target
            return False
        repeatable = target.keeps or exchange.call.method in _REPEATABLE
        connection = target.take() if repeatable else None
        if connection is None:
            target.promise()
            exchange.chosen = target
            return False
        exchange.sent = self._head(exchange)
        exchange.tried.append(target)
        if pool.spec.retry.statuses:
            self._set_retry_statuses(exchange, pool)
        target.enter()
        exchange.open_calls = self._open_calls
        exchange.on_end = on_end
        exchange.attach(connection)
        connection.send(exchange, exchange.sent)
        return True

    async def forward(self, exchange: Exchange) -> Failure | None:
        """Send until an answer comes, or no try is left (docs/edge.md, Trying again).

        None once the answer was relayed.  What the connection set on the body when it broke
        is raised; whatever is raised, the upstream's connection was cut first.
        """
        exchange.sent = exchange.sent or self._head(exchange)
        exchange.open_calls = self._open_calls
        pool = self._upstreams.pool(exchange.upstream)
        retry, tried = pool.spec.retry, exchange.tried
        while True:
            target, exchange.chosen = exchange.chosen or pool.choose(tried), None
            if target is not None and target.has_room:
                target.enter()
            else:
                target = None if target is None else await pool.location()
                if target is None:
                    return Failure(Reason.UPSTREAM_BUSY, replayable=False)
            met: bool | None = None
            tried.append(target)
            if retry.statuses:
                self._set_retry_statuses(exchange, pool)
            try:
                # What is sent once only goes where nobody is about to hang up.
                repeatable = exchange.call.method in _REPEATABLE
                kept = target.take() if target.keeps or repeatable else None
                connection = kept or await _connect(target)
                if isinstance(connection, Reason):
                    met = False
                    # Nothing was sent: where another target lives, this costs it one call.
                    more = retry.connect and len(tried) < retry.attempts
                    if more and (pool.another_is_alive(tried) or pool.tries_again()):
                        continue
                    return Failure(connection, replayable=False)
                exchange.attach(connection)
                try:
                    if exchange.body is EMPTY_PAYLOAD:
                        self._send(exchange, connection)
                        failure = await exchange.done
                    else:
                        failure = await self._send_with_body(exchange, target, connection)
                except BaseException:
                    # The client went away, or its body broke: the upstream must notice too.
                    if connection.carries(exchange):
                        connection.abort()
                    raise
                met = kept_up(failure)
            finally:
                target.leave(met)
            if failure is None or exchange.started or not self.again(exchange, failure):
                return failure

    def again(self, exchange: Exchange, failure: Failure) -> bool:
        """Whether to try once more after a try that brought no answer."""
        if not failure.replayable or not _repeatable(exchange):
            return False
        pool = self._upstreams.pool(exchange.upstream)
        if pool.spec.retry.statuses and exchange.retry_granted:
            return True
        # Not a try of the route's: the connection had ended before it was used.
        if not exchange.replayed:
            exchange.replayed = True
            exchange.tried.pop()
            return True
        return len(exchange.tried) < pool.spec.retry.attempts and pool.tries_again()

    def _set_retry_statuses(self, exchange: Exchange, pool: UpstreamPool) -> None:
        retry = pool.spec.retry
        again = len(exchange.tried) < retry.attempts and _repeatable(exchange)
        exchange.retry_statuses, exchange.retry_granted = NO_STATUSES, False
        if again and pool.budget is not None:
            exchange.retry_statuses, exchange.retry_budget = retry.statuses, pool.budget

    def _send(self, exchange: Exchange, connection: UpstreamConnection) -> None:
        """Every call that has waited, for whatever it was, is sent from here and nowhere else.

        What let it in may have ended meanwhile.
        """
        refused = self._open_calls.refusal(exchange.principal)
        if refused is None:
            connection.send(exchange, exchange.sent)
        else:
            connection.abort()
            exchange.failed(refused, replayable=False)

    async def _send_with_body(
        self, exchange: Exchange, target: TargetPool, connection: UpstreamConnection
    ) -> Failure | None:
        body = exchange.body
        assert isinstance(body, RequestBody)
        exchange.request_sent = False
        if exchange.head.expects_continue:
            # The client is told once; each try waits for its own upstream.
            exchange.awaits_continue |= exchange.may_go_on is None
            exchange.may_go_on = self._loop.create_future()
        pump = BodyPump(
            body,
            connection,
            exchange,
            chunked=exchange.head.chunked,
            max_bytes=exchange.route.max_body_bytes,
        )
        if exchange.call.method in _NO_CONTENT_EXPECTED:
            target.part_with(connection)
        self._send(exchange, connection)
        try:
            await pump.run()
        except BodyTooLarge:
            connection.abort()
            return Failure(Reason.BODY_TOO_LARGE, replayable=False)
        return await exchange.done

    def _head(self, exchange: Exchange) -> bytes:
        """Everything up to the empty line.  Ours come last: nothing can take them away."""
        call, head, peer = exchange.call, exchange.head, exchange.client.peer
        host = head.host or call.host.encode("ascii")
        if head.plain and exchange.route.plain and host:
            lines = [head.start.text, b"Host: " + host, *head.lines]
        else:
            lines = self._changed(exchange, host)
        if peer.trusted and head.forwarded is not None:
            lines.append(appended_headers(peer.ip, call.scheme, host, head.forwarded))
        else:
            if peer.named != host:
                peer.named, peer.forwarded = host, forwarded_headers(peer.ip, peer.scheme, host)
            lines.append(peer.forwarded)
        lines.append(exchange.id_line)
        lines.append(b"traceparent: " + self._reader.traceparent(head))
        for name, value in exchange.decision.headers:
            lines.append(field_line(name, value))
        principal = exchange.decision.principal
        if principal is not None:
            lines.append(principal.identity_headers or identity_headers(principal))
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    def _changed(self, exchange: Exchange, host: bytes) -> list[bytes]:
        """The request line, `Host` and the client's fields, as the route and their framing
        want them."""
        call, head, route = exchange.call, exchange.head, exchange.route
        upstream = exchange.upstream
        # Without a rewrite, the very bytes that came: an empty query keeps its mark.
        target = head.target if route.rewrite is None and head.target[0] == "/" else ""
        target = target or exchange.decision.target or _target(call)
        named = host if upstream.host is None else upstream.host.encode("ascii")
        lines = [
            f"{call.method} {target} HTTP/1.1".encode("latin-1"),
            b"Host: " + (named or authority(upstream.targets[0])),
        ]
        claimed = route.claimed_headers
        if head.cookie is not None and self._csrf is not None and self._csrf.csrf_valid(call):
            # It goes with our cookie, as a credential does.  A backend's own token passes.
            claimed |= CSRF_NAMES
        passing = head.lines
        if head.taken is not None and route.kept_headers:
            passing = [*passing, *kept(head, route.kept_headers)]
        lines += without(passing, claimed) if claimed else passing
        if route.request_lines:
            lines.append(route.request_lines)
        # RFC 9110 section 7.6.1: what `Connection` names was for this hop alone.
        named_here = head.connection or ()
        if head.cookie is not None and b"cookie" not in claimed and b"cookie" not in named_here:
            lines += foreign_cookies(head.cookie)
        if (
            head.authorization is not None
            and route.forward_authorization
            and b"authorization" not in named_here
        ):
            lines.append(b"Authorization: " + head.authorization[0])
        if head.has_body or head.method != "GET":
            lines += _framing(head)
        if exchange.handshake is not None:
            lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
        return lines


def kept_up(failure: Failure | None) -> bool | None:
    """Whether the target did its part in a try that ended so; None where nobody can say."""
    if failure is None:
        return True
    if failure is GONE or failure.replayable or failure.reason not in _FAULTS:
        return None
    return False


def _framing(head: RequestHead) -> Sequence[bytes]:
    if head.method == "HEAD" and not head.has_body:
        # Its connection is not used again: what came of a body would be another's answer.
        return (b"Connection: close",)
    if not head.has_body:
        # RFC 9110 section 8.6: a method that expects content says that there is none.
        return (b"Content-Length: 0",) if head.method in _LENGTH_EXPECTED else ()
    framing = b"Transfer-Encoding: chunked"
    if not head.chunked:
        framing = b"Content-Length: %d" % (head.length or 0)
    lines = [framing]
    if head.method in _NO_CONTENT_EXPECTED:
        # So that it does not even read on.
        lines.append(b"Connection: close")
    if head.expects_continue:
        lines.append(b"Expect: 100-continue")
    return lines


async def _connect(target: TargetPool) -> UpstreamConnection | Reason:
    try:
        connection = await target.connect()
    except TimeoutError:
        target.missed("no answer in time")
        return Reason.UPSTREAM_TIMEOUT
    except OSError as error:
        target.missed(error.strerror or type(error).__name__)
        return Reason.UPSTREAM_UNREACHABLE
    # Nothing was sent to one that has left already: any method may be tried again.
    return connection if connection.ready else Reason.UPSTREAM_UNREACHABLE


def _repeatable(exchange: Exchange) -> bool:
    return exchange.call.method in _REPEATABLE and not exchange.body_read


def _target(call: Call) -> str:
    return f"{call.path}?{call.query}" if call.query else call.path
