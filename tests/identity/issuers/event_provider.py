"""An identity provider that signs whatever a test wants, and the keys that it has published.

Its tokens are made by joserfc, the JOSE library of authlib; what no library would make is put
together by hand.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.access.issuers import Issuer
from gateway.model import Reason

NAME = "company"
ISSUER = "https://id.example.com/realms/main"
AUDIENCE = "orders-api"
LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
ABSENT = object()
"""Takes a claim away."""

_RS256 = RSAAlgorithm(RSAAlgorithm.SHA256)
_ES256 = ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1)


@dataclass
class PublishedKey:
    """Meets `identity.issuers.event_tokens.SignatureKey`."""

    private: Any

    def verifies(self, alg: str, signed: bytes, signature: bytes) -> bool:
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            return alg == "RS256" and bool(_RS256.verify(signed, public, signature))
        return alg == "ES256" and bool(_ES256.verify(signed, public, signature))


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def first_rsa_key() -> rsa.RSAPrivateKey:
    """One for all providers: to make one takes a tenth of a second."""
    return rsa_key()


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Provider:
    """Meets `identity.issuers.event_tokens.IssuerKeys`."""

    keys: dict[str, Any] = field(default_factory=lambda: {"k1": first_rsa_key(), "e1": ec_key()})
    away: bool = False
    asked: list[str] = field(default_factory=list)

    def issuer(self, **changed: Any) -> Issuer:
        return Issuer(
            **{
                "name": NAME,
                "issuer": ISSUER,
                "audience": (AUDIENCE,),
                "algorithms": ("RS256", "ES256"),
                "backchannel_logout": True,
                "events": True,
                **changed,
            }
        )

    async def find(self, issuer: Issuer, kid: str) -> PublishedKey | Reason:
        assert issuer.issuer == ISSUER
        self.asked.append(kid)
        if self.away:
            return Reason.ISSUER_UNAVAILABLE
        key = self.keys.get(kid)
        return Reason.KEY_UNKNOWN if key is None else PublishedKey(key)

    def signed(
        self,
        claims: dict[str, Any],
        *,
        typ: str | None = "logout+jwt",
        kid: str = "k1",
        key: Any = None,
    ) -> str:
        private = key or self.keys[kid]
        is_rsa = isinstance(private, rsa.RSAPrivateKey)
        header: dict[str, Any] = {"alg": "RS256" if is_rsa else "ES256", "kid": kid}
        if typ is not None:
            header["typ"] = typ
        jwk = (RSAKey if is_rsa else ECKey).import_key(private)
        return jws.serialize_compact(header, json.dumps(claims), jwk, [header["alg"]])

    def logout_token(self, now: float, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """`header` are the keywords of `signed`; a claim that is ABSENT is left out."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": int(now),
            "exp": int(now) + 120,
            "jti": "logout-1",
            "sub": "alice",
            "sid": "session-1",
            "events": {LOGOUT: {}},
            **changed,
        }
        return self.signed(present(claims), **(header or {}))

    def security_event(
        self,
        now: float,
        happened: dict[str, Any],
        header: dict[str, Any] | None = None,
        **changed: Any,
    ) -> str:
        """`happened` are its events; otherwise as `logout_token`."""
        claims = {
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "iat": int(now),
            "jti": "event-1",
            "events": happened,
            **changed,
        }
        return self.signed(present(claims), **{"typ": "secevent+jwt", **(header or {})})


def iss_sub(sub: str = "alice", iss: str = ISSUER) -> dict[str, str]:
    return {"format": "iss_sub", "iss": iss, "sub": sub}


def opaque(name: str) -> dict[str, str]:
    return {"format": "opaque", "id": name}


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """What no library makes: any header, any signature."""
    parts = [json.dumps(part).encode() for part in (header, claims)] + [signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def present(claims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if value is not ABSENT}
