"""A call that may pass, on its way to an upstream: its head written anew, tried and tried again.

Law: every byte of the request line, the fields and the framing that an upstream reads is
written here.  The common path waits once, for the end of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from gateway.access.routing.csrf import CsrfCheck
from gateway.edge.http1.field_lines import field_line
from gateway.edge.http1.request_head import CSRF_NAMES, RequestHead
from gateway.edge.proxy.request_body import BodyPump, BodyTooLarge
from gateway.edge.proxy.request_headers import (
    LineFilters,
    appended_headers,
    foreign_cookies,
    forwarded_headers,
    identity_headers,
    identity_lines,
    kept,
)
from gateway.edge.proxy.response_relay import CLIENT_GONE, NO_STATUSES, Failure, ResponseRelay
from gateway.edge.server.request_body import EMPTY_BODY, BadRequest
from gateway.edge.streams.registry import LongLivedRequests
from gateway.edge.upstream.clusters import Cluster, Clusters, TargetPool, authority
from gateway.edge.upstream.connection import UpstreamConnection
from gateway.edge.upstream.outcome import (
    ENDED_AT_ONCE,
    NO_DESCRIPTOR,
    NoConnection,
    Outcome,
    no_connection,
)
from gateway.edge.upstream.target_pool import NoDescriptor
from gateway.model import Call, Reason

if TYPE_CHECKING:
    from gateway.edge.proxy.request import CallReader

# RFC 9110 section 9.2.2, less TRACE, which is refused: a request that may be sent again.
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
_FAULTS = frozenset(
    (Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_MALFORMED, Reason.UPSTREAM_TIMEOUT)
)
# RFC 9110 sections 9.3.1, 9.3.2, 9.3.5, 9.3.7: content has no defined meaning here.  A backend
# that ignores it would read it as the next request, of whoever is served next.
_NO_CONTENT_EXPECTED = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
_LENGTH_EXPECTED = frozenset(("POST", "PUT", "PATCH"))


@mypyc_attr(allow_interpreted_subclasses=True)
class Forwarder:
    def __init__(
        self,
        reader: CallReader,
        clusters: Clusters,
        long_lived: LongLivedRequests,
        csrf: CsrfCheck | None = None,
    ) -> None:
        self._reader = reader
        self._csrf = csrf
        self._clusters = clusters
        self._long_lived = long_lived
        self._line_filters = LineFilters()
        self._loop = asyncio.get_running_loop()

    def begin(
        self, relay: ResponseRelay, on_end: Callable[[ResponseRelay, Failure | None], None]
    ) -> bool:
        """Send at once, where there is no body to wait for and an idle connection to send on.

        `on_end` is then told of the end, and whether `may_retry` is asked by it.
        """
        exchange = relay.exchange
        if exchange.body is not EMPTY_BODY:
            return False
        cluster = self._clusters.cluster_of(exchange.upstream)
        client_ip = exchange.call.client_ip
        target = cluster.choose(client_ip)
        if target is None or (
            cluster.spec.max_connections and not target.has_capacity_for(client_ip)
        ):
            relay.chosen = target
            return False
        repeatable = target.keeps_idle or exchange.call.method in _REPEATABLE
        connection = target.take_idle() if repeatable else None
        if connection is None:
            target.reserve(client_ip)
            relay.chosen = target
            return False
        relay.upstream_head = self._head(relay)
        self.note_attempt(relay, target)
        if cluster.spec.retry.statuses:
            _set_retry_statuses(relay, cluster)
        target.acquire(client_ip)
        relay.on_end = on_end
        relay.attach(connection)
        connection.send(relay, relay.upstream_head)
        return True

    async def forward(self, relay: ResponseRelay) -> Failure | None:
        """Send until a response comes, or no attempt is left (docs/edge.md, Trying again).

        None once the response was relayed.  What the connection set on the body when it broke
        is raised; whatever is raised, the upstream's connection was cut first.
        """
        exchange = relay.exchange
        relay.upstream_head = relay.upstream_head or self._head(relay)
        cluster = self._clusters.cluster_of(exchange.upstream)
        retry, tried, client_ip = cluster.spec.retry, relay.tried, exchange.call.client_ip
        while True:
            target, relay.chosen = relay.chosen or cluster.choose(client_ip, tried), None
            if target is not None and target.has_capacity_for(client_ip):
                target.acquire(client_ip)
            else:
                target = None if target is None else await cluster.acquire_slot(client_ip)
                if target is None:
                    return Failure(Reason.UPSTREAM_BUSY, replayable=False)
            outcome: Outcome | None = None
            self.note_attempt(relay, target)
            if retry.statuses:
                _set_retry_statuses(relay, cluster)
            try:
                # What is sent once only goes where nobody is about to hang up.
                repeatable = exchange.call.method in _REPEATABLE
                idle = target.take_idle() if target.keeps_idle or repeatable else None
                connection = idle or await _connect(target, repeatable)
                if isinstance(connection, NoConnection):
                    if connection is NO_DESCRIPTOR:
                        return Failure(connection.reason, replayable=False)
                    outcome = connection.outcome
                    # Nothing was sent: where another target lives, this costs it one call.
                    more = retry.connect and len(tried) < retry.attempts
                    if not more or not (
                        cluster.has_untried_target(tried) or cluster.acquire_retry()
                    ):
                        return Failure(connection.reason, replayable=False)
                else:
                    relay.attach(connection)
                    done = relay.done
                    try:
                        failure = await self._exchange(relay, target, connection)
                        outcome = attempt_outcome(relay, failure)
                    except BaseException:
                        # Where the answer broke, the client was cut off, and this task with it.
                        if done.done() and not done.cancelled():
                            outcome = attempt_outcome(relay, done.result())
                        raise
            finally:
                target.record_end(outcome, client_ip)
                target.release(client_ip)
            if isinstance(connection, NoConnection):
                continue
            if failure is None or relay.started or not self.may_retry(relay, failure):
                return failure

    async def _exchange(
        self, relay: ResponseRelay, target: TargetPool, connection: UpstreamConnection
    ) -> Failure | None:
        """One attempt over this connection, which does not outlive what is raised."""
        try:
            if relay.exchange.body is EMPTY_BODY:
                self._send(relay, connection)
                return await relay.done
            return await self._send_with_body(relay, target, connection)
        except BaseException:
            # The client went away, or its body broke: the upstream must notice too.
            if connection.carries(relay):
                connection.abort()
            raise

    def note_attempt(self, relay: ResponseRelay, target: TargetPool) -> None:
        """It is this target's turn; nothing has been sent to it."""
        relay.tried.append(target)

    def may_retry(self, relay: ResponseRelay, failure: Failure) -> bool:
        """Whether to try once more after an attempt that brought no response."""
        if not failure.replayable or not _repeatable(relay):
            return False
        exchange = relay.exchange
        cluster = self._clusters.cluster_of(exchange.upstream)
        if cluster.spec.retry.statuses and relay.retry_granted:
            return True
        # Not an attempt of the route's: the connection had ended before it was used.
        if not relay.replayed:
            relay.replayed = True
            relay.tried.pop()
            return True
        return len(relay.tried) < cluster.spec.retry.attempts and cluster.acquire_retry()

    def _send(
        self, relay: ResponseRelay, connection: UpstreamConnection, first: bytes = b""
    ) -> None:
        """Every call that has waited, for whatever it was, is sent from here and nowhere else;
        `first` is what goes with its head.

        What let it in may have ended meanwhile.
        """
        refusal = self._long_lived.refusal(relay.principal)
        if refusal is None and relay.reevaluation is not None and relay.reevaluation.pending:
            # Its first attempt failed before it was its turn.
            again = relay.reevaluation.refusal(relay.principal)
            refusal = None if again is None else again[0]
        if refusal is None:
            connection.send(relay, relay.upstream_head + first)
        else:
            connection.abort()
            relay.failed(refusal, replayable=False)

    async def _send_with_body(
        self, relay: ResponseRelay, target: TargetPool, connection: UpstreamConnection
    ) -> Failure | None:
        exchange = relay.exchange
        body = exchange.body
        relay.request_sent = False
        if exchange.head.expects_continue:
            # The client is told once; each attempt waits for its own upstream.
            relay.awaits_continue |= relay.continue_sent is None
            relay.continue_sent = self._loop.create_future()
        pump = BodyPump(
            body,
            connection,
            relay,
            chunked=exchange.head.chunked,
            max_bytes=exchange.route.max_body_bytes,
        )
        if exchange.call.method in _NO_CONTENT_EXPECTED:
            target.retire_connection(connection)
        try:
            self._send(relay, connection, _first_of_body(relay, connection, pump))
            await pump.run()
        except BodyTooLarge:
            connection.abort()
            return Failure(Reason.BODY_TOO_LARGE, replayable=False)
        return await relay.done

    def _head(self, relay: ResponseRelay) -> bytes:
        """Everything up to the empty line.  Ours come last: nothing can take them away."""
        exchange = relay.exchange
        call, head, peer = exchange.call, exchange.head, exchange.client.peer
        host = head.host or call.host.encode("ascii")
        plain = head.plain and exchange.route.plain and host
        if plain:
            lines = [head.start.text, b"Host: " + host, *head.lines]
        else:
            lines = self._changed(relay, host)
        if peer.trusted and head.forwarded is not None:
            claimed = exchange.route.claimed_headers
            lines.append(appended_headers(peer.ip, call.scheme, host, head.forwarded, claimed))
        else:
            if peer.named != host:
                peer.named, peer.forwarded = host, forwarded_headers(peer.ip, peer.scheme, host)
            lines.append(peer.forwarded)
        lines.append(relay.id_line)
        lines.append(b"traceparent: " + self._reader.traceparent(head))
        for name, value in exchange.decision.headers:
            lines.append(field_line(name, value))
        principal = exchange.decision.principal
        if principal is not None:
            if plain:
                lines.append(principal.identity_headers or identity_headers(principal))
            elif told := identity_lines(exchange.route, principal):
                lines.append(told)
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    def _changed(self, relay: ResponseRelay, host: bytes) -> list[bytes]:
        """The request line, `Host` and the client's fields, as the route and their framing
        want them."""
        exchange = relay.exchange
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
        lines += self._line_filters.without(passing, claimed) if claimed else passing
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
        if relay.handshake is not None:
            lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
        return lines


