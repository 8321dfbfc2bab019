"""The second step: `sign-in/factor` asks for a factor, `sign-in/enrol` adds one that is required,
and `step-up` asks again who is signed in already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply, leads_to
from gateway.edge.endpoints.json_body import parse
from gateway.edge.pages.forms import PageDependencies
from gateway.edge.pages.problems import shown
from gateway.edge.pages.qr_codes import qr_code
from gateway.edge.pages.renderer import Page
from gateway.edge.pages.visits import Visit
from gateway.edge.replies.sign_in_redirects import SESSION_MISSING, STEP_UP
from gateway.model import Call, Reason

FACTOR, ENROL = ("ui", "sign-in", "factor"), ("ui", "sign-in", "enrol")
ENROL_PASSKEY = (*ENROL, "passkey")
_CODES = frozenset(("totp", "recovery_code"))


class FactorPages:
    def __init__(self, dependencies: PageDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            FACTOR: {"GET": self.begin_anew, "POST": self.give},
            ENROL: {"GET": self.begin_anew, "POST": self.confirm},
            ENROL_PASSKEY: {"GET": self.begin_anew, "POST": self.add_passkey},
            STEP_UP: {"GET": self.show_step_up, "POST": self.step_up},
        }

    async def ask(self, visit: Visit, return_to: str | None, members: Mapping[str, Any]) -> Reply:
        """The page that follows a right password; `members` are those of the problem."""
        if members.get("enrol"):
            return await self._enrol(visit, return_to, members["mfa_token"])
        page = self._factor_page(return_to, members)
        return self._deps.show(visit, page)

    async def begin_anew(self, request: web.BaseRequest, call: Call) -> Reply:
        """A page that was reloaded has lost what it was asked with."""
        return leads_to(self._deps.renderer.path("sign-in"))

    async def give(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        return_to = visit.form.get("return_to")
        fields = {"mfa_token": visit.form.get("mfa_token", ""), **_answer(visit)}
        reply = await self._deps.visits.ask(visit, "POST", "login", "factor", fields=fields)
        if isinstance(reply, JsonReply):
            return leads_to(self._deps.location(visit, return_to), *reply.cookies)
        if reply.reason is Reason.INVALID_TOKEN:
            return self._deps.sign_in_page("too-late")
        members = {
            "mfa_token": fields["mfa_token"],
            "factors": visit.form.get("factors", "totp,recovery_code").split(","),
        }
        return self._refused(visit, self._factor_page(return_to, members), reply)

    async def _enrol(self, visit: Visit, return_to: str | None, mfa_token: str) -> Reply:
        reply = await self._deps.visits.ask(
            visit, "POST", "factors", "totp", fields={"mfa_token": mfa_token}
        )
        if isinstance(reply, ProblemReply):
            return reply
        assert reply.body is not None
        page = self._enrol_page(visit, mfa_token, reply.body["otpauth_uri"])
        page = replace(page, values={**page.values, "return_to": return_to or ""})
        return self._deps.show(visit, page)

    async def confirm(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        form = visit.form
        fields = {name: form[name] for name in ("mfa_token", "code") if name in form}
        reply = await self._deps.visits.ask(
            visit, "POST", "factors", "totp", "confirm", fields=fields
        )
        return self._enrolled(visit, reply)

    async def add_passkey(self, request: web.BaseRequest, call: Call) -> Reply:
        """In the place of an app; what the script of the page sends (`assets/passkeys.js`)."""
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        form = visit.form
        if "credential" not in form:
            # The script got no options, and says so by this.
            return self._deps.sign_in_page("too-late")
        credential = parse(form["credential"].encode())
        if isinstance(credential, ProblemReply):
            return credential
        fields = {
            "mfa_token": form.get("mfa_token", ""),
            "challenge_token": form.get("challenge_token", ""),
            "credential": credential,
        }
        reply = await self._deps.visits.ask(visit, "POST", "factors", "passkeys", fields=fields)
        return self._enrolled(visit, reply)

    def _enrolled(self, visit: Visit, reply: JsonReply | ProblemReply) -> Reply:
        form, return_to = visit.form, visit.form.get("return_to")
        if isinstance(reply, ProblemReply):
            if reply.reason is Reason.INVALID_TOKEN or reply.reason in SESSION_MISSING:
                return self._deps.sign_in_page("too-late")
            uri = form.get("otpauth_uri", "")
            drawn = "code" in form and reply.reason is Reason.INVALID_CREDENTIALS
            page = self._enrol_page(visit, form.get("mfa_token", ""), uri, drawn=drawn)
            return self._refused(visit, page, reply)
        codes = (reply.body or {}).get("recovery_codes", [])
        values = {"codes": codes, "go_on": self._deps.location(visit, return_to)}
        page = Page("recovery_codes.html", values, cookies=reply.cookies)
        return self._deps.show(visit, page)

    async def show_step_up(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        return await self._step_up_page(visit, visit.parameter("return_to"), None)

    async def step_up(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        return_to = visit.form.get("return_to")
        fields = _answer(visit)
        if "password" in visit.form and not fields:
            fields = {"password": visit.form["password"]}
        reply = await self._deps.visits.ask(visit, "POST", "step-up", fields=fields)
        if isinstance(reply, JsonReply):
            return leads_to(self._deps.location(visit, return_to), *reply.cookies)
        if "mfa_token" in reply.members:
            return await self.ask(visit, return_to, reply.members)
        return await self._step_up_page(visit, return_to, reply)

    async def _step_up_page(
        self, visit: Visit, return_to: str | None, refusal: ProblemReply | None
    ) -> Reply:
        """With what the account has to give: asked anew, as a challenge is for one answer."""
        asked = await self._deps.visits.ask(visit, "POST", "step-up")
        assert isinstance(asked, ProblemReply)
        if asked.reason in SESSION_MISSING:
            suffix = f"?return_to={quote(return_to, safe='')}" if return_to else ""
            return leads_to(f"{self._deps.renderer.path('sign-in')}{suffix}")
        if asked.reason is not Reason.INSUFFICIENT_USER_AUTHENTICATION:
            return asked
        factors = asked.members["factors"]
        wanted = self._deps.asked(visit, return_to)
        links = await self._deps.visits.ask(visit, "GET", "links")
        linked = links.body["links"] if isinstance(links, JsonReply) and links.body else ()
        values = {
            **_factor_values(return_to, asked.members),
            "providers": [link for link in linked if link["start"]] if not factors else (),
            "by_password": not factors,
            "lacks_factor": not factors and bool({"mfa", "otp", "hwk", "swk"} & set(wanted)),
        }
        page = Page("step_up.html", values, scripts=_scripts(asked.members), leads_away=True)
        if refusal is None or (
            refusal.reason is Reason.INSUFFICIENT_USER_AUTHENTICATION and factors
        ):
            return self._deps.show(visit, page)
        return self._refused(visit, page, refusal)

    def _refused(self, visit: Visit, page: Page, refusal: ProblemReply) -> Reply:
        texts = self._deps.catalogue.texts_for(visit.call)
        subject = "password" if "password" in visit.form else "factor"
        values = {**page.values, "problem": shown(texts, refusal, subject=subject)}
        return self._deps.show(visit, replace(page, values=values), refusal)

    def _factor_page(self, return_to: str | None, members: Mapping[str, Any]) -> Page:
        values = {**_factor_values(return_to, members), "mfa_token": members["mfa_token"]}
        return Page("factor.html", values, scripts=_scripts(members), leads_away=True)

    def _enrol_page(self, visit: Visit, mfa_token: str, uri: str, *, drawn: bool = True) -> Page:
        by_passkey = visit.call.host == self._deps.passkey_host
        values = {
            "return_to": visit.form.get("return_to", ""),
            "by_passkey": by_passkey,
            "mfa_token": mfa_token,
            "otpauth_uri": uri,
            **qr_code(uri, drawn=drawn),
        }
        scripts = ("passkeys.js",) if by_passkey else ()
        return Page("enrol.html", values, scripts=scripts)


def _answer(visit: Visit) -> dict[str, Any]:
    """The field of a factor that the form holds; of none where it holds none."""
    form = visit.form
    if "credential" in form:
        credential = parse(form["credential"].encode())
        token = form.get("challenge_token", "")
        if isinstance(credential, dict):
            return {"passkey": {"challenge_token": token, "credential": credential}}
    return {"code": form["code"]} if "code" in form else {}


def _factor_values(return_to: str | None, members: Mapping[str, Any]) -> dict[str, Any]:
    factors = members["factors"]
    passkey = members.get("passkey")
    return {
        "return_to": return_to or "",
        "factors": ",".join(factors),
        "by_code": bool(_CODES.intersection(factors)),
        "passkey": None if passkey is None else json.dumps(passkey),
    }


def _scripts(members: Mapping[str, Any]) -> tuple[str, ...]:
    return ("passkeys.js",) if "passkey" in members else ()
