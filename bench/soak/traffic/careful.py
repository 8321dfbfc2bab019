"""Who has a second factor, and who calls more often than the limit lets through."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

from bench.soak.client import pause
from bench.soak.crowd import Caller, Crowd
from bench.soak.oracle import Expected, Subject, Verdict, allowed, refused
from bench.soak.people import Person, Session

STEP_S = 30
BURST, REFILL_A_S = 12, 12 / 60
"""Of the limit `narrow` in site/routes.yaml."""


def code_at(secret: str, at: float) -> str:
    """RFC 6238, as an authenticator app shows it."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, int(at // STEP_S).to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


class Careful(Caller):
    """Enrols a factor, signs in with it once a step, and may then what a password alone may not."""

    rest_s = 2.0

    def __init__(self, crowd: Crowd, number: int, person: Person) -> None:
        super().__init__(crowd, number)
        self.person = person
        self._used_step = 0

    async def step(self) -> None:
        if not self.person.totp_secret:
            await self._enrol()
            return
        if int(time.time() // STEP_S) <= self._used_step + 1:
            return
        if session := await self._sign_in_with_factor():
            await self.call(session, "/strong/1", allowed(session.identity), kind="with a factor")
            await self.sign_out(session)

    async def _enrol(self) -> None:
        session = await self.sign_in(self.person)
        if session is None:
            return
        verdict, answer = await self._ask("/auth/factors/totp", session, [allowed()], {})
        if verdict is not Verdict.RIGHT:
            return
        secret = str(answer.body["secret"])
        self._used_step = int(time.time() // STEP_S)
        body = {"code": code_at(secret, time.time())}
        expected: list[Expected] = [allowed()]
        while not self.crowd.over.is_set():
            verdict, answer = await self._ask("/auth/factors/totp/confirm", session, expected, body)
            if verdict is Verdict.RIGHT:
                self.person.totp_secret = secret
                return
            if verdict is not Verdict.UNAVAILABLE:
                return
            expected = [allowed(), refused(401), refused(400), refused(409)]
            await pause(answer)

    async def _ask(self, path: str, session: Session, expected: list[Expected], body: object):  # type: ignore[no-untyped-def]
        return await self.client.ask(
            "POST",
            path,
            expected,
            subject=Subject.ACCOUNT,
            kind="enrol a factor",
            headers=session.credential,
            json=body,
        )

    async def _sign_in_with_factor(self) -> Session | None:
        person = self.person
        verdict, answer = await self.client.ask(
            "POST",
            "/auth/login",
            [refused(401, "insufficient_user_authentication")],
            subject=Subject.ACCOUNT,
            kind="password of two",
            headers={"Sec-Fetch-Site": "same-origin"},
            json={"email": person.email, "password": person.password},
        )
        if verdict is not Verdict.RIGHT:
            await pause(answer)
            return None
        self._used_step = int(time.time() // STEP_S)
        changes = person.changes
        verdict, answer = await self.client.ask(
            "POST",
            "/auth/login/factor",
            [allowed()],
            subject=Subject.ACCOUNT,
            kind="second factor",
            headers={"Sec-Fetch-Site": "same-origin"},
            json={
                "mfa_token": answer.body["mfa_token"],
                "code": code_at(person.totp_secret, time.time()),
            },
        )
        if verdict is not Verdict.RIGHT:
            return None  # a code counts once: the next step brings another
        session = Session(person, "")
        session.take(answer.body, changes)
        return session


class Hurried(Caller):
    """Sends more than a shared limit lets through, and rests until it is full again."""

    rest_s = 10.0

    def __init__(self, crowd: Crowd, number: int, person: Person) -> None:
        super().__init__(crowd, number)
        self.person = person
        self.session: Session | None = None
        self._room = float(BURST)
        """Of an exact bucket, that lets through no less than the gateway may."""
        self._at = time.monotonic()

    async def step(self) -> None:
        session = self.session = await self.ready(self.session, self.person)
        if session is None:
            return
        for _ in range(BURST + 4):
            good: list[Expected] = [allowed(session.identity), refused(429, "rate_limited")]
            verdict, answer = await self.client.ask(
                "GET",
                "/narrow/1",
                good,
                subject=Subject.REFUSAL,
                kind="limited",
                headers=session.credential,
            )
            if verdict is Verdict.RIGHT and answer.status == 200:
                self._spend(answer.received_at)
            elif answer.status == 429 and self._room_at(answer.sent_at) > BURST - 1:
                self.crowd.oracle.wrong("limited", "429 although nothing had been spent")

    def _room_at(self, at: float) -> float:
        return min(BURST, self._room + (at - self._at) * REFILL_A_S)

    def _spend(self, at: float) -> None:
        self._room = self._room_at(at) - 1
        self._at = at
        # One more for a call whose answer was lost, and one for the time that it took.
        if self._room < -1.5 and not self.crowd.town.limits_unsure:
            self.crowd.oracle.wrong("limited", "more than the limit lets through")
