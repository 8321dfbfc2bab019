"""What a browser sees that comes back from a provider, or is sent to one, where more than a
sentence is to be said: the question for a second factor, and the page that asks anew who is signed
in.

They stand in the place of the endpoints of the same name, and ask those first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from aiohttp import web

from gateway.access.step_up import StepUp
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    Endpoints,
    PageReply,
    ProblemReply,
    Reply,
    leads_to,
)
from gateway.edge.pages.factor_pages import FactorPages
from gateway.edge.pages.forms import PageDependencies
from gateway.edge.pages.refusals import takes_page
from gateway.model import Call, Reason

START, CALLBACK = ("providers", "*", "start"), ("providers", "*", "callback")
_OF_ORIGIN = frozenset((b"sec-fetch-site", b"origin"))


class ProviderPages:
    def __init__(
        self, dependencies: PageDependencies, factor_pages: FactorPages, endpoints: Endpoints
    ) -> None:
        """`endpoints` are those of `/auth`."""
        self._deps = dependencies
        self._factors = factor_pages
        self._start, self._callback = endpoints[START], endpoints[CALLBACK]

    def endpoints(self) -> Mapping[tuple[str, ...], Mapping[str, Endpoint]]:
        return {
            START: {**self._start, "GET": self.start},
            CALLBACK: {**self._callback, "GET": self.callback},
        }

    async def start(self, request: web.BaseRequest, call: Call) -> Reply:
        """Who is to link a provider and has signed in long ago does so anew, and comes back."""
        reply = await self._start["GET"](request, call)
        if not isinstance(reply, ProblemReply) or not takes_page(call):
            return reply
        if reply.reason is not Reason.INSUFFICIENT_USER_AUTHENTICATION:
            return reply
        path = "/" + "/".join(call.segments) + (f"?{call.query}" if call.query else "")
        asked = StepUp(reply.max_age_s, ())
        return_to = self._deps.return_targets.seal(call.host, path, asked)
        step_up = self._deps.renderer.path("step-up")
        return leads_to(f"{step_up}?return_to={quote(return_to)}")

    async def callback(self, request: web.BaseRequest, call: Call) -> Reply:
        reply = await self._callback["GET"](request, call)
        if not isinstance(reply, ProblemReply) or not takes_page(call):
            return reply
        if "mfa_token" not in reply.members:
            return reply
        visit = self._deps.visits.begin(request, _begun_here(call))
        page = await self._factors.ask(visit, reply.members["return_to"], reply.members)
        if isinstance(page, PageReply | ProblemReply):
            return replace(page, cookies=(*page.cookies, *reply.cookies))
        return page


def _begun_here(call: Call) -> Call:
    """That another site made the browser come is what a provider is for: `state` and the cookie of
    the round trip have proven already that this browser set out from here."""
    kept = [(name, value) for name, value in call.headers if name.lower() not in _OF_ORIGIN]
    return replace(call, headers=kept)
