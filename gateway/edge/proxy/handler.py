"""The handler of the public listener: decide, then refuse, answer or forward.

Law: nothing of a request reaches an upstream before the decision.
"""

from __future__ import annotations

from asyncio import CancelledError, shield
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from gateway.access.authorizer import Decision
from gateway.access.parsed_bodies import drop_parsed
from gateway.access.routing.csrf import CsrfCheck, OwnOrigins
from gateway.access.routing.route_table import Match
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.cors import CrossOrigin, is_preflight, requested_method
from gateway.edge.proxy.exchange import Exchange
from gateway.edge.proxy.forwarder import Forwarder, attempt_outcome
from gateway.edge.proxy.local_replies import BuiltinEndpoints, DenialPage, LocalReplies
from gateway.edge.proxy.policy_body import not_json, take_json
from gateway.edge.proxy.request import forwarded_hosts
from gateway.edge.proxy.response_relay import CLIENT_GONE, Failure, ResponseRelay
from gateway.edge.replies.observers import DecisionObserver, NoMetrics, RequestMetrics
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.sign_in_redirects import SignInRedirects
from gateway.edge.server.eager import resume_in_task
from gateway.edge.server.listener import BadRequest, Connection, ServeResult
from gateway.edge.server.request_body import RequestBody
from gateway.edge.streams.handshake import Handshake, handshake_key, of_another_version
from gateway.edge.streams.reevaluation import PolicyEvaluator, Reevaluation
from gateway.edge.streams.registry import LongLivedRequests
from gateway.edge.upstream.clusters import Clusters
from gateway.model import Call, Principal, Reason

if TYPE_CHECKING:
    from gateway.access.definitions import Cors
    from gateway.access.snapshot import Snapshot
    from gateway.edge.proxy.request import CallReader

_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))


class RequestAuthorizer(PolicyEvaluator, Protocol):
    """`access.authorizer.Authorizer` meets it."""

    def begin(self, call: Call, snapshot: Snapshot) -> Decision | Coroutine[Any, Any, Decision]:
        """The decision, or what goes on to it from where it has to wait.  That is begun outside a
        task: what it needs a task for, it does after it has waited."""

    def decide(self, call: Call, snapshot: Snapshot) -> Coroutine[Any, Any, Decision]:
        """The same, waited for."""


class AssertionSigner(Protocol):
    """`identity.tokens.upstream_assertions.Assertions` meets it."""

    def assertion(self, principal: Principal, audience: str, method: str, path: str) -> str | None:
        """The text for `X-Auth-Assertion`; None while its key is not known."""


