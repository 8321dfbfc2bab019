"""What Redis holds of a cookie session: sealed, and of use to its own cookie alone.

Law: whoever can write Redis cannot be anybody.  The key is made of the installation's secret and
the cookie, and Redis knows neither: a record cannot be made up, changed, or moved to another
cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.identity.base64url import decoded, encoded

_NONCE_BYTES = 12
"""96 random bits; a key seals one session, a few hundred times in its life."""


class SessionSealer:
    def __init__(self, key: bytes) -> None:
        """`key` is `derived_key(secret, KeyPurpose.SESSION)`."""
        self._key = key

    def seal(self, cookie: str, text: str) -> str:
        """AES-256-GCM, in base64url."""
        nonce = os.urandom(_NONCE_BYTES)
        return encoded(nonce + self._cipher(cookie).encrypt(nonce, text.encode(), None))

    def unseal(self, cookie: str, sealed: str) -> str | None:
        """None for what was not sealed here for this cookie."""
        raw = decoded(sealed) or b""
        try:
            return (
                self._cipher(cookie).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
            )
        except (InvalidTag, ValueError):
            return None

    def _cipher(self, cookie: str) -> AESGCM:
        return AESGCM(hmac.digest(self._key, b"session\x00" + cookie.encode(), hashlib.sha256))
