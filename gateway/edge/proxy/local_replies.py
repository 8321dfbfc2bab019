"""What the public listener answers by itself: denials, refusals, preflights, built-in endpoints.

Each method returns whether the connection may go on after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from gateway.access.definitions import DEFAULT_CHALLENGE
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.cors import CrossOrigin, is_preflight
from gateway.edge.proxy.exchange import Exchange
from gateway.edge.replies.challenges import resource_challenge
from gateway.edge.replies.denials import render_denial
from gateway.edge.replies.navigations import NAVIGATION_METHODS, asks_for_page
from gateway.edge.replies.observers import DecisionObserver, RequestMetrics
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.problems import (
    HSTS,
    OUTCOME,
    OWN_HEADERS,
    direct_response_fields,
    link_problem,
    problem_parts,
)
from gateway.edge.replies.response_bytes import answer_bytes
from gateway.edge.replies.sign_in_redirects import SignInRedirects
from gateway.edge.server.endpoint_calls import REQUEST_ID
from gateway.edge.server.listener import ServeResult
from gateway.model import Call, Reason
from gateway.strict_json import MOST_BYTES
from gateway.telemetry.access_record import AnsweredRequest, told_target

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.definitions import Cors, DirectResponse
    from gateway.access.routing.csrf import OwnOrigins
    from gateway.access.routing.routes import Route
    from gateway.access.snapshot import Snapshot

PAGES_AT_ONCE = 2
"""Denials that are explained at the same time: each takes a thread, and the rest wait."""
_JUDGED_BODY = (
    f"A policy reads this body before the call is judged, and takes {MOST_BYTES:,} bytes at most,"
    " whatever `max_body` is."
)
_ANY_METHOD = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


RenderedPage = tuple[Mapping[str, str], bytes]
"""Its fields, which take the place of those of the plain answer, and the document."""


class BuiltinEndpoints(Protocol):
    """The gateway's own addresses; `endpoints.router.AuthApi` meets it."""

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse: ...

    def refusal_page(
        self, call: Call, reason: str, request_id: str, retry_after_s: float
    ) -> RenderedPage | None:
        """What a person sees in place of a problem; None while there are no pages."""


class DenialPage(Protocol):
    """A page that explains a denial in the browser; met by `review.error_page`."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The fields of the page, in place of those of the plain answer."""

    def is_for(self, call: Call, decision: Decision) -> bool:
        """Whether the caller is one who is shown why, and asked for a page."""

    def render(self, call: Call, decision: Decision, snapshot: Snapshot, request_id: str) -> bytes:
        """Called in a thread: it may take long."""


