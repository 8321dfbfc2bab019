"""`/auth/hand-over…`: one sign-in for the hosts of `session: {domain: …}` (docs/browsers.md).

    another host   GET /auth/hand-over/start    names the browser anew, leads to the public host
    public host    GET /auth/hand-over          knows the session, leads back with a code
    another host   GET /auth/hand-over/accept   takes the code, gives a cookie of its own

The operator's console asks the public host in the same way (`edge/console/account_sign_in.py`).
All three are navigations: each leads the browser on with 303.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.own_paths import OwnPaths, url_host
from gateway.access.routing.request_values import query_parameter
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    ProblemReply,
    Reply,
    ShieldedTasks,
    leads_to,
)
from gateway.edge.replies.cookies import cookie_of, expired_cookie, single_cookie
from gateway.edge.replies.navigations import asks_for_page
from gateway.edge.replies.sign_in_redirects import SESSION_MISSING, SIGN_IN
from gateway.identity.sessions.hand_over import (
    ATTEMPTS_MAX,
    BROWSER_COOKIE,
    CONSOLE_ACCEPT,
    HandOverCode,
    HandOverRequest,
    HandOvers,
    browser_cookie,
    browsers_of,
    is_of_browser,
    new_browser,
    path_of_own,
)
from gateway.identity.sign_in.refresh_tokens import SessionWait
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.identity.sign_in.session_cookies import set_cookie
from gateway.model import Call, CredentialKind, Principal, Reason

_ISSUE = ("hand-over",)
_START, _ACCEPT = (*_ISSUE, "start"), (*_ISSUE, "accept")
_ACCEPTED = frozenset({CredentialKind.COOKIE})


@dataclass(frozen=True, slots=True)
class HandOverDependencies:
    hand_overs: HandOvers
    cookies: CookieSessions
    authenticator: Authenticator
    shares_session: Callable[[str], bool]
    """Whether the sessions of the public host are handed over to this one."""
    session_wait_s: SessionWait
    account_event_wait_s: Callable[[str], Awaitable[float]]
    audit: AuditSink
    shielded: ShieldedTasks
    public_url: str
    """An origin (RFC 6454) in its shortest form."""
    own_paths: OwnPaths
    has_sign_in_page: Callable[[str, str], bool]
    return_targets: ReturnTargets


class HandOverEndpoints:
    def __init__(self, dependencies: HandOverDependencies) -> None:
        self._deps = dependencies
        self._public_host = url_host(dependencies.public_url)
        # Made of the configuration: the port that `Host` names is a stranger's word.
        self._origins = OwnOrigins(dependencies.public_url)
        self._issue_url = dependencies.public_url + dependencies.own_paths.endpoint(*_ISSUE)
        self._accept_path = dependencies.own_paths.endpoint(*_ACCEPT)

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            _ISSUE: {"GET": self.issue},
            _START: {"GET": self.start},
            _ACCEPT: {"GET": self.accept},
        }

    async def start(self, _request: web.BaseRequest, call: Call) -> Reply:
        """Asks the public host for the session, for this browser."""
        if not self._deps.shares_session(call.host):
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        # A name that came may be one that a page of this host chose, and has kept.
        return self._ask(call, path_of_own(query_parameter(call.query, "return_to") or "/"))

    def _ask(self, call: Call, return_to: str, attempt: int = 1) -> Reply:
        browser, origin = new_browser(), self._origins.origin_at(call.host)
        request = self._deps.hand_overs.ask(origin, return_to, browser, attempt)
        return leads_to(
            f"{self._issue_url}?request={request}",
            browser_cookie((*_browsers(call), browser)),
        )

    async def issue(self, _request: web.BaseRequest, call: Call) -> Reply:
        """Gives the code of the session whose cookie came with the call."""
        if call.host != self._public_host:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        request = self._deps.hand_overs.read_request(query_parameter(call.query, "request") or "")
        if request is None:
            return ProblemReply(Reason.INVALID_TOKEN)
        # The hosts may have changed since it was asked; the console's node knows its own origin.
        if not request.console and not self._deps.shares_session(url_host(request.origin)):
            return ProblemReply(Reason.INVALID_TOKEN)
        principal = await self._deps.authenticator.authenticate(call, _ACCEPTED)
        if isinstance(principal, Reason):
            return self._sign_in(call, request, principal) or ProblemReply(principal)
        assert principal.session_id is not None
        # Here: who takes the code, elsewhere, has no account yet that could be counted.
        if (seconds := await self._deps.account_event_wait_s(principal.subject)) > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=seconds)
        code = self._deps.hand_overs.issue(
            request, principal.session_id, principal.auth_time or 0, principal.amr
        )
        accept_path = CONSOLE_ACCEPT if request.console else self._accept_path
        return leads_to(f"{request.origin}{accept_path}?code={code}")

    async def accept(self, request: web.BaseRequest, call: Call) -> Reply:
        """Takes the code and gives this host's own cookie for the same session."""
        if not self._deps.shares_session(call.host):
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        deps, browsers = self._deps, _browsers(call)
        origin = self._origins.origin_at(call.host)
        code = deps.hand_overs.read_code(query_parameter(call.query, "code") or "", origin)
        if code is None:
            return ProblemReply(Reason.INVALID_TOKEN)
        if not is_of_browser(code, browsers):
            # Of tabs that ask at once each gets a cookie, and the last of them stays.
            if await self._holds(call, code):
                return leads_to(code.request.return_to)
            if browsers and code.request.attempt < ATTEMPTS_MAX:
                # For what this browser itself has at the public host, whoever made the code.
                return self._ask(call, code.request.return_to, code.request.attempt + 1)
            return ProblemReply(Reason.INVALID_TOKEN)
        if not await deps.hand_overs.redeem(code, browsers):
            return ProblemReply(Reason.INVALID_TOKEN)
        if await self._holds(call, code):
            return leads_to(code.request.return_to)  # another tab was faster
        if (seconds := await deps.session_wait_s(code.session_id)) > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=seconds)
        return await deps.shielded(self._admit(request, call, code))

    async def _admit(self, request: web.BaseRequest, call: Call, code: HandOverCode) -> Reply:
        handed = await self._deps.cookies.hand_over(code.session_id, call.host, cookie_of(call))
        if handed is None:
            return ProblemReply(Reason.SESSION_UNKNOWN)
        self._deps.audit.record(
            event_of(
                AuditKind.SESSION_HANDED_OVER,
                call,
                request,
                subject=handed.account_id,
                session=code.session_id,
            )
        )
        return leads_to(code.request.return_to, set_cookie(handed.cookie, handed.life_s))

    async def _holds(self, call: Call, code: HandOverCode) -> bool:
        """Whether the call's own cookie stands for the session, and it is live.  It then knows of
        the last time that its owner proved who they are."""
        cookie = cookie_of(call)
        if cookie is None:
            return False
        principal = await self._deps.authenticator.authenticate(call, _ACCEPTED)
        if not isinstance(principal, Principal) or principal.session_id != code.session_id:
            return False
        knows = (principal.auth_time or 0) >= code.auth_time and {*code.amr} <= {*principal.amr}
        if not knows:
            await self._deps.cookies.refresh(cookie, call.host, self._deps.session_wait_s)
        return True

    def _sign_in(self, call: Call, request: HandOverRequest, reason: Reason) -> Reply | None:
        """To the page that signs in here and leads back through a hand-over of its own, where the
        page that was asked for has browsers led there."""
        deps, host = self._deps, url_host(request.origin)
        if reason not in SESSION_MISSING or not asks_for_page(call):
            return None
        if request.console:
            sealed = deps.return_targets.seal_for_console(request.origin, request.return_to)
        elif deps.has_sign_in_page(host, request.return_to):
            sealed = deps.return_targets.seal(host, request.return_to)
        else:
            return None
        page = deps.own_paths.endpoint(*SIGN_IN)
        return leads_to(f"{page}?return_to={sealed}", *expired_cookie(call, reason))


def _browsers(call: Call) -> Sequence[str]:
    value = single_cookie(call, BROWSER_COOKIE)
    return () if value is None else browsers_of(value)
