"""The handler of the public door: decide, then refuse, answer or forward.

Law: nothing of a request reaches an upstream before the decision.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp.streams import StreamReader

from gateway.access.routing.csrf import CsrfCheck
from gateway.access.routing.route_table import Match, is_own
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.cors import CrossOrigin, is_preflight, requested_method
from gateway.edge.proxy.forwarder import Exchange, Forwarder, kept_up
from gateway.edge.proxy.local_replies import OwnAnswers, OwnEndpoints, with_limit
from gateway.edge.proxy.policy_body import not_json, take_json
from gateway.edge.proxy.response_relay import GONE, Failure
from gateway.edge.replies.observers import Journal, Meters, NoMeters
from gateway.edge.server.eager import rest_of
from gateway.edge.server.listener import Connection, Outcome, Refused
from gateway.edge.streams.handshake import Handshake, handshake_key, of_another_version
from gateway.edge.streams.reevaluation import Judge, Rejudged
from gateway.edge.streams.registry import OpenCalls
from gateway.edge.upstream.clusters import Upstreams
from gateway.model import Call, Principal, Reason

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.definitions import Cors
    from gateway.access.routing.routes import Route
    from gateway.access.snapshot import Snapshot
    from gateway.edge.proxy.request import CallReader

_OWN_FIRST = frozenset(("auth", ".well-known"))
_NOTHING: Mapping[str, str] = {}
_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))


class Decider(Judge, Protocol):
    """`access.decision.Gate` meets it."""

    def decide(self, call: Call, snapshot: Snapshot) -> Coroutine[Any, Any, Decision]:
        """It is begun outside a task: what it needs a task for, it does after it has waited."""


class Asserter(Protocol):
    """`identity.assertions.Assertions` meets it."""

    def assertion(self, who: Principal, audience: str, method: str, path: str) -> str | None:
        """The text for `X-Auth-Assertion`; None while its key is not known."""


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
        open_calls: OpenCalls | None = None,
        meters: Meters | None = None,
        journal: Journal | None = None,
        draining: Callable[[], bool] = lambda: False,
        cross_origin: CrossOrigin | None = None,
        asserter: Asserter | None = None,
        csrf: CsrfCheck | None = None,
    ) -> None:
        self._gate = gate
        self._snapshot = snapshot
        self._reader = reader
        # An empty registry is false.
        self._open_calls = OpenCalls() if open_calls is None else open_calls
        self._forwarder = Forwarder(reader, upstreams, self._open_calls, csrf)
        self._meters = meters or NoMeters()
        self._journals_all = journal is not None and journal.takes_allowed
        self._draining = draining
        self._answers = OwnAnswers(
            own,
            snapshot,
            self._meters,
            journal,
            draining,
            cross_origin or CrossOrigin(),
        )
        self._asserter = asserter
        self._on_end = self._ended

    def serve(self, client: Connection, head: RequestHead, body: StreamReader) -> Outcome:
        """Meets `server.Handler`: what can be done at once is done without a task."""
        request_id = self._reader.request_id(head)
        if not head.plain:
            refusal = _unserved(head)
            if refusal is not None:
                return self._answers.refuse(client, head, refusal, request_id, close=True)
        call = self._reader.read(head, client.peer)
        if isinstance(call, Reason):
            return self._answers.refuse(client, head, call, request_id, close=True)
        snapshot = self._snapshot()
        if call.segments[0] in _OWN_FIRST and is_own(call.segments):
            cors = snapshot.auth_cors if call.segments[0] == "auth" else None
            return self._answers.endpoint(client, head, body, call, cors, request_id)
        if not head.plain:
            if head.method == "OPTIONS" and is_preflight(call):
                cors, methods = _cors_of(call, snapshot)
                if cors is not None:
                    return self._answers.preflight(
                        client, head, body, call, cors, methods, request_id
                    )
            if snapshot.reads_bodies and head.has_body and _reads_body(call, snapshot):
                return self._judged_with_body(client, head, body, call, snapshot, request_id)
        began_at = monotonic()
        deciding = self._gate.decide(call, snapshot)
        try:
            waited_for = deciding.send(None)
        except StopIteration as decided:
            decision: Decision = decided.value
            if decision.route is None or decision.route.cors is None:
                return self._act(
                    client, head, body, call, decision, _NOTHING, request_id, began_at, at_once=True
                )
            rest: Awaitable[Decision] = _at_hand(decision)
        else:
            rest = rest_of(deciding, waited_for)
        return self._decided_later(client, head, body, call, rest, request_id, began_at)

    async def _judged_with_body(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        snapshot: Snapshot,
        request_id: str,
    ) -> bool:
        """The route's policy reads the body: it is here whole before the decision."""
        if head.length and (refusal := not_json(call)) is not None:
            return self._answers.refuse(client, head, refusal, request_id, close=True)
        if head.expects_continue:
            client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head.expect = None
        taken = await take_json(body, head, call)
        if isinstance(taken, Reason):
            return self._answers.refuse(client, head, taken, request_id, close=True)
        began_at = monotonic()
        deciding = self._gate.decide(call, snapshot)
        return await self._decided_later(client, head, taken, call, deciding, request_id, began_at)

    async def _decided_later(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        deciding: Awaitable[Decision],
        request_id: str,
        began_at: float,
    ) -> bool:
        decision = await deciding
        extra: Mapping[str, str] = _NOTHING
        if decision.route is not None and decision.route.cors is not None:
            extra = await self._answers.cors_fields(call, decision.route.cors)
        if decision.allowed:
            # It may have waited for a limit since it was known who calls.
            ended = self._open_calls.refusal(decision.principal)
            if ended is not None:
                decision = replace(decision, allowed=False, reason=ended, refusal=ended)
        outcome = self._act(
            client, head, body, call, decision, extra, request_id, began_at, at_once=False
        )
        assert outcome is not None
        return outcome if isinstance(outcome, bool) else await outcome

    def _act(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        decision: Decision,
        extra: Mapping[str, str],
        request_id: str,
        began_at: float,
        *,
        at_once: bool,
    ) -> Outcome:
        decided_at = monotonic()
        decided_s = decided_at - began_at
        route = decision.route
        if not decision.allowed or route is None:
            return self._answers.deny(
                client, head, body, call, decision, extra, request_id, decided_s
            )
        upstream = route.upstream
        if upstream is None or not (head.plain and route.plain):
            if route.answer is not None:
                return self._answers.for_route(
                    client, head, body, call, decision, route, extra, request_id, decided_s
                )
            refusal = self._unsendable(head, call, decision, route)
            if refusal is not None or upstream is None:
                limit = with_limit(extra, decision)
                return self._answers.refuse(
                    client,
                    head,
                    refusal or Reason.ROUTE_UNKNOWN,
                    request_id,
                    close=not body.is_eof(),
                    route_id=route.id,
                    extra=limit,
                )
        exchange = Exchange(
            client,
            head,
            body,
            call,
            decision,
            route,
            upstream,
            request_id,
            extra,
            decided_s,
            decided_at,
            (head.plain or head.keeps_open) and not self._draining(),
        )
        if not (head.plain and route.plain):
            if route.reevaluates:
                exchange.rejudged = Rejudged(call, route, self._gate, self._snapshot)
            if head.upgrade is not None and (key := handshake_key(head)) is not None:
                handshake = Handshake(key, call, decision, exchange.rejudged, self._open_calls)
                exchange.handshake = handshake
                return self._open_socket(exchange, handshake)
        if at_once and self._forwarder.begin(exchange, self._on_end):
            return None
        return self._forward(exchange)

    def _unsendable(
        self, head: RequestHead, call: Call, decision: Decision, route: Route
    ) -> Reason | None:
        """Why a call that may pass is not sent."""
        upstream = route.upstream
        if upstream is None:
            return Reason.ROUTE_UNKNOWN
        if head.upgrade is not None and of_another_version(head):
            return Reason.UPGRADE_REQUIRED
        if head.length is not None and head.length > route.max_body_bytes:
            return Reason.BODY_TOO_LARGE
        audience = upstream.assertion_audience
        if audience is not None and not self._asserted(call, decision, audience):
            return Reason.STORE_UNAVAILABLE
        return None

    def _asserted(self, call: Call, decision: Decision, audience: str) -> bool:
        """Adds `X-Auth-Assertion` to what the upstream is sent; False where it cannot be made."""
        if decision.principal is None:
            return True
        path = decision.target.partition("?")[0] or call.path
        text = (
            None
            if self._asserter is None
            else self._asserter.assertion(decision.principal, audience, call.method, path)
        )
        if text is None:
            return False
        decision.headers = (*decision.headers, ("X-Auth-Assertion", text))
        return True

    async def _forward(self, exchange: Exchange) -> bool:
        try:
            failure = await self._forwarder.forward(exchange)
        except Refused as refused:
            failure = Failure(refused.reason, replayable=False)
        except (CancelledError, ConnectionError):
            if exchange.started:
                # The end of the client's connection cancels this task.
                self._record(exchange, exchange.cut_for or exchange.decision.reason)
            raise
        if failure is not None:
            return self._failed(exchange, failure)
        return self._answered(exchange)

    async def _open_socket(self, exchange: Exchange, handshake: Handshake) -> bool:
        seat = handshake.seat()
        if seat is None:
            return self._failed(exchange, Failure(Reason.RATE_LIMITED, replayable=False))
        try:
            keep = await self._forward(exchange)
            if handshake.tunnel is not None:
                await handshake.tunnel.ended
            return keep
        finally:
            seat.leave()

    def _ended(self, exchange: Exchange, failure: Failure | None) -> None:
        """The end of what `Forwarder.begin` began, told from the upstream's read callback."""
        target = exchange.tried[-1]
        target.leave(None if target.standing is None else kept_up(failure))
        client = exchange.client
        if failure is None:
            client.ended(self._answered(exchange))
        elif exchange.started:
            self._record(exchange, exchange.cut_for or exchange.decision.reason)
        elif failure is not GONE:
            again = self._forwarder.again(exchange, failure)
            rest = self._forward(exchange) if again else self._fail_later(exchange, failure)
            client.run(rest, exchange.head, exchange.body)

    async def _fail_later(self, exchange: Exchange, failure: Failure) -> bool:
        return self._failed(exchange, failure)

    def _failed(self, exchange: Exchange, failure: Failure) -> bool:
        if exchange.started:
            exchange.cut_off()
            self._record(exchange, failure.reason)
            raise ConnectionError("cut off")
        return self._answers.refuse(
            exchange.client,
            exchange.head,
            failure.reason,
            exchange.request_id,
            close=not exchange.body.is_eof(),
            route_id=exchange.route.id,
            extra=with_limit(exchange.extra, exchange.decision),
        )

    def _answered(self, exchange: Exchange) -> bool:
        decision = exchange.decision
        self._record(exchange, decision.reason)
        if self._journals_all or decision.shadowed:
            self._answers.told(exchange.call, decision, exchange.status, exchange.request_id)
        return exchange.keep_alive

    def _record(self, exchange: Exchange, reason: str) -> None:
        """Count an answer of an upstream, one that was cut off by the reason for that."""
        self._meters.route(exchange.route.id).record(
            reason,
            exchange.status,
            exchange.decided_s,
            exchange.answered_at - exchange.decided_at,
        )


def _unserved(head: RequestHead) -> Reason | None:
    """Why a request is not for this gateway at all."""
    if head.method in _REFUSED_METHODS:
        return Reason.METHOD_NOT_ALLOWED
    if head.upgrade is not None and b"h2c" in head.upgrade.lower():
        return Reason.REQUEST_MALFORMED
    return None


async def _at_hand(decision: Decision) -> Decision:
    return decision


def _reads_body(call: Call, snapshot: Snapshot) -> bool:
    found = snapshot.routes.match(call.host, call.method, call.segments)
    return isinstance(found, Match) and found.route.reads_body


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
