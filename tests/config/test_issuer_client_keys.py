"""Keys of `private_key_jwt`, with which the gateway says who it is to an issuer that it asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from gateway.access.issuers import ClientAssertionKey
from gateway.access.secret_text import SecretText
from gateway.config.secrets import SecretFiles
from tests.config.issuer_texts import issuer, refused
from tests.cpu_cost import cost_ratio


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
    ).decode()


RSA = rsa.generate_private_key(65_537, 2_048)


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("RS256", pem(RSA)),
        ("PS512", pem(RSA)),
        ("ES256", pem(ec.generate_private_key(ec.SECP256R1()))),
        ("ES384", pem(ec.generate_private_key(ec.SECP384R1()))),
        ("EdDSA", pem(ed25519.Ed25519PrivateKey.generate())),
    ],
)
def test_a_key_signs_by_its_algorithm(alg: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "client").write_text(key)
    keys = f"introspection: {{client_id: a, private_key: {{secret: client, alg: {alg}, kid: k1}}}}"
    asking = issuer(keys, secrets=SecretFiles(tmp_path)).introspection
    assert asking is not None
    assert asking.secret is None
    assert asking.key == ClientAssertionKey(SecretText(key.rstrip("\n")), alg, "k1")


def of_two() -> str:
    """An RSA key whose private half signs what its public half does not take."""
    mine = RSA.private_numbers()
    public = rsa.RSAPublicNumbers(3, mine.public_numbers.n)
    numbers = rsa.RSAPrivateNumbers(mine.p, mine.q, mine.d, mine.dmp1, mine.dmq1, mine.iqmp, public)
    return pem(numbers.private_key(unsafe_skip_rsa_key_validation=True))


@pytest.mark.parametrize(
    ("alg", "key", "said"),
    [
        ("ES256", pem(RSA), "holds no key of the curve secp256r1, which ES256 asks for"),
        ("ES384", pem(ec.generate_private_key(ec.SECP256R1())), "no key of the curve secp384r1"),
        ("EdDSA", pem(RSA), "holds no Ed25519 key"),
        ("RS256", pem(ed25519.Ed25519PrivateKey.generate()), "holds no RSA key"),
        ("RS256", pem(rsa.generate_private_key(65_537, 1_024)), "less than 2048 bits"),
        ("RS256", of_two(), "whose two halves do not belong together"),
        ("RS256", pem(RSA, BestAvailableEncryption(b"x")), "is an encrypted key"),
        ("RS256", pem(RSA).replace("MII", "AII", 1), "holds no private key in PEM"),
        ("RS256", "s3cr3t", "is no text in PEM"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_at_load(
    alg: str, key: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "client").write_text(key)
    keys = f"introspection: {{client_id: a, private_key: {{secret: client, alg: {alg}}}}}"
    found = refused(keys, secrets=SecretFiles(tmp_path))
    assert said in found
    assert "s3cr3t" not in found


def test_to_read_a_key_stops_the_worker_for_no_longer_than_some_signatures(tmp_path: Path) -> None:
    (tmp_path / "client").write_text(pem(RSA))
    keys = "introspection: {client_id: a, private_key: {secret: client, alg: RS256}}"

    def read() -> None:
        assert issuer(keys, secrets=SecretFiles(tmp_path)).introspection is not None

    # Measured 4; to try whether its numbers are primes takes as long as 150.
    assert cost_ratio(read, lambda: RSA.sign(b"a", PKCS1v15(), SHA256())) < 20
