"""What the callers of a run share, and the steps that all of them take: in, on, out."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from dataclasses import dataclass, field

from bench.soak.answers import Answer
from bench.soak.client import Client, pause
from bench.soak.oracle import Expected, Oracle, Subject, Verdict, allowed, refused
from bench.soak.people import FRESH_S, Glimpse, Person, Session, State, may
from bench.soak.town import Town

GRACE_S = 8.0
"""A refresh token may be sent again for 10 s after its first use; we count on less."""
PASSWORD = "a-soak-has-no-secrets-9-but-this"


@dataclass
class Crowd:
    town: Town
    oracle: Oracle
    seed: int
    over: asyncio.Event = field(default_factory=asyncio.Event)
    people: list[Person] = field(default_factory=list)
    """Everyone whose account was acknowledged; looked for at the end."""
    ended: deque[Session] = field(default_factory=lambda: deque(maxlen=400))
    """Sessions whose end was confirmed, the newest last."""
    sessions: deque[Session] = field(default_factory=lambda: deque(maxlen=50))
    """Those that began last."""
    live: list[Session] = field(default_factory=list)
    """Sessions that nobody has ended when the run is over."""
    keys: dict[str, Person] = field(default_factory=dict)
    """Personal keys that were acknowledged and not ended."""
    ended_keys: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    notes: set[str] = field(default_factory=set)
    """Notes whose posting was acknowledged."""
    sent_notes: set[str] = field(default_factory=set)

    @property
    def live_tokens(self) -> list[str]:
        """Of sessions that may be live; a stranger forges them."""
        return [one.access_token for one in self.sessions if one.access_token]

    def random(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    def client(self) -> Client:
        return Client(self.town.balanced_port, self.oracle)

    def note_id(self) -> str:
        note = secrets.token_hex(8)
        self.sent_notes.add(note)
        return note


class Caller:
    """One of the crowd: makes a step, rests, until the run is over."""

    rest_s = 1.0

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd = crowd
        self.number = number
        self.client = crowd.client()
        self.random = crowd.random(f"{type(self).__name__}/{number}")

    async def run(self) -> None:
        try:
            while not self.crowd.over.is_set():
                await self.step()
                await self.rest(self.rest_s * self.random.uniform(0.5, 1.5))
            await self.leave()
        finally:
            await self.client.close()

    async def step(self) -> None: ...

    async def leave(self) -> None: ...

    async def rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.crowd.over.wait()
        except TimeoutError:
            return

    # --- accounts ---

    async def registered(self, email: str, password: str = PASSWORD) -> Person | None:
        """The account, which is new; None where the run ended before it was acknowledged."""
        person = Person(email, [password], acknowledged=False)
        expected: list[Expected] = [allowed(None, 201)]
        while not self.crowd.over.is_set():
            verdict, answer = await self.client.ask(
                "POST",
                "/auth/register",
                expected,
                subject=Subject.ACCOUNT,
                kind="register",
                headers={"Sec-Fetch-Site": "same-origin"},
                json={"email": email, "password": password},
            )
            if verdict is Verdict.RIGHT:
                person.acknowledged = True
                if answer.status == 201:
                    person.user_id = str(answer.body["user_id"])
                    person.roles = frozenset(answer.body["roles"])
                self.crowd.people.append(person)
                return person
            if verdict is not Verdict.UNAVAILABLE:
                return None
            # Whether it was made nobody knows.
            expected = [allowed(None, 201), refused(409, "email_taken")]
            await pause(answer)
        return None

    async def sign_in(self, person: Person, *, cookie: bool = False) -> Session | None:
        """None where it could not be had now."""
        for password in reversed(person.passwords):
            changes = person.changes
            expected: list[Expected] = [allowed()]
            if len(person.passwords) > 1:
                expected.append(refused(401, "invalid_credentials"))
            verdict, answer = await self.client.ask(
                "POST",
                "/auth/login",
                expected,
                subject=Subject.ACCOUNT,
                kind="sign in",
                headers={"Sec-Fetch-Site": "same-origin"},
                json={
                    "email": person.email,
                    "password": password,
                    "transport": "cookie" if cookie else "bearer",
                },
            )
            if verdict is Verdict.RIGHT and answer.status == 200:
                person.passwords = [password]
                session = Session(person, "")
                session.take(answer.body, changes)
                if person.changes == 0:
                    person.roles = session.roles
                if cookie:
                    session.cookie = answer.cookies["__Host-session"]
                    await self._learn_session(session)
                self.crowd.sessions.append(session)
                return session
            if verdict is not Verdict.RIGHT:
                await pause(answer)
                return None
        return None

    async def _learn_session(self, session: Session) -> None:
        """What the gateway calls the session of a cookie; its answers at the backend must agree."""
        while not session.session_id and not self.crowd.over.is_set():
            answer = await self.client.send("GET", "/auth/me", session.credential)
            if answer.status == 200:
                session.session_id = str(answer.body["session_id"])
            else:
                await pause(answer)

    async def refresh(self, session: Session) -> bool:
        """Whether the session has a new access token; it has ended where nobody can know how its
        refresh token was used."""
        asked_at, changes = time.monotonic(), session.person.changes
        expected: list[Expected] = [allowed()]
        since = session.asked_since
        if session.state is not State.LIVE or (since is not None and asked_at - since > GRACE_S):
            expected.append(refused(401, "invalid_refresh_token", "refresh_token_reused"))
        verdict, answer = await self.client.ask(
            "POST",
            "/auth/refresh",
            expected,
            subject=Subject.ACCOUNT,
            kind="refresh",
            json={"refresh_token": session.refresh_token},
        )
        if verdict is Verdict.RIGHT and answer.status == 200:
            session.take(answer.body, changes)
            return True
        if verdict is Verdict.UNAVAILABLE:
            session.asked_since = asked_at if since is None else since
            await pause(answer)
        else:
            session.state = State.ENDING
        return False

    async def sign_out(self, session: Session) -> None:
        """Until it is answered 204, as whoever must be sure does; then nobody may be let in."""
        session.state = State.ENDING
        headers = dict(session.credential)
        if session.cookie:
            headers["Content-Type"] = "application/json"
        while True:
            verdict, answer = await self.client.ask(
                "POST",
                "/auth/logout",
                [allowed(None, 204)],
                subject=Subject.SIGN_OUT,
                kind="sign out",
                headers=headers,
            )
            if verdict is Verdict.RIGHT:
                session.end()
                self.crowd.ended.append(session)
                return
            if verdict is not Verdict.UNAVAILABLE or self.crowd.over.is_set():
                return
            await pause(answer)

    async def ready(self, session: Session | None, person: Person) -> Session | None:
        """A session of the person that can be used now: the one there is, renewed, or another."""
        if session is None or session.state is not State.LIVE:
            return await self.sign_in(person)
        outdated = session.outdated
        if not session.cookie and (not session.fresh or outdated):
            if not await self.refresh(session) and session.state is State.LIVE:
                # While nobody renews it, it is used as long as it is good.
                left_s = session.expires_at - time.time()
                return session if left_s > FRESH_S / 2 and not outdated else None
            return session if session.state is State.LIVE else None
        return session

    # --- calls ---

    async def call(
        self,
        session: Session,
        path: str,
        good: Expected,
        *,
        kind: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """With the session's credential; `good` is what comes while it lives."""
        sent: Glimpse = session.glimpse()
        is_allowed = hasattr(good, "identity") and sent.state is State.LIVE
        _, answer = await self.client.ask(
            method,
            path,
            lambda: may(session, sent, good),
            subject=Subject.CREDENTIAL if is_allowed else Subject.REFUSAL,
            kind=kind,
            headers=session.credential | (headers or {}),
        )
        return answer

    async def write_note(self, session: Session, kind: str) -> None:
        """What was answered 200 has to stand in the journal of the backends."""
        note = self.crowd.note_id()
        good = allowed(session.identity)
        answer = await self.call(session, f"/notes/{note}", good, kind=kind, method="POST")
        if answer.status == 200:
            self.crowd.notes.add(note)
