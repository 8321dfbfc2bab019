"""What a live session is answered that is another one now, as its owner has proven more or chosen
a tenant: its cookie, or a new token."""

from __future__ import annotations

from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.endpoint import JsonReply, ProblemReply
from gateway.edge.endpoints.sessions import token_reply
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.sign_in.refresh_tokens import SessionGrant
from gateway.identity.tokens.access_tokens import TokenIssuer
from gateway.model import Call


class SessionReissue:
    def __init__(self, issuer: TokenIssuer, cookies: CookieSessions) -> None:
        self._issuer = issuer
        self._cookies = cookies

    def require_key(self, call: Call) -> None:
        """Raises where no token could be given; asked before what cannot be undone."""
        if cookie_of(call) is None:
            self._issuer.require_key()

    async def reply(
        self, call: Call, grant: SessionGrant, *, until: int | None = None
    ) -> JsonReply | ProblemReply:
        """As sign-in answers: what the cookie stands for is written anew, a bearer gets an access
        token.  The refresh token that it has stays good.

        `until` is said by who has proven nothing now but that they have a token, and is when that
        one ends: else whoever has stolen one would renew it for as long as the session lasts,
        without the refresh token."""
        cookie = cookie_of(call)
        if cookie is not None:
            return await self._cookies.reseal(cookie, grant)
        reply = token_reply(self._issuer, grant, until=until)
        left_out = ("refresh_token", "refresh_expires_in")
        body = {name: value for name, value in (reply.body or {}).items() if name not in left_out}
        return JsonReply(reply.status, body)
