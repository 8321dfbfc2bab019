"""The handler of the public door: decide, then refuse, answer or forward.

Law: nothing of a request reaches an upstream before the decision, and what reaches it then is
written by this file: method, target, fields and framing.  The common path waits once, for the
end of the upstream's answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion10
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.access.routes import is_own
from gateway.edge.answers import rate_limit_lines
from gateway.edge.body import BodyPump, BodyTooLarge
from gateway.edge.endpoints import REQUEST_ID
from gateway.edge.headers import (
    RequestFields,
    appended_headers,
    field_line,
    foreign_cookies,
    forwarded_headers,
    identity_headers,
    read_fields,
)
from gateway.edge.record import Journal, Meters, NoMeters
from gateway.edge.relay import NO_STATUSES, Failure, Relay
from gateway.edge.responses import HSTS, OWN_HEADERS, answer_bytes, problem_parts
from gateway.edge.server import Connection, Refused
from gateway.edge.upstream import TargetPool, UpstreamConnection, UpstreamPool, Upstreams
from gateway.model import Call, Reason

if TYPE_CHECKING:
    from gateway.access.decision import Decision
    from gateway.access.routes import Route
    from gateway.access.snapshot import Snapshot
    from gateway.access.upstreams import UpstreamTarget
    from gateway.edge.call import CallReader

# RFC 9110 section 9.2.2, less those that this gateway refuses: a request that may be sent again.
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
_LENGTH_EXPECTED = frozenset(("POST", "PUT", "PATCH"))
_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))
_ANY_METHOD = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class OwnEndpoints(Protocol):
    """The gateway's own addresses; met by `auth_api.AuthApi`."""

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse: ...


class Decider(Protocol):
    async def decide(self, call: Call, snapshot: Snapshot) -> Decision: ...


@dataclass(slots=True)
class _Exchange:
    """One request on its way: what the steps of forwarding share."""

    client: Connection
    message: RawRequestMessage
    payload: StreamReader
    fields: RequestFields
    call: Call
    decision: Decision
    route: Route
    request_id: str
    relay: Relay
    head: bytes = b""
    body_read: bool = False


