"""CSRF protection of the built-in endpoints, and `GET /auth/csrf` (docs/browsers.md).

`access.authorizer` asks the same function for routes; here it is asked before any endpoint
sees the call.  The configuration says which origins are the gateway's own; the `auth: cors`
block says what others may do.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.access.routing.csrf import (
    SAFE_METHODS,
    AllowedOrigins,
    OriginCheck,
    check_origin,
    csrf_refusal,
)
from gateway.access.routing.own_paths import OwnPaths
from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.sign_in.session_cookies import Csrf, is_of_one_host
from gateway.model import Call, Credential, CredentialKind, Reason

_CSRF = ("csrf",)
_ISSUERS, _PROVIDERS = "issuers", "providers"
"""The endpoints below the first, and what is posted below the second, believe what an issuer has
signed, or lead on; whoever brings it, and no cookie."""
_ACCEPT = frozenset({CredentialKind.COOKIE})


def is_cross_origin(call: Call, origins: Callable[[Call], AllowedOrigins]) -> bool:
    """Whether a page of another origin made the browser send this: it would sign its visitor in
    to an account of its own.  What is no browser says nothing of origins."""
    return check_origin(call, origins(call)) is Reason.CROSS_ORIGIN


def is_of_one_application(call: Call, counts_alone: Callable[[str], bool]) -> bool:
    """Whether the session cookie that came counts at one host alone, whose page may be that of an
    application: what it has is to count there, and to change nothing that counts everywhere.

    `counts_alone` says whether a cookie that is given at a host counts there alone.
    """
    cookie = cookie_of(call)
    return cookie is not None and (is_of_one_host(cookie) or counts_alone(call.host))


class CsrfGuard:
    def __init__(
        self,
        csrf: Csrf,
        origins: Callable[[Call], AllowedOrigins],
        authenticator: Authenticator,
        own_paths: OwnPaths | None = None,
    ) -> None:
        """`origins` gives those that the current snapshot lets call `/auth`."""
        self._own_paths = own_paths or OwnPaths()
        self._csrf = csrf
        self._origins = origins
        self._authenticator = authenticator

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {("csrf",): {"GET": self.csrf}}

    def refusal(self, call: Call) -> Reason | None:
        """Why a call with the session cookie is refused, or None.

        A read whose origin cannot be proven goes on as one without the cookie.  A call
        without the cookie is not checked.
        """
        below = self._own_paths.below(call.segments)
        if cookie_of(call) is None or below[:1] == (_ISSUERS,):
            return None
        if below[:1] == (_PROVIDERS,) and call.method == "POST":
            call.credential = None
            return None
        origins = self._origins(call)
        if (
            below == _CSRF
            and call.method in SAFE_METHODS
            and check_origin(call, origins) is OriginCheck.NEEDS_TOKEN
        ):
            # A browser that sends neither field gets the token here: it asks with the cookie
            # alone, and no page of another origin can read the response.
            return None
        refusal = csrf_refusal(call, origins, self._csrf)
        if refusal is Reason.NO_CREDENTIAL:
            call.credential = None
            return None
        return refusal

    async def csrf(self, _request: web.BaseRequest, call: Call) -> Reply:
        principal = await self._authenticator.authenticate(call, _ACCEPT)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        assert isinstance(call.credential, Credential)
        return JsonReply(200, {"csrf_token": self._csrf.token(call.credential.text)})
