"""Accounts and sessions as the oracle holds them: what was acknowledged, and what is not known."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from bench.soak.oracle import Expected, Identity, refused

OVER = ("token_revoked", "token_outdated", "token_expired", "session_unknown")
"""How a session that has ended is refused."""
FRESH_S = 25.0
"""A token with less left is renewed before it is used, so that no step of a clock makes it old."""


@dataclass
class Person:
    email: str
    passwords: list[str]
    """Those that may be right: more than one while nobody knows whether a change was made."""
    user_id: str = ""
    roles: frozenset[str] = frozenset()
    totp_secret: str = ""
    acknowledged: bool = True
    """Whether the account must be there."""
    changes: int = 0
    """Steps of changes of its roles; odd while one is made, and nobody knows which hold."""

    @property
    def password(self) -> str:
        return self.passwords[-1]


class State(Enum):
    LIVE = "live"
    ENDING = "ending"
    """A sign-out was sent and is not yet confirmed: either answer is right."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Glimpse:
    state: State
    changes: int


@dataclass
class Session:
    person: Person
    session_id: str
    access_token: str = ""
    refresh_token: str = ""
    cookie: str = ""
    csrf_token: str = ""
    expires_at: float = 0.0
    """Of the access token, on this machine's wall clock."""
    state: State = State.LIVE
    ended_at: float = 0.0
    """When the answer to its sign-out had been read, on the steady clock."""
    roles: frozenset[str] = frozenset()
    """Those that the access token names."""
    changes: int | None = 0
    """The changes of its person's roles that the access token came after; None where one was made
    while it was on its way."""
    asked_since: float | None = None
    """Since when a refresh is on its way of which nobody knows whether it was made."""
    stale_tokens: list[str] = field(default_factory=list)

    @property
    def identity(self) -> Identity:
        person = self.person
        return Identity(person.user_id, person.email, self.roles, self.session_id)

    def glimpse(self) -> Glimpse:
        """What holds as a call is sent."""
        return Glimpse(self.state, self.person.changes)

    @property
    def fresh(self) -> bool:
        return self.expires_at - time.time() > FRESH_S

    @property
    def credential(self) -> dict[str, str]:
        if self.cookie:
            return {"Cookie": f"__Host-session={self.cookie}", "Sec-Fetch-Site": "same-origin"}
        return {"Authorization": f"Bearer {self.access_token}"}

    def end(self) -> None:
        self.state = State.ENDED
        self.ended_at = time.monotonic()

    @property
    def outdated(self) -> bool:
        """Whether the roles have changed since the access token came, were it back to the same."""
        changes = self.person.changes
        return not self.cookie and changes % 2 == 0 and changes != self.changes

    def take(self, answer: dict[str, Any], changes: int) -> None:
        """What a sign-in or a refresh gave that was asked for after so many `changes`."""
        self.changes = changes if changes == self.person.changes and changes % 2 == 0 else None
        if token := answer.get("access_token"):
            claims = claims_of(token)
            self.access_token, self.session_id = token, str(claims["sid"])
            self.expires_at, self.roles = float(claims["exp"]), frozenset(claims["roles"])
            self.refresh_token = answer.get("refresh_token", self.refresh_token)
        else:
            self.roles = frozenset(answer["user"]["roles"])
            self.csrf_token = str(answer["csrf_token"])
        self.person.user_id = str(answer["user"]["user_id"])
        self.asked_since = None


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * 3))
    return document


def may(session: Session, sent: Glimpse, good: Expected) -> list[Expected]:
    """What may come of a call of `session` that was sent as `sent` and is answered now: `good`
    while it lives, a refusal once it has ended, either while nobody knows."""
    over = refused(401, *OVER)
    if sent.state is State.ENDED:
        return [over]
    person = session.person
    if session.state is not State.LIVE or person.changes % 2 or person.changes != sent.changes:
        return [good, over]
    if session.cookie or (session.changes == person.changes and session.roles == person.roles):
        return [good]
    if session.changes is None and session.roles == person.roles:
        # It may be from before the change, where that was made there and back.
        return [good, over]
    return [refused(401, "token_outdated")]
