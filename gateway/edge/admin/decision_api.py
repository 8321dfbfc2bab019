"""The decision API: whether a call that another proxy holds may pass.

/decide/nginx     auth_request     described by X-Original-*; status in Authgate-Status
/decide/envoy     ext_authz        described by the request line and Host
/decide/traefik   forwardAuth      described by X-Forwarded-*
/decide/caddy     forward_auth     described by X-Forwarded-*

Law: what the original call was is believed only from a peer in `decision_api.trusted_peers`;
what cannot be read is refused, and no branch ends in an allow but the authorizer's own.  A worker
that cannot confirm what has been revoked answers 503 to everything.

The answer speaks of the fields that the backend may see: `Authorization`, `Cookie` and the
identity headers are to be set where the answer has them and removed where it has not.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.access.routing.csrf import OwnOrigins
from gateway.edge.admin.dialects import Dialect, FieldReader, Unreadable, dialect_of
from gateway.edge.http1.date_header import date_line
from gateway.edge.http1.field_lines import field_line
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.cors import CrossOrigin
from gateway.edge.proxy.request_headers import foreign_cookies, identity_lines
from gateway.edge.replies.denials import render_denial
from gateway.edge.replies.observers import DecisionObserver, NoMetrics, RequestMetrics
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.problems import (
    SERVER,
    problem_parts,
)
from gateway.edge.replies.response_bytes import answer_bytes
from gateway.edge.replies.sign_in_redirects import SignInRedirects
from gateway.edge.server.eager import resume_in_task
from gateway.edge.server.listener import Connection, ServeResult
from gateway.edge.server.request_body import RequestBody
from gateway.model import Call, Principal, Reason
from gateway.telemetry.access_record import AnsweredRequest

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.snapshot import Snapshot
    from gateway.edge.proxy.handler import AssertionSigner, RequestAuthorizer
    from gateway.edge.proxy.request import CallReader

PREFIX = "/decide/"

_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))
_ANY_METHOD = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_UNSEEN_BODY = "The policy of this route reads the body, which no other proxy shows."
_NOT_TRUSTED = "Only a peer in decision_api.trusted_peers is answered here."
_OWN_ANSWER = "The gateway answers this route itself; send its calls there."


class DecisionApi:
    """`server.handler.Handler` for the targets that begin with PREFIX."""

    def __init__(
        self,
        authorizer: RequestAuthorizer,
        snapshot: Callable[[], Snapshot],
        reader: CallReader,
        *,
        live: Callable[[], bool],
        refusal: Callable[[Principal], Reason | None] = lambda principal: None,
        assertion_signer: AssertionSigner,
        metrics: RequestMetrics | None = None,
        observer: DecisionObserver | None = None,
        origins: OwnOrigins | None = None,
        sign_in_redirects: SignInRedirects | None = None,
        problem_types: ProblemTypes | None = None,
    ) -> None:
        self._authorizer = authorizer
        self._snapshot = snapshot
        self._reader = reader
        self._live = live
        self._refusal_of = refusal
        self._assertion_signer = assertion_signer
        self._metrics = metrics or NoMetrics()
        self._observer = observer
        self._origins = origins or OwnOrigins()
        self._sign_in_redirects = sign_in_redirects
        self._problem_types = problem_types or ProblemTypes()
        self._cross_origin = CrossOrigin()
        self._peers = TrustedPeers()
        self._fields = FieldReader()
        self._loop = asyncio.get_running_loop()

    def serve(self, client: Connection, head: RequestHead, body: RequestBody) -> ServeResult:
        """Meets `server.handler.Handler`: what needs no waiting is answered without a task."""
        keep = head.keeps_open and body.is_eof()
        answering = self._answer(head, client.peer.ip, self._reader.request_id(head), keep=keep)
        try:
            awaited = answering.send(None)
        except StopIteration as completed:
            client.write(completed.value)
            return keep
        return _await_answer(client, resume_in_task(answering, awaited), keep=keep)

    async def _answer(
        self, head: RequestHead, peer_ip: str, request_id: str, *, keep: bool
    ) -> bytes:
        snapshot = self._snapshot()
        dialect = dialect_of(head.target)
        question = _Question(head, dialect, peer_ip, request_id, keep=keep)
        if not self._peers.trusts(peer_ip, snapshot.trusted_peers):
            # 403 as a rule's word: the stranger learns nothing of the call it made up.
            return self._refusal(question, Reason.NO_RULE, detail=_NOT_TRUSTED)
        if dialect is None:
            return self._refusal(question, Reason.ROUTE_UNKNOWN)
        if not self._live():
            return self._refusal(question, Reason.REPLICA_STALE)
        original = dialect.read(
            head, lambda ip: self._peers.trusts(ip, snapshot.trusted_peers), self._fields
        )
        if isinstance(original, Unreadable):
            return self._refusal(question, Reason.REQUEST_MALFORMED, detail=original.detail)
        if original.head.method in _REFUSED_METHODS:
            return self._refusal(question, Reason.METHOD_NOT_ALLOWED, allow=_ANY_METHOD)
        call = self._reader.read(original.head, original.peer)
        if isinstance(call, Reason):
            return self._refusal(question, call)
        began_at = self._loop.time()
        decision = await self._authorizer.decide(call, snapshot)
        decided_s = self._loop.time() - began_at
        if decision.allowed and decision.principal is not None:
            # It may have waited for a limit since it was known who calls.
            reason = self._refusal_of(decision.principal)
            if reason is not None:
                decision = replace(decision, allowed=False, reason=reason, refusal=reason)
        if decision.allowed and decision.route is not None and decision.route.reads_body:
            # `!has(request.body.x)` is true of a body that is not here.
            return self._refusal(question, Reason.NO_RULE, detail=_UNSEEN_BODY)
        if (
            decision.allowed
            and decision.route is not None
            and decision.route.direct_response is not None
        ):
            # Its answer is the whole of the route: no backend of the proxy's stands for it.
            return self._refusal(question, Reason.NO_RULE, detail=_OWN_ANSWER)
        if decision.allowed:
            allowed = self._allowed(question, call, decision)
            if allowed is not None:
                self._record(call, decision, 200, request_id, decided_s)
                return allowed
            return self._refusal(question, Reason.STORE_UNAVAILABLE)
        status, answer = await self._denied(question, call, decision)
        self._record(call, decision, status, request_id, decided_s)
        return answer

    def _allowed(self, question: _Question, call: Call, decision: Decision) -> bytes | None:
        """The 200; None where the upstream asks for an assertion that cannot be made now."""
        lines = [_ALLOWED, date_line(), b"X-Request-Id: " + question.id_bytes]
        route, principal, head = decision.route, decision.principal, question.head
        assert route is not None
        if not question.keep:
            lines.append(b"Connection: close")
        elif not head.minor:
            lines.append(b"Connection: keep-alive")
        if route.request_lines:
            lines.append(route.request_lines)
        for name, value in decision.headers:
            lines.append(field_line(name, value))
        if decision.limit is not None:
            lines.append(field_line("RateLimit-Policy", decision.limit.policy))
            lines.append(field_line("RateLimit", decision.limit.standing()))
        if head.cookie is not None and b"cookie" not in route.claimed_headers:
            lines += foreign_cookies(head.cookie)
        if head.authorization is not None and route.forward_authorization:
            lines.append(b"Authorization: " + head.authorization[0])
        if principal is not None:
            if told := identity_lines(route, principal):
                lines.append(told)
            if route.upstream is not None and route.upstream.assertion_audience is not None:
                assertion = self._assertion_signer.assertion(
                    principal, route.upstream.assertion_audience, call.method, call.path
                )
                if assertion is None:
                    return None
                lines.append(b"X-Auth-Assertion: " + assertion.encode("ascii"))
        if question.dialect is not None and question.dialect.lists_removals:
            given = b"\r\n".join(lines).lower()
            names = (*_REMOVABLE, *sorted(route.claimed_headers.difference(_REMOVABLE)))
            absent = [name for name in names if b"\r\n%b:" % name not in given]
            lines.append(b"x-envoy-auth-headers-to-remove: " + b",".join(absent))
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    async def _denied(
        self, question: _Question, call: Call, decision: Decision
    ) -> tuple[int, bytes]:
        cors_headers: Mapping[str, str] = {}
        if decision.route is not None and decision.route.cors is not None:
            cors_headers = await self._cross_origin.fields(call, decision.route.cors)
        problem, headers, document = render_denial(
            call, decision, question.request_id, cors_headers, self._origins
        )
        document = self._problem_types.linked(document)
        status, location = problem.status, self._sign_in_location(call, decision)
        if location is not None:
            status, headers["Location"] = 303, location
            headers.pop("WWW-Authenticate", None)
        return status, question.refusal(status, headers, document)

    def _sign_in_location(self, call: Call, decision: Decision) -> str | None:
        """Where the proxy leads a browser: only on a route that says so, as a proxy that was set
        up before there was such a thing knows no other answer than a refusal."""
        redirects, route = self._sign_in_redirects, decision.route
        if redirects is None or route is None or not route.sign_in_page:
            return None
        return redirects.location(call, decision, self._snapshot().shared_hosts)

    def _refusal(
        self,
        question: _Question,
        reason: Reason,
        *,
        detail: str | None = None,
        allow: tuple[str, ...] = (),
    ) -> bytes:
        """What never came to a decision."""
        problem, headers, document = problem_parts(
            reason, None, question.request_id, detail=detail, allow=allow
        )
        document = self._problem_types.linked(document)
        self._metrics.route("").record(reason, problem.status, 0.0)
        if self._observer is not None:
            head = question.head
            self._observer.refused(
                reason,
                "",
                AnsweredRequest(
                    question.request_id,
                    problem.status,
                    question.peer_ip,
                    head.method,
                    path=head.target.partition("?")[0],
                    headers=head,
                ),
            )
        return question.refusal(problem.status, headers, document)

    def _record(
        self, call: Call, decision: Decision, status: int, request_id: str, decided_s: float
    ) -> None:
        route_id = decision.route.id if decision.route is not None else ""
        self._metrics.route(route_id).record(decision.reason, status, decided_s)
        if self._observer is not None:
            self._observer.decided(call, decision, status, request_id, decided_s)


async def _await_answer(client: Connection, answer: Awaitable[bytes], *, keep: bool) -> bool:
    client.write(await answer)
    return keep


_ALLOWED = (
    b"HTTP/1.1 200 OK\r\nServer: %b\r\nCache-Control: no-store\r\nContent-Length: 0"
    % SERVER.encode("ascii")
)
_REMOVABLE = (
    b"authorization",
    b"cookie",
    b"x-auth-user-id",
    b"x-auth-email",
    b"x-auth-roles",
    b"x-auth-session-id",
    b"x-auth-assertion",
)


class _Question:
    """One request of a proxy, and the form in which it takes a refusal."""

    __slots__ = ("dialect", "head", "keep", "peer_ip", "request_id")

    def __init__(
        self,
        head: RequestHead,
        dialect: Dialect | None,
        peer_ip: str,
        request_id: str,
        *,
        keep: bool,
    ) -> None:
        self.head = head
        self.dialect = dialect
        self.peer_ip = peer_ip
        self.request_id = request_id
        self.keep = keep

    @property
    def id_bytes(self) -> bytes:
        return self.request_id.encode("ascii")

    def refusal(self, status: int, headers: dict[str, str], document: bytes) -> bytes:
        if self.dialect is not None and self.dialect.only_401_and_403:
            # The body of an auth_request is thrown away, and any other status becomes a 500:
            # what the client is to see travels in fields that `error_page` can use.
            headers = headers | {
                "Authgate-Status": str(status),
                "Authgate-Problem": document.decode("ascii"),
            }
            status = 401 if status == 401 else 403
        return answer_bytes(status, headers, document, self.head, keep_alive=self.keep)


class TrustedPeers:
    """Address blocks, asked once for each address and configuration."""

    def __init__(self) -> None:
        self._blocks: tuple[str, ...] = ()
        self._networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
        self._known: dict[str, bool] = {}

    def trusts(self, ip: str, blocks: tuple[str, ...]) -> bool:
        if blocks is not self._blocks or len(self._known) > 1_024:
            self._blocks, self._known = blocks, {}
            self._networks = tuple(ipaddress.ip_network(block) for block in blocks)
        trusted = self._known.get(ip)
        if trusted is None:
            address = ipaddress.ip_address(ip)
            trusted = self._known[ip] = any(address in network for network in self._networks)
        return trusted
