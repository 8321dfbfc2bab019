"""Each second, through the balancer: is the gateway there for whoever has a live credential?

Every kind of credential is asked with, on a connection of its own.  Three clients see it: one whose
balancer tries nothing twice, one behind the balancer as `deploy/haproxy` ships it, and the latter
when it tries once more a second later, as most HTTP clients do.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from bench.soak.client import Client
from bench.soak.crowd import Caller, Crowd
from bench.soak.oracle import Expected, Identity, Subject, Verdict, allowed
from bench.soak.people import Person, Session, State, may

EVERY_S = 1.0
LATE_S = 2.0
"""A probe that was answered later was not answered."""
SHIPPED, PLAIN, AGAIN = "balancer as shipped", "no second try", "one retry of the client"


@dataclass(slots=True)
class Probe:
    at: float
    """Seconds from the beginning of the run."""
    way: str
    credential: str
    good: bool
    took_s: float
    why: str = ""


@dataclass
class Probes:
    found: list[Probe] = field(default_factory=list)

    def availability(self, way: str, credential: str = "") -> float:
        asked = [
            one.good for one in self.found if one.way == way and credential in ("", one.credential)
        ]
        return sum(asked) / len(asked) if asked else 0.0


class Prober(Caller):
    """`credential` names what it carries: a token, a cookie, an API key."""

    rest_s = 0.2

    def __init__(
        self, crowd: Crowd, probes: Probes, credential: str, *, person: Person, key: str = ""
    ) -> None:
        super().__init__(crowd, 0)
        self._probes = probes
        self._credential = credential
        self._person = person
        self._key = key
        self._identity = Identity(person.user_id, "", person.roles) if key else None
        self.session: Session | None = None
        oracle = crowd.oracle
        self._clients = {
            SHIPPED: Client(crowd.town.balanced_port, oracle, LATE_S, keep=False),
            PLAIN: Client(crowd.town.plain_port, oracle, LATE_S, keep=False),
        }

    async def run(self) -> None:
        probing: set[asyncio.Task[None]] = set()
        due_at = time.monotonic()
        try:
            while not self.crowd.over.is_set():
                await self._keep_session()
                if self._key or self.session is not None:
                    for way in self._clients:
                        task = asyncio.create_task(self._probe(way))
                        probing.add(task)
                        task.add_done_callback(probing.discard)
                due_at = max(due_at + EVERY_S, time.monotonic())
                await self.rest(due_at - time.monotonic())
            await asyncio.gather(*probing)
            if self.session is not None:
                self.crowd.live.append(self.session)
        finally:
            for client in (self.client, *self._clients.values()):
                await client.close()

    async def _keep_session(self) -> None:
        """Renewed beside the probes, which go on with the token that there is."""
        if self._key:
            return
        if self.session is None or self.session.state is not State.LIVE:
            cookie = self._credential == "cookie"
            self.session = await self.sign_in(self._person, cookie=cookie)
        elif not self.session.cookie and self.session.expires_at - time.time() < 60:
            await self.refresh(self.session)

    async def _probe(self, way: str) -> None:
        good, took_s, why, retry_after_s = await self._ask(way)
        self._note(way, good, took_s, why)
        if way != SHIPPED:
            return
        if not good:
            await asyncio.sleep(min(retry_after_s, 1.0))
            good, took_s, why, _ = await self._ask(way)
        self._note(AGAIN, good, took_s, why)

    async def _ask(self, way: str) -> tuple[bool, float, str, float]:
        session = self.session
        if self._identity is not None:
            headers = {"Authorization": f"Bearer {self._key}"}
            expected: list[Expected] = [allowed(self._identity)]
        else:
            assert session is not None
            headers = session.credential
            expected = may(session, session.glimpse(), allowed(session.identity))
        verdict, answer = await self._clients[way].ask(
            "GET",
            "/api/probe",
            expected,
            subject=Subject.PROBE,
            kind=f"probe, {way}",
            headers=headers,
        )
        why = "" if verdict is Verdict.RIGHT else answer.reason or str(answer.status)
        return verdict is Verdict.RIGHT, answer.took_s, why, answer.retry_after_s

    def _note(self, way: str, good: bool, took_s: float, why: str) -> None:
        at = time.monotonic() - self.crowd.oracle.began_at
        self._probes.found.append(Probe(at, way, self._credential, good, took_s, why))