def attempt_outcome(relay: ResponseRelay, failure: Failure | None) -> Outcome | None:
    """What an attempt that was sent, and ended so, tells of its target; None for nothing."""
    if failure is None:
        return Outcome.ANSWERED
    if failure is CLIENT_GONE or failure.replayable or failure.reason not in _FAULTS:
        return None
    if failure.reason is Reason.UPSTREAM_TIMEOUT:
        # Once it has answered: a stream in which nothing happens for as long as may be.
        return None if relay.started else Outcome.BROKEN
    # It gave up waiting for who reads an answer slowly, or sends a body so.
    if (relay.started and relay.held_back) or not relay.request_sent:
        return None
    return Outcome.BROKEN


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


def _first_of_body(relay: ResponseRelay, connection: UpstreamConnection, pump: BodyPump) -> bytes:
    """What goes in one write with the head; nothing for a client that waits to be asked for it, or
    on a connection that has ended, so that another attempt finds the body whole."""
    if relay.continue_sent is not None or not connection.ready:
        return b""
    try:
        return pump.first()
    except BadRequest:
        connection.abort()
        raise


async def _connect(target: TargetPool, repeatable: bool) -> UpstreamConnection | NoConnection:
    try:
        connection = await target.obtain(repeatable=repeatable)
    except NoDescriptor:
        failed = NO_DESCRIPTOR
    except OSError as error:  # TimeoutError is one
        failed = no_connection(error)
    else:
        # Nothing was sent to one that has left already: any method may be tried again.
        return connection if connection.ready else ENDED_AT_ONCE
    target.record_connect_failure(failed.why)
    return failed


def _set_retry_statuses(relay: ResponseRelay, cluster: Cluster) -> None:
    retry = cluster.spec.retry
    attempts_left = len(relay.tried) < retry.attempts
    relay.retry_statuses, relay.retry_granted = NO_STATUSES, False
    if attempts_left and cluster.budget is not None and _repeatable(relay):
        relay.retry_statuses, relay.retry_budget = retry.statuses, cluster.budget


def _repeatable(relay: ResponseRelay) -> bool:
    return relay.exchange.call.method in _REPEATABLE and not relay.body_read


def _target(call: Call) -> str:
    return f"{call.path}?{call.query}" if call.query else call.path
