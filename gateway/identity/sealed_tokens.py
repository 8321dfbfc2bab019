"""Short texts that travel through somebody else's hands and come back: sealed, and of one kind.

Law: what was not sealed here for this kind opens as nothing.  Each text has a key of its own,
drawn with it: a stranger who has texts sealed without end never comes near the number that one
key of AES-GCM may seal with random nonces (NIST SP 800-38D, section 8.3).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.identity.base64url import decoded, encoded

CLOCK_STEP_S = 3_600
"""Whoever claims what may be used once claims it for so much longer than it is good: it expires by
the clock of a worker, which may be set back meanwhile, and the claim by another's."""
_SALT_BYTES, _NONCE_BYTES = 16, 12


class SealedTokens:
    def __init__(self, key: bytes) -> None:
        """`key` is `derived_key(secret, …)` of one purpose."""
        self._key = key

    def seal(self, kind: bytes, parts: Sequence[object]) -> str:
        """AES-256-GCM over JSON, in base64url."""
        salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
        text = json.dumps(parts, separators=(",", ":")).encode()
        return encoded(salt + nonce + self._cipher(salt).encrypt(nonce, text, kind))

    def open(self, kind: bytes, sealed: str) -> object:
        """The list that was sealed; None for what was not sealed here for this kind."""
        raw = decoded(sealed) or b""
        salt, rest = raw[:_SALT_BYTES], raw[_SALT_BYTES:]
        try:
            text = self._cipher(salt).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], kind)
            return json.loads(text)
        except (InvalidTag, ValueError):
            return None

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._key, salt, hashlib.sha256))
