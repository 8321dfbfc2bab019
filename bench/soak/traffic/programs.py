"""Programs of people: bearer tokens that are refreshed, and calls of every outcome."""

from __future__ import annotations

from bench.soak.crowd import Caller, Crowd
from bench.soak.oracle import FORGED, Expected, Subject, allowed, refused
from bench.soak.people import Person, Session, State, may

MADE_UP = {
    "X-Auth-User-Id": FORGED,
    "x_auth_roles": FORGED,
    "X-AUTH-Email": FORGED,
    "X-Auth-Session-Id": FORGED,
    "X-Real-IP": FORGED,
}


class Program(Caller):
    rest_s = 0.5

    def __init__(self, crowd: Crowd, number: int, person: Person) -> None:
        super().__init__(crowd, number)
        self.person = person
        self.session: Session | None = None
        self._calls = 0

    async def step(self) -> None:
        session = self.session = await self.ready(self.session, self.person)
        if session is None:
            return
        self._calls += 1
        if self._calls % 97 == 0:
            await self.sign_out(session)
            return
        if self._calls % 151 == 0:
            await self._lose_refresh_token(session)
            return
        await self.random.choice(_ACTIONS)(self, session)

    async def leave(self) -> None:
        if self.session is not None:
            self.crowd.live.append(self.session)

    async def call_api(self, session: Session) -> None:
        headers = MADE_UP if self.random.random() < 0.3 else None
        path = f"/api/x?n={self.random.randrange(10**6)}"
        await self.call(session, path, allowed(session.identity), kind="api", headers=headers)

    async def read_own_order(self, session: Session) -> None:
        path = f"/users/{session.person.user_id}/orders/1"
        await self.call(session, path, allowed(session.identity), kind="own order")

    async def read_another_order(self, session: Session) -> None:
        path = "/users/somebody-else/orders/1"
        await self.call(session, path, refused(403, "no_rule"), kind="another's order")

    async def work_as_staff(self, session: Session) -> None:
        good: Expected = refused(403, "no_rule")
        if "staff" in session.roles:
            good = allowed(session.identity)
        await self.call(session, "/staff/list", good, kind="staff")

    async def read_report(self, session: Session) -> None:
        """While the policy is being edited either answer is right."""
        town, sent = self.crowd.town, session.glimpse()
        before = town.readers_known

        def expected() -> list[Expected]:
            reader = session.person.email.startswith("reader")
            yes, no = allowed(session.identity), refused(403, "no_rule")
            found = may(session, sent, yes if reader and before else no)
            unsure = before is None or town.readers_known != before
            return [*found, yes, no] if reader and unsure else found

        await self.client.ask(
            "GET",
            "/reports/1",
            expected,
            subject=Subject.REFUSAL,
            kind="report",
            headers=session.credential,
        )

    async def look_for_hidden(self, session: Session) -> None:
        await self.call(session, "/hidden/1", refused(404, "route_unknown"), kind="hidden")

    async def lack_a_factor(self, session: Session) -> None:
        good = refused(401, "insufficient_user_authentication")
        await self.call(session, "/strong/1", good, kind="without a factor")

    async def post_note(self, session: Session) -> None:
        await self.write_note(session, "note")

    async def _lose_refresh_token(self, session: Session) -> None:
        """A thief uses a refresh token that its owner has used, and its successor after it."""
        stolen = session.refresh_token
        if not await self.refresh(session) or not await self.refresh(session):
            return
        session.state = State.ENDING
        await self.client.ask(
            "POST",
            "/auth/refresh",
            [refused(401, "refresh_token_reused")],
            subject=Subject.ACCOUNT,
            kind="stolen refresh token",
            json={"refresh_token": stolen},
        )
        await self.sign_out(session)


_ACTIONS = (
    *(Program.call_api,) * 5,
    Program.read_own_order,
    Program.read_another_order,
    Program.work_as_staff,
    Program.read_report,
    Program.look_for_hidden,
    Program.lack_a_factor,
    Program.post_note,
)
