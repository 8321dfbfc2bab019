"""Sign-in to the console by an account: at the gateway's own sign-in page, and back with a code.

    console       GET /admin/sign-in/start    names the browser anew, leads to the public host
    public host   GET /auth/hand-over         knows the session, or signs in; leads back with a code
    console       GET /admin/sign-in/accept   takes the code, gives a cookie of its own

This is the hand-over between hosts (docs/decisions/0012), with the console in the place of the
other host: second factors, providers and step-up are those of the public host, and its sessions end
here when they end there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.request_values import query_parameter
from gateway.access.step_up import StepUp
from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.console.operators import CONSOLE_HOST, COOKIE, Operators, console_cookie
from gateway.edge.console.replies import console_path, redirect
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import ProblemReply, ShieldedTasks
from gateway.edge.replies.cookies import single_cookie
from gateway.edge.replies.sign_in_redirects import STEP_UP
from gateway.identity.sessions.hand_over import (
    ATTEMPTS_MAX,
    BROWSER_COOKIE,
    HandOverCode,
    HandOvers,
    browser_cookie,
    browsers_of,
    is_of_browser,
    new_browser,
)
from gateway.identity.sign_in.refresh_tokens import SessionWait
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.model import Call, Change, Principal, Reason

_HAND_OVER = ("hand-over",)


@dataclass(frozen=True, slots=True)
class AccountSignInDependencies:
    origin: str
    """Of the console, by `GATEWAY_ADMIN_URL`: what `Host` says is a stranger's word."""
    public_url: str
    own_paths: OwnPaths
    hand_overs: HandOvers
    cookies: CookieSessions
    operators: Operators
    return_targets: ReturnTargets
    session_wait_s: SessionWait
    audit: AuditSink
    shielded: ShieldedTasks


class AccountSignIn:
    def __init__(self, dependencies: AccountSignInDependencies) -> None:
        self._deps = dependencies
        deps = dependencies
        self._issue_url = deps.public_url + deps.own_paths.endpoint(*_HAND_OVER)
        self._step_up_url = deps.public_url + deps.own_paths.endpoint(*STEP_UP)

    @property
    def origin(self) -> str:
        return self._deps.origin

    def start(self, call: Call, return_to: str) -> web.Response:
        """Asks the public host for the session, for this browser."""
        return self._ask(call, console_path(return_to))

    def step_up(self, return_to: str, asked: StepUp) -> web.Response:
        """To where who is signed in proves more, or anew, and back."""
        sealed = self._deps.return_targets.seal_for_console(
            self._deps.origin, console_path(return_to), asked
        )
        return redirect(f"{self._step_up_url}?return_to={quote(sealed, safe='')}")

    async def accept(self, call: Call, request_id: str) -> web.Response | Reason:
        """Takes the code and gives the console's cookie for the session.  Raises
        StoreUnavailable."""
        deps, browsers = self._deps, _browsers(call)
        sealed = query_parameter(call.query, "code") or ""
        code = deps.hand_overs.read_code(sealed, deps.origin, console=True)
        if code is None:
            return Reason.INVALID_TOKEN
        return_to = console_path(code.request.return_to)
        if not is_of_browser(code, browsers):
            # Of tabs that ask at once each gets a cookie, and the last of them stays.
            if await self._holds(call, code):
                return redirect(return_to)
            if browsers and code.request.attempt < ATTEMPTS_MAX:
                # For what this browser itself has at the public host, whoever made the code.
                return self._ask(call, return_to, code.request.attempt + 1)
            return Reason.INVALID_TOKEN
        if not await deps.hand_overs.redeem(code, browsers):
            return Reason.INVALID_TOKEN
        if await self._holds(call, code):
            return redirect(return_to)  # another tab was faster
        if await deps.session_wait_s(code.session_id) > 0:
            return Reason.RATE_LIMITED
        return await deps.shielded(self._admit(call, code, request_id))

    async def sign_out(self, call: Call, cookie: str, request_id: str) -> Reason | None:
        """Ends the session, at every host; REVOCATION_PENDING until every worker knows.  Raises
        StoreUnavailable."""

        def record(changes: Sequence[Change]) -> None:
            ended = {str(change.kind): change.target for change in changes}
            if not all(change.confirmed for change in changes):
                self._record(AuditKind.SIGNED_OUT, call, request_id, "", ended.get("session", ""))

        reply = await self._deps.shielded(
            self._deps.cookies.sign_out(cookie, CONSOLE_HOST, everywhere=False, on_ended=record)
        )
        return reply.reason if isinstance(reply, ProblemReply) else None

    def _ask(self, call: Call, return_to: str, attempt: int = 1) -> web.Response:
        browser = new_browser()
        request = self._deps.hand_overs.ask(
            self._deps.origin, return_to, browser, attempt, console=True
        )
        names = (*_browsers(call), browser)
        return redirect(f"{self._issue_url}?request={request}", browser_cookie(names))

    async def _admit(
        self, call: Call, code: HandOverCode, request_id: str
    ) -> web.Response | Reason:
        replaced = single_cookie(call, COOKIE)
        handed = await self._deps.cookies.hand_over(code.session_id, CONSOLE_HOST, replaced)
        if handed is None:
            return Reason.SESSION_UNKNOWN
        self._record(AuditKind.CONSOLE_OPENED, call, request_id, handed.account_id, code.session_id)
        return redirect(
            console_path(code.request.return_to), console_cookie(handed.cookie, handed.life_s)
        )

    async def _holds(self, call: Call, code: HandOverCode) -> bool:
        """Whether the cookie that came stands for the session, and it is live.  It then knows of
        the last time that its owner proved who they are."""
        cookie = single_cookie(call, COOKIE)
        if cookie is None:
            return False
        principal = await self._deps.operators.principal_of(call, cookie)
        if not isinstance(principal, Principal) or principal.session_id != code.session_id:
            return False
        knows = (principal.auth_time or 0) >= code.auth_time and {*code.amr} <= {*principal.amr}
        if not knows:
            await self._deps.cookies.refresh(cookie, CONSOLE_HOST, self._deps.session_wait_s)
        return True

    def _record(
        self, kind: AuditKind, call: Call, request_id: str, subject: str, session_id: str
    ) -> None:
        self._deps.audit.record(
            AuditEvent(
                kind,
                subject=subject or None,
                actor=subject or None,
                address=call.client_ip,
                request_id=request_id,
                detail={"sid": session_id, "by": "console"},
            )
        )


def _browsers(call: Call) -> Sequence[str]:
    value = single_cookie(call, BROWSER_COOKIE)
    return () if value is None else browsers_of(value)
