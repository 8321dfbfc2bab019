"""Key material: the three algorithms, their JWK form and thumbprint, and PEM files brought in.

Law: a key has one algorithm for life, chosen by what the key is, never by what a token says.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    load_pem_public_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.identity.base64url import decoded, encoded

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

RSA_BITS_MADE = 3072
RSA_BITS_MIN = 2048
RSA_BITS_MAX = 8192
"""One verification with more costs over a millisecond of the event loop."""
_RSA_EXPONENT_MIN = 65537  # FIPS 186-5 section 5.1

_RS256 = RSAAlgorithm(RSAAlgorithm.SHA256)
_ES256 = ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1)
_EDDSA = OKPAlgorithm()


class Alg(StrEnum):
    """RFC 7518 section 3.1, RFC 8037 section 3.1 (Ed25519 only)."""

    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


Verification = Callable[[bytes, bytes], bool]


class KeyRefused(Exception):
    """A key that must not be used; the text tells an operator why, and what would do."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    kid: str
    alg: Alg
    public: PublicKey
    imported: bool = False
    verifies: Verification = field(init=False, repr=False, compare=False)
    """Whether the second text is this key's signature of the first."""

    def __post_init__(self) -> None:
        # Once, here, and not for each token: a key is slow to say what it is.
        object.__setattr__(self, "verifies", _verification(self.public))

    def jwk(self) -> dict[str, str]:
        """As it stands in the JWKS (RFC 7517 section 4)."""
        return {
            **public_jwk(self.public),
            "use": "sig",
            "alg": self.alg.value,
            "kid": self.kid,
        }


@dataclass(frozen=True, slots=True)
class SigningKey:
    kid: str
    alg: Alg
    private: PrivateKey

    def sign(self, text: bytes) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return _RS256.sign(text, self.private)
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return _ES256.sign(text, self.private)
        return _EDDSA.sign(text, self.private)


def _verification(public: PublicKey) -> Verification:
    if isinstance(public, rsa.RSAPublicKey):
        return _rs256(public)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return lambda signed, signature: _ES256.verify(signed, public, signature)
    return lambda signed, signature: _EDDSA.verify(signed, public, signature)


def _rs256(public: rsa.RSAPublicKey) -> Verification:
    """RFC 7518 section 3.3.  PyJWT would make padding and hash anew for each token."""
    verify, padding, sha256 = public.verify, PKCS1v15(), SHA256()

    def verifies(signed: bytes, signature: bytes) -> bool:
        try:
            verify(signature, signed, padding, sha256)
        except InvalidSignature:
            return False
        return True

    return verifies


def generate(alg: Alg) -> PrivateKey:
    """A new key.  RSA takes a few hundred milliseconds: call it in a thread."""
    if alg is Alg.RS256:
        return rsa.generate_private_key(_RSA_EXPONENT_MIN, RSA_BITS_MADE)
    if alg is Alg.ES256:
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def algorithm(public: PublicKey) -> Alg:
    if isinstance(public, rsa.RSAPublicKey):
        return Alg.RS256
    return Alg.ES256 if isinstance(public, ec.EllipticCurvePublicKey) else Alg.EDDSA


def verifying(public: PublicKey, *, imported: bool = False) -> VerifyingKey:
    return VerifyingKey(thumbprint(public), algorithm(public), public, imported)


def public_jwk(public: PublicKey) -> dict[str, str]:
    """The members that make the key, and no others (RFC 7638 section 3.2, RFC 8037)."""
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "x": encoded(point.x.to_bytes(32, "big")),  # full length: RFC 7518 section 6.2.1.2
            "y": encoded(point.y.to_bytes(32, "big")),
        }
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw)}


def thumbprint(public: PublicKey) -> str:
    """The kid: SHA-256 over the members in order, without white space (RFC 7638)."""
    canonical = json.dumps(public_jwk(public), sort_keys=True, separators=(",", ":"))
    return encoded(hashlib.sha256(canonical.encode()).digest())


