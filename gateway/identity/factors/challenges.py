"""Challenges of passkeys: what an authenticator signs, and what for.

Law: a challenge is good once, within five minutes, for one purpose and, where somebody is known
already, for that holder alone.  It travels sealed (AES-256-GCM) to the page and back, so nothing is
kept of those that nobody answers; one that was answered well is claimed in Redis, which every
worker asks.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum

from gateway.identity.base64url import decoded, encoded
from gateway.identity.sealed_tokens import CLOCK_STEP_S, SealedTokens
from gateway.model import Clock
from gateway.stores.protocols import ReadableNonceStore

CHALLENGE_TTL_S = 300
TOKEN_LONGEST = 1_024
"""Characters of a sealed challenge; what is longer was not sealed here."""

_CHALLENGE_BYTES = 32
"""16 at least (WebAuthn, section 13.4.3)."""


class CeremonyPurpose(StrEnum):
    REGISTER = "register"
    SIGN_IN = "sign-in"
    """By a passkey alone: nobody is known yet."""
    FACTOR = "factor"
    """After the first step of a sign-in."""
    STEP_UP = "step-up"


@dataclass(frozen=True, slots=True)
class PasskeyChallenge:
    token: str
    """Sealed, for the page that will bring it back."""
    challenge: bytes


class PasskeyChallenges:
    """Makes challenges, and takes each back once."""

    def __init__(self, key: bytes, nonces: ReadableNonceStore, clock: Clock) -> None:
        """`key` is `derived_key(secret, KeyPurpose.PASSKEY_CHALLENGE)`."""
        self._sealed = SealedTokens(key)
        self._nonces = nonces
        self._clock = clock

    def issue(self, purpose: CeremonyPurpose, holder: str = "") -> PasskeyChallenge:
        """`holder` names whose answer alone will do, such as the id of a session."""
        challenge = os.urandom(_CHALLENGE_BYTES)
        expires_at = int(self._clock.now()) + CHALLENGE_TTL_S
        parts = [encoded(challenge), holder, expires_at]
        return PasskeyChallenge(self._sealed.seal(purpose.encode(), parts), challenge)

    def read(self, purpose: CeremonyPurpose, token: str, holder: str = "") -> bytes | None:
        """The challenge; None for what was not sealed here for this, or is over.  It may have been
        answered: `claim` it before anything rests on the answer."""
        match self._sealed.open(purpose.encode(), token):
            case [str(text), str(sealed_for), int(expires_at)]:
                if sealed_for == holder and expires_at > self._clock.now():
                    return decoded(text)
        return None

    async def is_claimed(self, challenge: bytes) -> bool:
        """Whether it has been answered.  Raises StoreUnavailable."""
        return await self._nonces.is_claimed(_nonce(challenge))

    async def claim(self, challenge: bytes) -> bool:
        """Whether it is answered for the first time.

        Raises StoreUnavailable: one that cannot be claimed is not taken.
        """
        return await self._nonces.claim(_nonce(challenge), CHALLENGE_TTL_S + CLOCK_STEP_S)


def _nonce(challenge: bytes) -> str:
    return "passkey:" + hashlib.sha256(encoded(challenge).encode()).hexdigest()[:32]
