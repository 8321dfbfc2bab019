from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import (
    dsa,
    ec,
    ed448,
    ed25519,
    padding,
    rsa,
    x25519,
)
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from gateway.identity.keys.jwk import (
    Alg,
    KeyRefused,
    PrivateKey,
    PublicKey,
    SigningKey,
    algorithm,
    generate,
    private_der,
    private_from_der,
    public_from_jwk,
    public_jwk,
    read_pem,
    thumbprint,
    verifying,
)
from tests.cpu_cost import cost_ratio
from tests.identity.keyring import ed_key, rsa_key


def private_pem(
    key: object,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())  # type: ignore[attr-defined,no-any-return]


def public_pem(key: object) -> bytes:
    public = key.public_key()  # type: ignore[attr-defined]
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


def of(alg: Alg) -> PrivateKey:
    return rsa_key() if alg is Alg.RS256 else generate(alg)


def test_the_kid_is_the_thumbprint_of_the_rfc() -> None:
    # RFC 7638 section 3.1
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc"
        "_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ"
        "R0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bF"
        "TWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = public_from_jwk(json.dumps({"kty": "RSA", "n": n, "e": "AQAB"}))
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_the_kid_of_an_ed25519_key_is_that_of_the_rfc() -> None:
    # RFC 8037 appendix A.3
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    key = public_from_jwk(json.dumps({"kty": "OKP", "crv": "Ed25519", "x": x}))
    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("alg", list(Alg))
def test_a_key_comes_back_from_its_jwk_and_its_der_as_itself(alg: Alg) -> None:
    private = of(alg)
    public = private.public_key()
    assert algorithm(public) is alg
    assert thumbprint(public_from_jwk(json.dumps(public_jwk(public)))) == thumbprint(public)
    assert thumbprint(private_from_der(private_der(private)).public_key()) == thumbprint(public)


def test_a_sealed_rsa_key_is_opened_at_once() -> None:
    """Its primes were tried when it was made or brought in; to try them takes 0.1 s."""
    der = private_der(rsa_key())
    ratio = cost_ratio(
        lambda: private_from_der(der), lambda: load_der_private_key(der, None), rounds=3
    )
    assert ratio < 0.1


@pytest.mark.parametrize("alg", list(Alg))
def test_a_signature_holds_for_its_key_and_text_alone(alg: Alg) -> None:
    private = of(alg)
    signature = SigningKey("k", alg, private).sign(b"text")
    assert verifying(private.public_key()).verifies(b"text", signature)
    assert not verifying(private.public_key()).verifies(b"texT", signature)
    other = rsa.generate_private_key(65537, 2048) if alg is Alg.RS256 else generate(alg)
    assert not verifying(other.public_key()).verifies(b"text", signature)


@pytest.mark.parametrize(
    ("scheme", "digest"),
    [
        (padding.PSS(padding.MGF1(SHA256()), 32), SHA256()),
        (padding.PKCS1v15(), SHA512()),
        (padding.PKCS1v15(), SHA1()),
    ],
)
def test_rs256_takes_no_other_padding_or_hash(
    scheme: padding.AsymmetricPadding, digest: HashAlgorithm
) -> None:
    private = rsa_key()
    assert isinstance(private, rsa.RSAPrivateKey)
    key = verifying(private.public_key())
    assert key.verifies(b"text", private.sign(b"text", padding.PKCS1v15(), SHA256()))
    assert not key.verifies(b"text", private.sign(b"text", scheme, digest))


@pytest.mark.parametrize("alg", Alg)
def test_a_key_that_is_read_twice_is_the_same(alg: Alg) -> None:
    public = of(alg).public_key()
    assert verifying(public) == verifying(public)


def test_rsa_keys_are_made_with_3072_bits() -> None:
    private = generate(Alg.RS256)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 3072


def test_a_coordinate_with_leading_zeros_keeps_its_full_length() -> None:
    key = next(k for k in range(1, 5000) if _x(k) < 2**248)
    jwk = public_jwk(ec.derive_private_key(key, ec.SECP256R1()).public_key())
    assert len(jwk["x"]) == 43


def _x(scalar: int) -> int:
    return ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_numbers().x


@pytest.mark.parametrize("alg", list(Alg))
def test_a_private_pem_is_read_with_both_halves(alg: Alg) -> None:
    private = of(alg)
    read = read_pem(private_pem(private))
    assert read.private is not None
    assert thumbprint(read.public) == thumbprint(private.public_key())


@pytest.mark.parametrize("alg", list(Alg))
def test_a_public_pem_is_read_without_a_private_half(alg: Alg) -> None:
    private = of(alg)
    read = read_pem(public_pem(private))
    assert read.private is None
    assert thumbprint(read.public) == thumbprint(private.public_key())


@pytest.mark.parametrize("alg", [Alg.RS256, Alg.ES256])
def test_the_traditional_form_is_read_too(alg: Alg) -> None:
    assert read_pem(private_pem(of(alg), PrivateFormat.TraditionalOpenSSL)).private is not None


def test_what_openssl_writes_before_a_curve_key_is_skipped() -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    pem = parameters + private_pem(generate(Alg.ES256), PrivateFormat.TraditionalOpenSSL)
    assert read_pem(pem).private is not None


