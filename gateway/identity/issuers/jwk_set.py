"""The key set of another issuer (RFC 7517 section 5), read strictly.

Law: a key verifies with the algorithms of its own kind alone, whatever a token says.  A set that
shows a secret, or names two keys alike, is believed in nothing; a single key that cannot be used
(for encryption, of an unknown kind, too weak) is left out, as the RFC wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from gateway import strict_json
from gateway.identity.keys.jwk import KeyRefused, PublicKey, public_key, rsa_warning

SET_BYTES_MAX = 256 * 1024
KEYS_MAX = 100
KID_MAX = 255

_SECRET = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
"""RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1: nobody who publishes one of them knows what he does."""

_RSA: Mapping[str, Algorithm] = MappingProxyType(
    {
        "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
        "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
        "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
        "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
        "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
        "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
    }
)
# RFC 7518 section 3.4: each goes with one curve.
_EC: Mapping[str, Mapping[str, Algorithm]] = MappingProxyType(
    {
        "secp256r1": {"ES256": ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1)},
        "secp384r1": {"ES384": ECAlgorithm(ECAlgorithm.SHA384, ec.SECP384R1)},
        "secp521r1": {"ES512": ECAlgorithm(ECAlgorithm.SHA512, ec.SECP521R1)},
    }
)
# RFC 9864 section 2.2: the later name of the same algorithm.
_OKP: Mapping[str, Algorithm] = MappingProxyType(
    {"EdDSA": OKPAlgorithm(), "Ed25519": OKPAlgorithm()}
)


class DocumentRefused(Exception):
    """What an issuer published is not to be believed; the text is the end of a sentence."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    kid: str
    public: PublicKey
    algorithms: Mapping[str, Algorithm]
    """By name, those that a token may be signed with."""

    def verifies(self, alg: str, signed: bytes, signature: bytes) -> bool:
        algorithm = self.algorithms.get(alg)
        return algorithm is not None and bool(algorithm.verify(signed, self.public, signature))

    @property
    def kind(self) -> str:
        """For who looks at a list of keys."""
        if isinstance(self.public, rsa.RSAPublicKey):
            return f"RSA {self.public.key_size}"
        if isinstance(self.public, ec.EllipticCurvePublicKey):
            return f"EC P-{self.public.key_size}"
        return "Ed25519"


@dataclass(frozen=True, slots=True)
class JwkSet:
    keys: Mapping[str, IssuerKey]
    """By kid."""
    left_out: Sequence[str] = ()
    """A sentence on each key that is of no use here."""


def read_jwk_set(raw: bytes) -> JwkSet:
    """Raises DocumentRefused."""
    if len(raw) > SET_BYTES_MAX:
        raise DocumentRefused(f"the key set has more than {SET_BYTES_MAX // 1024} KiB")
    try:
        document = strict_json.loads(raw, encodable=True)
    except ValueError as error:
        raise DocumentRefused(f"the key set is no JSON that everybody reads alike: {error}") from (
            error
        )
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise DocumentRefused("the key set is no object with a list of keys")
    if len(listed) > KEYS_MAX:
        raise DocumentRefused(f"the key set has {len(listed)} keys; {KEYS_MAX} are the most")
    keys: dict[str, IssuerKey] = {}
    left_out: list[str] = []
    for place, members in enumerate(listed):
        if members.get("kty") != "oct" and not _SECRET.isdisjoint(members):
            raise DocumentRefused(f"the key set shows the private half of {_shown(members, place)}")
        try:
            key = _key(members)
        except KeyRefused as refused:
            left_out.append(f"{_shown(members, place)}: {refused}")
            continue
        if key.kid in keys:
            raise DocumentRefused(f"the key set names two keys {key.kid}")
        keys[key.kid] = key
    if not keys:
        why = f" ({left_out[0]})" if left_out else ""
        raise DocumentRefused(f"the key set holds no key that can be used{why}")
    return JwkSet(MappingProxyType(keys), tuple(left_out))


def _key(members: Mapping[str, Any]) -> IssuerKey:
    if members.get("kty") == "oct":
        raise KeyRefused("it is a shared secret, and no token is judged by one")
    if members.get("use", "sig") != "sig":
        raise KeyRefused("it is not for signatures")
    operations = members.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeyRefused("it is not for signatures")
    kid = members.get("kid")
    if not isinstance(kid, str) or not _is_kid(kid):
        raise KeyRefused("it has no kid of visible ASCII letters")
    public = public_key(members)
    if isinstance(public, rsa.RSAPublicKey):
        rsa_warning(public)
    algorithms = _algorithms(public)
    if (alg := members.get("alg")) is not None:
        algorithms = {name: one for name, one in algorithms.items() if name == alg}
        if not algorithms:
            raise KeyRefused("its alg is not one that its kind signs with")
    return IssuerKey(kid, public, algorithms)


def _algorithms(public: PublicKey) -> Mapping[str, Algorithm]:
    if isinstance(public, rsa.RSAPublicKey):
        return _RSA
    if isinstance(public, ed25519.Ed25519PublicKey):
        return _OKP
    return _EC[public.curve.name]


def _is_kid(kid: object) -> bool:
    return isinstance(kid, str) and 0 < len(kid) <= KID_MAX and kid.isascii() and kid.isprintable()


def _shown(members: Mapping[str, Any], place: int) -> str:
    kid = members.get("kid")
    return f"key {kid}" if _is_kid(kid) else f"key number {place + 1}"
