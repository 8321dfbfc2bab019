"""Where a browser is led that may not pass for want of a session (docs/browsers.md).

Only a navigation is led anywhere: a page's own calls, and every other client, get their 401.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from urllib.parse import quote, urlsplit

from gateway.access.authorizer import Decision
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.own_paths import OwnPaths, url_host
from gateway.access.snapshot import Snapshot
from gateway.access.step_up import StepUp
from gateway.edge.replies.navigations import (
    NAVIGATION_METHODS,
    asks_for_page,
    single_field,
)
from gateway.identity.sessions.hand_over import path_of_own
from gateway.identity.sign_in.return_targets import ReturnTargets, own_path
from gateway.model import Call, Credential, CredentialKind, Reason

UI = "ui"
"""Below the prefix of the endpoints: where the pages are."""
SIGN_IN, STEP_UP = (UI, "sign-in"), (UI, "step-up")

SESSION_MISSING = frozenset((Reason.NO_CREDENTIAL, Reason.SESSION_UNKNOWN, Reason.TOKEN_REVOKED))
"""Refusals that a session may help.  What is wrong with a token, no session mends."""
_OF_NOBODY = frozenset(
    (Reason.NO_RULE, Reason.CONDITION_FAILED, Reason.INSUFFICIENT_USER_AUTHENTICATION)
)
"""And those of a policy that judged nobody (`auth: optional`): it may allow somebody."""
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


class WayIn(Enum):
    """What leads to a session that the call may be made with."""

    SIGN_IN = SIGN_IN
    STEP_UP = STEP_UP
    HAND_OVER = ("hand-over", "start")


class SignInRedirects:
    def __init__(self, public_url: str, own_paths: OwnPaths, targets: ReturnTargets) -> None:
        self._public_url = public_url
        self._public_host = url_host(public_url)
        self._origins = OwnOrigins(public_url)
        self._own_paths = own_paths
        self._targets = targets

    def location(self, call: Call, decision: Decision, shared_hosts: frozenset[str]) -> str | None:
        """Where the browser is led; None where the denial is answered as it is."""
        shares = call.host != self._public_host and call.host in shared_hosts
        way = way_in(call, decision, shares=shares)
        if way is None or not asks_for_page(call, NAVIGATION_METHODS):
            return None
        route = decision.route
        if call.method != "GET" and (route is None or not route.sign_in_page):
            return None
        path = self._return_path(call)
        entrance = self._own_paths.endpoint(*way.value)
        if way is WayIn.HAND_OVER:
            return f"{entrance}?return_to={quote(path_of_own(path), safe='/')}"
        # A host that shares the session of the public one has it renewed there: no page of
        # another host asks for a password that counts at all of them.
        origin = self._public_url if shares else ""
        asked = StepUp(decision.max_age_s, decision.amr)
        sealed = self._targets.seal(call.host, path, asked)
        return f"{origin}{entrance}?return_to={sealed}"

    def _return_path(self, call: Call) -> str:
        """The very page, where it was asked for by GET.  What was posted is not posted again: back
        to the page on which the form stood, where that is one of this origin."""
        if call.method == "GET":
            target = f"{call.path}?{call.query}" if call.query else call.path
            return quote(target.encode("latin-1"), safe=_PRINTABLE)
        referrer = single_field(call.headers, b"referer") or ""
        origin, path = _taken_apart(referrer)
        own = self._origins.hold(origin, call.host)
        return own_path(path) if own else "/"


def way_in(call: Call, decision: Decision, *, shares: bool) -> WayIn | None:
    """What would help a browser against this denial; None where nothing is known to.

    `shares`: the session of the public host is handed over to the host of the call.
    """
    route = decision.route
    if decision.allowed or decision.conceal or route is None:
        return None
    if CredentialKind.COOKIE not in route.accept or not _is_of_browser(call, decision):
        return None
    if decision.principal is not None:
        stronger = decision.reason == Reason.INSUFFICIENT_USER_AUTHENTICATION
        return WayIn.STEP_UP if stronger and route.sign_in_page else None
    helped = SESSION_MISSING | _OF_NOBODY if route.sign_in_page else SESSION_MISSING
    if decision.reason not in helped:
        return None
    if shares:
        return WayIn.HAND_OVER
    return WayIn.SIGN_IN if route.sign_in_page else None


def entrance(call: Call, decision: Decision, snapshot: Snapshot) -> str | None:
    """The path to which a browser that makes this call is led; None where it is not."""
    if call.method not in NAVIGATION_METHODS:
        return None
    public_host = url_host(snapshot.public_url)
    shares = call.host != public_host and call.host in snapshot.shared_hosts
    if isinstance(call.credential, Credential) and decision.principal is not None:
        call = replace(call, credential=Credential(CredentialKind.COOKIE, ""))
    way = way_in(call, decision, shares=shares)
    return None if way is None else snapshot.routes.own_paths.endpoint(*way.value)


def _is_of_browser(call: Call, decision: Decision) -> bool:
    """Whether what counted, if anything did, is a cookie: who sends tokens gets its 401."""
    if decision.reason == Reason.NO_CREDENTIAL:
        return True
    credential = call.credential
    if not isinstance(credential, Credential):
        return credential is None
    return credential.kind is CredentialKind.COOKIE


def _taken_apart(url: str) -> tuple[str, str]:
    """Origin, and path with query; both empty for what is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    path = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", f"{path}?{parts.query}" if parts.query else path
