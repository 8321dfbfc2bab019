"""A visitor's call of a page, and the endpoints that are asked in the visitor's place.

Law: a page does nothing by itself.  What a form asks for is done by the function that answers the
JSON call, within its limits, with its audit events and its mails; and a form counts only where the
browser says that a page of this very origin sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from gateway.access.routing.csrf import AllowedOrigins, OriginCheck, check_origin
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.request_values import query_parameter
from gateway.edge.endpoints.endpoint import Endpoints, JsonReply, PageReply, ProblemReply
from gateway.edge.endpoints.form_body import MalformedForm, read_form
from gateway.edge.endpoints.json_body import PAGE_FIELDS
from gateway.edge.endpoints.rate_limits import ACCOUNT, BY_ENDPOINT, EndpointLimits
from gateway.edge.server.endpoint_calls import REQUEST_ID
from gateway.model import Call, Reason


@dataclass(frozen=True, slots=True)
class Visit:
    request: web.BaseRequest
    call: Call
    form: Mapping[str, str]
    """Of a POST; empty fields are left out."""

    @property
    def request_id(self) -> str:
        return self.request.get(REQUEST_ID) or ""

    def parameter(self, name: str) -> str | None:
        """The one value of a query parameter; None where it could be read in two ways."""
        return query_parameter(self.call.query, name)


class Visits:
    def __init__(
        self,
        endpoints: Endpoints,
        origins: Callable[[Call], AllowedOrigins],
        limits: EndpointLimits,
        own_paths: OwnPaths,
    ) -> None:
        """`origins` gives those that may call `/auth`: of them a page counts the own ones."""
        self._endpoints = endpoints
        self._origins = origins
        self._limits = limits
        self._own_paths = own_paths

    def begin(self, request: web.BaseRequest, call: Call) -> Visit:
        return Visit(request, call, {})

    async def posted(self, request: web.BaseRequest, call: Call) -> Visit | ProblemReply:
        """The visit of who sent a form of ours."""
        own = replace(self._origins(call), cors=None)
        if check_origin(call, own) is not OriginCheck.PROVEN:
            return ProblemReply(Reason.CROSS_ORIGIN)
        form = await read_form(request)
        if isinstance(form, MalformedForm):
            unsupported = Reason.MEDIA_TYPE_UNSUPPORTED if form.another_type else None
            return ProblemReply(unsupported or Reason.BODY_MALFORMED)
        return form if isinstance(form, ProblemReply) else Visit(request, call, form)

    def knows(self, path: tuple[str, ...]) -> bool:
        """Whether there is such an endpoint: some are there only where they are of use."""
        return path in self._endpoints

    async def ask(
        self, visit: Visit, method: str, *path: str, fields: Mapping[str, Any] | None = None
    ) -> JsonReply | ProblemReply:
        """What the endpoint of this path says to the visitor.  Raises StoreUnavailable."""
        # The last segment may be what a visitor has sent, which names no endpoint.
        name = path if method in self._endpoints.get(path, ()) else (*path[:-1], "*")
        # The page itself was counted as the endpoints are that have no limit of their own.
        if BY_ENDPOINT.get(name, ACCOUNT) is not ACCOUNT:
            wait_s = await self._limits.wait_s(name, visit.call)
            if wait_s > 0:
                return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        segments = (*self._own_paths.segments, *path)
        visit.request[PAGE_FIELDS] = dict(fields or {})
        reply = await self._endpoints[name][method](
            visit.request, replace(visit.call, method=method, segments=segments)
        )
        assert not isinstance(reply, PageReply)
        return reply
