"""`/admin/sign-in` and `/admin/sign-out`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.console.local_sign_in import LOCAL_ACTOR, LOCAL_TTL_S, LocalSignIn
from gateway.edge.console.operators import (
    COOKIE,
    EXPIRED_COOKIE,
    Operators,
    bearer_token,
    console_cookie,
)
from gateway.edge.console.pages import HOME, Operator
from gateway.edge.console.proof_of_intent import form_refusal
from gateway.edge.console.renderer import ConsoleRenderer
from gateway.edge.console.replies import redirect
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.edge.endpoints.form_body import read_form
from gateway.edge.replies.cookies import single_cookie
from gateway.identity.sign_in.return_targets import own_path
from gateway.model import Call, Reason

SIGN_IN, SIGN_OUT = f"{HOME}/sign-in", f"{HOME}/sign-out"


@dataclass(frozen=True, slots=True)
class ConsoleSignInDependencies:
    local: LocalSignIn
    operators: Operators
    renderer: ConsoleRenderer
    audit: AuditSink


class ConsoleSignIn:
    def __init__(self, dependencies: ConsoleSignInDependencies) -> None:
        self._deps = dependencies

    def ask(self, call: Call, reason: Reason, request_id: str) -> web.Response:
        """What who is not known is shown: where to sign in, and why."""
        asked = call.path if call.method == "GET" else HOME
        query = f"?{call.query}" if call.method == "GET" and call.query else ""
        response = self._form(reason, request_id, return_to=asked + query)
        if reason is Reason.SESSION_UNKNOWN and single_cookie(call, COOKIE) is not None:
            response.headers.add("Set-Cookie", EXPIRED_COOKIE)
        return response

    async def answer(
        self, request: web.BaseRequest, call: Call, path: str, request_id: str
    ) -> web.Response:
        if call.method == "POST":
            taken = self._sign_in if path == SIGN_IN else self._sign_out
            return await taken(request, call, request_id)
        if call.method in ("GET", "HEAD") and path == SIGN_IN:
            return self._form(None, request_id)
        refusal = self._deps.renderer.refusal(Reason.METHOD_NOT_ALLOWED, request_id)
        refusal.headers["Allow"] = "GET, HEAD, POST" if path == SIGN_IN else "POST"
        return refusal

    async def _sign_in(self, request: web.BaseRequest, call: Call, request_id: str) -> web.Response:
        form = await read_form(request)
        if not isinstance(form, dict):
            return self._deps.renderer.refusal(Reason.BODY_MALFORMED, request_id)
        return_to = _own(form.get("return_to", ""))
        if not self._deps.local.takes(form.get("token", "").strip()):
            self._record(call, request_id, LOCAL_ACTOR, str(Reason.INVALID_CREDENTIALS))
            return self._form(Reason.INVALID_CREDENTIALS, request_id, return_to=return_to)
        self._record(call, request_id, LOCAL_ACTOR, "ok")
        cookie = self._deps.local.new_cookie()
        return redirect(return_to, console_cookie(cookie, LOCAL_TTL_S))

    async def _sign_out(
        self, request: web.BaseRequest, call: Call, request_id: str
    ) -> web.Response:
        form = await read_form(request)
        operator = await self._deps.operators.identify(call)
        if isinstance(operator, Operator) and bearer_token(call) is None:
            refusal = form_refusal(operator, form if isinstance(form, dict) else {})
            if refusal is not None:
                return self._deps.renderer.refusal(refusal, request_id, operator=operator)
        return redirect(f"{SIGN_IN}?done=signed-out", EXPIRED_COOKIE)

    def _form(
        self, reason: Reason | None, request_id: str, *, return_to: str = HOME
    ) -> web.Response:
        values: dict[str, Any] = {"return_to": return_to, "wrong": None}
        if reason is None:
            return self._deps.renderer.plain("sign_in.html", values, title="Sign in")
        if reason is Reason.INVALID_CREDENTIALS:
            values["wrong"] = "That is not the token of this gateway."
        return self._deps.renderer.refusal(
            reason, request_id, template="sign_in.html", values=values
        )

    def _record(self, call: Call, request_id: str, actor: str, result: str) -> None:
        self._deps.audit.record(
            AuditEvent(
                AuditKind.CONSOLE_OPENED,
                result=result,
                actor=actor,
                address=call.client_ip,
                request_id=request_id,
            )
        )


def _own(return_to: str) -> str:
    """The path, where it is one of the console; else its first page."""
    path = own_path(return_to)
    is_own = path == HOME or path.startswith((f"{HOME}/", f"{HOME}?"))
    return path if is_own else HOME