class LocalReplies:
    """Writes each answer to the client, counts it, and tells the observer of the decision."""

    def __init__(
        self,
        endpoints: BuiltinEndpoints,
        snapshot: Callable[[], Snapshot],
        *,
        metrics: RequestMetrics,
        observer: DecisionObserver | None,
        draining: Callable[[], bool],
        cross_origin: CrossOrigin,
        denial_page: DenialPage | None,
        sign_in_redirects: SignInRedirects | None,
        origins: OwnOrigins,
        problem_types: ProblemTypes,
    ) -> None:
        self._endpoints = endpoints
        self._snapshot = snapshot
        self._metrics = metrics
        self._observer = observer
        self._observes_allowed = observer is not None and observer.takes_allowed
        self._draining = draining
        self._cross_origin = cross_origin
        self.cors_headers = cross_origin.fields
        self._denial_page = denial_page
        self._sign_in_redirects = sign_in_redirects
        self._origins = origins
        self._problem_types = problem_types
        self._pages = asyncio.Semaphore(PAGES_AT_ONCE)

    async def preflight(self, exchange: Exchange, cors: Cors, methods: tuple[str, ...]) -> bool:
        """Answered before limits and identity: a browser sends no credential with it."""
        fields = await self._cross_origin.preflight(exchange.call, cors, methods)
        head, close = exchange.head, not exchange.body.is_eof()
        if fields is None:
            exchange.cors_headers = await self.cors_headers(exchange.call, cors)
            return self.refuse(exchange, Reason.CROSS_ORIGIN, close=close)
        keep_alive = self._keeps_alive(head) and not close
        headers = {**OWN_HEADERS, "X-Request-Id": exchange.request_id, **fields}
        exchange.client.write(answer_bytes(204, headers, b"", head, keep_alive=keep_alive))
        self._metrics.route("").record("preflight", 204, 0.0)
        self._observe_endpoint(exchange, None, 204)
        return keep_alive

    async def endpoint(self, exchange: Exchange, cors: Cors | None) -> bool:
        """Let a built-in endpoint answer; `cors` is the block of the endpoints, if any."""
        call, request_id = exchange.call, exchange.request_id
        if cors is not None and is_preflight(call):
            return await self.preflight(exchange, cors, ())

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            request[REQUEST_ID] = request_id
            response = await self._endpoints.answer(request, call)
            if response.prepared:
                return response
            link_problem(response, self._problem_types)
            self._observe_endpoint(exchange, response.get(OUTCOME), response.status)
            for name, value in OWN_HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers.setdefault("X-Request-Id", request_id)
            if cors is not None:
                response.headers.update(await self._cross_origin.fields(call, cors))
            if call.scheme == "https":
                response.headers.setdefault("Strict-Transport-Security", HSTS)
            if not exchange.body.is_eof() or self._draining():
                response.force_close()
            return response

        if exchange.head.expects_continue:
            exchange.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await exchange.client.answer(exchange.head, exchange.body, handle)

    def deny(self, exchange: Exchange) -> ServeResult:
        """Answer a decision that allows nothing."""
        page = self._denial_page
        if page is not None and page.is_for(exchange.call, exchange.decision):
            return self._deny_with_page(exchange, page)
        return self._write_denial(exchange, None)

    async def _deny_with_page(self, exchange: Exchange, page: DenialPage) -> bool:
        async with self._pages:
            document = await asyncio.to_thread(
                page.render,
                exchange.call,
                exchange.decision,
                self._snapshot(),
                exchange.request_id,
            )
        return self._write_denial(exchange, (page.headers, document))

    def _write_denial(self, exchange: Exchange, page: RenderedPage | None) -> bool:
        head, decision = exchange.head, exchange.decision
        problem, headers, document = render_denial(
            exchange.call, decision, exchange.request_id, exchange.cors_headers, self._origins
        )
        document = self._problem_types.linked(document)
        status = problem.status
        location = self._sign_in_location(exchange)
        if location is not None:
            status, headers["Location"] = 303, location
            headers.pop("WWW-Authenticate", None)
        elif page is None and status != 401:
            # What is hidden is answered like what is not there, on whatever route it is.
            hidden = decision.conceal
            reason = Reason.ROUTE_UNKNOWN if hidden else decision.reason
            route = None if hidden else decision.route
            retry_after_s = 0.0 if hidden else decision.retry_after_s
            page = self._refusal_page(exchange, reason, route, retry_after_s)
        if page is not None:
            page_headers, document = page
            headers |= page_headers
        is_over = exchange.body.is_eof()
        if decision.conceal or decision.reason is Reason.ROUTE_UNKNOWN:
            # Whether its body has come by now would tell what waited for a store, and so is there.
            is_over = not head.has_body
        keep_alive = self._keeps_alive(head) and is_over
        exchange.client.write(answer_bytes(status, headers, document, head, keep_alive=keep_alive))
        self._record_decision(exchange, status)
        return keep_alive

    def _sign_in_location(self, exchange: Exchange) -> str | None:
        """Where the browser is led that lacks a session, or has one that is not enough."""
        redirects = self._sign_in_redirects
        if redirects is None:
            return None
        shared_hosts = self._snapshot().shared_hosts
        return redirects.location(exchange.call, exchange.decision, shared_hosts)

    def _refusal_page(
        self, exchange: Exchange, reason: str, route: Route | None, retry_after_s: float = 0.0
    ) -> RenderedPage | None:
        """None where the caller is no browser that asks for a page, or none is wanted here; and of
        what could not be read as a call."""
        wanted = self._snapshot().sign_in_page if route is None else route.sign_in_page
        call: Call | None = getattr(exchange, "call", None)
        if not wanted or call is None or not asks_for_page(call, NAVIGATION_METHODS):
            return None
        return self._endpoints.refusal_page(call, reason, exchange.request_id, retry_after_s)

    def refuse(self, exchange: Exchange, reason: Reason, *, close: bool) -> bool:
        """Answer what never came to a decision."""
        return self._refuse(exchange, reason, None, exchange.cors_headers, close=close)

    def refuse_body(self, exchange: Exchange, reason: Reason) -> bool:
        """Answer a call whose body cannot be judged.

        A stranger may have sent it, so no text says which route this is.
        """
        detail = _JUDGED_BODY if reason is Reason.BODY_TOO_LARGE else None
        headers = exchange.cors_headers
        return self._refuse(exchange, reason, None, headers, close=True, detail=detail)

    def fail(self, exchange: Exchange, reason: Reason) -> bool:
        """Answer what failed after the decision had allowed it."""
        close, route = not exchange.body.is_eof(), exchange.route
        detail = None
        if reason is Reason.BODY_TOO_LARGE:
            detail = f"`max_body` of the route `{route.id}` is {route.max_body_bytes:,} bytes."
        headers = route_headers(exchange)
        return self._refuse(exchange, reason, route, headers, close=close, detail=detail)

    def _refuse(
        self,
        exchange: Exchange,
        reason: Reason,
        route: Route | None,
        extra_headers: Mapping[str, str],
        *,
        close: bool,
        detail: str | None = None,
    ) -> bool:
        client, head = exchange.client, exchange.head
        challenge, resource, route_id = DEFAULT_CHALLENGE, None, ""
        if route is not None:
            challenge, route_id = route.challenge, route.id
            resource = resource_challenge(route, exchange.call, self._origins)
        problem, headers, document = problem_parts(
            reason,
            None,
            exchange.request_id,
            detail=detail,
            allow=_ANY_METHOD if reason is Reason.METHOD_NOT_ALLOWED else (),
            https=client.peer.https,
            extra_headers=extra_headers,
            challenge=challenge,
            resource=resource,
        )
        document = self._problem_types.linked(document)
        page = self._refusal_page(exchange, reason, route)
        if page is not None:
            page_headers, document = page
            headers |= page_headers
        # What was too much to read is not read as the next request either.
        keep_alive = not close and self._keeps_alive(head) and reason is not Reason.BODY_TOO_LARGE
        client.write(answer_bytes(problem.status, headers, document, head, keep_alive=keep_alive))
        self._metrics.route(route_id).record(reason, problem.status, 0.0)
        if self._observer is not None:
            request = answered_request(exchange, problem.status)
            self._observer.refused(reason, route_id, request)
        return keep_alive

    def direct_response(self, exchange: Exchange, response: DirectResponse) -> bool:
        """Answer as the route says.  The body is not read: what is left of it closes."""
        head = exchange.head
        keep_alive = self._keeps_alive(head) and exchange.body.is_eof()
        fields = direct_response_fields(
            exchange.route, exchange.call, exchange.request_id, route_headers(exchange)
        )
        exchange.client.write(
            answer_bytes(response.status, fields, response.body, head, keep_alive=keep_alive)
        )
        self._record_decision(exchange, response.status)
        return keep_alive

    def redirect(self, exchange: Exchange, location: str) -> bool:
        """Lead to another path of the same origin, with the same method and body (RFC 9110
        section 15.4.9).  Nobody keeps it: who asks next time may be another, and is judged."""
        head = exchange.head
        keep_alive = self._keeps_alive(head) and exchange.body.is_eof()
        fields = {**OWN_HEADERS, "X-Request-Id": exchange.request_id, "Location": location}
        fields |= route_headers(exchange)
        exchange.client.write(answer_bytes(308, fields, b"", head, keep_alive=keep_alive))
        self._record_decision(exchange, 308)
        return keep_alive

    def log_decision(self, exchange: Exchange, status: int, took_s: float) -> None:
        """Tell the observer of a decision, of the status that came of it, and when."""
        if self._observer is not None:
            self._observer.decided(
                exchange.call, exchange.decision, status, exchange.request_id, took_s
            )

    def log_aborted(self, exchange: Exchange, status: int, reason: Reason) -> None:
        """Tell the observer of an answer that was begun with `status`, and cut off."""
        if self._observer is not None:
            request = answered_request(exchange, status)
            self._observer.refused(reason, exchange.route.id, request)

    def _observe_endpoint(self, exchange: Exchange, reason: str | None, status: int) -> None:
        observer = self._observer
        if observer is not None and (reason is not None or self._observes_allowed):
            observer.answered(reason, answered_request(exchange, status))

    def _record_decision(self, exchange: Exchange, status: int) -> None:
        decision = exchange.decision
        route_id = decision.route.id if decision.route is not None else ""
        self._metrics.route(route_id).record(decision.reason, status, exchange.decided_s)
        if self._observer is not None:
            self._observer.decided(
                exchange.call, decision, status, exchange.request_id, exchange.decided_s
            )

    def _keeps_alive(self, head: RequestHead) -> bool:
        return head.keeps_open and not self._draining()


def answered_request(exchange: Exchange, status: int) -> AnsweredRequest:
    """What the access log tells of a request that came to no decision, or failed after one."""
    head, peer = exchange.head, exchange.client.peer
    call: Call | None = getattr(exchange, "call", None)
    if call is None:
        path = told_target(head.target)
        return AnsweredRequest(
            exchange.request_id, status, peer.ip, head.method, "", path, headers=head
        )
    return AnsweredRequest(
        exchange.request_id,
        status,
        call.client_ip,
        call.method,
        call.host,
        call.path,
        headers=head,
        took_s=exchange.decided_s,
    )


def route_headers(exchange: Exchange) -> Mapping[str, str]:
    """What an answer of ours carries where CORS or limits speak on its route."""
    limit = exchange.decision.limit
    if limit is None:
        return exchange.cors_headers
    standing = {"RateLimit-Policy": limit.policy, "RateLimit": limit.standing()}
    return {**standing, **exchange.cors_headers}
