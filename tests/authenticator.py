"""A software authenticator, and the browser before it: what `navigator.credentials` would give.

It does what WebAuthn asks of both, and whatever a test tells it to do wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

USER_PRESENT, USER_VERIFIED = 0x01, 0x04
BACKUP_ELIGIBLE, BACKED_UP = 0x08, 0x10
ATTESTED, EXTENSIONS = 0x40, 0x80


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class StoredCredential:
    id: bytes
    rp_id: str
    user_handle: bytes
    private_key: PrivateKey


@dataclass
class Authenticator:
    """`sign_count` grows with each use; None is an authenticator that counts nothing."""

    origin: str
    flags: int = USER_PRESENT | USER_VERIFIED
    sign_count: int | None = 0
    discoverable: bool = True
    client_data: dict[str, Any] = field(default_factory=dict)
    """Takes the place of what a browser would say."""
    extensions: bytes = b""
    """CBOR, at the end of the authenticator data."""
    new_key: PrivateKey | None = None
    """What the next credential will have; else a new key of P-256."""
    credentials: list[StoredCredential] = field(default_factory=list)

    def create(self, public_key: dict[str, Any]) -> dict[str, Any]:
        """As `(await navigator.credentials.create({publicKey})).toJSON()`."""
        key = self.new_key or ec.generate_private_key(ec.SECP256R1())
        stored = StoredCredential(
            os.urandom(32), public_key["rp"]["id"], unb64(public_key["user"]["id"]), key
        )
        self.credentials.append(stored)
        return self.attested(stored, public_key["challenge"])

    def attested(
        self, stored: StoredCredential, challenge: str, cose_key: bytes | None = None
    ) -> dict[str, Any]:
        attested = (
            bytes(16)
            + len(stored.id).to_bytes(2, "big")
            + stored.id
            + (cose_of(stored.private_key) if cose_key is None else cose_key)
        )
        data = self._data(stored.rp_id, ATTESTED, attested)
        statement = {"fmt": "none", "attStmt": {}, "authData": data}
        return {
            "id": b64(stored.id),
            "rawId": b64(stored.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {"credProps": {"rk": self.discoverable}},
            "response": {
                "clientDataJSON": b64(self._client_data("webauthn.create", challenge)),
                "attestationObject": b64(cbor2.dumps(statement)),
                "transports": ["internal", "hybrid", "carrier-pigeon"],
            },
        }

    def get(
        self, public_key: dict[str, Any], stored: StoredCredential | None = None
    ) -> dict[str, Any]:
        """As `(await navigator.credentials.get({publicKey})).toJSON()`, with the credential that
        was asked for, or else the last."""
        allowed = [one["id"] for one in public_key.get("allowCredentials", ())]
        chosen = stored or next(
            one
            for one in reversed(self.credentials)
            if one.rp_id == public_key["rpId"] and (not allowed or b64(one.id) in allowed)
        )
        data = self._data(public_key["rpId"], 0, b"")
        client_data = self._client_data("webauthn.get", public_key["challenge"])
        signature = signed(chosen.private_key, data + hashlib.sha256(client_data).digest())
        return {
            "id": b64(chosen.id),
            "rawId": b64(chosen.id),
            "type": "public-key",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": b64(client_data),
                "authenticatorData": b64(data),
                "signature": b64(signature),
                "userHandle": b64(chosen.user_handle),
            },
        }

    def _data(self, rp_id: str, flags: int, attested: bytes) -> bytes:
        flags |= self.flags | (EXTENSIONS if self.extensions else 0)
        if self.sign_count is not None:
            self.sign_count += 1
        return (
            hashlib.sha256(rp_id.encode()).digest()
            + bytes([flags])
            + (self.sign_count or 0).to_bytes(4, "big")
            + attested
            + self.extensions
        )

    def _client_data(self, kind: str, challenge: str) -> bytes:
        members = {
            "type": kind,
            "challenge": challenge,
            "origin": self.origin,
            "crossOrigin": False,
            **self.client_data,
        }
        return json.dumps(members).encode()


def cose_of(key: PrivateKey) -> bytes:
    """The public half as a COSE key (RFC 9052 section 7)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = key.public_key().public_numbers()
        curve = {"secp256r1": 1, "secp384r1": 2}[key.curve.name]
        size = (key.curve.key_size + 7) // 8
        return cbor2.dumps(
            {
                1: 2,
                3: -7,
                -1: curve,
                -2: numbers.x.to_bytes(size, "big"),
                -3: numbers.y.to_bytes(size, "big"),
            }
        )
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return cbor2.dumps({1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes_raw()})
    public = key.public_key().public_numbers()
    modulus = public.n.to_bytes((public.n.bit_length() + 7) // 8, "big")
    exponent = public.e.to_bytes((public.e.bit_length() + 7) // 8, "big")
    return cbor2.dumps({1: 3, 3: -257, -1: modulus, -2: exponent})


def signed(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(SHA256()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, padding.PKCS1v15(), SHA256())


def shared_references(levels: int) -> bytes:
    """CBOR of few bytes that stands for a list of 2 ** levels entries, by tags 28 and 29."""
    items = b"\xd8\x1c\x81\x01"
    for level in range(levels):
        reference = b"\xd8\x1d" + cbor2.dumps(level)
        items += b"\xd8\x1c\x82" + reference + reference
    return b"\x98" + bytes([levels + 1]) + items