class Proxy:
    """`server.handler.Handler` of the public listener, made inside the loop of its worker."""

    def __init__(
        self,
        authorizer: RequestAuthorizer,
        snapshot: Callable[[], Snapshot],
        reader: CallReader,
        clusters: Clusters,
        endpoints: BuiltinEndpoints,
        *,
        long_lived: LongLivedRequests | None = None,
        metrics: RequestMetrics | None = None,
        observer: DecisionObserver | None = None,
        draining: Callable[[], bool] = lambda: False,
        assertion_signer: AssertionSigner | None = None,
        csrf: CsrfCheck | None = None,
        denial_page: DenialPage | None = None,
        sign_in_redirects: SignInRedirects | None = None,
        origins: OwnOrigins | None = None,
        problem_types: ProblemTypes | None = None,
        forwarder: Callable[..., Forwarder] = Forwarder,
    ) -> None:
        self._authorizer = authorizer
        self._snapshot = snapshot
        self._reader = reader
        # An empty registry is false.
        self._long_lived = LongLivedRequests() if long_lived is None else long_lived
        self._forwarder = forwarder(reader, clusters, self._long_lived, csrf)
        self._metrics = metrics or NoMetrics()
        self._observer = observer
        self._observes_allowed = observer is not None and observer.takes_allowed
        self._draining = draining
        self._replies = LocalReplies(
            endpoints,
            snapshot,
            metrics=self._metrics,
            observer=observer,
            draining=draining,
            cross_origin=CrossOrigin(),
            denial_page=denial_page,
            sign_in_redirects=sign_in_redirects,
            origins=origins or OwnOrigins(),
            problem_types=problem_types or ProblemTypes(),
        )
        self._assertion_signer = assertion_signer
        self._on_end = self._ended

    def serve(self, client: Connection, head: RequestHead, body: RequestBody) -> ServeResult:
        """Meets `server.handler.Handler`: what can be done at once is done without a task."""
        exchange = Exchange(client, head, body, self._reader.request_id(head))
        if not head.plain:
            refusal = _unsupported(head)
            if refusal is not None:
                return self._replies.refuse(exchange, refusal, close=True)
        call = self._reader.read(head, client.peer)
        if isinstance(call, Reason):
            return self._replies.refuse(exchange, call, close=True)
        exchange.call = call
        snapshot = self._snapshot()
        if call.files_only and not snapshot.routes.admits_files(call.host, call.segments):
            return self._replies.refuse(exchange, Reason.AMBIGUOUS_PATH, close=True)
        routes = snapshot.routes
        own_paths = routes.own_paths
        if call.segments[0] in own_paths.first and routes.reserves(call.host, call.segments):
            cors = snapshot.auth_cors if own_paths.is_endpoint(call.segments) else None
            return self._replies.endpoint(exchange, cors)
        if not head.plain:
            if head.forwarded is not None and client.peer.trusted:
                told = forwarded_hosts(head.forwarded)
                if told is None or any(h != call.host and routes.names_host(h) for h in told):
                    # Many backends serve that one, and it is another's policy that was asked.
                    return self._replies.refuse(exchange, Reason.HOST_MISMATCH, close=True)
            if head.method == "OPTIONS" and is_preflight(call):
                cors, methods = _cors_of(call, snapshot)
                if cors is not None:
                    return self._replies.preflight(exchange, cors, methods)
            if snapshot.reads_bodies and head.has_body and reads_body(call, snapshot):
                return self._decide_with_body(exchange)
        exchange.began_at = monotonic()
        begun = self._authorizer.begin(call, snapshot)
        if isinstance(begun, Decision):
            return self._decided(exchange, begun)
        try:
            awaited = begun.send(None)
        except StopIteration as completed:
            return self._decided(exchange, completed.value)
        return self._await_decision(exchange, resume_in_task(begun, awaited))

    def _decided(self, exchange: Exchange, decision: Decision) -> ServeResult:
        """The decision was made without a wait."""
        route = decision.route
        if decision.allow if route is None else route.cors is not None:
            return self._await_decision(exchange, _completed(decision))
        exchange.decision = decision
        return self._apply_decision(exchange, at_once=True)

    async def _decide_with_body(self, exchange: Exchange) -> bool:
        """The route's policy reads the body: it is read whole before the decision, which is that
        of the configuration that runs by then."""
        head, call = exchange.head, exchange.call
        if head.length and (refusal := not_json(call)) is not None:
            await self._let_page_read(exchange)
            return self._replies.refuse(exchange, refusal, close=True)
        if head.expects_continue:
            exchange.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head.expect = None
        body = await take_json(exchange.body, call)
        if isinstance(body, Reason):
            await self._let_page_read(exchange)
            return self._replies.refuse_body(exchange, body)
        exchange.body = body
        exchange.began_at = monotonic()
        deciding = self._authorizer.decide(call, self._snapshot())
        return await self._await_decision(exchange, deciding)

    async def _let_page_read(self, exchange: Exchange) -> None:
        """Before it is decided, what the route's `cors` adds to an answer."""
        call = exchange.call
        match = self._snapshot().routes.match(call.host, call.method, call.segments)
        if isinstance(match, Match) and match.route.cors is not None:
            exchange.cors_headers = await self._replies.cors_headers(call, match.route.cors)

    async def _await_decision(self, exchange: Exchange, pending: Awaitable[Decision]) -> bool:
        decision = await pending
        if (cors := _cors_of_answer(decision, exchange.call, self._snapshot())) is not None:
            exchange.cors_headers = await self._replies.cors_headers(exchange.call, cors)
        if decision.allowed:
            # It may have waited for a limit since it was known who calls.
            reason = self._long_lived.refusal(decision.principal)
            if reason is not None:
                decision = replace(decision, allowed=False, reason=reason, refusal=reason)
        exchange.decision = decision
        outcome = self._apply_decision(exchange, at_once=False)
        assert outcome is not None
        return outcome if isinstance(outcome, bool) else await outcome

    def _apply_decision(self, exchange: Exchange, *, at_once: bool) -> ServeResult:
        """Deny, answer or forward.  Only with `at_once` may the end be told to `_ended`."""
        exchange.decided_at = decided_at = monotonic()
        exchange.decided_s = decided_at - exchange.began_at
        head, decision = exchange.head, exchange.decision
        route = decision.route
        if not decision.allowed or route is None:
            return self._replies.deny(exchange)
        exchange.route = route
        plain = head.plain and route.plain
        upstream = route.upstream
        if upstream is None or not plain:
            if (slash := route.slash_target(exchange.call)) is not None:
                return self._replies.redirect(exchange, slash)
            if route.direct_response is not None:
                return self._replies.direct_response(exchange, route.direct_response)
            refusal = self._unsendable(exchange)
            if refusal is not None or upstream is None:
                return self._replies.fail(exchange, refusal or Reason.ROUTE_UNKNOWN)
        exchange.upstream = upstream
        keep_alive = (head.plain or head.keeps_open) and not self._draining()
        relay = ResponseRelay(exchange, self._long_lived, keep_alive)
        if not plain:
            if exchange.call.raw_body:
                judged_again = route.reevaluates or self._observes_allowed
                drop_parsed(exchange.call, route, judged_again=judged_again)
            if route.reevaluates:
                unread = head.has_body and not route.reads_body
                relay.reevaluation = Reevaluation(
                    exchange.call, route, self._authorizer, self._snapshot, body_is_unread=unread
                )
            if head.upgrade is not None and (key := handshake_key(head)) is not None:
                return self._open_socket(relay, key)
        if at_once and self._forwarder.begin(relay, self._on_end):
            return None
        return self._forward(relay)

    def _unsendable(self, exchange: Exchange) -> Reason | None:
        """Why a call that may pass is not sent."""
        head, route, upstream = exchange.head, exchange.route, exchange.route.upstream
        if upstream is None:
            return Reason.ROUTE_UNKNOWN
        if head.upgrade is not None and of_another_version(head):
            return Reason.UPGRADE_REQUIRED
        if head.length is not None and head.length > route.max_body_bytes:
            return Reason.BODY_TOO_LARGE
        audience = upstream.assertion_audience
        if audience is not None and not self._add_assertion(exchange, audience):
            return Reason.STORE_UNAVAILABLE
        return None

    def _add_assertion(self, exchange: Exchange, audience: str) -> bool:
        """Add `X-Auth-Assertion` to what the upstream is sent; False where it cannot be made."""
        call, decision = exchange.call, exchange.decision
        if decision.principal is None:
            return True
        if self._assertion_signer is None:
            return False
        path = decision.target.partition("?")[0] or call.path
        assertion = self._assertion_signer.assertion(
            decision.principal, audience, call.method, path
        )
        if assertion is None:
            return False
        decision.headers = (*decision.headers, ("X-Auth-Assertion", assertion))
        return True

    async def _forward(self, relay: ResponseRelay) -> bool:
        try:
            failure = await self._forwarder.forward(relay)
        except BadRequest as bad:
            failure = Failure(bad.reason, replayable=False)
        except (CancelledError, ConnectionError):
            if relay.started:
                # The end of the client's connection cancels this task.
                self._record_aborted(relay, relay.aborted_for or relay.exchange.decision.reason)
            raise
        if failure is not None:
            return self._failed(relay, failure)
        return self._answered(relay)

    async def _open_socket(self, relay: ResponseRelay, key: bytes) -> bool:
        exchange = relay.exchange
        handshake = Handshake(
            key, exchange.call, exchange.decision, relay.reevaluation, self._long_lived
        )
        slot = handshake.acquire_slot()
        if slot is None:
            return self._failed(relay, Failure(Reason.RATE_LIMITED, replayable=False))
        relay.handshake = handshake
        try:
            keep_alive = await self._forward(relay)
            if handshake.tunnel is not None:
                await shield(handshake.tunnel.ended)
            return keep_alive
        finally:
            # The end of the client's connection cancels this task, and its upstream's may last.
            tunnel = handshake.tunnel
            if tunnel is None or tunnel.ended.done():
                slot.release()
            else:
                tunnel.ended.add_done_callback(lambda _: slot.release())

    def _ended(self, relay: ResponseRelay, failure: Failure | None) -> None:
        """The end of what `Forwarder.begin` began, told from the upstream's read callback."""
        exchange = relay.exchange
        target = relay.tried[-1]
        if target.health is not None:
            target.record_end(attempt_outcome(relay, failure), exchange.call.client_ip)
        target.release(exchange.call.client_ip)
        if failure is None:
            exchange.client.ended(self._answered(relay))
        elif relay.started:
            self._record_aborted(relay, relay.aborted_for or exchange.decision.reason)
        elif failure is not CLIENT_GONE:
            retry = self._forwarder.may_retry(relay, failure)
            work = self._forward(relay) if retry else self._fail_later(relay, failure)
            exchange.client.run(work, exchange.head, exchange.body)

    async def _fail_later(self, relay: ResponseRelay, failure: Failure) -> bool:
        return self._failed(relay, failure)

    def _failed(self, relay: ResponseRelay, failure: Failure) -> bool:
        if relay.started:
            relay.abort()
            self._record_aborted(relay, failure.reason)
            raise ConnectionError("cut off")
        return self._replies.fail(relay.exchange, failure.reason)

    def _answered(self, relay: ResponseRelay) -> bool:
        exchange, decision = relay.exchange, relay.exchange.decision
        self._metrics.route(exchange.route.id).record(
            decision.reason,
            relay.status,
            exchange.decided_s,
            relay.answered_at - exchange.decided_at,
        )
        if self._observes_allowed or decision.shadowed:
            took_s = relay.answered_at - exchange.began_at
            self._replies.log_decision(exchange, relay.status, took_s)
        return relay.keep_alive

    def observers_changed(self) -> None:
        """Whether anybody takes what was allowed is asked once, and not on each call."""
        observer = self._observer
        self._observes_allowed = observer is not None and observer.takes_allowed

    def _record_aborted(self, relay: ResponseRelay, reason: str) -> None:
        """Count a response that was begun and aborted, by the reason for that."""
        exchange = relay.exchange
        self._metrics.route(exchange.route.id).record(
            reason, relay.status, exchange.decided_s, relay.answered_at - exchange.decided_at
        )
        if isinstance(reason, Reason) and reason is not exchange.decision.reason:
            self._replies.log_aborted(exchange, relay.status, reason)


