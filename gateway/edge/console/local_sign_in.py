"""Sign-in by the local token: the file `admin-token` of the data folder, on loopback.

The cookie is sealed, says until when it counts, and is bound to the token that was shown: whoever
removes the file and restarts ends all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from gateway.identity.base64url import encoded
from gateway.identity.sealed_tokens import SealedTokens
from gateway.model import Clock

LOCAL_TTL_S = 3_600
LOCAL_ACTOR = "local-token"

_KIND = b"console, local token"


@dataclass(frozen=True, slots=True)
class LocalSession:
    id: str
    signed_in_at: int
    ends_at: int


class LocalSignIn:
    def __init__(self, token: str, key: bytes, clock: Clock) -> None:
        """`key` is `derived_key(secret, KeyPurpose.CONSOLE)`."""
        self._token = token.encode()
        self._mark = encoded(hashlib.sha256(b"authgate console\x00" + self._token).digest())
        self._sealed = SealedTokens(key)
        self._now: Callable[[], float] = clock.now

    def takes(self, token: str) -> bool:
        """Whether it is the local token."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    def new_cookie(self) -> str:
        now = int(self._now())
        ends_at = now + LOCAL_TTL_S
        return self._sealed.seal(_KIND, [secrets.token_urlsafe(16), self._mark, now, ends_at])

    def read(self, cookie: str) -> LocalSession | None:
        """None for what was not given for this token, or is over."""
        match self._sealed.open(_KIND, cookie):
            case [str(session_id), str(mark), int(signed_in_at), int(ends_at)]:
                good = hmac.compare_digest(mark, self._mark) and ends_at > self._now()
                return LocalSession(session_id, signed_in_at, ends_at) if good else None
        return None
