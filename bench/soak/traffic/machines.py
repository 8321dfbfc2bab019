"""Machine clients with tokens of their own, and API keys."""

from __future__ import annotations

import json
import time

from aiohttp import BasicAuth

from bench.soak.client import pause
from bench.soak.crowd import Caller, Crowd
from bench.soak.oracle import Identity, Subject, Verdict, allowed, refused
from bench.soak.people import FRESH_S, claims_of
from bench.soak.town import Town


class Account:
    """A client as an operator made it."""

    def __init__(self, town: Town, name: str) -> None:
        made = _made(town, "clients", "create", name, "--role", "staff", "--json")
        self.client_id, self.secret = made["client_id"], made["client_secret"]
        self.api_key = _made(town, "clients", "key", name, "--days", "1", "--json")["api_key"]
        self.identity = Identity(self.client_id, roles=frozenset(("staff",)))


def _made(town: Town, *words: str) -> dict[str, str]:
    done = town.nodes[0].command(*words)
    if done.returncode:
        raise RuntimeError(f"gateway {' '.join(words)}: {done.stderr[-500:]}")
    document: dict[str, str] = json.loads(done.stdout)
    return document


class Machine(Caller):
    rest_s = 0.6

    def __init__(self, crowd: Crowd, number: int, account: Account) -> None:
        super().__init__(crowd, number)
        self.account = account
        self._token = ""
        self._expires_at = 0.0

    async def step(self) -> None:
        if self._expires_at - time.time() < FRESH_S and not await self._ask_token():
            return
        credential = self.random.choice((self._token, self.account.api_key))
        path, good = self.random.choice(
            (
                ("/api/jobs", allowed(self.account.identity)),
                ("/staff/jobs", allowed(self.account.identity)),
                ("/users/somebody/orders/1", refused(403, "no_rule")),
            )
        )
        await self.client.ask(
            "GET",
            path,
            [good],
            subject=Subject.REFUSAL if path[1] == "u" else Subject.CREDENTIAL,
            kind="API key" if credential == self.account.api_key else "machine client",
            headers={"Authorization": f"Bearer {credential}"},
        )

    async def _ask_token(self) -> bool:
        verdict, answer = await self.client.ask(
            "POST",
            "/auth/token",
            [allowed()],
            subject=Subject.ACCOUNT,
            kind="client credentials",
            data={"grant_type": "client_credentials"},
            auth=BasicAuth(self.account.client_id, self.account.secret),
        )
        if verdict is not Verdict.RIGHT:
            await pause(answer)
            return False
        self._token = str(answer.body["access_token"])
        self._expires_at = float(claims_of(self._token)["exp"])
        return True
