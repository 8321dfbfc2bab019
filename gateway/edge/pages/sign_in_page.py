"""`<prefix>/ui/sign-in` and `<prefix>/ui/sign-out`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply
from gateway.edge.pages.forms import DONE, PageDependencies, leads_to
from gateway.edge.pages.problems import status_of
from gateway.edge.pages.renderer import Page
from gateway.edge.pages.visits import Visit
from gateway.edge.replies.cookies import expired_cookie
from gateway.model import Call, Reason

SIGN_IN, SIGN_OUT = ("ui", "sign-in"), ("ui", "sign-out")
_UNCERTAIN = frozenset((Reason.INVALID_CREDENTIALS, Reason.CAPTCHA_REQUIRED))
"""After these the next attempt may need a challenge: the page brings one, so that none is spent."""


class SignInPage:
    def __init__(self, dependencies: PageDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            SIGN_IN: {"GET": self.show, "POST": self.sign_in},
            SIGN_OUT: {"GET": self.confirm_sign_out, "POST": self.sign_out},
        }

    async def show(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        return_to, done = visit.parameter("return_to"), visit.parameter("done")
        done = done if done in DONE else None
        me = await self._deps.visits.ask(visit, "GET", "me")
        if isinstance(me, JsonReply):
            if return_to is not None:
                # Of tabs that were all sent here one has signed in: the others go on.
                return leads_to(self._deps.location(visit, return_to))
            assert me.body is not None
            values = {"email": me.body["email"], "done": done}
            return self._deps.show(visit, Page("signed_in.html", values))
        if status_of(me.reason) == 503:
            return me
        page = self._page(return_to, "", {"done": done})
        return self._deps.show(visit, replace(page, cookies=expired_cookie(call, me.reason)))

    async def sign_in(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        form, return_to = visit.form, visit.form.get("return_to")
        fields = {name: form[name] for name in ("email", "password", "captcha") if name in form}
        reply = await self._deps.visits.ask(
            visit, "POST", "login", fields={**fields, "transport": "cookie"}
        )
        if isinstance(reply, JsonReply):
            return leads_to(self._deps.location(visit, return_to), *reply.cookies)
        values = {
            "challenge": await self._challenge(visit) if reply.reason in _UNCERTAIN else None,
            "needed": reply.reason is Reason.CAPTCHA_REQUIRED,
            "unverified": reply.reason is Reason.EMAIL_UNVERIFIED,
        }
        return self._deps.show(visit, self._page(return_to, form.get("email", ""), values), reply)

    async def confirm_sign_out(self, request: web.BaseRequest, call: Call) -> Reply:
        return self._deps.show(self._deps.visits.begin(request, call), Page("sign_out.html"))

    async def sign_out(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        fields = {"all": True} if "all" in visit.form else {}
        reply = await self._deps.visits.ask(visit, "POST", "logout", fields=fields)
        over = (Reason.NO_CREDENTIAL, Reason.SESSION_UNKNOWN)
        if isinstance(reply, ProblemReply) and reply.reason not in over:
            return reply
        cookies = dict.fromkeys((*reply.cookies, *expired_cookie(call, Reason.SESSION_UNKNOWN)))
        headers = reply.headers if isinstance(reply, JsonReply) else {}
        location = f"{self._deps.renderer.path('sign-in')}?done=signed-out"
        return leads_to(location, *cookies, headers=headers)

    async def _challenge(self, visit: Visit) -> str:
        told = await self._deps.visits.ask(visit, "GET", "captcha")
        assert isinstance(told, JsonReply)
        return json.dumps(told.body)

    def _page(self, return_to: str | None, email: str, values: dict[str, Any]) -> Page:
        given: dict[str, Any] = {
            "email": email,
            "done": None,
            "challenge": None,
            "needed": False,
            "unverified": False,
            "return_to": return_to or "",
            "may_register": self._deps.registration_rules.mode == "open",
            **values,
        }
        return Page(
            "sign_in.html",
            given,
            scripts=("captcha.js",) if given["challenge"] else (),
            leads_away=True,
        )
