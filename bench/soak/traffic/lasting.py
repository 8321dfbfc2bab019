"""WebSockets and event streams: they go on while their session does, and pass nothing after it."""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import (
    ClientError,
    ClientTimeout,
    ClientWebSocketResponse,
    WSMsgType,
    WSServerHandshakeError,
)

from bench.soak.answers import CUT, Answer
from bench.soak.crowd import Caller, Crowd
from bench.soak.oracle import Judgement, Subject, Verdict, allowed
from bench.soak.people import Person, Session, State, may

ENDS_WITHIN_S = 5.0
"""After the 204 of its sign-out, what is open must be closed by then."""
SAID_EVERY_S = 0.5


class _Lasting(Caller, ABC):
    rest_s = 0.5
    kind = ""

    def __init__(self, crowd: Crowd, number: int, person: Person) -> None:
        super().__init__(crowd, number)
        self.person = person

    async def step(self) -> None:
        """One session with one connection, which ends by itself too early or by a sign-out."""
        session = await self.sign_in(self.person)
        if session is None:
            return
        lasts_s = self.random.uniform(20, 60)
        following = asyncio.create_task(self._follow(session))
        resting = asyncio.create_task(self.rest(lasts_s))
        await asyncio.wait({following, resting}, return_when=asyncio.FIRST_COMPLETED)
        resting.cancel()
        if not following.done() and not self.crowd.over.is_set():
            await self.sign_out(session)
            await asyncio.wait({following}, timeout=ENDS_WITHIN_S)
            if not following.done():
                self.crowd.oracle.wrong(self.kind, "open 5 s after the sign-out's 204")
        elif session.state is State.LIVE:
            await self.sign_out(session)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    async def _follow(self, session: Session) -> None:
        """Until it ends; whatever is said after the sign-out is wrong."""
        opened_at = time.monotonic()
        why = ""
        try:
            async for said_at in self._said(session):
                if session.state is State.ENDED and said_at > session.ended_at:
                    self.crowd.oracle.wrong(self.kind, "passed on after the sign-out's 204")
        except WSServerHandshakeError as error:
            answer = Answer(error.status, sent_at=opened_at, received_at=time.monotonic())
            if error.headers is not None:
                answer.fields = {name.lower(): value for name, value in error.headers.items()}
            self._judge_opening(session, answer)
            return
        except _NotOpened as refused_:
            self._judge_opening(session, refused_.answer)
            return
        except (ClientError, OSError, TimeoutError):
            why = CUT
        now = time.monotonic()
        if session.state is State.LIVE and not self.crowd.over.is_set():
            judgement = Judgement(Verdict.UNAVAILABLE, why or "ended")
        else:
            judgement = Judgement(Verdict.RIGHT)
        self.crowd.oracle.note(
            judgement, subject=Subject.LASTING, kind=self.kind, at=(now - 1.0, now)
        )

    def _judge_opening(self, session: Session, answer: Answer) -> None:
        self.crowd.oracle.judge(
            answer,
            may(session, session.glimpse(), allowed()),
            subject=Subject.LASTING,
            kind=f"{self.kind}, opening",
        )

    @abstractmethod
    def _said(self, session: Session) -> AsyncIterator[float]:
        """When the backend said something, for as long as the connection lasts."""


class _NotOpened(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Stream(_Lasting):
    kind = "stream"

    async def _said(self, session: Session) -> AsyncIterator[float]:
        timeout = ClientTimeout(total=None, sock_read=10, sock_connect=5)
        sent_at = time.monotonic()
        url = f"http://127.0.0.1:{self.client.port}/events"
        headers = session.credential
        async with self.client.session.get(url, headers=headers, timeout=timeout) as answer:
            if answer.status != 200:
                fields = {name.lower(): value for name, value in answer.headers.items()}
                raise _NotOpened(
                    Answer(answer.status, "", fields, None, {}, sent_at, time.monotonic())
                )
            async for line in answer.content:
                if line.startswith(b"data: "):
                    yield float(line[6:])


class Socket(_Lasting):
    kind = "socket"

    async def _said(self, session: Session) -> AsyncIterator[float]:
        url = f"http://127.0.0.1:{self.client.port}/socket"
        async with self.client.session.ws_connect(url, headers=session.credential) as socket:
            talking = asyncio.create_task(self._talk(socket))
            try:
                async for message in socket:
                    if message.type is WSMsgType.TEXT:
                        text, heard_at = json.loads(message.data)
                        if not str(text).startswith(self.client.address):
                            self.crowd.oracle.wrong(self.kind, "heard what another one said")
                        yield float(heard_at)
            finally:
                talking.cancel()

    async def _talk(self, socket: ClientWebSocketResponse) -> None:
        number = 0
        while not socket.closed:
            number += 1
            with suppress(ClientError, ConnectionError):
                await socket.send_str(f"{self.client.address}/{number}")
            await asyncio.sleep(SAID_EVERY_S)
