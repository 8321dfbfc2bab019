"""Who has no right to anything: no credential, a forged one, one that is over."""

from __future__ import annotations

import base64
import json
import time

from bench.soak.client import Client
from bench.soak.crowd import Caller, Crowd
from bench.soak.oracle import Expected, Identity, Subject, allowed, refused
from bench.soak.people import OVER, Session, State
from bench.soak.traffic.programs import MADE_UP

KEY_UNKNOWN_S = 12.0
"""After a key of the issuer was rotated: a worker asks for its keys once in 10 s
(docs/issuers.md)."""


class Stranger(Caller):
    """Public routes, and private ones with what is no credential."""

    rest_s = 0.5

    async def step(self) -> None:
        turn = self.random.randrange(5)
        if turn < 2:
            await self._ask("/public/x", [allowed()], "public", MADE_UP)
        elif turn == 2:
            await self._ask("/api/x", [refused(401, "no_credential")], "no credential", MADE_UP)
        elif turn == 3:
            await self._ask("/nowhere", [refused(404, "route_unknown")], "no route", {})
        elif self.crowd.live_tokens:
            token = _promoted(self.random.choice(self.crowd.live_tokens))
            await self._ask(
                "/staff/x",
                [refused(401, "token_signature_invalid", "key_unknown")],
                "forged token",
                {"Authorization": f"Bearer {token}"},
            )

    async def _ask(
        self, path: str, good: list[Expected], kind: str, headers: dict[str, str]
    ) -> None:
        subject = Subject.PUBLIC if kind == "public" else Subject.REFUSAL
        await self.client.ask("GET", path, good, subject=subject, kind=kind, headers=headers)


def _promoted(token: str) -> str:
    """With the role that its signer did not give."""
    head, claims, signature = token.split(".")
    document = json.loads(base64.urlsafe_b64decode(claims + "==="))
    document["roles"] = ["staff", "admin"]
    forged = base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
    return f"{head}.{forged}.{signature}"


class Ghost(Caller):
    """Comes back with sessions whose sign-out was answered 204, through the balancer and to each
    node, while their tokens have not expired and afterwards."""

    rest_s = 0.4

    def __init__(self, crowd: Crowd, number: int) -> None:
        super().__init__(crowd, number)
        self._doors = [self.client]
        for node in crowd.town.nodes:
            self._doors.append(Client(node.port, crowd.oracle))
        self._met = 0.0

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            for door in self._doors:
                await door.close()

    async def step(self) -> None:
        fresh = [one for one in self.crowd.ended if one.ended_at > self._met]
        if fresh:
            self._met = fresh[-1].ended_at
        older = list(self.crowd.ended)
        for session in (*fresh, *self.random.sample(older, min(2, len(older)))):
            for door in self._doors:
                await self._come_back(door, session)
        if older and self.random.random() < 0.1:
            await self._refresh(self.random.choice(older))
        if self.crowd.ended_keys:
            await self._ask(self.client, self.random.choice(list(self.crowd.ended_keys)))

    async def _come_back(self, door: Client, session: Session) -> None:
        assert session.state is State.ENDED
        await door.ask(
            "GET",
            "/api/ghost",
            [refused(401, *OVER)],
            subject=Subject.REFUSAL,
            kind="signed out",
            headers=session.credential,
        )

    async def _refresh(self, session: Session) -> None:
        if session.refresh_token:
            await self.client.ask(
                "POST",
                "/auth/refresh",
                [refused(401, "invalid_refresh_token", "refresh_token_reused")],
                subject=Subject.ACCOUNT,
                kind="signed out, refresh",
                json={"refresh_token": session.refresh_token},
            )

    async def _ask(self, door: Client, key: str) -> None:
        await door.ask(
            "GET",
            "/api/ghost",
            [refused(401, *OVER, "token_malformed", "key_unknown", "invalid_credentials")],
            subject=Subject.REFUSAL,
            kind="ended key",
            headers={"Authorization": f"Bearer {key}"},
        )


class Partner(Caller):
    """Tokens of another issuer, good ones and others."""

    rest_s = 0.8

    async def step(self) -> None:
        provider = self.crowd.town.provider
        name = f"partner{self.number}"
        turn = self.random.randrange(6)
        now = int(time.time())
        # As `site/routes.yaml` names what its claims say.
        identity = Identity(
            f"company:{name}", roles=frozenset(("viewer",)), session_id=f"company:s-{name}"
        )
        good: list[Expected] = [allowed(identity)]
        if turn == 0:
            token, good = provider.token(name, ["nobody"]), [refused(403, "no_rule")]
        elif turn == 1:
            token = provider.token(name, ["viewer"], aud="somebody-else")
            good = [refused(401, "token_claims_invalid")]
        elif turn == 2:
            token = provider.token(name, ["viewer"], iat=now - 400, exp=now - 60)
            good = [refused(401, "token_expired")]
        else:
            token = provider.token(name, ["viewer"])
        if time.monotonic() - provider.rotated_at < KEY_UNKNOWN_S:
            good.append(refused(401, "key_unknown"))
        live = turn > 2
        await self.client.ask(
            "GET",
            "/partners/1",
            good,
            subject=Subject.ISSUER if live else Subject.REFUSAL,
            kind="partner" if live else "partner, refused",
            headers={"Authorization": f"Bearer {token}"},
        )
