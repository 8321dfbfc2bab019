"""The key ring: the signing keys as one process knows them, read from SQL.

Law: a ring verifies with every key whose tokens may still be good, and signs with the active
one only while it is sure of it: a ring that has not been read for SIGNING_LEASE_S refuses to
sign, as the key may have been retired meanwhile.  `rotation.py` moves the keys on; the waits
there are made of the numbers here, so that no token outlives the key that verifies it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import structlog

from gateway.identity.keys.encryption import SealBroken, Sealer
from gateway.identity.keys.jwk import (
    Alg,
    SigningKey,
    VerifyingKey,
    private_from_der,
    public_from_jwk,
)
from gateway.model import Clock
from gateway.stores.protocols import Database, Row, StoreBusy, StoreUnavailable

log = structlog.get_logger(__name__)

JWKS_MAX_AGE_S = 300
"""How long anyone may keep the JWKS before asking again."""

REFRESH_EVERY_S = 30
"""How often a ring reads SQL although it was told of no change."""

SIGNING_LEASE_S = 600
"""How long after its last reading a ring may sign."""

LOOK_EVERY_S = 1.0
"""Unknown kids cost at most one reading in so many seconds."""

MOST_WAITING = 32
"""Who makes kids up must not hold connections by the thousand: each of them waits that long."""

_KID = re.compile(r"[A-Za-z0-9_-]{43}")


class KeyState(StrEnum):
    """next (in the JWKS, signs nothing) → active → retiring (verifies) → gone.  An imported
    public key is `verifying` until it is revoked."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRING = "retiring"
    VERIFYING = "verifying"
    GONE = "gone"


VERIFIES = frozenset({KeyState.NEXT, KeyState.ACTIVE, KeyState.RETIRING, KeyState.VERIFYING})


@dataclass(frozen=True, slots=True)
class Jwks:
    """The document as it is served (RFC 7517 section 5)."""

    body: bytes
    etag: str


class KeyRing:
    """Read it before use: `await ring.refresh()`; then every REFRESH_EVERY_S, and whenever a
    change of kind KEY or KEYS arrives."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        clock: Clock,
        *,
        refused: Callable[[str], bool] = lambda _: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`refused`: whether this process refuses what the key of a `kid` has signed."""
        self._database = database
        self._refused = refused
        self._sealer = sealer
        self._clock = clock
        self._sleep = sleep
        self._keys: Mapping[str, VerifyingKey] = {}
        self._gone: frozenset[str] = frozenset()
        self._signing: SigningKey | None = None
        self._read_at: float | None = None
        self._looking: asyncio.Task[None] | None = None
        self._asking = 0
        """How many wait for a reading."""
        self._looked_at: float | None = None
        self._listeners: list[Callable[[], None]] = []
        self._published: tuple[VerifyingKey, ...] = ()
        self.jwks = _jwks([])

    def key(self, kid: str) -> VerifyingKey | None:
        return self._keys.get(kid)

    def kids(self) -> frozenset[str]:
        """Of the keys that verify."""
        return frozenset(self._keys)

    def signing_key(self) -> SigningKey:
        """The active key.  Raises StoreUnavailable when the ring is not sure of it."""
        if self._signing is None:
            raise StoreUnavailable("sql", "no signing key could be read")
        if self._read_at is None or self._clock.steady() - self._read_at > SIGNING_LEASE_S:
            raise StoreUnavailable("sql", "the signing key has not been confirmed for too long")
        # As after a restore that brought the key back: nobody would believe what it signs.
        if self._refused(self._signing.kid):
            raise StoreUnavailable("sql", "the signing key is revoked")
        return self._signing

    def can_sign(self) -> bool:
        """Whether `signing_key` gives one now."""
        try:
            self.signing_key()
        except StoreUnavailable:
            return False
        return True

    def publish(self, keys: Iterable[VerifyingKey]) -> None:
        """Shows these in the JWKS besides; no access token is verified with them."""
        published = tuple(keys)
        if published != self._published:
            self._published = published
            self.jwks = _jwks([*self._keys.values(), *published])

    def on_retirement(self, listener: Callable[[], None]) -> None:
        """Calls `listener` whenever a key has ceased to verify here."""
        self._listeners.append(listener)

    async def refresh(self) -> None:
        """Reads the keys.  Raises StoreUnavailable; what was known then stays."""
        began_at = self._clock.steady()
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT kid, alg, state, public_jwk, sealed_private, imported, created_at"
                " FROM signing_keys ORDER BY created_at, kid"
            )
        # Of two readings at once the one that began later knows better.
        if self._read_at is None or began_at >= self._read_at:
            self._read_at = began_at
            self._take(rows)

    async def find(self, kid: str) -> VerifyingKey | None:
        """The key, where the ring does not hold it but SQL may: the announcement of it can
        have been lost.  Raises StoreUnavailable.

        The answer comes of a reading that began after the question, and readings begin at
        most once in LOOK_EVERY_S: those who ask meanwhile wait for the next one together.
        A kid that is no thumbprint, or is known to be gone, is answered at once.  StoreBusy
        where MOST_WAITING wait already.
        """
        if kid in self._gone or not _KID.fullmatch(kid):
            return None
        if self._asking >= MOST_WAITING:
            raise StoreBusy("sql", "too many unknown keys are asked for")
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="key-ring-look-up")
            self._looking.add_done_callback(_seen)
        # Shielded: one who gives up must not take the reading away from the others.
        self._asking += 1
        try:
            await asyncio.shield(self._looking)
        finally:
            self._asking -= 1
        return self._keys.get(kid)

    async def _look(self) -> None:
        if self._looked_at is not None:
            wait_s = self._looked_at + LOOK_EVERY_S - self._clock.steady()
            if wait_s > 0:
                await self._sleep(wait_s)
        self._looked_at = self._clock.steady()
        self._looking = None  # who asks from now on needs a reading that begins later
        await self.refresh()

    def _take(self, rows: list[Row]) -> None:
        previous, signing = self._keys, self._signing
        keys: dict[str, VerifyingKey] = {}
        active: Row | None = None
        for row in rows:
            if row["state"] not in VERIFIES:
                continue
            kid = row["kid"]
            keys[kid] = previous.get(kid) or VerifyingKey(
                kid, Alg(row["alg"]), public_from_jwk(row["public_jwk"]), bool(row["imported"])
            )
            if row["state"] == KeyState.ACTIVE:
                active = row
        if active is None:
            self._signing = None
        elif signing is None or signing.kid != active["kid"]:
            self._signing = self._opened(active)
        self._gone = frozenset(row["kid"] for row in rows if row["state"] == KeyState.GONE)
        self._keys = keys
        self.jwks = _jwks([*keys.values(), *self._published])
        if previous.keys() - keys.keys():
            for listener in self._listeners:
                listener()

    def _opened(self, row: Row) -> SigningKey | None:
        """None under a wrong secret: this process then verifies and does not sign."""
        kid = row["kid"]
        try:
            private = private_from_der(self._sealer.unseal(kid, row["sealed_private"] or ""))
        except SealBroken:
            log.error("signing-key-sealed-under-another-secret", kid=kid)
            return None
        return SigningKey(kid, Alg(row["alg"]), private)


def _seen(task: asyncio.Task[None]) -> None:
    """Who asked may all have gone: the failure is theirs to hear, not the event loop's."""
    if not task.cancelled():
        task.exception()


def _jwks(keys: list[VerifyingKey]) -> Jwks:
    body = json.dumps({"keys": [key.jwk() for key in keys]}, separators=(",", ":")).encode()
    return Jwks(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
