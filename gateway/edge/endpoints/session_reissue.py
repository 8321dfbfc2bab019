"""What a live session is answered that is another one now, as its owner has proven more or chosen
a tenant: its cookie, or a new token."""

from __future__ import annotations

from dataclasses import replace

from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import JsonReply, ProblemReply
from gateway.edge.endpoints.sessions import token_reply
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.sign_in.refresh_tokens import SessionGrant
from gateway.identity.tokens.access_tokens import TokenIssuer
from gateway.model import Call, Principal, Reason


class SessionReissue:
    def __init__(self, issuer: TokenIssuer, cookies: CookieSessions) -> None:
        self._issuer = issuer
        self._cookies = cookies

    def require_key(self, call: Call) -> None:
        """Raises where no token could be given; asked before what cannot be undone."""
        if cookie_of(call) is None:
            self._issuer.require_key()

    async def reply(
        self, call: Call, grant: SessionGrant, *, by: Principal | None = None
    ) -> JsonReply | ProblemReply:
        """As sign-in answers: what the cookie stands for is written anew, a bearer gets an access
        token.  The refresh token that it has stays good.

        `by` is who has proven nothing now but that they have a token: the new one says no more
        than that, and for no longer.  Else whoever has stolen one would renew it for as long as
        the session lasts, without the refresh token, and have what its owner proves meanwhile."""
        cookie = cookie_of(call)
        if cookie is not None:
            return await self._cookies.reseal(cookie, grant)
        until = None
        if by is not None:
            if by.expires_at <= grant.issued_at:
                return ProblemReply(Reason.TOKEN_EXPIRED)
            until = by.expires_at
            methods = tuple(method for method in grant.amr if method in by.amr)
            proven_at = min(grant.auth_time, by.auth_time or 0)
            grant = replace(grant, amr=methods, auth_time=proven_at)
        reply = token_reply(self._issuer, grant, until=until)
        left_out = ("refresh_token", "refresh_expires_in")
        body = {name: value for name, value in (reply.body or {}).items() if name not in left_out}
        return JsonReply(reply.status, body)
