"""What the public door answers by itself: denials, refusals, preflights, and its own endpoints.

Each says whether the connection may go on after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.streams import StreamReader

from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.cors import CrossOrigin, is_preflight
from gateway.edge.replies.denials import denial
from gateway.edge.replies.observers import Journal, Meters
from gateway.edge.replies.problems import (
    HSTS,
    OUTCOME,
    OWN_HEADERS,
    answer_bytes,
    problem_parts,
    route_answer,
)
from gateway.edge.server.listener import Connection
from gateway.edge.server.web_request import REQUEST_ID
from gateway.model import Call, Reason
from gateway.review.error_page import POLICY as PAGE_POLICY
from gateway.review.error_page import explains, page

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.definitions import Cors
    from gateway.access.routing.routes import Route
    from gateway.access.snapshot import Snapshot

_ANY_METHOD = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class OwnEndpoints(Protocol):
    """The gateway's own addresses; met by `auth_api.AuthApi`."""

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse: ...


class OwnAnswers:
    """Writes each of them to the client, counts it, and tells the journal of what was decided."""

    def __init__(
        self,
        own: OwnEndpoints,
        snapshot: Callable[[], Snapshot],
        meters: Meters,
        journal: Journal | None,
        draining: Callable[[], bool],
        cross_origin: CrossOrigin,
    ) -> None:
        self._own = own
        self._snapshot = snapshot
        self._meters = meters
        self._journal = journal
        self._draining = draining
        self._cross_origin = cross_origin
        self.cors_fields = cross_origin.fields

    async def preflight(
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
            return self.refuse(
                client, head, Reason.CROSS_ORIGIN, request_id, close=close, extra=vary
            )
        keep = self._keeps(head) and not close
        headers = {**OWN_HEADERS, "X-Request-Id": request_id, **fields}
        client.write(answer_bytes(204, headers, b"", head, keep_alive=keep))
        self._meters.route("").record("preflight", 204, 0.0)
        return keep

    async def endpoint(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        cors: Cors | None,
        request_id: str,
    ) -> bool:
        if cors is not None and is_preflight(call):
            return await self.preflight(client, head, body, call, cors, (), request_id)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            request[REQUEST_ID] = request_id
            answer = await self._own.answer(request, call)
            if answer.prepared:
                return answer
            if self._journal is not None and (reason := answer.get(OUTCOME)) is not None:
                self._journal.answered(reason, answer.status, call.method, request_id)
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

    def deny(
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
        """A decision that allows nothing; `extra` are the CORS fields of its route."""
        row, headers, document = denial(call, decision, request_id, extra)
        if explains(call, decision):
            document = page(call, decision, self._snapshot(), request_id)
            headers |= {"Content-Type": "text/html; charset=utf-8"}
            headers["Content-Security-Policy"] = PAGE_POLICY
        keep = self._keeps(head) and body.is_eof()
        client.write(answer_bytes(row.status, headers, document, head, keep_alive=keep))
        route_id = decision.route.id if decision.route is not None else ""
        self._meters.route(route_id).record(decision.reason, row.status, decided_s)
        self.told(call, decision, row.status, request_id)
        return keep

    def refuse(
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

    def for_route(
        self,
        client: Connection,
        head: RequestHead,
        body: StreamReader,
        call: Call,
        decision: Decision,
        route: Route,
        extra: Mapping[str, str],
        request_id: str,
        decided_s: float,
    ) -> bool:
        """The route answers by itself.  The body is not read: what is left of it closes."""
        assert route.answer is not None
        status = route.answer.status
        keep = self._keeps(head) and body.is_eof()
        fields = route_answer(route, call, request_id, with_limit(extra, decision))
        client.write(answer_bytes(status, fields, route.answer.body, head, keep_alive=keep))
        self._meters.route(route.id).record(decision.reason, status, decided_s)
        self.told(call, decision, status, request_id)
        return keep

    def told(self, call: Call, decision: Decision, status: int, request_id: str) -> None:
        if self._journal is not None:
            self._journal.decided(call, decision, status, request_id)

    def _keeps(self, head: RequestHead) -> bool:
        return head.keeps_open and not self._draining()


def with_limit(extra: Mapping[str, str], decision: Decision) -> Mapping[str, str]:
    """What a refusal of ours carries besides, where limits or CORS speak on its route."""
    if decision.limit is None:
        return extra
    limit = decision.limit
    return {"RateLimit-Policy": limit.policy, "RateLimit": limit.standing(), **extra}
