"""Proof of intent at the gateway's own endpoints, and `GET /auth/csrf` (docs/browsers.md).

Routes are judged by `access.decision.Gate`; these by the same function, before any endpoint
sees the call.  Which origins are the gateway's own is its configuration's to say; what others
may do, the `auth: cors` block's.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.access.routing.csrf import SAFE_METHODS, AllowedOrigins, Intent, intent, unmeant
from gateway.edge.endpoints.account import Identifier
from gateway.edge.endpoints.endpoint import Answer, Endpoint, Refused, Said
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.sign_in.session_cookies import Csrf
from gateway.model import Call, Credential, CredentialKind, Reason

_CSRF = ("auth", "csrf")
_ACCEPT = frozenset({CredentialKind.COOKIE})


class Intents:
    def __init__(
        self, csrf: Csrf, origins: Callable[[Call], AllowedOrigins], identifier: Identifier
    ) -> None:
        """`origins` are those that the snapshot of now lets call `/auth`."""
        self._csrf = csrf
        self._origins = origins
        self._identifier = identifier

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {("csrf",): {"GET": self.csrf}}

    def refusal(self, call: Call) -> Reason | None:
        """Why a call with the cookie is refused.  A read whose intent cannot be proven goes on
        as one without the cookie.  A call that does not carry it is not asked."""
        if cookie_of(call) is None:
            return None
        origins = self._origins(call)
        if (
            call.segments == _CSRF
            and call.method in SAFE_METHODS
            and intent(call, origins) is Intent.NEEDS_TOKEN
        ):
            # A browser that sends neither field gets the token here: it asks with the cookie
            # alone, and no other page can read the answer.
            return None
        refusal = unmeant(call, origins, self._csrf)
        if refusal is Reason.NO_CREDENTIAL:
            call.credential = None
            return None
        return refusal

    async def csrf(self, _request: web.BaseRequest, call: Call) -> Answer:
        principal = await self._identifier.identify(call, _ACCEPT)
        if isinstance(principal, Reason):
            return Refused(principal)
        assert isinstance(call.credential, Credential)
        return Said(200, {"csrf_token": self._csrf.token(call.credential.text)})
