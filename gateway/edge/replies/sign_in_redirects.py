"""Where a browser is led that asked for a page without a session (docs/browsers.md).

Only a navigation is led anywhere: a page's own calls, and every other client, get their 401.
"""

from __future__ import annotations

from urllib.parse import quote

from gateway.access.authorizer import Decision
from gateway.access.routing.csrf import is_navigation
from gateway.access.routing.own_paths import OwnPaths, url_host
from gateway.identity.sessions.hand_over import path_of_own
from gateway.model import Call, CredentialKind, Reason

_SESSION_MISSING = frozenset((Reason.NO_CREDENTIAL, Reason.SESSION_UNKNOWN, Reason.TOKEN_REVOKED))
"""Refusals that a session of the public host may help."""


class SignInRedirects:
    def __init__(self, public_url: str, own_paths: OwnPaths) -> None:
        self._public_host = url_host(public_url)
        self._start_path = own_paths.endpoint("hand-over", "start")

    def location(self, call: Call, decision: Decision, shared_hosts: frozenset[str]) -> str | None:
        """A path of the call's own host, where the hand-over of a session begins; None where the
        denial is answered as it is."""
        route = decision.route
        if (
            call.host not in shared_hosts
            or call.host == self._public_host
            or decision.reason not in _SESSION_MISSING
            or decision.conceal
            or route is None
            or CredentialKind.COOKIE not in route.accept
            or call.method != "GET"
            or not is_navigation(call.headers)
        ):
            return None
        return_to = f"{call.path}?{call.query}" if call.query else call.path
        asked = quote(path_of_own(return_to), safe="/")
        return f"{self._start_path}?return_to={asked}"
