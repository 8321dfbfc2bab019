"""Sessions of providers that have ended a moment ago, by the name that the provider has for them.

Law: a sign-in that began in such a session begins none here, wherever it is: between the provider's
answer and its account, or at the question for a second factor.  An end is noted before the sessions
that it names are looked for, and looked for here once a session has begun: whichever comes first,
one of the two finds the other.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from gateway.identity.sessions.session_origins import SessionOrigin

KEPT_S = 1_200
"""Longer than a sign-in is under way: five minutes at the second factor, and what came before."""


class Marks(Protocol):
    """What all workers may note for a while; both raise StoreUnavailable."""

    async def claim(self, key: str, ttl_s: int) -> bool: ...

    async def is_claimed(self, key: str) -> bool: ...


class EndedSessions:
    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    async def note(self, issuer: str, provider_session: str) -> None:
        await self._marks.claim(_key(issuer, provider_session), KEPT_S)

    async def has_ended(self, origin: SessionOrigin | None) -> bool:
        """Whether the provider has told that the session is over in which the sign-in began."""
        if origin is None or origin.provider_session is None:
            return False
        return await self._marks.is_claimed(_key(origin.issuer, origin.provider_session))


def _key(issuer: str, provider_session: str) -> str:
    named = hashlib.sha256(f"{issuer}\x00{provider_session}".encode()).hexdigest()
    return f"provider-ended:{named[:32]}"
