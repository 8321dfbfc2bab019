"""Browsers: a session cookie, pages, forms, and other sites that abuse them."""

from __future__ import annotations

from bench.soak.crowd import Caller, Crowd
from bench.soak.oracle import Subject, allowed, refused
from bench.soak.people import Person, Session, State

NAVIGATION = {
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Accept": "text/html,application/xhtml+xml",
}
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


class Browser(Caller):
    rest_s = 0.8

    def __init__(self, crowd: Crowd, number: int, person: Person) -> None:
        super().__init__(crowd, number)
        self.person = person
        self.session: Session | None = None
        self._calls = 0

    async def step(self) -> None:
        if self.session is None or self.session.state is not State.LIVE:
            self.session = await self.sign_in(self.person, cookie=True)
        session = self.session
        if session is None or not session.session_id:
            return
        self._calls += 1
        if self._calls % 60 == 0:
            await self.sign_out(session)
            return
        await self.random.choice(_ACTIONS)(self, session)

    async def leave(self) -> None:
        if self.session is not None:
            self.crowd.live.append(self.session)

    async def open_page(self, session: Session) -> None:
        good = allowed(session.identity)
        await self.call(session, "/pages/home", good, kind="page", headers=NAVIGATION)

    async def fetch(self, session: Session) -> None:
        await self.call(session, "/api/list", allowed(session.identity), kind="page's own call")

    async def post_form(self, session: Session) -> None:
        await self.write_note(session, "form")

    async def be_led_to_sign_in(self, session: Session) -> None:
        del session
        await self.client.ask(
            "GET",
            "/pages/home",
            [allowed(None, 303)],
            subject=Subject.REFUSAL,
            kind="page without a session",
            headers=NAVIGATION,
        )

    async def open_sign_in_page(self, session: Session) -> None:
        del session
        await self.client.ask(
            "GET",
            "/auth/ui/sign-in",
            [allowed()],
            subject=Subject.PUBLIC,
            kind="sign-in page",
            headers=NAVIGATION,
        )

    async def be_posted_by_another_site(self, session: Session) -> None:
        await self.client.ask(
            "POST",
            "/notes/never",
            [refused(403, "cross_origin")],
            subject=Subject.REFUSAL,
            kind="form of another site",
            headers=session.credential | FOREIGN,
        )

    async def be_read_by_another_site(self, session: Session) -> None:
        await self.client.ask(
            "GET",
            "/api/secret",
            [refused(401, "no_credential")],
            subject=Subject.REFUSAL,
            kind="read by another site",
            headers=session.credential | FOREIGN,
        )


_ACTIONS = (
    *(Browser.open_page,) * 3,
    *(Browser.fetch,) * 3,
    Browser.post_form,
    Browser.be_led_to_sign_in,
    Browser.open_sign_in_page,
    Browser.be_posted_by_another_site,
    Browser.be_read_by_another_site,
)
