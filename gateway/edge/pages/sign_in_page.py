"""`<prefix>/ui/sign-in` and `<prefix>/ui/sign-out`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply, leads_to
from gateway.edge.endpoints.json_body import parse
from gateway.edge.pages.factor_pages import FactorPages
from gateway.edge.pages.forms import DONE, PageDependencies
from gateway.edge.pages.problems import shown, status_of
from gateway.edge.pages.renderer import Page
from gateway.edge.pages.visits import Visit
from gateway.edge.replies.cookies import expired_cookie
from gateway.edge.replies.sign_in_redirects import SIGN_IN
from gateway.model import Call, Reason

SIGN_OUT = ("ui", "sign-out")
BY_PASSKEY = (*SIGN_IN, "passkey")
_UNCERTAIN = frozenset(
    (Reason.INVALID_CREDENTIALS, Reason.CAPTCHA_REQUIRED, Reason.TOO_MANY_ATTEMPTS)
)
"""After these the next attempt may need a challenge: the page brings one, so that none is spent."""


class SignInPage:
    def __init__(self, dependencies: PageDependencies, factors: FactorPages) -> None:
        self._deps = dependencies
        self._factors = factors

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            SIGN_IN: {"GET": self.show, "POST": self.sign_in},
            BY_PASSKEY: {"GET": self.show, "POST": self.sign_in_by_passkey},
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
        page = await self._page(visit, return_to, {"done": done})
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
        if "mfa_token" in reply.members:
            return await self._factors.ask(visit, return_to, reply.members)
        values: dict[str, Any] = {
            "challenge": await self._challenge(visit) if reply.reason in _UNCERTAIN else None,
            "needed": reply.reason is Reason.CAPTCHA_REQUIRED,
            "unverified": reply.reason is Reason.EMAIL_UNVERIFIED,
        }
        values["email"] = form.get("email", "")
        page = await self._page(visit, return_to, values)
        return self._deps.show(visit, page, reply)

    async def sign_in_by_passkey(self, request: web.BaseRequest, call: Call) -> Reply:
        """What the script of the page sends (`assets/passkeys.js`)."""
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        return_to = visit.form.get("return_to")
        credential = parse(visit.form.get("credential", "").encode())
        if isinstance(credential, ProblemReply):
            return credential
        fields = {
            "challenge_token": visit.form.get("challenge_token", ""),
            "credential": credential,
            "transport": "cookie",
        }
        reply = await self._deps.visits.ask(visit, "POST", "login", "passkey", fields=fields)
        if isinstance(reply, JsonReply):
            return leads_to(self._deps.location(visit, return_to), *reply.cookies)
        texts = self._deps.catalogue.texts_for(call)
        values = {"problem": shown(texts, reply, subject="passkey")}
        page = await self._page(visit, return_to, values)
        return self._deps.show(visit, page, reply)

    async def confirm_sign_out(self, request: web.BaseRequest, call: Call) -> Reply:
        return self._deps.show(self._deps.visits.begin(request, call), Page("sign_out.html"))

    async def sign_out(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        fields = {"provider": True, **({"all": True} if "all" in visit.form else {})}
        reply = await self._deps.visits.ask(visit, "POST", "logout", fields=fields)
        over = (Reason.NO_CREDENTIAL, Reason.SESSION_UNKNOWN)
        if isinstance(reply, ProblemReply) and reply.reason not in over:
            return reply
        cookies = dict.fromkeys((*reply.cookies, *expired_cookie(call, Reason.SESSION_UNKNOWN)))
        headers = reply.headers if isinstance(reply, JsonReply) else {}
        if isinstance(reply, JsonReply) and reply.body is not None:
            # A link and no redirect: browsers hold what a form leads to for where it was sent.
            values = {"offer": reply.body["provider_sign_out"]}
            shown_page = self._deps.show(
                visit, Page("signed_out.html", values, cookies=tuple(cookies))
            )
            return replace(shown_page, headers={**shown_page.headers, **headers})
        location = f"{self._deps.renderer.path('sign-in')}?done=signed-out"
        return leads_to(location, *cookies, headers=headers)

    async def _challenge(self, visit: Visit) -> str | None:
        """None where the address has been given too many."""
        told = await self._deps.visits.ask(visit, "GET", "captcha")
        return json.dumps(told.body) if isinstance(told, JsonReply) else None

    async def _page(self, visit: Visit, return_to: str | None, values: dict[str, Any]) -> Page:
        by_passkey = visit.call.host == self._deps.passkey_host
        told = await self._deps.visits.ask(visit, "GET", "providers")
        assert isinstance(told, JsonReply)
        assert told.body is not None
        given: dict[str, Any] = {
            "providers": told.body["providers"],
            "email": "",
            "done": None,
            "challenge": None,
            "needed": False,
            "unverified": False,
            "return_to": return_to or "",
            "by_passkey": by_passkey,
            "may_register": self._deps.registration_rules.mode == "open",
            **values,
        }
        scripts = {"captcha.js": given["challenge"], "passkeys.js": by_passkey}
        return Page(
            "sign_in.html",
            given,
            scripts=tuple(name for name, needed in scripts.items() if needed),
            leads_away=True,
        )