def test_both_halves_in_one_file_are_taken_when_they_belong_together() -> None:
    key = ed_key()
    assert read_pem(private_pem(key) + public_pem(key)).private is not None


def test_a_private_key_with_a_foreign_public_one_is_refused() -> None:
    # CVE-2026-102275
    with pytest.raises(KeyRefused, match="do not belong together"):
        read_pem(private_pem(ed_key()) + public_pem(ed_key()))


def test_an_ec_key_that_claims_the_public_point_of_another_is_refused() -> None:
    # CVE-2026-102275: the attacker's public half under a private key that looks right.
    mine, foreign = generate(Alg.ES256), generate(Alg.ES256)
    der = private_der(mine)
    points = [
        key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for key in (mine, foreign)
        if isinstance(key, ec.EllipticCurvePrivateKey)
    ]
    assert points[0] in der
    with pytest.raises(KeyRefused):
        read_pem(_armoured(b"PRIVATE KEY", der.replace(points[0], points[1])))


def test_an_rsa_key_with_the_modulus_of_another_is_refused() -> None:
    mine, foreign = rsa_key(), rsa.generate_private_key(65537, 2048)
    moduli = [key.public_key().public_numbers().n.to_bytes(256, "big") for key in (mine, foreign)]
    der = private_der(mine).replace(moduli[0], moduli[1])
    with pytest.raises(KeyRefused):
        read_pem(_armoured(b"PRIVATE KEY", der))


def _armoured(label: bytes, der: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, base64.encodebytes(der), label)


def test_rsa_under_2048_bits_is_refused_with_its_size() -> None:
    with pytest.raises(KeyRefused, match="1024 bits is too weak"):
        read_pem(private_pem(rsa.generate_private_key(65537, 1024)))


def test_rsa_with_2048_bits_is_taken_with_a_warning() -> None:
    assert "2048 bits" in (read_pem(private_pem(rsa_key())).warning or "")


def test_rsa_with_a_small_exponent_is_refused() -> None:
    with pytest.raises(KeyRefused, match="exponent 3"):
        read_pem(private_pem(rsa.generate_private_key(3, 2048)))


def test_rsa_keys_of_the_broken_generator_are_refused() -> None:
    # CVE-2017-15361: a modulus that is a power of 65537 modulo the product of small primes.
    product = 1
    for prime in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79):
        product *= prime
    for prime in (83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167):
        product *= prime
    modulus = pow(65537, 12345, product) + product * (1 << (2047 - product.bit_length() + 1))
    weak = rsa.RSAPublicNumbers(65537, modulus | 1 if modulus % 2 else modulus + product)
    with pytest.raises(KeyRefused, match="ROCA"):
        read_pem(weak.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_no_key_that_is_made_here_looks_like_one_of_the_broken_generator() -> None:
    assert read_pem(public_pem(rsa_key())).public is not None


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()])
def test_other_curves_are_refused_by_name(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    for pem in (private_pem(key), public_pem(key)):
        with pytest.raises(KeyRefused, match=curve.name):
            read_pem(pem)


@pytest.mark.parametrize(
    "make",
    [
        ed448.Ed448PrivateKey.generate,
        x25519.X25519PrivateKey.generate,
        lambda: dsa.generate_private_key(2048),
    ],
    ids=["ed448", "x25519", "dsa"],
)
def test_other_kinds_of_key_are_refused(make: Callable[[], object]) -> None:
    key = make()
    for pem in (private_pem(key), public_pem(key)):
        with pytest.raises(KeyRefused, match="none of RSA, P-256 and Ed25519"):
            read_pem(pem)


@pytest.mark.parametrize(
    "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["pkcs8", "traditional"]
)
def test_an_encrypted_key_is_refused_with_the_way_to_decrypt_it(form: PrivateFormat) -> None:
    pem = private_pem(rsa_key(), form, BestAvailableEncryption(b"passphrase"))
    with pytest.raises(KeyRefused, match="openssl pkey"):
        read_pem(pem)


@pytest.mark.parametrize(
    ("pem", "says"),
    [
        (b"", "no PEM block"),
        (b"hello", "no PEM block"),
        (b"\x00\xff" * 100, "no PEM block"),
        (_armoured(b"PRIVATE KEY", b"nonsense"), "cannot be read"),
        (_armoured(b"PUBLIC KEY", b"nonsense"), "cannot be read"),
        (_armoured(b"CERTIFICATE", b"x"), "certificate is not taken"),
        (_armoured(b"OPENSSH PRIVATE KEY", b"x"), "openssh private key is not taken"),
        (private_pem(ed25519.Ed25519PrivateKey.generate()) * 2, "several keys"),
        (b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 70_000, "too long"),
    ],
)
def test_what_is_no_single_key_is_refused_with_its_reason(pem: bytes, says: str) -> None:
    with pytest.raises(KeyRefused, match=says):
        read_pem(pem)


def test_a_refusal_never_shows_the_key() -> None:
    pem = private_pem(rsa.generate_private_key(65537, 1024))
    with pytest.raises(KeyRefused) as refused:
        read_pem(pem)
    assert not any(line in str(refused.value) for line in pem.decode().splitlines()[1:])


def test_the_published_form_has_no_private_member() -> None:
    published: PublicKey = rsa_key().public_key()
    assert set(verifying(published).jwk()) == {"kty", "n", "e", "use", "alg", "kid"}
