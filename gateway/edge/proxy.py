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
from aiohttp.http_writer import HttpVersion10
from aiohttp.streams import EMPTY_PAYLOAD

from gateway.access.routes import is_own
from gateway.edge.body import BodyPump, BodyTooLarge
from gateway.edge.endpoints import REQUEST_ID
from gateway.edge.headers import (
    RequestFields,
    appended_headers,
    field_line,
    foreign_cookies,
    forwarded_headers,
    identity_headers,
    rate_limit_lines,
    read_fields,
)
from gateway.edge.record import Journal, Meters, NoMeters
from gateway.edge.relay import Failure, Relay
from gateway.edge.responses import HSTS, OWN_HEADERS, problem
from gateway.edge.server import Connection, Refused
from gateway.edge.upstream import TargetPool, UpstreamConnection, UpstreamPool, Upstreams
from gateway.model import Call, Reason

if TYPE_CHECKING:
    from gateway.access.decision import Decision
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


class _Relayed(web.StreamResponse):
    """An answer that is on the wire already: there is nothing left for aiohttp to write."""

    def __init__(self, *, keep_alive: bool) -> None:
        self._keep_alive = keep_alive
        self._eof_sent = True

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


_RELAYED_OPEN = _Relayed(keep_alive=True)
_RELAYED_CLOSE = _Relayed(keep_alive=False)


