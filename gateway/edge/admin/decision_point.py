"""Whether a call that another proxy holds may pass, however the proxy asks.

Law: what the original call was is believed only from a peer in `decision_api.trusted_peers`;
what cannot be read is refused, and no branch ends in an allow but the authorizer's own.  A worker
that cannot confirm what has been revoked refuses everything.

The answer speaks of the fields that the backend may see: `Authorization`, `Cookie` and the
identity headers are to be set where the answer has them and removed where it has not.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.access.identity_headers import AUTHGATE
from gateway.access.routing.csrf import OwnOrigins
from gateway.edge.admin.dialects import FieldReader, QuestionReader, Unreadable
from gateway.edge.http1.field_lines import field_line
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.proxy.cors import CrossOrigin
from gateway.edge.proxy.handler import reads_body
from gateway.edge.proxy.policy_body import put_json
from gateway.edge.proxy.request import forwarded_hosts
from gateway.edge.proxy.request_headers import foreign_cookies, identity_lines
from gateway.edge.replies.denials import render_denial
from gateway.edge.replies.observers import DecisionObserver, NoMetrics, RequestMetrics
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.problems import problem_parts
from gateway.edge.replies.sign_in_redirects import SignInRedirects
from gateway.model import Call, Principal, Reason
from gateway.telemetry.access_record import AnsweredRequest, told_target

if TYPE_CHECKING:
    from gateway.access.authorizer import Decision
    from gateway.access.routing.routes import Route
    from gateway.access.snapshot import Snapshot
    from gateway.edge.proxy.handler import AssertionSigner, RequestAuthorizer
    from gateway.edge.proxy.request import CallReader

_REFUSED_METHODS = frozenset(("CONNECT", "TRACE"))
_ANY_METHOD = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_UNSEEN_BODY = "The policy of this route reads the body, which no other proxy shows."
_NOT_TRUSTED = "Only a peer in decision_api.trusted_peers is answered here."
_OWN_ANSWER = "The gateway answers this route itself; send its calls there."

REMOVABLE = (b"authorization", b"cookie", *sorted(AUTHGATE.names), b"x-auth-assertion")
"""Fields that the backend may see only as the answer has them."""


@dataclass(slots=True)
class Question:
    """One request of a proxy.  `read` finds the original call in `head`; None where what was
    asked for is no address of ours."""

    head: RequestHead
    peer_ip: str
    request_id: str
    read: QuestionReader | None
    body: bytes | None = None
    """The body of the original call, whole; None where the proxy does not show it."""


@dataclass(slots=True)
class Permission:
    """The call may pass.  `lines` are fields for its backend, `limit_lines` for its client; an
    element may be several lines, joined by CRLF."""

    decision: Decision
    route: Route
    lines: list[bytes]
    limit_lines: list[bytes]

    def absent(self) -> list[bytes]:
        """The names of fields that are to be removed, as nothing sets them."""
        given = b"\r\n".join([b"", *self.lines]).lower()
        names = (*REMOVABLE, *sorted(self.route.claimed_headers.difference(REMOVABLE)))
        return [name for name in names if b"\r\n%b:" % name not in given]


@dataclass(slots=True)
class Denial:
    """The call may not pass: what its client is to be answered."""

    reason: str
    status: int
    headers: dict[str, str]
    document: bytes
    decision: Decision | None = None
    """None where it never came to one."""


class DecisionPoint:
    """Answers the questions of a listener, and counts and tells of them."""

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
        self.reader = reader
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

    def trusts(self, peer_ip: str) -> bool:
        """Whether a listener need so much as read what that peer asks."""
        return self._peers.trusts(peer_ip, self._snapshot().trusted_peers)

    async def answer(self, question: Question) -> Permission | Denial:
        snapshot = self._snapshot()
        peers = snapshot.trusted_peers
        if not self._peers.trusts(question.peer_ip, peers):
            # 403 as a rule's word: the stranger learns nothing of the call it made up.
            return self._refused(question, Reason.NO_RULE, detail=_NOT_TRUSTED)
        if question.read is None:
            return self._refused(question, Reason.ROUTE_UNKNOWN)
        if not self._live():
            return self._refused(question, Reason.REPLICA_STALE)
        original = question.read(
            question.head, lambda ip: self._peers.trusts(ip, peers), self._fields
        )
        if isinstance(original, Unreadable):
            return self._refused(question, Reason.REQUEST_MALFORMED, detail=original.detail)
        if original.head.method in _REFUSED_METHODS:
            return self._refused(question, Reason.METHOD_NOT_ALLOWED, allow=_ANY_METHOD)
        call = self.reader.read(original.head, original.peer)
        if isinstance(call, Reason):
            return self._refused(question, call)
        told = question.head.forwarded
        if told is not None and _names_another_host(told, original.head.host or b""):
            hosts, routes = forwarded_hosts(told), snapshot.routes
            if hosts is None or any(h != call.host and routes.names_host(h) for h in hosts):
                # As at our own door: many backends serve that one, where the proxy sends it on.
                return self._refused(question, Reason.HOST_MISMATCH)
        if question.body and snapshot.reads_bodies and reads_body(call, snapshot):
            unlike_json = put_json(question.body, call)
            if unlike_json is not None:
                return self._refused(question, unlike_json)
        began_at = self._loop.time()
        decision = await self._authorizer.decide(call, snapshot)
        decided_s = self._loop.time() - began_at
        if decision.allowed and decision.principal is not None:
            # It may have waited for a limit since it was known who calls.
            reason = self._refusal_of(decision.principal)
            if reason is not None:
                decision = replace(decision, allowed=False, reason=reason, refusal=reason)
        if decision.allowed:
            assert decision.route is not None
            if decision.route.reads_body and question.body is None:
                # `!has(request.body.x)` is true of a body that is not here.
                return self._refused(question, Reason.NO_RULE, detail=_UNSEEN_BODY)
            if decision.route.direct_response is not None:
                # Its answer is the whole of the route: no backend of the proxy's stands for it.
                return self._refused(question, Reason.NO_RULE, detail=_OWN_ANSWER)
            allowed = self._permission(question.head, call, decision, decision.route)
            if allowed is None:
                return self._refused(question, Reason.STORE_UNAVAILABLE)
            self._record(call, decision, 200, question.request_id, decided_s)
            return allowed
        denied = await self._denied(question.request_id, call, decision)
        self._record(call, decision, denied.status, question.request_id, decided_s)
        return denied

    def refused(self, question: Question, reason: Reason, detail: str | None = None) -> Denial:
        """What a listener could not so much as read; a stranger is told nothing else than ever."""
        if not self.trusts(question.peer_ip):
            return self._refused(question, Reason.NO_RULE, detail=_NOT_TRUSTED)
        return self._refused(question, reason, detail=detail)

    def _permission(
        self, head: RequestHead, call: Call, decision: Decision, route: Route
    ) -> Permission | None:
        """None where the upstream asks for an assertion that cannot be made now."""
        principal = decision.principal
        lines, limit_lines = [], []
        if route.request_lines:
            lines.append(route.request_lines)
        for name, value in decision.headers:
            lines.append(field_line(name, value))
        if decision.limit is not None:
            limit_lines.append(field_line("RateLimit-Policy", decision.limit.policy))
            limit_lines.append(field_line("RateLimit", decision.limit.standing()))
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
        return Permission(decision, route, lines, limit_lines)

    async def _denied(self, request_id: str, call: Call, decision: Decision) -> Denial:
        cors_headers: Mapping[str, str] = {}
        if decision.route is not None and decision.route.cors is not None:
            cors_headers = await self._cross_origin.fields(call, decision.route.cors)
        problem, headers, document = render_denial(
            call, decision, request_id, cors_headers, self._origins
        )
        document = self._problem_types.linked(document)
        status, location = problem.status, self._sign_in_location(call, decision)
        if location is not None:
            status, headers["Location"] = 303, location
            headers.pop("WWW-Authenticate", None)
        return Denial(decision.reason, status, headers, document, decision)

    def _sign_in_location(self, call: Call, decision: Decision) -> str | None:
        """Where the proxy leads a browser: only on a route that says so, as a proxy that was set
        up before there was such a thing knows no other answer than a refusal."""
        redirects, route = self._sign_in_redirects, decision.route
        if redirects is None or route is None or not route.sign_in_page:
            return None
        return redirects.location(call, decision, self._snapshot().shared_hosts)

    def _refused(
        self,
        question: Question,
        reason: Reason,
        *,
        detail: str | None = None,
        allow: tuple[str, ...] = (),
    ) -> Denial:
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
                    path=told_target(head.target),
                    headers=head,
                ),
            )
        return Denial(reason, problem.status, headers, document)

    def _record(
        self, call: Call, decision: Decision, status: int, request_id: str, decided_s: float
    ) -> None:
        route_id = decision.route.id if decision.route is not None else ""
        self._metrics.route(route_id).record(decision.reason, status, decided_s)
        if self._observer is not None:
            self._observer.decided(call, decision, status, request_id, decided_s)


def _names_another_host(told: Iterable[tuple[bytes, bytes]], host: bytes) -> bool:
    """Whether it is worth reading: the proxies themselves write what was asked for."""
    for name, value in told:
        lower = name.lower()
        if lower == b"forwarded" or (lower == b"x-forwarded-host" and value != host):
            return True
    return False


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
