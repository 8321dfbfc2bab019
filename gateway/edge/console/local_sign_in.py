"""Sign-in by the local token: the file `admin-token` of the data folder, on loopback.

The cookie is sealed, says until when it counts, and is bound to the token that was shown: whoever
removes the file and restarts ends all of them.  A sign-out ends one, as it does a session: a row
of SQL, of which every worker is told.  What nobody can be told of while a store is away does not
keep the operator out: the local token is for such hours.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.identity.base64url import encoded
from gateway.identity.revocations import refuse_once
from gateway.identity.sealed_tokens import SealedTokens
from gateway.identity.tokens.authenticator import Revocations
from gateway.model import Change, ChangeKind, Clock, Principal, Reason
from gateway.stores.protocols import Database, RevocationPublisher

LOCAL_TTL_S = 3_600
LOCAL_ACTOR = "local-token"

_KIND = b"console, local token"
_SESSION_PREFIX = "console."


@dataclass(frozen=True, slots=True)
class LocalSession:
    id: str
    signed_in_at: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class LocalSignInDependencies:
    database: Database
    revocations: Revocations
    publisher: RevocationPublisher
    clock: Clock


class LocalSignIn:
    def __init__(self, token: str, key: bytes, dependencies: LocalSignInDependencies) -> None:
        """`key` is `derived_key(secret, KeyPurpose.CONSOLE)`."""
        self._token = token.encode()
        self._mark = encoded(hashlib.sha256(b"authgate console\x00" + self._token).digest())
        self._sealed = SealedTokens(key)
        self._deps = dependencies

    def takes(self, token: str) -> bool:
        """Whether it is the local token."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    def new_cookie(self) -> str:
        now = int(self._deps.clock.now())
        session_id = _SESSION_PREFIX + secrets.token_urlsafe(16)
        return self._sealed.seal(_KIND, [session_id, self._mark, now, now + LOCAL_TTL_S])

    def read(self, cookie: str) -> LocalSession | None:
        """None for what was not given for this token, or is over."""
        match self._sealed.open(_KIND, cookie):
            case [str(session_id), str(mark), int(signed_in_at), int(ends_at)]:
                good = hmac.compare_digest(mark, self._mark) and ends_at > self._deps.clock.now()
                return LocalSession(session_id, signed_in_at, ends_at) if good else None
        return None

    def has_ended(self, session: LocalSession) -> bool:
        """Whether it was signed out of, as far as this worker knows."""
        refusal = self._deps.revocations.refusal(caller_of(session))
        return refusal is not None and refusal is not Reason.REPLICA_STALE

    async def end(self, session: LocalSession) -> bool:
        """Whether every worker knows that it has ended.  Raises StoreUnavailable."""
        async with self._deps.database.transaction() as tx:
            # No row stands for it, and it waits for no operator who writes: what was not done
            # when this is, finds it at its end.
            changes: Sequence[Change] = await refuse_once(tx, ChangeKind.SESSION, session.id)
        return await self._deps.publisher.publish(changes)


def caller_of(session: LocalSession) -> Principal:
    """Who calls with the cookie."""
    return Principal(
        LOCAL_ACTOR,
        (),
        session.id,
        session.id,
        None,
        kid="",
        issued_at=session.signed_in_at,
        expires_at=session.ends_at,
    )
