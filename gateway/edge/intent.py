"""Proof of intent at the gateway's own endpoints, and `GET /auth/csrf` (contract 4).

Routes are judged by `access.decision.Gate`; these by the same function, before any endpoint
sees the call.  What origins besides the gateway's own may do is the `auth: cors` block.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.access.origin import SAFE_METHODS, Intent, intent, unmeant
from gateway.access.upstreams import Cors
from gateway.edge.cookies import cookie_of
from gateway.edge.endpoints import Answer, Endpoint, Refused, Said
from gateway.edge.own_account import Identifier
from gateway.identity.session_cookies import Csrf
from gateway.model import Call, Credential, CredentialKind, Reason

_CSRF = ("auth", "csrf")
_ACCEPT = frozenset({CredentialKind.COOKIE})


class Intents:
    def __init__(self, csrf: Csrf, cors: Callable[[], Cors | None], identifier: Identifier) -> None:
        """`cors` is what the snapshot of now lets other origins do at `/auth`."""
        self._csrf = csrf
        self._cors = cors
        self._identifier = identifier

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {("csrf",): {"GET": self.csrf}}

    def refusal(self, call: Call) -> Reason | None:
        """Why a call with the cookie is refused.  A read whose intent cannot be proven goes on
        as one without the cookie.  A call that does not carry it is not asked."""
        if cookie_of(call) is None:
            return None
        cors = self._cors()
        if (
            call.segments == _CSRF
            and call.method in SAFE_METHODS
            and intent(call, cors) is Intent.NEEDS_TOKEN
        ):
            # A browser that sends neither field gets the token here: it asks with the cookie
            # alone, and no other page can read the answer.
            return None
        refusal = unmeant(call, cors, self._csrf)
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
