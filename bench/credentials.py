"""The signing key and the tokens of a run: RFC 9068 in full, as the contract has them."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://auth.example"
AUDIENCE = "api"
LIFE_S = 86_400
REVOKED = 1_000


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files of one rig: what the peers verify with, and what the load presents."""

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


def make_credentials(folder: Path, users: int) -> Credentials:
    folder.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    jwk = {"e": _b64(numbers.e, 3), "kty": "RSA", "n": _b64(numbers.n, 256)}
    # RFC 7638: the members that are required, in order, without white space.
    thumb = hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode())
    kid = base64.urlsafe_b64encode(thumb.digest()).rstrip(b"=").decode()

    def token(number: int, *, role: str = "user", age_s: int = 0, by: object = key) -> str:
        now = int(time.time()) - age_s
        subject = f"user-{number:06d}"
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "user_id": subject,
            "client_id": "web",
            "sid": f"session-{number:06d}",
            "jti": f"token-{number:06d}",
            "roles": [role, "editor"],
            "amr": ["pwd"],
            "auth_time": now - 60,
            "iat": now - 5,
            "exp": now - 5 + LIFE_S,
        }
        headers = {"typ": "at+jwt", "kid": kid}
        return jwt.encode(claims, by, algorithm="RS256", headers=headers)  # type: ignore[arg-type]

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(text)
        return path

    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    published = {"keys": [jwk | {"kid": kid, "use": "sig", "alg": "RS256"}]}
    revoked = [f"token-{number:06d}" for number in range(900_000, 900_000 + REVOKED)]
    return Credentials(
        public_pem=write("rs256.pub.pem", pem.decode()),
        jwks=write("jwks.json", json.dumps(published)),
        revoked=write("revoked.lst", "\n".join(revoked) + "\n"),
        tokens=write("tokens.txt", "\n".join(token(n) for n in range(users)) + "\n"),
        good=token(1),
        without_role=token(2, role="guest"),
        revoked_token=token(900_000),
        revoked_id=revoked[0],
        forged=token(3, by=rsa.generate_private_key(65537, 2048)),
        expired=token(4, age_s=2 * LIFE_S),
    )


def _b64(number: int, size: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
