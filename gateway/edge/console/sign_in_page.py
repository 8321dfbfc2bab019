"""`/admin/sign-in` and `/admin/sign-out`: by an account, by the local token, or by either."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.access.console import HOME
from gateway.access.routing.request_values import query_parameter
from gateway.access.step_up import StepUp
from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.console.account_sign_in import AccountSignIn
from gateway.edge.console.local_sign_in import LOCAL_ACTOR, LOCAL_TTL_S, LocalSignIn
from gateway.edge.console.operators import (
    COOKIE,
    EXPIRED_COOKIE,
    Operators,
    bearer_token,
    console_cookie,
)
from gateway.edge.console.proof_of_intent import form_refusal, own_origins
from gateway.edge.console.renderer import ConsoleRenderer
from gateway.edge.console.replies import console_path, redirect
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.edge.endpoints.endpoint import ShieldedTasks
from gateway.edge.endpoints.form_body import read_form
from gateway.edge.replies.cookies import single_cookie
from gateway.edge.replies.navigations import asks_for_page
from gateway.identity.sessions.hand_over import CONSOLE_ACCEPT, CONSOLE_START
from gateway.model import Call, Reason
from gateway.stores.protocols import StoreUnavailable

SIGN_IN, SIGN_OUT = f"{HOME}/sign-in", f"{HOME}/sign-out"
_ANSWERED = frozenset((SIGN_IN, SIGN_OUT, CONSOLE_START, CONSOLE_ACCEPT))
_LED_ON = frozenset((Reason.NO_CREDENTIAL, Reason.SESSION_UNKNOWN, Reason.TOKEN_REVOKED))
_NOT_TOLD = (
    "You are signed out in this browser. The gateway could not tell every worker, as a store is"
    " away: a copy of the cookie of the local token would count for an hour at most."
)


@dataclass(frozen=True, slots=True)
class ConsoleSignInDependencies:
    local: LocalSignIn | None
    account: AccountSignIn | None
    """None where no address of the console is known (`GATEWAY_ADMIN_URL`)."""
    operators: Operators
    renderer: ConsoleRenderer
    audit: AuditSink
    shielded: ShieldedTasks


class ConsoleSignIn:
    def __init__(self, dependencies: ConsoleSignInDependencies) -> None:
        self._deps = dependencies
        get = {SIGN_IN: self._show, CONSOLE_START: self._start, CONSOLE_ACCEPT: self._accept}
        self._get: Mapping[str, Callable[[Call, str], Awaitable[web.Response]]] = get

    def answers(self, path: str) -> bool:
        return path in _ANSWERED

    async def answer(
        self, request: web.BaseRequest, call: Call, path: str, request_id: str
    ) -> web.Response:
        """Raises StoreUnavailable."""
        if call.method == "POST" and path == SIGN_OUT:
            return await self._sign_out(request, call, request_id)
        if call.method == "POST" and path == SIGN_IN:
            return await self._sign_in(request, call, request_id)
        if call.method in ("GET", "HEAD") and path in self._get:
            return await self._get[path](call, request_id)
        refusal = self._deps.renderer.refusal(Reason.METHOD_NOT_ALLOWED, request_id)
        refusal.headers["Allow"] = {SIGN_IN: "GET, HEAD, POST", SIGN_OUT: "POST"}.get(
            path, "GET, HEAD"
        )
        return refusal

    def ask(self, call: Call, reason: Reason, request_id: str) -> web.Response:
        """What who is not known is answered: a browser is led to sign in by an account where that
        leads back to this very address, else shown the ways there are."""
        return_to = _asked_for(call)
        ended = single_cookie(call, COOKIE) is not None and reason in _LED_ON
        account = self._deps.account
        leads_back = account is not None and account.origin in own_origins(call)
        if account is not None and leads_back and reason in _LED_ON and asks_for_page(call):
            response = account.start(call, return_to)
        else:
            response = self._form(reason, request_id, return_to=return_to)
        if ended:
            response.headers.add("Set-Cookie", EXPIRED_COOKIE)
        return response

    def step_up(self, call: Call, asked: StepUp) -> web.Response | None:
        """To where a sign-in is made fresher or stronger, and back to the page; None where this
        call came by something else than the cookie of an account."""
        account = self._deps.account
        if account is None or bearer_token(call) is not None:
            return None
        return account.step_up(_asked_for(call, of_form=True), asked)

    async def _show(self, call: Call, request_id: str) -> web.Response:
        del request_id
        values = self._values(console_path(query_parameter(call.query, "return_to") or HOME))
        done = query_parameter(call.query, "done") == "signed-out"
        return self._deps.renderer.plain(
            "sign_in.html", {**values, "signed_out": done}, title="Sign in"
        )

    async def _start(self, call: Call, request_id: str) -> web.Response:
        if self._deps.account is None:
            return self._deps.renderer.refusal(Reason.ROUTE_UNKNOWN, request_id)
        return self._deps.account.start(call, query_parameter(call.query, "return_to") or HOME)

    async def _accept(self, call: Call, request_id: str) -> web.Response:
        if self._deps.account is None:
            return self._deps.renderer.refusal(Reason.ROUTE_UNKNOWN, request_id)
        answer = await self._deps.account.accept(call, request_id)
        if not isinstance(answer, Reason):
            return answer
        return self._deps.renderer.refusal(answer, request_id)

    async def _sign_in(self, request: web.BaseRequest, call: Call, request_id: str) -> web.Response:
        if self._deps.local is None:
            return self._deps.renderer.refusal(Reason.ROUTE_UNKNOWN, request_id)
        form = await read_form(request)
        if not isinstance(form, dict):
            return self._deps.renderer.refusal(Reason.BODY_MALFORMED, request_id)
        return_to = console_path(form.get("return_to", ""))
        good = self._deps.local.takes(form.get("token", "").strip())
        self._deps.audit.record(
            AuditEvent(
                AuditKind.CONSOLE_OPENED,
                result="ok" if good else str(Reason.INVALID_CREDENTIALS),
                actor=LOCAL_ACTOR,
                address=call.client_ip,
                request_id=request_id,
            )
        )
        if not good:
            return self._form(Reason.INVALID_CREDENTIALS, request_id, return_to=return_to)
        cookie = self._deps.local.new_cookie()
        return redirect(return_to, console_cookie(cookie, LOCAL_TTL_S))

    async def _sign_out(
        self, request: web.BaseRequest, call: Call, request_id: str
    ) -> web.Response:
        renderer = self._deps.renderer
        form = await read_form(request)
        cookie = single_cookie(call, COOKIE)
        # The proof of the cookie, whether or not it still counts.
        proof = "" if cookie is None else self._deps.operators.proof_of(cookie)
        refusal = form_refusal(proof, form if isinstance(form, dict) else {})
        if refusal is not None:
            return renderer.refusal(refusal, request_id)
        session = self._deps.local.read(cookie) if self._deps.local and cookie else None
        if session is not None and self._deps.local is not None:
            try:
                told = await self._deps.shielded(self._deps.local.end(session))
            except StoreUnavailable:
                told = False
            if not told:
                pending = renderer.refusal(
                    Reason.REVOCATION_PENDING, request_id, sentence=_NOT_TOLD
                )
                pending.headers.add("Set-Cookie", EXPIRED_COOKIE)
                return pending
        elif cookie is not None and self._deps.account is not None:
            # Until every worker knows of it the cookie stays, so that this can be repeated.
            reason = await self._deps.account.sign_out(call, cookie, request_id)
            if reason is Reason.REVOCATION_PENDING:
                return renderer.refusal(reason, request_id)
        return redirect(f"{SIGN_IN}?done=signed-out", EXPIRED_COOKIE)

    def _form(self, reason: Reason, request_id: str, *, return_to: str) -> web.Response:
        values = self._values(return_to)
        if reason is Reason.INVALID_CREDENTIALS:
            values["wrong"] = "That is not the token of this gateway."
        return self._deps.renderer.refusal(
            reason, request_id, template="sign_in.html", values=values
        )

    def _values(self, return_to: str) -> dict[str, Any]:
        account = self._deps.account
        start = ""
        if account is not None:
            start = f"{account.origin}{CONSOLE_START}?return_to={quote(return_to, safe='/')}"
        return {
            "return_to": return_to,
            "wrong": None,
            "signed_out": False,
            "by_account": start,
            "by_token": self._deps.local is not None,
        }


def _asked_for(call: Call, *, of_form: bool = False) -> str:
    """The page that was asked for; of a form that was sent the page on which it stands."""
    if call.method not in ("GET", "HEAD") and not of_form:
        return HOME
    query = f"?{call.query}" if call.query and call.method == "GET" else ""
    return console_path(call.path + query)
