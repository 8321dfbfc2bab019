"""What another issuer may publish as its keys, and what of it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.identity.issuers.jwk_set import KEYS_MAX, SET_BYTES_MAX, DocumentRefused, read_jwk_set
from gateway.identity.keys.jwk import KeyRefused, public_key
from tests.identity.issuers.provider import document, signer
from tests.identity.keyring import b64, rsa_key

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")


def left_out(*keys: Any) -> str:
    """Why the last of these is not used, beside one that is."""
    found = read_jwk_set(document(signer(kid="good"), *keys))
    assert list(found.keys) == ["good"]
    return found.left_out[-1]


def refused(raw: bytes) -> str:
    with pytest.raises(DocumentRefused) as told:
        read_jwk_set(raw)
    return str(told.value)


@pytest.mark.parametrize("alg", [*ALGORITHMS, "EdDSA"])
def test_each_asymmetric_algorithm_is_verified_as_the_rfc_signs_it(alg: str) -> None:
    one = signer(alg)
    key = read_jwk_set(document(one)).keys["k-1"]
    assert key.verifies(alg, b"text", one.signature(b"text"))
    assert not key.verifies(alg, b"another text", one.signature(b"text"))
    assert not key.verifies(alg, b"text", b"")


def test_a_key_verifies_with_the_algorithm_that_it_is_published_for_alone() -> None:
    bound, free = signer("RS256"), signer("PS384", "k-2")
    keys = read_jwk_set(document(bound, free.public(alg=...))).keys
    assert list(keys["k-1"].algorithms) == ["RS256"]
    assert sorted(keys["k-2"].algorithms) == sorted(ALGORITHMS[:6])
    assert keys["k-2"].verifies("PS384", b"text", free.signature(b"text"))
    assert not keys["k-1"].verifies("PS384", b"text", free.signature(b"text"))


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "ES512", ""])
def test_no_algorithm_of_another_kind_is_tried_with_a_key(alg: str) -> None:
    # CVE-2022-29217: an EC key as the secret of an HMAC.
    one = signer("ES256")
    key = read_jwk_set(document(one)).keys["k-1"]
    assert not key.verifies(alg, b"text", one.signature(b"text"))


def test_the_later_name_of_eddsa_is_the_same_algorithm() -> None:
    # RFC 9864 section 2.2
    one = signer("EdDSA")
    key = read_jwk_set(document(one.public(alg="Ed25519"))).keys["k-1"]
    assert key.verifies("Ed25519", b"text", one.signature(b"text"))
    assert not key.verifies("EdDSA", b"text", one.signature(b"text"))


def test_a_shared_secret_is_no_key() -> None:
    assert "shared secret" in left_out({"kty": "oct", "kid": "o", "k": "c2VjcmV0"})


def test_a_key_for_encryption_is_no_key() -> None:
    assert "not for signatures" in left_out(signer("RS256", "e").public(use="enc", alg="RSA-OAEP"))
    assert "not for signatures" in left_out(signer("RS256", "e").public(key_ops=["wrapKey"]))
    assert "alg is not one" in left_out(signer("RS256", "e").public(use=..., alg="RSA-OAEP"))


@pytest.mark.parametrize("kid", [..., None, "", 7, ["k"], "a\n", "é", "x" * 256])
def test_a_key_without_a_kid_of_visible_letters_is_no_key(kid: Any) -> None:
    assert "has no kid" in left_out(signer().public(kid=kid))


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_a_set_that_shows_a_secret_is_believed_in_nothing(member: str) -> None:
    shown = signer("RS256", "shown").public(**{member: "AQAB"})
    told = refused(document(signer(kid="good"), shown))
    assert told == "the key set shows the private half of key shown"


def test_a_set_that_names_two_keys_alike_is_believed_in_nothing() -> None:
    assert refused(document(signer(), signer())) == "the key set names two keys k-1"


def test_a_kid_may_also_be_of_a_key_that_is_not_used() -> None:
    keys = read_jwk_set(document(signer(), signer("RS256").public(use="enc"))).keys
    assert keys["k-1"].kind == "EC P-256"


def test_a_set_without_a_key_that_can_be_used_is_no_answer() -> None:
    assert "no key that can be used" in refused(document())
    assert "shared secret" in refused(document({"kty": "oct", "kid": "o", "k": "c2VjcmV0"}))


def test_a_hundred_keys_are_taken_and_a_thousand_are_not() -> None:
    one = signer("EdDSA").public()
    many = [{**one, "kid": f"k-{n}"} for n in range(1000)]
    assert len(read_jwk_set(document(*many[:KEYS_MAX])).keys) == KEYS_MAX
    assert refused(document(*many)) == "the key set has 1000 keys; 100 are the most"


def test_a_set_is_read_up_to_256_kib() -> None:
    raw = document(signer())
    assert read_jwk_set(raw + b" " * (SET_BYTES_MAX - len(raw))).keys
    assert (
        refused(raw + b" " * (SET_BYTES_MAX - len(raw) + 1)) == "the key set has more than 256 KiB"
    )


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[1]}', b'{"keys":[[]]}', b"<html>"],
)
def test_what_is_no_set_is_refused(raw: bytes) -> None:
    assert "the key set is no" in refused(raw)


def test_a_set_that_two_readers_could_read_in_two_ways_is_refused() -> None:
    one = json.dumps(signer().public())
    assert "stands twice" in refused(f'{{"keys":[],"keys":[{one}]}}'.encode())
    assert "stands twice" in refused(f'{{"keys":[{one[:-1]},"kid":"k-9"}}]}}'.encode())


@pytest.mark.parametrize(("bits", "why"), [(1024, "too weak"), (16384, "no usable n")])
def test_an_rsa_key_that_is_too_weak_or_too_slow_is_no_key(bits: int, why: str) -> None:
    n = rsa_key().public_key().public_numbers().n
    wide = (
        (n << (bits - 2048) | 1) if bits > 2048 else rsa_key(bits).public_key().public_numbers().n
    )
    members = {"kty": "RSA", "kid": "w", "n": b64(wide.to_bytes(bits // 8, "big")), "e": "AQAB"}
    assert why in left_out(members)


def test_an_rsa_key_with_a_small_exponent_is_no_key() -> None:
    assert "exponent 3 is too small" in left_out(signer("RS256", "w").public(e="Aw"))


@pytest.mark.parametrize(
    "changed",
    [
        {"crv": "secp256k1"},
        {"crv": "P-384"},
        {"crv": ...},
        {"kty": "EC2"},
        {"kty": ...},
        {"x": ...},
        {"x": 7},
        {"x": ""},
        {"x": "AQAB"},
        {"x": b64(b"\x01" * 32)},
        {"x": b64(b"\x01" * 32) + "="},
    ],
)
def test_a_point_that_is_on_no_curve_is_no_key(changed: dict[str, Any]) -> None:
    left_out(signer("ES256", "w").public(**changed))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_coordinates_come_in_full_length(curve: ec.EllipticCurve) -> None:
    # RFC 7518 section 6.2.1.2
    numbers = ec.generate_private_key(curve).public_key().public_numbers()
    size = (curve.key_size + 7) // 8
    members = {"kty": "EC", "crv": f"P-{curve.key_size}"}
    full = {name: b64(getattr(numbers, name).to_bytes(size, "big")) for name in "xy"}
    assert public_key({**members, **full}).key_size == curve.key_size  # type: ignore[union-attr]
    longer = b64(numbers.x.to_bytes(size + 1, "big"))
    with pytest.raises(KeyRefused, match="another length"):
        public_key({**members, **full, "x": longer})


def test_a_key_that_is_left_out_is_told_by_its_place_where_it_has_no_kid() -> None:
    assert left_out({"kty": "oct"}).startswith("key number 2: ")


def test_what_a_key_is_can_be_shown() -> None:
    found = read_jwk_set(document(signer("RS256", "r"), signer("ES512", "e"), signer("EdDSA", "o")))
    assert {kid: key.kind for kid, key in found.keys.items()} == {
        "r": "RSA 2048",
        "e": "EC P-521",
        "o": "Ed25519",
    }
    assert isinstance(found.keys["r"].public, rsa.RSAPublicKey)


def test_a_key_that_is_left_out_hides_none_behind_it() -> None:
    found = read_jwk_set(
        document({"kty": "oct", "kid": "o"}, signer("RS256").public(use="enc"), signer(kid="b"))
    )
    assert list(found.keys) == ["b"]
    assert len(found.left_out) == 2


def test_a_set_with_half_of_a_surrogate_pair_is_refused() -> None:
    # RFC 8259 section 8.2: no log and no file could hold it.
    raw = document(signer(), {"kty": "oct", "kid": "x"}).replace(b'"x"', b'"\\ud800"')
    assert refused(raw).startswith("the key set is no JSON")


def test_the_longest_kid_is_taken() -> None:
    assert list(read_jwk_set(document(signer(kid="k" * 255))).keys) == ["k" * 255]


def test_a_refused_set_says_which_key_it_is_for() -> None:
    shown = signer("RS256").public(kid=..., d="AQAB")
    told = "the key set shows the private half of key number 2"
    assert refused(document(signer(), shown)) == told
    assert refused(document()) == "the key set holds no key that can be used"
