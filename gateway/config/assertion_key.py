"""Whether a private key can sign the assertions by which an issuer knows us."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


def assertion_key_problem(pem: str, alg: str) -> str | None:
    """Why the key cannot sign by this algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1)."""
    try:
        # Python would look whether its numbers are primes for up to a second, in which the worker
        # that reads another configuration does nothing else: `_signs` says what matters of it.
        key = load_pem_private_key(
            pem.encode("ascii"), password=None, unsafe_skip_rsa_key_validation=True
        )
    except TypeError:
        return "is an encrypted key: the gateway reads keys without a passphrase"
    except ValueError:
        return "holds no private key in PEM"
    if alg == "EdDSA":
        return None if isinstance(key, ed25519.Ed25519PrivateKey) else "holds no Ed25519 key"
    if alg in _CURVES:
        named = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == _CURVES[alg]
        return None if named else f"holds no key of the curve {_CURVES[alg]}, which {alg} asks for"
    if not isinstance(key, rsa.RSAPrivateKey):
        return f"holds no RSA key, which {alg} asks for"
    if key.key_size < 2_048:
        return "holds an RSA key of less than 2048 bits"
    return None if _signs(key) else "holds an RSA key whose two halves do not belong together"


def _signs(key: rsa.RSAPrivateKey) -> bool:
    """Whether its public half takes what it signs."""
    how = (padding.PKCS1v15(), hashes.SHA256())
    try:
        key.public_key().verify(key.sign(b"", *how), b"", *how)
    except (ValueError, InvalidSignature):
        return False
    return True
