"""Another issuer, made by hand: its keys, its tokens as odd as a test wants them, its documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway.access.issuers import ClaimPath, Issuer
from gateway.identity.issuers.fetching import AnswerTooLong, FetchedDocument, FetchFailed
from gateway.identity.issuers.issuer_tokens import IssuerTokens, IssuerTokensOptions
from gateway.identity.issuers.kept_keys import KeptKeys
from gateway.identity.issuers.key_sets import KeySet
from gateway.identity.keys.jwk import PrivateKey
from tests.identity.keyring import ISSUER, MAX_LIFE_S, START, HandClock, b64, ed_key, rsa_key

URL = "https://id.example.com/realms/main"
KEYS_URL = "https://id.example.com/realms/main/certs"
DISCOVERY_URL = f"{URL}/.well-known/openid-configuration"
AUDIENCE = "api"

MakeKeySet = Callable[..., KeySet]
"""Of `Documents`, of what keeps the keys or nothing, and of changes to `issuer`."""

CLAIMS: dict[str, Any] = {
    "iss": URL,
    "aud": AUDIENCE,
    "sub": "alice",
    "sid": "s-1",
    "jti": "t-1",
    "azp": "shop",
    "scope": "openid orders:read",
    "iat": START,
    "exp": START + 300,
    "realm_access": {"roles": ["viewer", "orders:read"]},
    "email": "alice@example.com",
    "email_verified": True,
    "auth_time": START - 60,
    "amr": ["pwd"],
}


def path(text: str) -> ClaimPath:
    return ClaimPath(text, tuple(text.removeprefix("claims.").split(".")))


def issuer(name: str = "company", **changed: Any) -> Issuer:
    """As a configuration would have it."""
    words: dict[str, Any] = {
        "issuer": URL,
        "audience": (AUDIENCE,),
        "algorithms": ("RS256", "ES256", "EdDSA"),
        "roles": path("claims.realm_access.roles"),
        "email": path("claims.email"),
        "email_verified": path("claims.email_verified"),
    }
    return Issuer(name, **{**words, **changed})


@dataclass(frozen=True)
class Signer:
    """One key: what it is published as, and how it signs."""

    kid: str
    alg: str
    key: PrivateKey

    def public(self, **changed: Any) -> dict[str, Any]:
        members = _members(self.key.public_key())
        words = {**members, "kid": self.kid, "use": "sig", "alg": self.alg, **changed}
        return {name: value for name, value in words.items() if value is not ...}

    def token(self, *, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """With these claims over CLAIMS, and this header over ours; `...` leaves one out."""
        protected = {"alg": self.alg, "typ": "at+jwt", "kid": self.kid, **(header or {})}
        parts = (protected, {**CLAIMS, **changed})
        text = ".".join(
            b64(json.dumps({k: v for k, v in part.items() if v is not ...}).encode())
            for part in parts
        )
        return f"{text}.{b64(self.signature(text.encode()))}"

    def signature(self, text: bytes) -> bytes:
        """RFC 7518 section 3, RFC 8037 section 3.1."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(text)
        digest = _DIGESTS[self.alg[2:]]
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            size = (self.key.key_size + 7) // 8
            r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(digest)))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        if self.alg.startswith("PS"):
            salted = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
            return self.key.sign(text, salted, digest)
        return self.key.sign(text, padding.PKCS1v15(), digest)


_DIGESTS = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


def signer(alg: str = "ES256", kid: str = "k-1") -> Signer:
    if alg == "EdDSA":
        return Signer(kid, alg, ed_key())
    if alg in _CURVES:
        return Signer(kid, alg, ec.generate_private_key(_CURVES[alg]))
    return Signer(kid, alg, rsa_key())


def _members(public: Any) -> dict[str, str]:
    """RFC 7518 section 6, RFC 8037 section 2."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
    numbers = public.public_numbers()
    if isinstance(public, rsa.RSAPublicKey):
        size = (public.key_size + 7) // 8
        return {"kty": "RSA", "n": b64(numbers.n.to_bytes(size, "big")), "e": "AQAB"}
    size = (public.key_size + 7) // 8
    x, y = (b64(at.to_bytes(size, "big")) for at in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": f"P-{public.key_size}", "x": x, "y": y}


def document(*keys: Signer | dict[str, Any]) -> bytes:
    listed = [key.public() if isinstance(key, Signer) else key for key in keys]
    return json.dumps({"keys": listed}).encode()


def discovery(**changed: Any) -> bytes:
    return json.dumps({"issuer": URL, "jwks_uri": KEYS_URL, **changed}).encode()


@dataclass
class Documents:
    """Meets `key_sets.Documents`: what there is at each URL, and who asked for it."""

    there: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    authorities: list[str | None] = field(default_factory=list)
    """By whom each answer had to be vouched for."""
    fresh_s: float = 3_600.0
    gate: asyncio.Event | None = None
    """Set: an answer waits for it."""

    async def get(self, url: str, ca: str | None, bytes_max: int) -> FetchedDocument:
        self.asked.append(url)
        self.authorities.append(ca)
        if self.gate is not None:
            await self.gate.wait()
        if url not in self.there:
            raise FetchFailed(f"{url} answered 404")
        if len(self.there[url]) > bytes_max:
            raise AnswerTooLong(f"{url} answered more than {bytes_max // 1024} KiB")
        return FetchedDocument(self.there[url], self.fresh_s)

    def publish(self, *keys: Signer | dict[str, Any]) -> None:
        self.there[KEYS_URL] = document(*keys)

    def asked_for_keys(self) -> int:
        return self.asked.count(KEYS_URL)


@dataclass
class Answers:
    """Meets `introspection.Posts`: what the issuer says of each token, and who asked how."""

    of: dict[str, Any] = field(default_factory=dict)
    """A document by the token's text; bytes as they come, an exception is raised."""
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    closed: bool = False

    async def post(
        self, url: str, form: Mapping[str, str], fields: Mapping[str, str], bytes_max: int
    ) -> bytes:
        self.asked.append((url, dict(form), dict(fields)))
        if self.gate is not None:
            await self.gate.wait()
        answer = self.of.get(form["token"], {"active": False})
        if isinstance(answer, Exception):
            raise answer
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if len(body) > bytes_max:
            raise AnswerTooLong(f"{url} answered more than {bytes_max // 1024} KiB")
        return body

    async def close(self) -> None:
        self.closed = True


def published(*keys: Signer | dict[str, Any]) -> Documents:
    """An issuer that is there, with these keys."""
    documents = Documents({DISCOVERY_URL: discovery()})
    documents.publish(*keys)
    return documents


def issuer_tokens(
    documents: Documents,
    clock: HandClock,
    *issuers: Issuer,
    kept: KeptKeys | None = None,
    own_issuer: str = ISSUER,
    posts: Answers | None = None,
) -> IssuerTokens:
    options = IssuerTokensOptions(own_issuer, MAX_LIFE_S)
    tokens = IssuerTokens(options, documents, kept, clock, posts=lambda _issuer: posts or Answers())
    tokens.adopt({one.name: one for one in issuers or (issuer(),)})
    return tokens


async def fetched(tokens: IssuerTokens) -> IssuerTokens:
    """Once what its background task would fetch first is there."""
    for keys in tokens.key_sets.values():
        await keys.refresh()
    return tokens
