"""`<prefix>/ui/sign-in` and `<prefix>/ui/sign-out`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, PageReply, ProblemReply, Reply
from gateway.edge.pages.problems import headers_of, shown, status_of
from gateway.edge.pages.renderer import Page, PageRenderer
from gateway.edge.pages.texts import Catalogue
from gateway.edge.pages.visits import Visit, Visits
from gateway.edge.replies.cookies import expired_cookie
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.model import Call, Reason

HOME = "/"
SIGN_IN, SIGN_OUT = ("ui", "sign-in"), ("ui", "sign-out")
DONE = frozenset(("verified", "reset", "signed-out", "registered", "email-changed", "deleted"))
"""What has just been done, as `?done=` may say."""
_UNCERTAIN = frozenset((Reason.INVALID_CREDENTIALS, Reason.CAPTCHA_REQUIRED))
"""After these the next attempt may need a challenge: the page brings one, so that none is spent."""


@dataclass(frozen=True, slots=True)
class PageDependencies:
    """What every page stands on."""

    visits: Visits
    renderer: PageRenderer
    catalogue: Catalogue
    return_targets: ReturnTargets
    registration_rules: RegistrationRules
    password_min_length: int

    def location(self, visit: Visit, return_to: str | None) -> str:
        """Where `?return_to=` leads; `/` where it is none."""
        target = self.return_targets.open(return_to or "", visit.call.host)
        return HOME if target is None else target.location


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
        return_to = visit.parameter("return_to")
        me = await self._deps.visits.ask(visit, "GET", "me")
        if isinstance(me, JsonReply):
            if return_to is not None:
                # Of tabs that were all sent here one has signed in: the others go on.
                return leads_to(self._deps.location(visit, return_to))
            assert me.body is not None
            return self._render(visit, "signed_in.html", {"email": me.body["email"]})
        if status_of(me.reason) == 503:
            return me
        values = {"done": visit.parameter("done"), "email": ""}
        return self._form(visit, return_to, values, cookies=expired_cookie(call, me.reason))

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
        values: dict[str, Any] = {"done": None, "email": form.get("email", "")}
        return await self._refused(visit, return_to, values, reply)

    async def confirm_sign_out(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        return self._render(visit, "sign_out.html", {})

    async def sign_out(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        fields = {"all": True} if "all" in visit.form else {}
        reply = await self._deps.visits.ask(visit, "POST", "logout", fields=fields)
        over = (Reason.NO_CREDENTIAL, Reason.SESSION_UNKNOWN)
        if isinstance(reply, ProblemReply) and reply.reason not in over:
            return reply
        cookies = (*reply.cookies, *expired_cookie(call, Reason.SESSION_UNKNOWN))
        headers = reply.headers if isinstance(reply, JsonReply) else {}
        location = f"{self._deps.renderer.path('sign-in')}?done=signed-out"
        return leads_to(location, *dict.fromkeys(cookies), headers=headers)

    async def _refused(
        self, visit: Visit, return_to: str | None, values: dict[str, Any], reply: ProblemReply
    ) -> PageReply:
        texts = self._deps.catalogue.texts_for(visit.call)
        challenge = None
        if reply.reason in _UNCERTAIN:
            told = await self._deps.visits.ask(visit, "GET", "captcha")
            assert isinstance(told, JsonReply)
            challenge = json.dumps(told.body)
        return self._form(
            visit,
            return_to,
            {
                **values,
                "problem": shown(texts, reply),
                "challenge": challenge,
                "needed": reply.reason is Reason.CAPTCHA_REQUIRED,
                "unverified": reply.reason is Reason.EMAIL_UNVERIFIED,
            },
            cookies=reply.cookies,
            refusal=reply,
        )

    def _form(
        self,
        visit: Visit,
        return_to: str | None,
        values: Mapping[str, Any],
        *,
        cookies: tuple[str, ...],
        refusal: ProblemReply | None = None,
    ) -> PageReply:
        given: dict[str, Any] = {
            "problem": None,
            "challenge": None,
            "needed": False,
            "unverified": False,
            "return_to": return_to or "",
            "may_register": self._deps.registration_rules.mode == "open",
            **values,
        }
        if given["done"] not in DONE:
            given["done"] = None
        page = Page(
            "sign_in.html",
            given,
            cookies=cookies,
            scripts=("captcha.js",) if given["challenge"] else (),
            leads_away=True,
        )
        return self._deps.renderer.render(visit.call, refused(page, refusal, visit))

    def _render(self, visit: Visit, template: str, values: Mapping[str, Any]) -> PageReply:
        return self._deps.renderer.render(visit.call, Page(template, values))


def refused(page: Page, reply: ProblemReply | None, visit: Visit) -> Page:
    """The page with the status and the fields of the refusal that it shows, if any."""
    if reply is None:
        return page
    return replace(
        page,
        status=status_of(reply.reason),
        reason=reply.reason,
        headers={**page.headers, **headers_of(reply, visit.request_id)},
    )


def leads_to(location: str, *cookies: str, headers: Mapping[str, str] | None = None) -> JsonReply:
    return JsonReply(303, headers={**(headers or {}), "Location": location}, cookies=cookies)
