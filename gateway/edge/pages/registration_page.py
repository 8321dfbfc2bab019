"""`<prefix>/ui/register`: a new account, by its address alone or by an invitation."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply, leads_to
from gateway.edge.endpoints.registration import CLOSED, NOT_INVITED
from gateway.edge.pages.forms import PageDependencies
from gateway.edge.pages.renderer import Page
from gateway.edge.pages.visits import Visit
from gateway.model import Call

REGISTER = ("ui", "register")


class RegistrationPage:
    def __init__(self, dependencies: PageDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {REGISTER: {"GET": self.show, "POST": self.register}}

    async def show(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        invitation = visit.parameter("token") or ""
        mode = self._deps.registration_rules.mode
        if mode == "closed":
            return CLOSED
        if mode == "invited" and not invitation:
            return NOT_INVITED
        values = {"return_to": visit.parameter("return_to") or "", "invitation": invitation}
        return self._deps.show(visit, self._page("", values))

    async def register(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        form = visit.form
        names = ("email", "password", "invitation")
        fields = {name: form[name] for name in names if name in form}
        reply = await self._deps.visits.ask(visit, "POST", "register", fields=fields)
        email = form.get("email", "")
        if isinstance(reply, ProblemReply):
            values = {name: form.get(name, "") for name in ("return_to", "invitation")}
            return self._deps.show(visit, self._page(email, values), reply)
        if reply.status == 202:
            page = Page("mail_sent.html", {"about": "register", "email": email})
            return self._deps.show(visit, page)
        return await self._signed_in(visit)

    async def _signed_in(self, visit: Visit) -> Reply:
        """The account is there at once: whoever has made it is signed in."""
        form = visit.form
        fields = {"email": form["email"], "password": form["password"], "transport": "cookie"}
        reply = await self._deps.visits.ask(visit, "POST", "login", fields=fields)
        if isinstance(reply, JsonReply):
            location = self._deps.location(visit, form.get("return_to"))
            return leads_to(location, *reply.cookies)
        return self._deps.sign_in_page("registered")

    def _page(self, email: str, values: dict[str, Any]) -> Page:
        given = {**values, "email": email, "min_length": self._deps.password_min_length}
        return Page("register.html", given, leads_away=True)