def _unsupported(head: RequestHead) -> Reason | None:
    """Why a request is not for this gateway at all."""
    if head.method in _REFUSED_METHODS:
        return Reason.METHOD_NOT_ALLOWED
    if head.upgrade is not None and b"h2c" in head.upgrade.lower():
        return Reason.REQUEST_MALFORMED
    return None


async def _completed(decision: Decision) -> Decision:
    return decision


def reads_body(call: Call, snapshot: Snapshot) -> bool:
    """Whether the policy of its route wants to see the body."""
    match = snapshot.routes.match(call.host, call.method, call.segments)
    return isinstance(match, Match) and match.route.reads_body


def _cors_of_answer(decision: Decision, call: Call, snapshot: Snapshot) -> Cors | None:
    """The block by which a page may read the answer."""
    if decision.route is not None:
        return decision.route.cors
    return _cors_of_path(call, snapshot)[0] if decision.allow else None


def _cors_of(call: Call, snapshot: Snapshot) -> tuple[Cors | None, tuple[str, ...]]:
    """The block that judges a preflight, and the methods of its route: that which the announced
    call would reach."""
    match = snapshot.routes.match(call.host, requested_method(call), call.segments)
    if isinstance(match, Match):
        return match.route.cors, match.route.methods
    return _cors_of_path(call, snapshot)


def _cors_of_path(call: Call, snapshot: Snapshot) -> tuple[Cors | None, tuple[str, ...]]:
    """Where no route of the path takes the method, any that has a block says no."""
    for route in snapshot.routes.candidates(call.host, call.segments):
        if route.cors is not None:
            return route.cors, route.methods
    return None, ()
