"""The pages of mailed links: `verify`, `confirm-email` and `reset` redeem one; `forgot` and
`resend` ask for one.

Law: opening a link changes nothing, as readers of mail open links by themselves; the form that it
shows does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from gateway.edge.endpoints.endpoint import Endpoint, ProblemReply, Reply
from gateway.edge.pages.forms import PageDependencies
from gateway.edge.pages.renderer import Page
from gateway.edge.pages.visits import Visit
from gateway.model import Call, Reason

_LOST = frozenset((Reason.INVALID_TOKEN,))
"""After these the link is worth nothing, and the page offers another."""


@dataclass(frozen=True, slots=True)
class LinkPage:
    """One page that redeems a link."""

    name: str
    endpoint: tuple[str, ...]
    fields: tuple[str, ...]
    """Of the form, beside the token."""
    done: str
    template: str


_VERIFY = LinkPage("verify", ("email", "verify"), ("password",), "verified", "verify.html")
_CONFIRM = LinkPage("confirm-email", ("email", "verify"), (), "email-changed", "confirm_email.html")
_RESET = LinkPage("reset", ("password", "reset"), ("password",), "reset", "reset.html")


class MailLinkPages:
    def __init__(self, dependencies: PageDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            **self._of(_VERIFY),
            **self._of(_CONFIRM),
            **self._of(_RESET),
            ("ui", "forgot"): {"GET": self.forgot, "POST": self.send_reset},
            ("ui", "resend"): {"GET": self.resend, "POST": self.send_verification},
        }

    def _of(self, link: LinkPage) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        async def show(request: web.BaseRequest, call: Call) -> Reply:
            visit = self._deps.visits.begin(request, call)
            token = visit.parameter("token")
            if not token:
                return ProblemReply(Reason.INVALID_TOKEN)
            return self._deps.show(visit, self._page(link, token))

        async def redeem(request: web.BaseRequest, call: Call) -> Reply:
            visit = await self._deps.visits.posted(request, call)
            if isinstance(visit, ProblemReply):
                return visit
            return await self._redeem(link, visit)

        return {("ui", link.name): {"GET": show, "POST": redeem}}

    async def _redeem(self, link: LinkPage, visit: Visit) -> Reply:
        names = ("token", *link.fields)
        fields = {name: visit.form[name] for name in names if name in visit.form}
        reply = await self._deps.visits.ask(visit, "POST", *link.endpoint, fields=fields)
        if isinstance(reply, ProblemReply) and reply.reason is not Reason.REVOCATION_PENDING:
            token = visit.form.get("token", "")
            return self._deps.show(visit, self._page(link, token, reply), reply)
        # Pending: it is done, and what goes on by itself is not the visitor's affair.
        done = self._deps.sign_in_page(link.done)
        return replace(done, cookies=reply.cookies)

    def _page(self, link: LinkPage, token: str, refusal: ProblemReply | None = None) -> Page:
        lost = refusal is not None and refusal.reason in _LOST
        values = {"token": token, "lost": lost, "min_length": self._deps.password_min_length}
        return Page(link.template, values)

    async def forgot(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        return self._deps.show(visit, Page("forgot.html", {"email": ""}))

    async def send_reset(self, request: web.BaseRequest, call: Call) -> Reply:
        return await self._send(request, call, ("password", "forgot"), "forgot")

    async def resend(self, request: web.BaseRequest, call: Call) -> Reply:
        visit = self._deps.visits.begin(request, call)
        return self._deps.show(visit, Page("resend.html", {"email": ""}))

    async def send_verification(self, request: web.BaseRequest, call: Call) -> Reply:
        return await self._send(request, call, ("email", "resend"), "resend")

    async def _send(
        self, request: web.BaseRequest, call: Call, endpoint: tuple[str, str], about: str
    ) -> Reply:
        visit = await self._deps.visits.posted(request, call)
        if isinstance(visit, ProblemReply):
            return visit
        email = visit.form.get("email", "")
        fields: Mapping[str, Any] = {"email": email} if email else {}
        reply = await self._deps.visits.ask(visit, "POST", *endpoint, fields=fields)
        if isinstance(reply, ProblemReply):
            return self._deps.show(visit, Page(f"{about}.html", {"email": email}), reply)
        return self._deps.show(visit, Page("mail_sent.html", {"about": about, "email": email}))