class Proxy:
    def __init__(
        self,
        gate: Decider,
        snapshot: Callable[[], Snapshot],
        reader: CallReader,
        upstreams: Upstreams,
        own: OwnEndpoints,
        *,
        meters: Meters | None = None,
        journal: Journal | None = None,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._gate = gate
        self._snapshot = snapshot
        self._reader = reader
        self._upstreams = upstreams
        self._own = own
        self._meters = meters or NoMeters()
        self._journal = journal
        self._draining = draining
        self._loop = asyncio.get_running_loop()

    async def serve(
        self, client: Connection, message: RawRequestMessage, payload: StreamReader
    ) -> bool:
        fields = read_fields(message.raw_headers)
        request_id = self._reader.request_id(fields)
        call = self._reader.read(message, fields, client.peer)
        refusal = call if isinstance(call, Reason) else None
        if message.method in _REFUSED_METHODS:
            refusal = Reason.METHOD_NOT_ALLOWED
        elif fields.upgrade is not None and b"h2c" in fields.upgrade.lower():
            refusal = Reason.REQUEST_MALFORMED
        if refusal is not None:
            return self._refuse(client, message, refusal, request_id, close=True)
        assert not isinstance(call, Reason)
        if is_own(call.segments):
            return await self._answer_own(client, message, payload, call, fields, request_id)
        began_at = self._loop.time()
        decision = await self._gate.decide(call, self._snapshot())
        decided_s = self._loop.time() - began_at
        if not decision.allowed:
            return self._deny(client, message, payload, call, decision, request_id, decided_s)
        return await self._forward(
            client, message, payload, fields, call, decision, request_id, decided_s
        )

    # --- answers of our own ---

    async def _answer_own(
        self,
        client: Connection,
        message: RawRequestMessage,
        payload: StreamReader,
        call: Call,
        fields: RequestFields,
        request_id: str,
    ) -> bool:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            request[REQUEST_ID] = request_id
            answer = await self._own.answer(request, call)
            if answer.prepared:
                return answer
            for name, value in OWN_HEADERS.items():
                answer.headers.setdefault(name, value)
            answer.headers.setdefault("X-Request-Id", request_id)
            if call.scheme == "https":
                answer.headers.setdefault("Strict-Transport-Security", HSTS)
            if not payload.is_eof() or self._draining():
                answer.force_close()
            return answer

        if _expects_continue(message, payload, fields):
            client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await client.answer(message, payload, handle)

    def _deny(
        self,
        client: Connection,
        message: RawRequestMessage,
        payload: StreamReader,
        call: Call,
        decision: Decision,
        request_id: str,
        decided_s: float,
    ) -> bool:
        extra: dict[str, str] = {}
        if decision.limit is not None:
            extra["RateLimit-Policy"] = decision.limit.policy
            extra["RateLimit"] = decision.limit.standing()
        row, headers, body = problem_parts(
            decision.reason,
            decision.refusal,
            request_id,
            retry_after_s=decision.retry_after_s,
            allow=decision.allow,
            conceal=decision.conceal,
            https=call.scheme == "https",
            extra=extra,
        )
        keep = self._keeps(message) and payload.is_eof()
        client.write(answer_bytes(row.status, headers, body, message, keep_alive=keep))
        route_id = decision.route.id if decision.route is not None else ""
        self._meters.route(route_id).record(decision.reason, row.status, decided_s)
        if self._journal is not None:
            self._journal.decided(call, decision, row.status, request_id)
        return keep

    def _refuse(
        self,
        client: Connection,
        message: RawRequestMessage,
        reason: Reason,
        request_id: str,
        *,
        close: bool,
        route_id: str = "",
    ) -> bool:
        allow = _ANY_METHOD if reason is Reason.METHOD_NOT_ALLOWED else ()
        row, headers, body = problem_parts(
            reason, None, request_id, allow=allow, https=client.peer.https
        )
        keep = not close and self._keeps(message)
        client.write(answer_bytes(row.status, headers, body, message, keep_alive=keep))
        self._meters.route(route_id).record(reason, row.status, 0.0)
        if self._journal is not None:
            self._journal.decided(None, None, row.status, request_id)
        return keep

    def _keeps(self, message: RawRequestMessage) -> bool:
        return not message.should_close and not self._draining()

    # --- forwarding ---

    async def _forward(
        self,
        client: Connection,
        message: RawRequestMessage,
        payload: StreamReader,
        fields: RequestFields,
        call: Call,
        decision: Decision,
        request_id: str,
        decided_s: float,
    ) -> bool:
        route = decision.route
        assert route is not None
        if route.upstream is None:
            return self._refuse(
                client, message, Reason.ROUTE_UNKNOWN, request_id, close=not payload.is_eof()
            )
        relay = Relay(client, self._loop)
        exchange = _Exchange(
            client, message, payload, fields, call, decision, route, request_id, relay
        )
        length = None
        if payload is not EMPTY_PAYLOAD and not message.chunked:
            length = int(message.headers["Content-Length"])
            if length > route.max_body_bytes:
                return self._refuse(
                    client,
                    message,
                    Reason.BODY_TOO_LARGE,
                    request_id,
                    close=True,
                    route_id=route.id,
                )
        self._prepare(exchange)
        exchange.head = self._request_head(exchange, length)
        began_at = self._loop.time()
        try:
            failure = await self._attempts(exchange, self._upstreams.pool(route.upstream))
        except Refused as refused:
            failure = Failure(refused.reason, replayable=False)
        if failure is not None:
            if relay.started:
                relay.cut_off()
                raise ConnectionError("cut off")
            return self._refuse(
                client,
                message,
                failure.reason,
                request_id,
                close=not payload.is_eof(),
                route_id=route.id,
            )
        self._meters.route(route.id).record(
            decision.reason, relay.status, decided_s, relay.began_at - began_at
        )
        if self._journal is not None:
            self._journal.decided(call, decision, relay.status, request_id)
        return relay.keep_alive

    def _prepare(self, exchange: _Exchange) -> None:
        """What the answer will need besides the upstream's own words."""
        relay, message, decision = exchange.relay, exchange.message, exchange.decision
        if message.version == HttpVersion10:
            relay.http10 = True
        if message.method == "HEAD":
            relay.to_head = True
        relay.https = exchange.call.scheme == "https"
        relay.keep_alive = not message.should_close and not self._draining()
        relay.security = exchange.route.security_headers
        relay.own_cors = exchange.route.cors is not None
        relay.extra = [b"X-Request-Id: " + exchange.request_id.encode("ascii")]
        if decision.limit is not None:
            relay.own_limits = True
            relay.extra += rate_limit_lines(decision.limit)

    def _request_head(self, exchange: _Exchange, length: int | None) -> bytes:
        """Everything up to the empty line.  Ours come last: nothing can take them away."""
        call, fields, decision, route = (
            exchange.call,
            exchange.fields,
            exchange.decision,
            exchange.route,
        )
        upstream = route.upstream
        assert upstream is not None
        host = fields.host or call.host.encode("ascii")
        named = upstream.host.encode("ascii") if upstream.host is not None else host
        parts = [
            b"%b %b HTTP/1.1\r\nHost: %b\r\n"
            % (
                call.method.encode("ascii"),
                (decision.target or _target(call)).encode("latin-1"),
                named or _authority(upstream.targets[0]),
            ),
            *fields.lines,
        ]
        if fields.cookie is not None:
            parts.append(foreign_cookies(fields.cookie))
        if fields.authorization is not None and route.forward_authorization:
            parts.append(b"Authorization: %b\r\n" % fields.authorization[0])
        if exchange.payload is not EMPTY_PAYLOAD:
            if length is None:
                parts.append(b"Transfer-Encoding: chunked\r\n")
            else:
                parts.append(b"Content-Length: %d\r\n" % length)
            if _expects_continue(exchange.message, exchange.payload, fields):
                parts.append(b"Expect: 100-continue\r\n")
        elif call.method in _LENGTH_EXPECTED:
            # RFC 9110 section 8.6: a method that expects content says that there is none.
            parts.append(b"Content-Length: 0\r\n")
        peer = exchange.client.peer
        if peer.trusted and fields.forwarded is not None:
            parts.append(appended_headers(peer.ip, call.scheme, host, fields.forwarded))
        else:
            if peer.named != host:
                peer.named, peer.forwarded = host, forwarded_headers(peer.ip, peer.scheme, host)
            parts.append(peer.forwarded)
        parts.append(
            b"X-Request-Id: %b\r\ntraceparent: %b\r\n"
            % (exchange.request_id.encode("ascii"), self._reader.traceparent(fields))
        )
        for name, value in decision.headers:
            parts.append(field_line(name, value))
        principal = decision.principal
        if principal is not None:
            parts.append(principal.identity_headers or identity_headers(principal))
        parts.append(b"\r\n")
        return b"".join(parts)

    async def _attempts(self, exchange: _Exchange, pool: UpstreamPool) -> Failure | None:
        """Send until an answer comes, or no try is left (contract 5, Retries)."""
        retry = pool.spec.retry
        relay = exchange.relay
        tried: list[TargetPool] = []
        replayed = False
        while True:
            target = pool.choose(tried)
            tried.append(target)
            last = len(tried) >= retry.attempts
            relay.retry_statuses = (
                retry.statuses if not last and _repeatable(exchange) else NO_STATUSES
            )
            target.in_flight += 1
            try:
                connection = target.take() or await _connect(target)
                if isinstance(connection, Reason):
                    failure: Failure | None = Failure(connection, replayable=False)
                else:
                    failure = await self._try(exchange, connection)
            finally:
                target.in_flight -= 1
            if failure is None or relay.started:
                return failure
            if isinstance(connection, Reason):
                again = retry.connect and not last
            elif not failure.replayable or not _repeatable(exchange):
                again = False
            elif last:
                # Not a try of the route's: the connection had ended before it was used.
                again, replayed = not replayed, True
                tried.pop()
            else:
                again = True
            if not again:
                return failure

    async def _try(self, exchange: _Exchange, connection: UpstreamConnection) -> Failure | None:
        relay = exchange.relay
        relay.attach(connection)
        try:
            if exchange.payload is EMPTY_PAYLOAD:
                connection.send(relay, exchange.head)
                return await relay.done
            return await self._try_with_body(exchange, connection)
        except BaseException:
            # The client went away, or its body broke: the upstream must notice too.
            connection.abort()
            raise

    async def _try_with_body(
        self, exchange: _Exchange, connection: UpstreamConnection
    ) -> Failure | None:
        relay = exchange.relay
        relay.request_sent = False
        if _expects_continue(exchange.message, exchange.payload, exchange.fields):
            relay.awaits_continue = True
            relay.may_go_on = self._loop.create_future()
        pump = BodyPump(
            exchange.payload,
            connection,
            relay,
            chunked=bool(exchange.message.chunked),
            max_bytes=exchange.route.max_body_bytes,
        )
        connection.send(relay, exchange.head)
        try:
            await pump.run()
        except BodyTooLarge:
            connection.abort()
            return Failure(Reason.BODY_TOO_LARGE, replayable=False)
        finally:
            exchange.body_read = pump.began
        return await relay.done


async def _connect(target: TargetPool) -> UpstreamConnection | Reason:
    try:
        return await target.connect()
    except TimeoutError:
        return Reason.UPSTREAM_TIMEOUT
    except OSError:
        return Reason.UPSTREAM_UNREACHABLE


def _repeatable(exchange: _Exchange) -> bool:
    """RFC 9110 section 9.2.2: whether the request may be sent again."""
    return exchange.call.method in _REPEATABLE and not exchange.body_read


def _authority(target: UpstreamTarget) -> bytes:
    """The `Host` for a client that sent none (HTTP/1.0)."""
    name = f"[{target.host}]" if ":" in target.host else target.host
    return f"{name}:{target.port}".encode("ascii")


def _target(call: Call) -> str:
    return f"{call.path}?{call.query}" if call.query else call.path


def _expects_continue(
    message: RawRequestMessage, payload: StreamReader, fields: RequestFields
) -> bool:
    """RFC 9110 section 10.1.1: to ignore from 1.0, and where there is no body."""
    return (
        fields.expect is not None
        and payload is not EMPTY_PAYLOAD
        and fields.expect.lower() == b"100-continue"
        and message.version != HttpVersion10
    )