def public_from_jwk(text: str) -> PublicKey:
    """Of a row that `public_jwk` wrote."""
    return public_key(json.loads(text))


CURVES: Mapping[str, ec.EllipticCurve] = MappingProxyType(
    {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
)
"""RFC 7518 section 6.2.1.1."""


def public_key(members: Mapping[str, Any]) -> PublicKey:
    """The key in the members of a JWK; KeyRefused, and nothing is asked of its strength."""
    kty, crv = members.get("kty"), members.get("crv")
    try:
        if kty == "RSA":
            exponent, modulus = (int.from_bytes(_member(members, name), "big") for name in "en")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if kty == "EC" and (curve := CURVES.get(str(crv))) is not None:
            # RFC 7518 section 6.2.1.2: the coordinates in full length.
            length = (curve.key_size + 7) // 8
            point = b"\x04" + b"".join(_member(members, name, length) for name in "xy")
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        if kty == "OKP" and crv == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_member(members, "x", 32))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyRefused("a published key is not what it says it is") from error
    raise KeyRefused("a published key is none of RSA, P-256, P-384, P-521 and Ed25519")


def private_der(private: PrivateKey) -> bytes:
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def private_from_der(der: bytes) -> PrivateKey:
    """What `private_der` wrote, of a key that was made here or that `read_pem` has judged.

    The seal that it comes out of says that these are the bytes of then, so the primes of an RSA
    key are not tried once more: that takes a tenth of a second, on the event loop of a worker.
    """
    key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(
        key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    ):
        raise KeyRefused("a sealed key is of a kind that was never sealed")
    return key


@dataclass(frozen=True, slots=True)
class Pem:
    """What a PEM file holds: `private` is None in one that has the public half alone."""

    public: PublicKey
    private: PrivateKey | None
    warning: str | None


