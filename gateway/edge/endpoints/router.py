"""The gateway's own endpoints: `/auth`, `/auth/…` and the three `/.well-known` documents.

Meets `edge.server.OwnEndpoints`.  What is not here is 404 `route_unknown`; a method that an
endpoint does not have is 405 with `Allow`.  Every `/auth` answer is `no-store`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.edge.endpoints.account import Identifier, OwnAccount, OwnAccountParts
from gateway.edge.endpoints.csrf import Intents
from gateway.edge.endpoints.endpoint import Endpoint, Endpoints, Refused, Said, Unbroken
from gateway.edge.endpoints.rate_limits import OwnLimits
from gateway.edge.endpoints.sign_in import SignIn, SignInParts
from gateway.edge.endpoints.well_known import METHODS as WELL_KNOWN_METHODS
from gateway.edge.endpoints.well_known import WellKnown
from gateway.edge.replies.cookies import cookie_of, parting
from gateway.edge.replies.problems import HSTS, OUTCOME, OWN_HEADERS, SERVER, problem
from gateway.edge.server.web_request import REQUEST_ID
from gateway.identity.accounts.email_change import AddressChanges
from gateway.model import Call, Reason
from gateway.stores.protocols import StoreUnavailable
from gateway.telemetry.metrics import Tally

log = structlog.get_logger(__name__)


def assembled(
    parts: SignInParts,
    identifier: Identifier,
    well_known: WellKnown,
    *,
    https: bool,
    address_changes: AddressChanges,
    more: Endpoints | None = None,
    intents: Intents | None = None,
    limits: OwnLimits | None = None,
) -> AuthApi:
    """The endpoints of signing in and of one's own account, and `more`."""
    own = OwnAccountParts(
        identifier=identifier,
        accounts=parts.accounts,
        passwords=parts.passwords,
        sessions=parts.sessions,
        throttle=parts.throttle,
        publisher=parts.publisher,
        unbroken=parts.unbroken,
        notices=parts.notices,
        guard=parts.guard,
        address_changes=address_changes,
        audit=parts.audit,
    )
    endpoints = {**SignIn(parts).endpoints(), **OwnAccount(own).endpoints(), **(more or {})}
    return AuthApi(
        endpoints, well_known, parts.unbroken, https=https, intents=intents, limits=limits
    )


