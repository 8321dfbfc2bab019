"""The successor of a refresh token, as it rests in SQL: sealed for the holder of the token alone,
and given once more to whoever asks again at once (see `refresh_tokens`)."""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.client_networks import nearby
from gateway.identity.base64url import decoded, encoded
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sessions.token_dates import GRACE_MS
from gateway.stores.protocols import Row, Transaction

_NONCE_BYTES = 12


async def successor_in_grace(
    tx: Transaction, token: str, row: Row, source: SignInSource, now_ms: int
) -> str | None:
    # A clock that was set back makes the age negative: the grace is as wide on that side,
    # and no wider.
    used_ms, sealed = row["used_ms"], row["successor_sealed"]
    if used_ms is None or abs(now_ms - int(used_ms)) > GRACE_MS or sealed is None:
        return None
    if row["used_by"] != client_tag(source):
        return None
    successor = _unseal_successor(token, str(sealed), str(row["family_id"]))
    if successor is None:
        return None
    # Whoever used the successor has it: to ask for it again is to be somebody else.
    unused = await tx.one(
        "SELECT 1 FROM refresh_tokens WHERE hash = :hash AND used_at IS NULL",
        hash=hash_token(successor),
    )
    return None if unused is None else successor


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


def _unseal_successor(token: str, sealed: str, session_id: str) -> str | None:
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
