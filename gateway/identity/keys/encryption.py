"""Private keys, and the secrets of second factors, at rest: sealed with AES-256-GCM under a key
derived from GATEWAY_KEY_SECRET.

Law: what is sealed opens only under the secret that sealed it and only as the kid it was
sealed for, so a row of a stolen or edited database can be neither read nor moved to another.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.identity.base64url import decoded, encoded
from gateway.identity.key_derivation import KeyPurpose, derived_key

SECRET_BYTES = 32
_NONCE_BYTES = 12
"""NIST SP 800-38D section 8.3: random ones do for 2**32 of a key.  One is drawn for each signing
key, and for each second factor that somebody enrols."""


class SealBroken(Exception):
    """What was sealed does not open: another secret, another kid, or an edited row."""


class Sealer:
    """Seals and opens private keys; holds two keys derived from the secret, never the secret."""

    def __init__(self, secret: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        if len(secret) < SECRET_BYTES:
            raise ValueError(f"a key secret has at least {SECRET_BYTES} bytes")
        self._cipher = AESGCM(derived_key(secret, KeyPurpose.SEAL_SIGNING_KEYS))
        self.fingerprint = encoded(derived_key(secret, KeyPurpose.FINGERPRINT)[:16])
        """Tells two secrets apart without saying anything of either; kept in SQL."""
        self._random = random

    def seal(self, kid: str, private: bytes) -> str:
        nonce = self._random(_NONCE_BYTES)
        return encoded(nonce + self._cipher.encrypt(nonce, private, _bound(kid)))

    def unseal(self, kid: str, sealed: str) -> bytes:
        """The private key.  Raises SealBroken."""
        raw = decoded(sealed) or b""
        try:
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(kid))
        except (InvalidTag, ValueError) as error:
            raise SealBroken(kid) from error

    def made(self, fingerprint: str) -> bool:
        """Whether the fingerprint is that of this secret."""
        return hmac.compare_digest(self.fingerprint, fingerprint)


def _bound(kid: str) -> bytes:
    return b"authgate signing key\x00" + kid.encode()
