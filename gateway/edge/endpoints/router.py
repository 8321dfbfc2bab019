"""The built-in endpoints: `/auth`, `/auth/…` and the `/.well-known` documents.

What is not here is 404 `route_unknown`; a method that an endpoint does not have is 405 with
`Allow`.  Every response of `/auth` is `no-store`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog
from aiohttp import web

from gateway.access.routing.credentials import select_credential
from gateway.access.routing.own_paths import DOCUMENT_SEGMENTS, OwnPaths
from gateway.client_networks import asking_for, neighbourhood
from gateway.edge.endpoints.csrf import CsrfGuard
from gateway.edge.endpoints.endpoint import (
    ACCEPTED,
    Endpoint,
    Endpoints,
    JsonReply,
    PageReply,
    ProblemReply,
    ShieldedTasks,
)
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.endpoints.well_known import WellKnown
from gateway.edge.replies.challenges import step_up_challenge
from gateway.edge.replies.cookies import expired_cookie
from gateway.edge.replies.problems import (
    HSTS,
    OUTCOME,
    OWN_HEADERS,
    problem,
)
from gateway.edge.replies.uncounted import uncounted
from gateway.edge.server.endpoint_calls import REQUEST_ID
from gateway.model import Call, Reason
from gateway.stores.protocols import StoreUnavailable
from gateway.telemetry.metrics import Tally

log = structlog.get_logger(__name__)

_TOLD = ("Allow", "Proxy-Status", "Retry-After", "WWW-Authenticate")
"""What a page says as the problem does that it stands for."""


class RefusalPages(Protocol):
    """What a person sees where a caller of an endpoint gets problem+json; `edge.pages` meets it."""

    def refusal(self, call: Call, reply: ProblemReply, request_id: str) -> PageReply | None:
        """None where the caller is no browser that shows a page."""

    def page(
        self, call: Call, reply: ProblemReply, request_id: str, rule_reason: str | None = None
    ) -> PageReply:
        """Of any refusal, also of one whose reason a rule of a policy gives."""


class AuthApi:
    def __init__(
        self,
        endpoints: Endpoints,
        well_known: WellKnown,
        shielded: ShieldedTasks,
        *,
        https: bool,
        csrf_guard: CsrfGuard,
        limits: EndpointLimits,
        meter: Callable[[str, str, int, float], None] | None = None,
        defects: Tally | None = None,
        own_paths: OwnPaths | None = None,
        pages: RefusalPages | None = None,
    ) -> None:
        """`https`: clients reach the public URL over TLS, so responses carry HSTS.  `meter` is
        `metrics.Metrics.record_endpoint`."""
        self._own_paths = own_paths or OwnPaths()
        self._meter = meter
        self._defects = defects or Tally()
        self._limits = limits
        self._csrf_guard = csrf_guard
        self.endpoints = {**endpoints, **csrf_guard.endpoints()}
        self._patterns = tuple(name for name in self.endpoints if "*" in name)
        self._well_known = well_known
        self._shielded = shielded
        self._https = https
        self._pages = pages

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Respond to the call.  Never raises for what a client or a store does, but where the
        client's body broke."""
        began_at = time.perf_counter()
        asking_for.set(neighbourhood(call.client_ip))
        try:
            response = await self._respond(request, call)
        except ConnectionError:
            raise  # its connection responds, if it still can
        except Exception as error:
            log.error("request-failed", request_id=_id_of(request), exc_info=error)
            self._defects.n += 1
            response = self._problem_response(request, call, ProblemReply(Reason.INTERNAL_ERROR))
        if self._meter is not None:
            outcome = response.get(OUTCOME, "ok")
            took_s = time.perf_counter() - began_at
            self._meter(self._name(call), outcome, response.status, took_s)
        return response

    def refusal_page(
        self, call: Call, reason: str, request_id: str, retry_after_s: float
    ) -> tuple[Mapping[str, str], bytes] | None:
        """What a person sees where a proxied call is refused: fields and document."""
        if self._pages is None:
            return None
        known = isinstance(reason, Reason)
        reply = ProblemReply(
            reason if isinstance(reason, Reason) else Reason.NO_RULE, retry_after_s=retry_after_s
        )
        page = self._pages.page(call, reply, request_id, None if known else reason)
        return {"Content-Type": page.media_type, **page.headers}, page.document

    def _name(self, call: Call) -> str:
        """The endpoint's name in metrics; never what a client made up."""
        if not self._own_paths.is_endpoint(call.segments):
            return "/" + "/".join(call.segments[:DOCUMENT_SEGMENTS])
        endpoint = self._endpoint(self._own_paths.below(call.segments))
        return self._own_paths.endpoint(*endpoint) if endpoint else ""

    def _endpoint(self, segments: tuple[str, ...]) -> tuple[str, ...]:
        """The segments that name the endpoint, with "*" for those that it takes any of; empty
        where there is none."""
        if not all(segments):
            return ()
        if segments in self.endpoints:
            return segments
        return next((name for name in self._patterns if _matches(name, segments)), ())

    async def _respond(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        if self._own_paths.is_endpoint(call.segments):
            return await self._auth(request, call)
        document = self._well_known.answer(request, call)
        methods = self._well_known.methods(call)
        if document is None:
            return self._problem_response(request, call, ProblemReply(Reason.ROUTE_UNKNOWN))
        if call.method not in methods:
            return self._problem_response(
                request, call, ProblemReply(Reason.METHOD_NOT_ALLOWED), methods
            )
        return document

    async def close(self) -> None:
        """Waits for the writes that clients have left behind."""
        await self._shielded.wait()

    async def _auth(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        below = self._own_paths.below(call.segments)
        methods = self._methods(below)
        if methods is None:
            return self._problem_response(request, call, ProblemReply(Reason.ROUTE_UNKNOWN))
        # RFC 9110 section 9.3.2: who answers GET answers HEAD.
        endpoint = methods.get("GET" if call.method == "HEAD" else call.method)
        if endpoint is None:
            allow = [*methods, "HEAD"] if "GET" in methods else list(methods)
            return self._problem_response(
                request, call, ProblemReply(Reason.METHOD_NOT_ALLOWED), allow
            )
        wait_s = await self._limits.wait_s(self._endpoint(below), call)
        if wait_s > 0:
            limited = ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
            return self._problem_response(request, call, limited)
        if call.presented is not None:
            call.credential = select_credential(call, ACCEPTED)
        refusal = self._csrf_guard.refusal(call)
        if refusal is not None:
            return self._problem_response(request, call, ProblemReply(refusal))
        try:
            reply = await endpoint(request, call)
        except StoreUnavailable as error:
            reply = ProblemReply(error.reason)
        if isinstance(reply, ProblemReply):
            if reply.reason is Reason.NO_CREDENTIAL and reply.detail is None:
                reply = replace(reply, detail=uncounted(call, ACCEPTED))
            cookies = reply.cookies + expired_cookie(call, reply.reason)
            return self._problem_response(request, call, replace(reply, cookies=cookies))
        if isinstance(reply, PageReply):
            return self._page_response(request, reply)
        return self._json_response(request, reply)

    def _methods(self, segments: tuple[str, ...]) -> Mapping[str, Endpoint] | None:
        return self.endpoints.get(self._endpoint(segments))

    def _json_response(self, request: web.BaseRequest, reply: JsonReply) -> web.Response:
        headers = {**self._headers(request), **reply.headers}
        body = None
        if reply.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(reply.body).encode("ascii")
        response = web.Response(status=reply.status, headers=headers, body=body)
        return _with_cookies(response, reply.cookies)

    def _page_response(self, request: web.BaseRequest, reply: PageReply) -> web.Response:
        headers = {**self._headers(request), "Content-Type": reply.media_type, **reply.headers}
        response = web.Response(status=reply.status, headers=headers, body=reply.document)
        if reply.reason is not None:
            response[OUTCOME] = str(reply.reason)
        return _with_cookies(response, reply.cookies)

    def _headers(self, request: web.BaseRequest) -> dict[str, str]:
        headers = {**OWN_HEADERS, "X-Request-Id": _id_of(request)}
        if self._https:
            headers["Strict-Transport-Security"] = HSTS
        return headers

    def _problem_response(
        self,
        request: web.BaseRequest,
        call: Call,
        reply: ProblemReply,
        allow: list[str] | tuple[str, ...] = (),
    ) -> web.Response:
        errors = [{"field": e.field, "problem": e.problem} for e in reply.errors]
        response = problem(
            reply.reason,
            request_id=_id_of(request),
            detail=reply.detail,
            retry_after_s=reply.retry_after_s,
            allow=allow,
            errors=errors or None,
            members=reply.members,
            extra_headers=_step_up(reply.max_age_s),
            https=self._https,
        )
        page = None
        if self._pages is not None:
            page = self._pages.refusal(call, reply, _id_of(request))
        if page is not None:
            told = {name: response.headers[name] for name in _TOLD if name in response.headers}
            page = replace(page, headers={**told, **page.headers}, reason=reply.reason)
            response = self._page_response(request, page)
        return _with_cookies(response, reply.cookies)


def _matches(name: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    return len(name) == len(segments) and all(
        part in ("*", segment) for part, segment in zip(name, segments, strict=True)
    )


def _step_up(max_age_s: int | None) -> dict[str, str]:
    if max_age_s is None:
        return {}
    return {"WWW-Authenticate": step_up_challenge(max_age_s, ())}


def _with_cookies(response: web.Response, cookies: tuple[str, ...]) -> web.Response:
    for line in cookies:
        response.headers.add("Set-Cookie", line)
    return response


def _id_of(request: web.BaseRequest) -> str:
    return request.get(REQUEST_ID) or secrets.token_hex(16)