_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n(.+?)-----END \1-----", re.DOTALL)
_PRIVATE = {b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"}
_PUBLIC = {b"PUBLIC KEY", b"RSA PUBLIC KEY"}
_PEM_BYTES_MAX = 64 * 1024


def read_pem(pem: bytes) -> Pem:
    """The key in a PEM file, or KeyRefused with what is wrong with it.

    Both halves may stand in it; they must belong together.  The public half that a private
    key claims is never believed: it is derived again (CVE-2026-102275 is what comes of it).
    """
    if len(pem) > _PEM_BYTES_MAX:
        raise KeyRefused("the file is far too long for one key")
    privates, publics = [], []
    for match in _BLOCK.finditer(pem):
        label, body = match.group(1), match.group(0)
        if label == b"ENCRYPTED PRIVATE KEY" or b"Proc-Type:" in body:
            raise KeyRefused(
                "the private key is encrypted; decrypt it first: openssl pkey -in FILE -out PLAIN"
            )
        if label in _PRIVATE:
            privates.append(body)
        elif label in _PUBLIC:
            publics.append(body)
        elif label != b"EC PARAMETERS":
            raise KeyRefused(
                f"{label.decode().lower()} is not taken; give a key in PKCS #8 or SPKI"
            )
    if len(privates) > 1 or len(publics) > 1:
        raise KeyRefused("the file holds several keys; give one")
    if not privates and not publics:
        raise KeyRefused("there is no PEM block with a key in it")
    private = _private(privates[0]) if privates else None
    public = _public(publics[0]) if publics else None
    if private is not None:
        derived = _derived_public(private)
        if public is not None and thumbprint(public) != thumbprint(derived):
            raise KeyRefused("the private and the public key do not belong together")
        public = derived
    assert public is not None
    return Pem(public, private, _judged(public))


def _private(pem: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyRefused("the private key cannot be read, or its parts disagree") from error
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise KeyRefused("the key is none of RSA, P-256 and Ed25519")


def _public(pem: bytes) -> PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyRefused("the public key cannot be read") from error
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return key
    raise KeyRefused("the key is none of RSA, P-256 and Ed25519")


def _judged(public: PublicKey) -> str | None:
    """A warning, where the key will do but should be stronger.  Raises KeyRefused."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        if not isinstance(public.curve, ec.SECP256R1):
            raise KeyRefused(f"the curve {public.curve.name} is not taken; ES256 needs P-256")
        return None
    if isinstance(public, ed25519.Ed25519PublicKey):
        return None
    return rsa_warning(public)


def rsa_warning(public: rsa.RSAPublicKey) -> str | None:
    """As `Pem.warning`.  Raises KeyRefused for a key that is too weak, or too slow."""
    bits, exponent = public.key_size, public.public_numbers().e
    if bits < RSA_BITS_MIN:
        raise KeyRefused(f"an RSA key of {bits} bits is too weak; {RSA_BITS_MIN} is the least")
    if bits > RSA_BITS_MAX:
        raise KeyRefused(f"an RSA key of {bits} bits is too slow; {RSA_BITS_MAX} is the most")
    if exponent < _RSA_EXPONENT_MIN:
        raise KeyRefused(f"the RSA exponent {exponent} is too small; {_RSA_EXPONENT_MIN} is usual")
    if _of_roca(public.public_numbers().n):
        raise KeyRefused("the RSA key comes of a broken generator (ROCA) and can be factored")
    if bits < RSA_BITS_MADE:
        return f"RSA with {bits} bits will do for now; {RSA_BITS_MADE} is what is made here"
    return None


_ROCA_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)


def _of_roca(modulus: int) -> bool:
    """CVE-2017-15361: such primes are a power of 65537 modulo every one of many small primes,
    and so is their product; of other keys that is true once in 2^27."""
    return all(
        modulus % prime in {pow(65537, power, prime) for power in range(prime)}
        for prime in _ROCA_PRIMES
    )


def _derived_public(private: PrivateKey) -> PublicKey:
    """The public half that follows from the secret numbers, proven by one signature."""
    public: PublicKey
    if isinstance(private, ec.EllipticCurvePrivateKey):
        scalar = private.private_numbers().private_value
        public = ec.derive_private_key(scalar, private.curve).public_key()
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        public = ed25519.Ed25519PrivateKey.from_private_bytes(raw).public_key()
    else:
        numbers = private.private_numbers()
        exponent = numbers.public_numbers.e
        public = rsa.RSAPublicNumbers(exponent, numbers.p * numbers.q).public_key()
    claimed = private.public_key()
    if claimed.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public.public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ):
        raise KeyRefused("the private key claims a public half that is not its own")
    _judged(public)  # before the trial: P-521 would be signed with ES256 otherwise
    if not _signs_for(private, public):
        raise KeyRefused("the two halves of the key do not belong together")
    return public


def _signs_for(private: PrivateKey, public: PublicKey) -> bool:
    trial = b"authgate: do both halves belong together?"
    alg = algorithm(public)
    try:
        return VerifyingKey("", alg, public).verifies(
            trial, SigningKey("", alg, private).sign(trial)
        )
    except (ValueError, InvalidSignature):
        return False


def _number(value: int) -> str:
    """RFC 7518 section 2, Base64urlUInt: big-endian, no leading zero octets."""
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


_MEMBER_MAX = RSA_BITS_MAX // 4
"""Characters of one member: more than the widest modulus has."""


def _member(members: Mapping[str, Any], name: str, length: int | None = None) -> bytes:
    text = members.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= _MEMBER_MAX:
        raise KeyRefused(f"a published key has no usable {name}")
    raw = decoded(text)
    if raw is None:
        raise KeyRefused("a published key is not in base64url")
    if length is not None and len(raw) != length:
        raise KeyRefused(f"a published key has an {name} of another length than its curve")
    return raw
