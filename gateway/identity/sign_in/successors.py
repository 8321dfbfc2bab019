"""The successor of a refresh token, sealed for the holder of the token alone."""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.client_networks import nearby
from gateway.identity.base64url import decoded, encoded
from gateway.identity.sessions.sessions import SignInSource

_NONCE_BYTES = 12


def client_tag(source: SignInSource) -> str:
    """Stands for a User-Agent at a network; each part is preceded by its length."""
    digest = hashlib.sha256()
    for part in (source.user_agent, nearby(source.address)):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return encoded(digest.digest())


def seal_successor(token: str, successor: str, session_id: str) -> str:
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_key(token)).encrypt(nonce, successor.encode(), session_id.encode())
    return encoded(nonce + sealed)


def unseal_successor(token: str, sealed: str, session_id: str) -> str | None:
    raw = decoded(sealed) or b""
    try:
        opened = AESGCM(_key(token)).decrypt(
            raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], session_id.encode()
        )
    except (InvalidTag, ValueError):  # the row was damaged; the token's holder signs in again
        return None
    return opened.decode()


def _key(token: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"authgate refresh successor").derive(token.encode())
