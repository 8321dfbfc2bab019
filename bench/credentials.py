"""The signing keys and the tokens of a run: RFC 9068 in full, as the contract has them."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER = "https://auth.example"
AUDIENCE = "api"
LIFE_S = 86_400
REVOKED = 1_000

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Signer:
    """One key, and the tokens that it signs: of this gateway, or of another issuer."""

    key: PrivateKey
    algorithm: str = "RS256"
    issuer: str = ISSUER

    @property
    def jwk(self) -> dict[str, str]:
        public: Any = self.key.public_key()
        numbers = public.public_numbers()
        if self.algorithm == "RS256":
            jwk = {"e": _b64(numbers.e, 3), "kty": "RSA", "n": _b64(numbers.n, 256)}
        else:
            jwk = {
                "crv": "P-256",
                "kty": "EC",
                "x": _b64(numbers.x, 32),
                "y": _b64(numbers.y, 32),
            }
        # RFC 7638: the members that are required, in order, without white space.
        thumb = hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode())
        kid = base64.urlsafe_b64encode(thumb.digest()).rstrip(b"=").decode()
        return jwk | {"kid": kid, "use": "sig", "alg": self.algorithm}

    @property
    def key_set(self) -> str:
        return json.dumps({"keys": [self.jwk]})

    @property
    def public_pem(self) -> str:
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem.decode()

    @property
    def private_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def claims(
        self,
        number: int,
        *,
        role: str = "user",
        age_s: int = 0,
        signed_in_s: int = 60,
        token_id: str = "",
    ) -> dict[str, Any]:
        now = int(time.time()) - age_s
        subject = f"user-{number:06d}"
        return {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "user_id": subject,
            "client_id": "web",
            "sid": f"session-{number:06d}",
            "jti": token_id or f"token-{number:06d}",
            "roles": [role, "editor"],
            "amr": ["pwd"],
            "auth_time": now - signed_in_s,
            "iat": now - 5,
            "exp": now - 5 + LIFE_S,
        }

    def sign(self, claims: dict[str, Any], kid: str = "") -> str:
        headers = {"typ": "at+jwt", "kid": kid or self.jwk["kid"]}
        return jwt.encode(claims, self.key, algorithm=self.algorithm, headers=headers)


def new_key(algorithm: str) -> PrivateKey:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files of one rig: what the peers verify with, and what the load presents."""

    signer: Signer
    public_pem: Path
    jwks: Path
    revoked: Path
    tokens: Path
    good: str
    without_role: str
    revoked_token: str
    revoked_id: str
    forged: str
    expired: str
    signed_in_long_ago: str


def make_credentials(
    folder: Path, users: int, algorithm: str = "RS256", key: PrivateKey | None = None
) -> Credentials:
    folder.mkdir(parents=True, exist_ok=True)
    signer = Signer(key or new_key(algorithm), algorithm)
    forger = Signer(new_key(algorithm), algorithm)
    kid = signer.jwk["kid"]

    def token(number: int, by: Signer = signer, **said: Any) -> str:
        return by.sign(signer.claims(number, **said), kid)

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(text)
        return path

    revoked = [f"token-{number:06d}" for number in range(900_000, 900_000 + REVOKED)]
    return Credentials(
        signer=signer,
        public_pem=write(f"{algorithm.lower()}.pub.pem", signer.public_pem),
        jwks=write(f"{algorithm.lower()}.jwks.json", signer.key_set),
        revoked=write("revoked.lst", "\n".join(revoked) + "\n"),
        tokens=write(
            f"{algorithm.lower()}.tokens.txt", "\n".join(token(n) for n in range(users)) + "\n"
        ),
        good=token(1),
        without_role=token(2, role="guest"),
        revoked_token=token(900_000),
        revoked_id=revoked[0],
        forged=token(3, forger),
        expired=token(4, age_s=2 * LIFE_S),
        signed_in_long_ago=token(1, signed_in_s=2 * LIFE_S),
    )


def _b64(number: int, size: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
