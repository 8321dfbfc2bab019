"""People who come: an account, its password changed or reset by mail, a personal key, a sign-out.

What was acknowledged is looked for when the run is over."""

from __future__ import annotations

import asyncio
import re
import secrets
import time

from bench.soak.client import pause
from bench.soak.crowd import Caller, Crowd
from bench.soak.oracle import Expected, Subject, Verdict, allowed, refused
from bench.soak.people import OVER, Person, Session, State
from tests.mailbox import body_of

MAIL_WITHIN_S = 60.0
FORGETS_EVERY_S = 21.0
"""One address may ask for 50 letters of a kind in 15 minutes."""
_TOKEN = re.compile(r"token=([A-Za-z0-9_-]+)")


class Newcomer(Caller):
    rest_s = 4.0

    def __init__(self, crowd: Crowd, number: int) -> None:
        super().__init__(crowd, number)
        self._forgets_at = 0.0

    async def step(self) -> None:
        person = await self.registered(f"new-{secrets.token_hex(6)}@example.com")
        if person is None:
            return
        session = await self._in(person)
        if session is None:
            return
        turn = self.random.randrange(4)
        if turn == 0:
            await self._change_password(session)
        elif turn == 1 and time.monotonic() >= self._forgets_at:
            self._forgets_at = time.monotonic() + FORGETS_EVERY_S
            await self._reset_password(session)
        elif turn == 2:
            await self._make_key(session)
        else:
            await self.sign_out(session)

    async def _in(self, person: Person) -> Session | None:
        while not self.crowd.over.is_set():
            if session := await self.sign_in(person):
                return session
        return None

    async def _change_password(self, session: Session) -> None:
        person = session.person
        fresh = secrets.token_urlsafe(18)
        expected: list[Expected] = [allowed(None, 204)]
        person.passwords.append(fresh)
        for _ in range(30):
            verdict, answer = await self.client.ask(
                "POST",
                "/auth/password/change",
                expected,
                subject=Subject.SIGN_OUT,
                kind="password change",
                headers=session.credential,
                json={"password": person.passwords[0], "new_password": fresh},
            )
            if verdict is Verdict.RIGHT and answer.status == 204:
                person.passwords = [fresh]
                self.crowd.live.append(session)
                return
            if verdict is not Verdict.UNAVAILABLE:
                return
            # It may have been made: then the old password is wrong.
            expected = [allowed(None, 204), refused(401, "invalid_credentials", *OVER)]
            await pause(answer)
            if self.crowd.over.is_set():
                return

    async def _reset_password(self, session: Session) -> None:
        """By a mailed link; it ends every session of the account."""
        person = session.person
        token = await self._mailed_token(person)
        if token is None:
            return
        fresh = secrets.token_urlsafe(18)
        person.passwords.append(fresh)
        session.state = State.ENDING
        expected: list[Expected] = [allowed(None, 204)]
        while not self.crowd.over.is_set():
            verdict, answer = await self.client.ask(
                "POST",
                "/auth/password/reset",
                expected,
                subject=Subject.SIGN_OUT,
                kind="password reset",
                json={"token": token, "password": fresh},
            )
            if verdict is Verdict.RIGHT and answer.status == 204:
                person.passwords = [fresh]
                session.end()
                self.crowd.ended.append(session)
            if verdict is not Verdict.UNAVAILABLE:
                return
            # It may have been made: then the link is used up.
            expected = [allowed(None, 204), refused(400, "invalid_token")]
            await pause(answer)

    async def _mailed_token(self, person: Person) -> str | None:
        for _ in range(30):
            verdict, answer = await self.client.ask(
                "POST",
                "/auth/password/forgot",
                [allowed(None, 202)],
                subject=Subject.ACCOUNT,
                kind="password forgotten",
                json={"email": person.email},
            )
            if verdict is Verdict.RIGHT:
                break
            await pause(answer)
            if self.crowd.over.is_set():
                return None
        deadline = time.monotonic() + MAIL_WITHIN_S
        mailbox = self.crowd.town.mail
        while time.monotonic() < deadline and not self.crowd.over.is_set():
            for mail, to in zip(mailbox.mails[-200:], mailbox.recipients[-200:], strict=False):
                if person.email in to and (found := _TOKEN.search(body_of(mail))):
                    return found[1]
            await asyncio.sleep(0.2)
        if not self.crowd.over.is_set():
            self.crowd.oracle.lost.append(f"no mail came to {person.email} within a minute")
        return None

    async def _make_key(self, session: Session) -> None:
        verdict, answer = await self.client.ask(
            "POST",
            "/auth/keys",
            [allowed(None, 201)],
            subject=Subject.ACCOUNT,
            kind="personal key",
            headers=session.credential,
            json={"name": "soak"},
        )
        if verdict is not Verdict.RIGHT:
            return
        key, key_id = str(answer.body["api_key"]), str(answer.body["key_id"])
        self.crowd.keys[key] = session.person
        if self.random.random() < 0.5:
            return
        del self.crowd.keys[key]
        for _ in range(30):
            verdict, answer = await self.client.ask(
                "DELETE",
                f"/auth/keys/{key_id}",
                [allowed(None, 204)],
                subject=Subject.SIGN_OUT,
                kind="personal key, ended",
                headers=session.credential,
            )
            if verdict is not Verdict.UNAVAILABLE:
                break
            await pause(answer)
            if self.crowd.over.is_set():
                return
        if verdict is Verdict.RIGHT:
            self.crowd.ended_keys.append(key)


class Passerby(Caller):
    """Signs in, calls once, signs out, and is over: what sign-outs are made of."""

    rest_s = 1.0

    def __init__(self, crowd: object, number: int, people: list[Person]) -> None:
        super().__init__(crowd, number)  # type: ignore[arg-type]
        self.people = people

    async def step(self) -> None:
        session = await self.sign_in(self.random.choice(self.people))
        if session is None:
            return
        await self.call(session, "/api/once", allowed(session.identity), kind="first call")
        await self.sign_out(session)
