"""`<prefix>/ui/account`: what a person has here, and may change (docs/pages.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.access.step_up import StepUp
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    JsonReply,
    PageReply,
    ProblemReply,
    Reply,
    leads_to,
)
from gateway.edge.endpoints.json_body import parse
from gateway.edge.pages.account_actions import (
    ACTIONS,
    DONE,
    PREFIX,
    AccountAction,
    attributes_of_form,
)
from gateway.edge.pages.forms import PageDependencies
from gateway.edge.pages.problems import shown
from gateway.edge.pages.qr_codes import qr_code
from gateway.edge.pages.renderer import Page
from gateway.edge.pages.visits import Visit
from gateway.edge.replies.cookies import expired_cookie
from gateway.edge.replies.sign_in_redirects import SESSION_MISSING
from gateway.model import Call, Reason

ACCOUNT = ("ui", "account")
SHOWN_SESSIONS = 20
"""So that the page stays small: the latest; all of them can be ended at once."""
_DAY_S = 86_400
_OWN_DATA = {"Content-Disposition": 'attachment; filename="own-data.json"'}


class AccountPage:
    def __init__(self, dependencies: PageDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ACCOUNT: {"GET": self.show},
            **{(*ACCOUNT, action.name): {"POST": self._of(action)} for action in ACTIONS},
            (*ACCOUNT, "profile"): {"POST": self.change_profile},
            (*ACCOUNT, "create-key"): {"POST": self.create_key},
            (*ACCOUNT, "totp"): {"POST": self.begin_totp},
            (*ACCOUNT, "confirm-totp"): {"POST": self.confirm_totp},
            (*ACCOUNT, "recovery-codes"): {"POST": self.renew_codes},
            (*ACCOUNT, "add-passkey"): {"POST": self.add_passkey},
            (*ACCOUNT, "export"): {"GET": self.export},
            (*ACCOUNT, "delete"): {"GET": self.confirm_deletion, "POST": self.delete},
        }

    async def show(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        done = visit.parameter("done")
        return await self._page(visit, done=done if done in DONE else None)

    def _of(self, action: AccountAction) -> Endpoint:
        async def act(request: web.BaseRequest, call: Call) -> Reply:
            visit = await self._deps.visits.posted(request, call)
            if isinstance(visit, ProblemReply):
                return visit
            last = () if action.names is None else (visit.form.get(action.names, ""),)
            fields = {name: visit.form[name] for name in action.fields if name in visit.form}
            reply = await self._deps.visits.ask(
                visit, action.method, *action.path, *last, fields=fields
            )
            return await self._after(visit, reply, action.section, action.name)

        return act

    async def change_profile(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        kept = await self._deps.visits.ask(visit, "GET", "me", "attributes")
        if isinstance(kept, ProblemReply):
            return await self._after(visit, kept, "profile", "profile")
        assert kept.body is not None
        fields = attributes_of_form(visit.form, kept.body["editable"])
        reply = await self._deps.visits.ask(visit, "PATCH", "me", "attributes", fields=fields)
        if isinstance(reply, ProblemReply):
            errors = tuple(replace(e, field=e.field and PREFIX + e.field) for e in reply.errors)
            reply = replace(reply, errors=errors)
        return await self._after(visit, reply, "profile", "profile")

    async def create_key(self, request: web.BaseRequest, call: Call) -> Reply:
        """The key is shown on this page and never again."""
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        fields: dict[str, Any] = {"name": visit.form.get("key_name", "")}
        if visit.form.get("days", "").isdecimal():
            fields["expires_in"] = int(visit.form["days"][:6]) * _DAY_S
        reply = await self._deps.visits.ask(visit, "POST", "keys", fields=fields)
        if isinstance(reply, ProblemReply):
            named = replace(
                reply,
                errors=tuple(
                    replace(e, field="key_name" if e.field == "name" else "days")
                    for e in reply.errors
                ),
            )
            return await self._after(visit, named, "keys", "create-key")
        assert reply.body is not None
        return self._deps.show(visit, Page("new_key.html", {"key": reply.body["api_key"]}))

    async def begin_totp(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        reply = await self._deps.visits.ask(visit, "POST", "factors", "totp")
        if isinstance(reply, ProblemReply):
            return await self._after(visit, reply, "factors", "totp")
        assert reply.body is not None
        return self._deps.show(visit, _totp_page(reply.body["otpauth_uri"]))

    async def confirm_totp(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        fields = {"code": visit.form.get("code", "")}
        reply = await self._deps.visits.ask(
            visit, "POST", "factors", "totp", "confirm", fields=fields
        )
        if isinstance(reply, ProblemReply) and reply.reason is Reason.INVALID_CREDENTIALS:
            texts = self._deps.catalogue.texts_for(call)
            page = _totp_page(visit.form.get("otpauth_uri", ""))
            values = {**page.values, "problem": shown(texts, reply, subject="factor")}
            return self._deps.show(visit, replace(page, values=values), reply)
        return await self._after(visit, reply, "factors", "add-totp")

    async def renew_codes(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        reply = await self._deps.visits.ask(visit, "POST", "factors", "recovery-codes")
        return await self._after(visit, reply, "factors", "recovery-codes")

    async def add_passkey(self, request: web.BaseRequest, call: Call) -> Reply:
        """What the script of the page sends (`assets/passkeys.js`)."""
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        if "credential" not in visit.form:
            # The script got no options: what has to come first is told as of any other form.
            asked = await self._deps.visits.ask(visit, "POST", "factors", "passkeys", "options")
            if isinstance(asked, JsonReply):
                return leads_to(self._deps.renderer.path("account") + "#factors")
            return await self._after(visit, asked, "factors", "add-passkey")
        credential = parse(visit.form["credential"].encode())
        if isinstance(credential, ProblemReply):
            return credential
        fields = {
            "challenge_token": visit.form.get("challenge_token", ""),
            "credential": credential,
        }
        if "name" in visit.form:
            fields["name"] = visit.form["name"]
        reply = await self._deps.visits.ask(visit, "POST", "factors", "passkeys", fields=fields)
        return await self._after(visit, reply, "factors", "add-passkey")

    async def export(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        reply = await self._deps.visits.ask(visit, "GET", "me", "export")
        if isinstance(reply, ProblemReply):
            return self._to_sign_in(visit) if reply.reason in SESSION_MISSING else reply
        document = json.dumps(reply.body, indent=2, ensure_ascii=False).encode()
        return PageReply(200, document, _OWN_DATA, media_type="application/json")

    async def confirm_deletion(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        me = await self._deps.visits.ask(visit, "GET", "me")
        if isinstance(me, ProblemReply):
            return self._to_sign_in(visit) if me.reason in SESSION_MISSING else me
        assert me.body is not None
        return self._deps.show(visit, Page("delete_account.html", {"email": me.body["email"]}))

    async def delete(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        reply = await self._deps.visits.ask(visit, "DELETE", "me")
        if isinstance(reply, JsonReply) or reply.reason is Reason.REVOCATION_PENDING:
            cookies = dict.fromkeys((*reply.cookies, *expired_cookie(call, Reason.SESSION_UNKNOWN)))
            return replace(self._deps.sign_in_page("deleted"), cookies=tuple(cookies))
        return await self._after(visit, reply, "delete", "delete")

    async def _after(
        self, visit: Visit, reply: JsonReply | ProblemReply, section: str, name: str
    ) -> Reply:
        """Back to the page, which says what has been done or what is wrong; or to where it is asked
        whether it is really the owner."""
        path = self._deps.renderer.path("account")
        if isinstance(reply, JsonReply) or reply.reason is Reason.REVOCATION_PENDING:
            codes = (reply.body or {}).get("recovery_codes") if isinstance(reply, JsonReply) else ()
            if codes:
                values = {"codes": codes, "go_on": path}
                page = Page("recovery_codes.html", values, cookies=reply.cookies)
                return self._deps.show(visit, page)
            return leads_to(f"{path}?done={name}#{section}", *reply.cookies)
        if reply.reason in SESSION_MISSING:
            return self._to_sign_in(visit)
        if reply.reason is Reason.INSUFFICIENT_USER_AUTHENTICATION:
            back = f"{path}?done=step-up"
            asked = StepUp(reply.max_age_s, ())
            sealed = self._deps.return_targets.seal(visit.call.host, back, asked)
            return leads_to(f"{self._deps.renderer.path('step-up')}?return_to={sealed}")
        return await self._page(visit, refusal=reply, section=section)

    def _to_sign_in(self, visit: Visit) -> JsonReply:
        sealed = self._deps.return_targets.seal(
            visit.call.host, self._deps.renderer.path("account")
        )
        cookies = expired_cookie(visit.call, Reason.SESSION_UNKNOWN)
        return leads_to(f"{self._deps.renderer.path('sign-in')}?return_to={sealed}", *cookies)

    async def _page(
        self,
        visit: Visit,
        *,
        done: str | None = None,
        refusal: ProblemReply | None = None,
        section: str = "",
    ) -> Reply:
        has = await self._has(visit)
        if isinstance(has, ProblemReply):
            return self._to_sign_in(visit) if has.reason in SESSION_MISSING else has
        by_passkey = visit.call.host == self._deps.passkey_host
        values: dict[str, Any] = {
            **has,
            "done": done,
            "section": section,
            "by_passkey": by_passkey,
            "min_length": self._deps.password_min_length,
        }
        if refusal is not None:
            texts = self._deps.catalogue.texts_for(visit.call)
            values["problem"] = shown(texts, refusal, subject="password")
        scripts = ("passkeys.js",) if by_passkey else ()
        page = Page("account.html", values, scripts=scripts)
        return self._deps.show(visit, page, refusal)

    async def _has(self, visit: Visit) -> dict[str, Any] | ProblemReply:
        """All that the page shows, as the endpoints tell it."""
        told: dict[str, Mapping[str, Any]] = {}
        for name, path in {
            "me": ("me",),
            "sessions": ("sessions",),
            "factors": ("factors",),
            "passkeys": ("factors", "passkeys"),
            "links": ("links",),
            "attributes": ("me", "attributes"),
            "tenant": ("tenant",),
        }.items():
            if not self._deps.visits.knows(path):
                told[name] = {name: [], "available": []}
                continue
            reply = await self._deps.visits.ask(visit, "GET", *path)
            if isinstance(reply, ProblemReply):
                return reply
            told[name] = reply.body or {}
        sessions = told["sessions"]["sessions"]
        return {
            "me": told["me"],
            "sessions": sessions[:SHOWN_SESSIONS],
            "more_sessions": max(0, len(sessions) - SHOWN_SESSIONS),
            "keys": told["sessions"]["keys"],
            "factors": told["factors"],
            "passkeys": told["passkeys"]["passkeys"],
            "links": told["links"]["links"],
            "available": told["links"]["available"],
            "attributes": told["attributes"],
            "tenant": told["tenant"],
            "prefix": PREFIX,
        }


def _totp_page(uri: str) -> Page:
    return Page("add_totp.html", {"otpauth_uri": uri, **qr_code(uri)})
