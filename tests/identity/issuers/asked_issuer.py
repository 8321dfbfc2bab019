"""An issuer that is asked about its tokens, and who asks it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from gateway.access.issuers import Introspection, Issuer
from gateway.access.secret_text import SecretText
from gateway.identity.issuers.introspection import Introspector
from gateway.identity.issuers.issuer_tokens import IssuerTokens
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.model import Principal, Reason
from tests.identity.issuers.provider import CLAIMS, URL, Answers, Documents, issuer, issuer_tokens
from tests.identity.keyring import Gate
from tests.identity.presented import BEARER, Replica, call_with

ENDPOINT = f"{URL}/introspect"
COMPANY = frozenset(("own", "company"))
OPAQUE = "an-opaque-token-of-theirs"
ACTIVE = {**CLAIMS, "active": True, "token_type": "Bearer"}


def asking(name: str = "company", **changed: Any) -> Issuer:
    """An issuer that is asked."""
    more = {key: changed.pop(key) for key in ("issuer", "audience") if key in changed}
    words: dict[str, Any] = {"client_id": "gate", "secret": SecretText("s"), "endpoint": ENDPOINT}
    return issuer(name, introspection=Introspection(**{**words, **changed}), **more)


Asking = asyncio.Task[Principal | Reason]


class Door:
    """Who asks for a principal as a route does that takes some issuers."""

    def __init__(self, gate: Gate, tokens: IssuerTokens, replica: Replica | None = None) -> None:
        self.tokens = tokens
        self.authenticator = RequestAuthenticator(
            gate.verifier, gate.ring, replica or Replica(), gate.clock, issuers=tokens
        )

    @property
    def introspector(self) -> Introspector:
        return self.tokens.introspectors["company"]

    async def asks(
        self,
        text: str = OPAQUE,
        issuers: frozenset[str] = COMPANY,
        client_ip: str = "127.0.0.1",
    ) -> Principal | Reason:
        call = replace(call_with(text), client_ip=client_ip)
        return await self.authenticator.authenticate(call, BEARER, issuers)

    def strangers(self, many: int, text: str = "made-up-number-{}") -> list[Asking]:
        """Each asks from a neighbourhood of its own."""
        return [
            asyncio.create_task(
                self.asks(text.format(number), client_ip=f"10.{number // 250}.{number % 250}.1")
            )
            for number in range(many)
        ]


def made(gate: Gate, posts: Answers, *issuers: Issuer, documents: Any = None) -> Door:
    tokens = issuer_tokens(
        documents or Documents(), gate.clock, *(issuers or (asking(),)), posts=posts
    )
    return Door(gate, tokens)
