"""A key ring to test with: a real SQLite store, a clock that is set, keys that cost nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import Alg, PrivateKey, SigningKey, generate
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.keys.rotation import KeyRotation
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenSubject, TokenVerifier
from gateway.model import Change
from gateway.stores.protocols import Database
from gateway.stores.sqlite import SqliteDatabase
from tests.databases import write_schema

SECRET = bytes(range(32))
ISSUER = "https://gate.example"
AUDIENCE = "https://gate.example/api"
MAX_LIFE_S = 86_400
START = 1_800_000_000

ALICE = TokenSubject(
    subject="u-alice",
    email="alice@example.com",
    email_verified=True,
    roles=("viewer", "orders:read"),
    session_id="s-1",
    client_id=None,
    amr=("pwd",),
    auth_time=START,
)


class HandClock:
    """Stands still until it is moved."""

    def __init__(self, now: float = START) -> None:
        self.at = now
        self.steadily = 1000.0

    def now(self) -> float:
        return self.at

    def steady(self) -> float:
        return self.steadily

    def advance(self, seconds: float) -> None:
        self.at += seconds
        self.steadily += seconds


class Announcements:
    """An publisher that brings changes to rings, unless it is told that nobody answers."""

    def __init__(self) -> None:
        self.rings: list[KeyRing] = []
        self.heard: list[Change] = []
        self.confirms = True

    async def publish(self, changes: Sequence[Change]) -> bool:
        if not self.confirms:
            return False
        self.heard.extend(changes)
        for ring in self.rings:
            await ring.refresh()
        return True


class Gate:
    """One node: its ring, its keeper, and who issues and verifies with them."""

    def __init__(
        self,
        database: Database,
        clock: HandClock,
        *,
        alg: Alg = Alg.EDDSA,
        announcements: Announcements | None = None,
        sealer: Sealer | None = None,
        ttl_s: int = 900,
    ) -> None:
        self.database = database
        self.clock = clock
        self.announcements = announcements or Announcements()
        self.sealer = sealer or Sealer(SECRET)
        self.ring = KeyRing(database, self.sealer, clock, sleep=self._sleep)
        self.rotation = KeyRotation(
            database,
            self.sealer,
            self.announcements,
            alg=alg,
            max_token_life_s=MAX_LIFE_S,
            make=made,
        )
        self.issuer = TokenIssuer(self.ring, issuer=ISSUER, audience=AUDIENCE, ttl_s=ttl_s)
        self.verifier = TokenVerifier(
            self.ring, issuer=ISSUER, audience=AUDIENCE, max_life_s=MAX_LIFE_S, clock=clock
        )
        self.slept: list[float] = []
        self.announcements.rings.append(self.ring)

    async def start(self) -> Gate:
        await self.rotation.ensure()
        await self.ring.refresh()
        return self

    def token(self, whom: TokenSubject = ALICE) -> str:
        return self.issuer.issue(whom, int(self.clock.now())).text

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)


_RSA: list[rsa.RSAPrivateKey] = []


def made(alg: Alg) -> PrivateKey:
    """A new key; the same RSA key twice only where a test needs no second one."""
    return generate(alg)


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """One for the whole run: they take long to make."""
    for key in _RSA:
        if key.key_size == bits:
            return key
    _RSA.append(rsa.generate_private_key(65537, bits))
    return _RSA[-1]


@asynccontextmanager
async def opened(folder: Path, clock: HandClock) -> AsyncIterator[SqliteDatabase]:
    path = folder / "gateway.db"
    await write_schema(f"sqlite:///{path}")
    database = SqliteDatabase(path, clock)
    try:
        yield database
    finally:
        await database.close()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed(key: SigningKey, header: bytes | dict[str, Any], payload: bytes | dict[str, Any]) -> str:
    """A token with exactly this header and payload, its signature good."""
    parts = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in (header, payload)]
    text = ".".join(map(b64, parts))
    return f"{text}.{b64(key.sign(text.encode()))}"


def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()
