"""The handler of the public door: decide, then refuse, answer or forward.

Law: nothing of a request reaches an upstream before the decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.streams import StreamReader

from gateway.access.routes import Match, is_own
from gateway.edge.cors import CrossOrigin, is_preflight, requested_method
from gateway.edge.endpoints import REQUEST_ID
from gateway.edge.forward import Exchange, Forwarder
from gateway.edge.headers import RequestHead, field_line
from gateway.edge.record import Journal, Meters, NoMeters
from gateway.edge.relay import Failure, Relay
from gateway.edge.responses import HSTS, OWN_HEADERS, answer_bytes, problem_parts
from gateway.edge.server import Connection, Refused
from gateway.edge.upstream import Upstreams
from gateway.model import Call, Reason

if TYPE_CHECKING:
    from gateway.access.decision import Decision
    from gateway.access.snapshot import Snapshot
    from gateway.access.upstreams import Cors
    from gateway.edge.call import CallReader

_OWN_FIRST = frozenset(("auth", ".well-known"))
_NOTHING: Mapping[str, str] = {}
_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))
_ANY_METHOD = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class OwnEndpoints(Protocol):
    """The gateway's own addresses; met by `auth_api.AuthApi`."""

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse: ...


class Decider(Protocol):
    """`access.decision.Gate` meets it."""

    async def decide(self, call: Call, snapshot: Snapshot) -> Decision: ...


