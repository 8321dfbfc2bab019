"""What providers have ended a moment ago: sessions of theirs, or all that somebody had there.

Law: a sign-in that began before such an end begins no session here, wherever it is: between the
provider's answer and its account, or at the question for a second factor.  An end is noted before
the sessions that it names are looked for, and looked for here once a session has begun: whichever
comes first, one of the two finds the other.  What stays when a session ends (an account, a link,
roles, a factor) is written under the lock of the account, and an end is looked for last, before the
commit: what is written by then stays, as if it were older than the end.

A session there has a name, which comes back no more once it has ended.  Who is named by `sub` alone
signs in again, so of them it is noted when: a sign-in for which the browser was sent there later is
theirs.  When the code came, or what was asked for it, says nothing: a provider may tell of the end
first, and honour until it is done what it gave before.  So it is with who is named beside their
session, where the sign-in does not say in which session there it is.

Both times are places in one order, of what that provider has ended: no clock is asked, so one that
steps forgets no end and turns none round.  That a session's name comes back no more is besides
kept for a while, against what began after its end; an end itself is looked for in the order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.stores.protocols import ReadableNonceStore

KEPT_S = 1_200
"""Longer than a sign-in is under way: five minutes at the second factor, and what came before."""


class Moments(Protocol):
    """What happened in which order, for all workers; all raise StoreUnavailable."""

    async def now(self, kind: str) -> int: ...

    async def note(self, kind: str, names: Sequence[str]) -> None: ...

    async def has_come(self, kind: str, names: Sequence[str], since: int | None) -> bool:
        """Whether one of them was noted after `since` (None: at all), or nobody can say."""


class EndedSessions:
    def __init__(self, marks: ReadableNonceStore, moments: Moments) -> None:
        self._marks = marks
        self._moments = moments

    async def now(self, issuer: str) -> int:
        """For `ProviderIdentity.begun_at`; taken before the browser is sent there."""
        return await self._moments.now(_hashed(issuer))

    async def note(self, issuer: str, provider_session: str, subject: str | None = None) -> None:
        """That session of theirs is over: of what they began in no known one it may be that."""
        await self._marks.claim(_mark(issuer, provider_session), KEPT_S)
        names = [_session(provider_session)]
        if subject is not None:
            names.append(_in_no_known(subject))
        await self._moments.note(_hashed(issuer), names)

    async def note_person(self, issuer: str, subject: str) -> None:
        """All that they had there is over."""
        await self._moments.note(_hashed(issuer), [_person(subject)])

    async def has_ended(self, origin: SessionOrigin | None) -> bool:
        """Whether the provider has told that what the sign-in rests on is over."""
        if origin is None:
            return False
        return await self._has_ended(
            origin.issuer, origin.subject, origin.provider_session, origin.begun_at
        )

    async def has_ended_of(self, identity: ProviderIdentity) -> bool:
        """The same before anybody knows whose account it is."""
        issuer = identity.provider.issuer.issuer
        return await self._has_ended(
            issuer, identity.subject, identity.session_id, identity.begun_at
        )

    async def _has_ended(
        self, issuer: str, subject: str, provider_session: str | None, begun_at: int | None
    ) -> bool:
        if provider_session is None:
            names = [_person(subject), _in_no_known(subject)]
        elif await self._marks.is_claimed(_mark(issuer, provider_session)):
            return True
        else:
            names = [_person(subject), _session(provider_session)]
        return await self._moments.has_come(_hashed(issuer), names, begun_at)


def _mark(issuer: str, provider_session: str) -> str:
    named = _hashed(issuer + "\x00" + provider_session)
    return f"provider-ended:{named}"


def _session(name: str) -> str:
    return f"session:{_hashed(name)}"


def _person(subject: str) -> str:
    return f"person:{_hashed(subject)}"


def _in_no_known(subject: str) -> str:
    """Of what the subject has there in no session that is known."""
    return f"unnamed:{_hashed(subject)}"


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