@dataclass(slots=True)
class _Exchange:
    """One request on its way: what the steps of `forward` share."""

    client: Connection
    request: web.BaseRequest
    fields: RequestFields
    call: Call
    decision: Decision
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

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        client = request.protocol
        assert isinstance(client, Connection)
        message = request._message
        fields = read_fields(message.raw_headers)
        request_id = self._reader.request_id(fields)
        if message.method in _REFUSED_METHODS:
            return self._refuse(
                request, request_id, Reason.METHOD_NOT_ALLOWED, allow=_ANY_METHOD, close=True
            )
        if fields.upgrade is not None and b"h2c" in fields.upgrade.lower():
            return self._refuse(request, request_id, Reason.REQUEST_MALFORMED, close=True)
        call = self._reader.read(message, fields, client.peer)
        if isinstance(call, Reason):
            return self._refuse(request, request_id, call, close=True)
        if is_own(call.segments):
            return await self._answer_own(request, call, fields, request_id)
        began = self._loop.time()
        decision = await self._gate.decide(call, self._snapshot())
        decided_s = self._loop.time() - began
        if not decision.allowed:
            return self._deny(request, request_id, call, decision, decided_s)
        return await self._forward(client, request, fields, call, decision, request_id, decided_s)

    # --- answers of our own ---

    async def _answer_own(
        self, request: web.BaseRequest, call: Call, fields: RequestFields, request_id: str
    ) -> web.StreamResponse:
        request[REQUEST_ID] = request_id
        if _expects_continue(request, fields) and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        answer = await self._own.answer(request, call)
        if not answer.prepared:
            for name, value in OWN_HEADERS.items():
                answer.headers.setdefault(name, value)
            answer.headers.setdefault("X-Request-Id", request_id)
            if call.scheme == "https":
                answer.headers.setdefault("Strict-Transport-Security", HSTS)
            self._end_with(request, answer, close=False)
        return answer

    def _deny(
        self,
        request: web.BaseRequest,
        request_id: str,
        call: Call,
        decision: Decision,
        decided_s: float,
    ) -> web.StreamResponse:
        extra = {}
        if decision.limit is not None:
            extra = {
                "RateLimit-Policy": decision.limit.policy,
                "RateLimit": decision.limit.standing(),
            }
        answer = problem(
            decision.reason,
            refusal=decision.refusal,
            request_id=request_id,
            retry_after_s=decision.retry_after_s,
            allow=decision.allow,
            conceal=decision.conceal,
            https=call.scheme == "https",
            extra=extra,
        )
        route_id = decision.route.id if decision.route is not None else ""
        self._meters.route(route_id).record(decision.reason, answer.status, decided_s)
        if self._journal is not None:
            self._journal.decided(call, decision, answer.status, request_id)
        self._end_with(request, answer, close=False)
        return answer

    def _refuse(
        self,
        request: web.BaseRequest,
        request_id: str,
        reason: Reason,
        *,
        allow: tuple[str, ...] = (),
        close: bool = False,
        route_id: str = "",
    ) -> web.StreamResponse:
        client = request.protocol
        assert isinstance(client, Connection)
        answer = problem(reason, request_id=request_id, allow=allow, https=client.peer.https)
        self._meters.route(route_id).record(reason, answer.status, 0.0)
        if self._journal is not None:
            self._journal.decided(None, None, answer.status, request_id)
        self._end_with(request, answer, close=close)
        return answer

    def _end_with(
        self, request: web.BaseRequest, answer: web.StreamResponse, *, close: bool
    ) -> None:
        """Close after this answer where the request's body has not ended (contract 5)."""
        if close or not request._payload.is_eof() or self._draining():
            answer.force_close()
            # aiohttp says it only to 1.1; a client whose version we did not read is told too.
            answer.headers["Connection"] = "close"

    # --- forwarding ---

    async def _forward(
        self,
        client: Connection,
        request: web.BaseRequest,
        fields: RequestFields,
        call: Call,
        decision: Decision,
        request_id: str,
        decided_s: float,
    ) -> web.StreamResponse:
        route = decision.route
        assert route is not None
        if route.upstream is None:
            return self._refuse(request, request_id, Reason.ROUTE_UNKNOWN)
        message = request._message
        payload = request._payload
        length = None
        if payload is not EMPTY_PAYLOAD:
            length = None if message.chunked else int(message.headers["Content-Length"])
            if length is not None and length > route.max_body_bytes:
                return self._refuse(request, request_id, Reason.BODY_TOO_LARGE, route_id=route.id)
        relay = Relay(client, self._loop)
        http10 = message.version == HttpVersion10
        relay.http10 = http10
        relay.https = call.scheme == "https"
        relay.to_head = message.method == "HEAD"
        relay.keep_alive = not message.should_close and not self._draining()
        relay.security = route.security_headers
        relay.own_cors = route.cors is not None
        relay.extra.append(b"X-Request-Id: " + request_id.encode("ascii"))
        if decision.limit is not None:
            relay.extra += rate_limit_lines(decision.limit)
        exchange = _Exchange(client, request, fields, call, decision, request_id, relay)
        exchange.head = self._request_head(exchange, length)
        began = self._loop.time()
        try:
            failure = await self._attempts(exchange, self._upstreams.pool(route.upstream))
        except Refused as refused:
            failure = Failure(refused.reason, replayable=False)
        finally:
            relay.detach()
        if failure is not None:
            if relay.started:
                relay.cut_off()
                raise ConnectionError("cut off")
            return self._refuse(request, request_id, failure.reason, route_id=route.id)
        upstream_s = relay.began_at - began
        self._meters.route(route.id).record(decision.reason, relay.status, decided_s, upstream_s)
        if self._journal is not None:
            self._journal.decided(call, decision, relay.status, request_id)
        return _RELAYED_OPEN if relay.keep_alive else _RELAYED_CLOSE

    def _request_head(self, exchange: _Exchange, length: int | None) -> bytes:
        """Everything up to the empty line.  Ours come last: nothing can take them away."""
        call, fields, decision = exchange.call, exchange.fields, exchange.decision
        route = decision.route
        assert route is not None
        assert route.upstream is not None
        peer = exchange.client.peer
        host = fields.host or call.host.encode("ascii")
        target = decision.target or _target(call)
        to = route.upstream.host.encode("ascii") if route.upstream.host is not None else host
        if not to:
            to = _authority(route.upstream.targets[0])
        parts = [
            b"%b %b HTTP/1.1\r\nHost: %b\r\n"
            % (call.method.encode("ascii"), target.encode("latin-1"), to),
            *fields.lines,
        ]
        if fields.cookie is not None:
            parts.append(foreign_cookies(fields.cookie))
        if fields.authorization is not None and route.forward_authorization:
            parts.append(b"Authorization: %b\r\n" % fields.authorization[0])
        if exchange.request._payload is not EMPTY_PAYLOAD:
            if length is None:
                parts.append(b"Transfer-Encoding: chunked\r\n")
            else:
                parts.append(b"Content-Length: %d\r\n" % length)
            if _expects_continue(exchange.request, fields):
                parts.append(b"Expect: 100-continue\r\n")
        elif call.method in _LENGTH_EXPECTED:
            # RFC 9110 section 8.6: a method that expects content says that there is none.
            parts.append(b"Content-Length: 0\r\n")
        if fields.forwarded is not None and peer.trusted:
            parts.append(appended_headers(peer.ip, call.scheme, host, fields.forwarded))
        else:
            parts.append(forwarded_headers(peer.ip, peer.scheme, host))
        parts.append(
            b"X-Request-Id: %b\r\ntraceparent: %b\r\n"
            % (exchange.request_id.encode("ascii"), self._reader.traceparent(fields))
        )
        for name, value in decision.headers:
            parts.append(field_line(name, value))
        if decision.principal is not None:
            parts.append(identity_headers(decision.principal))
        parts.append(b"\r\n")
        return b"".join(parts)

    async def _attempts(self, exchange: _Exchange, pool: UpstreamPool) -> Failure | None:
        """Send until an answer comes, or no try is left (contract 5, Retries)."""
        retry = pool.spec.retry
        tried: list[TargetPool] = []
        replayed = False
        while True:
            last = len(tried) + 1 >= retry.attempts
            target = pool.choose(tried)
            tried.append(target)
            repeatable = exchange.call.method in _REPEATABLE and not exchange.body_read
            exchange.relay.retry_statuses = (
                retry.statuses if not last and repeatable else frozenset()
            )
            target.in_flight += 1
            try:
                connection = target.take() or await self._connect(target)
                if isinstance(connection, Reason):
                    if retry.connect and not last:
                        continue
                    return Failure(connection, replayable=False)
                failure = await self._try(exchange, connection)
            finally:
                target.in_flight -= 1
            if failure is None or exchange.relay.started:
                return failure
            repeatable = exchange.call.method in _REPEATABLE and not exchange.body_read
            if not repeatable or not failure.replayable:
                return failure
            if not last:
                continue
            if replayed:
                return failure
            replayed = True
            tried.pop()

    async def _connect(self, target: TargetPool) -> UpstreamConnection | Reason:
        try:
            return await target.connect()
        except TimeoutError:
            return Reason.UPSTREAM_TIMEOUT
        except OSError:
            return Reason.UPSTREAM_UNREACHABLE

    async def _try(self, exchange: _Exchange, connection: UpstreamConnection) -> Failure | None:
        relay = exchange.relay
        payload = exchange.request._payload
        relay.attach(connection)
        try:
            if payload is EMPTY_PAYLOAD:
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
        relay, request = exchange.relay, exchange.request
        route = exchange.decision.route
        assert route is not None
        relay.request_sent = False
        if _expects_continue(request, exchange.fields):
            relay.awaits_continue = True
            relay.may_go_on = self._loop.create_future()
        pump = BodyPump(
            request._payload,
            connection,
            relay,
            chunked=bool(request._message.chunked),
            max_bytes=route.max_body_bytes,
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


def _authority(target: UpstreamTarget) -> bytes:
    """The `Host` for a client that sent none (HTTP/1.0)."""
    name = f"[{target.host}]" if ":" in target.host else target.host
    return f"{name}:{target.port}".encode("ascii")


def _target(call: Call) -> str:
    return f"{call.path}?{call.query}" if call.query else call.path


def _expects_continue(request: web.BaseRequest, fields: RequestFields) -> bool:
    """RFC 9110 section 10.1.1: to ignore from 1.0, and where there is no body."""
    return (
        fields.expect is not None
        and fields.expect.lower() == b"100-continue"
        and request._payload is not EMPTY_PAYLOAD
        and request._message.version != HttpVersion10
    )