class Proxy:
    """`server.Handler` for the public door.  Made inside the running loop of its worker."""

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
        cross_origin: CrossOrigin | None = None,
    ) -> None:
        self._gate = gate
        self._snapshot = snapshot
        self._reader = reader
        self._forwarder = Forwarder(reader, upstreams)
        self._own = own
        self._meters = meters or NoMeters()
        self._journal = journal
        self._draining = draining
        self._cross_origin = cross_origin or CrossOrigin()
        self._loop = asyncio.get_running_loop()

    async def serve(self, client: Connection, head: RequestHead, body: StreamReader) -> bool:
        request_id = self._reader.request_id(head)
        if head.method in _REFUSED_METHODS:
            return self._refuse(client, head, Reason.METHOD_NOT_ALLOWED, request_id, close=True)
        if head.upgrade is not None and b"h2c" in head.upgrade.lower():
            return self._refuse(client, head, Reason.REQUEST_MALFORMED, request_id, close=True)
        call = self._reader.read(head, client.peer)
        if isinstance(call, Reason):
            return self._refuse(client, head, call, request_id, close=True)
        snapshot = self._snapshot()
        if call.segments[0] in _OWN_FIRST and is_own(call.segments):
            cors = snapshot.auth_cors if call.segments[0] == "auth" else None
            return await self._answer_own(client, head, body, call, cors, request_id)
        if head.method == "OPTIONS" and is_preflight(call):
            cors, methods = _cors_of(call, snapshot)
            if cors is not None:
                return await self._preflight(client, head, body, call, cors, methods, request_id)
        began_at = self._loop.time()
        decision = await self._gate.decide(call, snapshot)
        decided_at = self._loop.time()
        decided_s = decided_at - began_at
        extra: Mapping[str, str] = _NOTHING
        route = decision.route
        if decision.limit is not None or (route is not None and route.cors is not None):
            extra = await self._extra(call, decision)
        if not decision.allowed:
            return self._deny(client, head, body, call, decision, extra, request_id, decided_s)
        return await self._forward(
            client, head, body, call, decision, extra, request_id, decided_s, decided_at
        )

    async def _extra(self, call: Call, decision: Decision) -> dict[str, str]:
        """What every answer on the route carries, refusals included."""
        extra: dict[str, str] = {}
        if decision.limit is not None:
            extra["RateLimit-Policy"] = decision.limit.policy
            extra["RateLimit"] = decision.limit.standing()
        if decision.route is not None and decision.route.cors is not None:
            extra |= await self._cross_origin.fields(call, decision.route.cors)
        return extra

    async def _preflight(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        cors: Cors,
        methods: tuple[str, ...],
        request_id: str,
    ) -> bool:
        """Answered before limits and identity: a browser sends no credential with it."""
        fields = await self._cross_origin.preflight(call, cors, methods)
        close = not body.is_eof()
        if fields is None:
            vary = {"Vary": "Origin"}
            return self._refuse(
                client, head, Reason.CROSS_ORIGIN, request_id, close=close, extra=vary
            )
        keep = self._keeps(head) and not close
        headers = {**OWN_HEADERS, "X-Request-Id": request_id, **fields}
        client.write(answer_bytes(204, headers, b"", head, keep_alive=keep))
        self._meters.route("").record("preflight", 204, 0.0)
        return keep

    async def _answer_own(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        cors: Cors | None,
        request_id: str,
    ) -> bool:
        if cors is not None and is_preflight(call):
            return await self._preflight(client, head, body, call, cors, (), request_id)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            request[REQUEST_ID] = request_id
            answer = await self._own.answer(request, call)
            if answer.prepared:
                return answer
            for name, value in OWN_HEADERS.items():
                answer.headers.setdefault(name, value)
            answer.headers.setdefault("X-Request-Id", request_id)
            if cors is not None:
                answer.headers.update(await self._cross_origin.fields(call, cors))
            if call.scheme == "https":
                answer.headers.setdefault("Strict-Transport-Security", HSTS)
            if not body.is_eof() or self._draining():
                answer.force_close()
            return answer

        if head.expects_continue:
            client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await client.answer(head, body, handle)

    def _deny(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        decision: Decision,
        extra: Mapping[str, str],
        request_id: str,
        decided_s: float,
    ) -> bool:
        row, headers, document = problem_parts(
            decision.reason,
            decision.refusal,
            request_id,
            retry_after_s=decision.retry_after_s,
            allow=decision.allow,
            conceal=decision.conceal,
            https=call.scheme == "https",
            extra=extra,
        )
        keep = self._keeps(head) and body.is_eof()
        client.write(answer_bytes(row.status, headers, document, head, keep_alive=keep))
        route_id = decision.route.id if decision.route is not None else ""
        self._meters.route(route_id).record(decision.reason, row.status, decided_s)
        if self._journal is not None:
            self._journal.decided(call, decision, row.status, request_id)
        return keep

    def _refuse(
        self,
        client: Connection,
        head: RequestHead,
        reason: Reason,
        request_id: str,
        *,
        close: bool,
        route_id: str = "",
        extra: Mapping[str, str] | None = None,
    ) -> bool:
        """Answer what never came to a decision, or what failed after it."""
        allow = _ANY_METHOD if reason is Reason.METHOD_NOT_ALLOWED else ()
        row, headers, document = problem_parts(
            reason, None, request_id, allow=allow, https=client.peer.https, extra=extra
        )
        # What was too much to read is not read as the next request either.
        keep = not close and self._keeps(head) and reason is not Reason.BODY_TOO_LARGE
        client.write(answer_bytes(row.status, headers, document, head, keep_alive=keep))
        self._meters.route(route_id).record(reason, row.status, 0.0)
        if self._journal is not None:
            self._journal.refused(reason, route_id, request_id)
        return keep

    async def _forward(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        decision: Decision,
        extra: Mapping[str, str],
        request_id: str,
        decided_s: float,
        decided_at: float,
    ) -> bool:
        route = decision.route
        assert route is not None
        upstream = route.upstream
        refusal: Reason | None = None
        if upstream is None:
            refusal = Reason.ROUTE_UNKNOWN
        elif head.length is not None and head.length > route.max_body_bytes:
            refusal = Reason.BODY_TOO_LARGE
        if refusal is not None or upstream is None:
            return self._refuse(
                client,
                head,
                refusal or Reason.ROUTE_UNKNOWN,
                request_id,
                close=not body.is_eof(),
                route_id=route.id,
                extra=extra,
            )
        relay = Relay(
            client,
            self._loop,
            to_head=head.method == "HEAD",
            http10=not head.minor,
            keep_alive=head.keeps_open and not self._draining(),
            security=route.security_headers,
            extra=[b"X-Request-Id: " + request_id.encode("ascii")],
        )
        relay.https = call.scheme == "https"
        if extra:
            relay.own_cors = route.cors is not None
            relay.own_limits = decision.limit is not None
            relay.extra += [field_line(name, value) for name, value in extra.items()]
        exchange = Exchange(client, head, body, call, decision, route, upstream, request_id, relay)
        try:
            failure = await self._forwarder.forward(exchange)
        except Refused as refused:
            failure = Failure(refused.reason, replayable=False)
        if failure is None:
            self._meters.route(route.id).record(
                decision.reason, relay.status, decided_s, relay.began_at - decided_at
            )
            if self._journal is not None:
                self._journal.decided(call, decision, relay.status, request_id)
            return relay.keep_alive
        if relay.started:
            relay.cut_off()
            raise ConnectionError("cut off")
        return self._refuse(
            client,
            head,
            failure.reason,
            request_id,
            close=not body.is_eof(),
            route_id=route.id,
            extra=extra,
        )

    def _keeps(self, head: RequestHead) -> bool:
        return head.keeps_open and not self._draining()


def _cors_of(call: Call, snapshot: Snapshot) -> tuple[Cors | None, tuple[str, ...]]:
    """The block that judges a preflight, and the methods of its route.

    It is that of the route which the announced call would reach; where none takes the method,
    any route of the path that has a block says no.
    """
    found = snapshot.routes.match(call.host, requested_method(call), call.segments)
    if isinstance(found, Match):
        return found.route.cors, found.route.methods
    for route in snapshot.routes.candidates(call.host, call.segments):
        if route.cors is not None:
            return route.cors, route.methods
    return None, ()