class AuthApi:
    def __init__(
        self,
        endpoints: Endpoints,
        well_known: WellKnown,
        unbroken: Unbroken,
        *,
        https: bool,
        intents: Intents | None = None,
        meter: Callable[[str, str, int, float], None] | None = None,
        defects: Tally | None = None,
        limits: OwnLimits | None = None,
    ) -> None:
        """`https`: clients reach the public URL over TLS, so answers carry HSTS.  Without
        `intents` no cookie counts.  `meter` is `metrics.Metrics.record_endpoint`.  Without `limits`
        everybody may ask as often as they like, as tests do."""
        self._meter = meter
        self._defects = defects or Tally()
        self._limits = limits
        self._intents = intents
        if intents is not None:
            endpoints = {**endpoints, **intents.endpoints()}
        self._endpoints = endpoints
        self._well_known = well_known
        self._unbroken = unbroken
        self._https = https

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Never raises for what a client or a store does, but where the client's body broke."""
        began = time.perf_counter()
        try:
            answer = await self._answered(request, call)
        except (ConnectionError, HttpProcessingError, web.HTTPException):
            raise  # whose answer, if any is left to give, is its connection's
        except Exception as error:
            log.error("request-failed", request_id=_id_of(request), exc_info=error)
            self._defects.n += 1
            answer = self._refused(request, Refused(Reason.INTERNAL_ERROR))
        if self._meter is not None:
            outcome = answer.get(OUTCOME, "ok")
            took_s = time.perf_counter() - began
            self._meter(self._name(call), outcome, answer.status, took_s)
        return answer

    def _name(self, call: Call) -> str:
        """The endpoint for who counts: a name of ours, never what a client made up."""
        if call.segments[0] != "auth":
            return "/" + "/".join(call.segments)
        endpoint = self._endpoint(call.segments[1:])
        return "/".join(("/auth", *endpoint)) if endpoint else ""

    def _endpoint(self, segments: tuple[str, ...]) -> tuple[str, ...]:
        """The endpoint's own name; empty for what is none."""
        if segments in self._endpoints:
            return segments
        wild = (*segments[:-1], "*")
        return wild if segments and wild in self._endpoints else ()

    async def _answered(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        if call.segments[0] == "auth":
            return await self._auth(request, call)
        found = self._well_known.answer(request, "/" + "/".join(call.segments))
        if found is None:
            return self._refused(request, Refused(Reason.ROUTE_UNKNOWN))
        if call.method not in WELL_KNOWN_METHODS:
            return self._refused(request, Refused(Reason.METHOD_NOT_ALLOWED), WELL_KNOWN_METHODS)
        return found

    async def close(self) -> None:
        """Waits for the writes that clients have left behind."""
        await self._unbroken.settle()

    async def _auth(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        methods = self._methods(call.segments[1:])
        if methods is None:
            return self._refused(request, Refused(Reason.ROUTE_UNKNOWN))
        # RFC 9110 section 9.3.2: who answers GET answers HEAD.
        endpoint = methods.get("GET" if call.method == "HEAD" else call.method)
        if endpoint is None:
            allow = [*methods, "HEAD"] if "GET" in methods else list(methods)
            return self._refused(request, Refused(Reason.METHOD_NOT_ALLOWED), allow)
        if self._limits is not None:
            wait_s = await self._limits.wait_s(self._endpoint(call.segments[1:]), call.client_ip)
            if wait_s > 0:
                return self._refused(request, Refused(Reason.RATE_LIMITED, retry_after_s=wait_s))
        refusal = self._unmeant(call)
        if refusal is not None:
            return self._refused(request, Refused(refusal))
        try:
            answer = await endpoint(request, call)
        except StoreUnavailable as error:
            answer = Refused(error.reason)
        if isinstance(answer, Refused):
            gone = parting(call, answer.reason)
            return self._refused(request, replace(answer, cookies=answer.cookies + gone))
        return self._said(request, answer)

    def _unmeant(self, call: Call) -> Reason | None:
        if self._intents is not None:
            return self._intents.refusal(call)
        if cookie_of(call) is not None:
            call.credential = None
        return None

    def _methods(self, segments: tuple[str, ...]) -> Mapping[str, Endpoint] | None:
        if not segments or not segments[-1]:
            return None
        return self._endpoints.get(segments) or self._endpoints.get((*segments[:-1], "*"))

    def _said(self, request: web.BaseRequest, said: Said) -> web.Response:
        headers = {**OWN_HEADERS, "X-Request-Id": _id_of(request), "Proxy-Status": SERVER}
        if self._https:
            headers["Strict-Transport-Security"] = HSTS
        headers.update(said.headers)
        body = None
        if said.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(said.body).encode("ascii")
        answer = web.Response(status=said.status, headers=headers, body=body)
        return _with_cookies(answer, said.cookies)

    def _refused(
        self, request: web.BaseRequest, refused: Refused, allow: list[str] | tuple[str, ...] = ()
    ) -> web.Response:
        errors = [{"field": e.field, "problem": e.problem} for e in refused.errors]
        answer = problem(
            refused.reason,
            request_id=_id_of(request),
            detail=refused.detail,
            retry_after_s=refused.retry_after_s,
            allow=allow,
            errors=errors or None,
            https=self._https,
        )
        return _with_cookies(answer, refused.cookies)


def _with_cookies(answer: web.Response, cookies: tuple[str, ...]) -> web.Response:
    for line in cookies:
        answer.headers.add("Set-Cookie", line)
    return answer


def _id_of(request: web.BaseRequest) -> str:
    return request.get(REQUEST_ID) or secrets.token_hex(16)
