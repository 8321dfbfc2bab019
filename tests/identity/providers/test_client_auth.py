"""How the gateway proves to a provider which client it is."""

from __future__ import annotations

import base64
from dataclasses import replace
from urllib.parse import parse_qs, unquote_plus

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.access.issuers import ClientAssertionKey
from gateway.access.providers import ClientAuthMethod
from gateway.access.secret_text import SecretText
from gateway.identity.providers.client_auth import prove_client
from gateway.identity.providers.metadata import ProviderMetadata
from tests.cpu_cost import cost_ratio
from tests.identity.providers.parts import provider

NOW = 1_800_000_000
TOKEN = "https://id.example/token"
METADATA = ProviderMetadata("https://id.example/auth", TOKEN)
SECRET = "p+q/r:s&t=é%"[:9]
FORM = "grant_type=authorization_code&code=c%2Bd&client_id=old"


def test_a_secret_goes_in_the_header_with_its_halves_encoded() -> None:
    one = provider(secret=SecretText(SECRET), client_id="a:b")
    form, fields = prove_client(one, METADATA, TOKEN, FORM, NOW)
    word = fields["Authorization"].removeprefix("Basic ")
    name, _, secret = base64.b64decode(word).decode().partition(":")
    assert (unquote_plus(name), unquote_plus(secret)) == ("a:b", SECRET)
    assert parse_qs(form)["code"] == ["c+d"]


def test_a_secret_goes_in_the_form_where_the_provider_takes_it_there_alone() -> None:
    one = provider(secret=SecretText(SECRET))
    asked = replace(METADATA, client_auth_methods=("client_secret_post", "private_key_jwt"))
    form, fields = prove_client(one, asked, TOKEN, FORM, NOW)
    words = parse_qs(form)
    assert fields == {}
    # Each once: a provider refuses what comes twice.
    assert (words["client_id"], words["client_secret"]) == (["gateway"], [SECRET])


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("RS256", rsa.generate_private_key(65537, 2048)),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
)
def test_a_key_signs_an_assertion_for_the_provider(
    alg: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    one = provider(
        secret=None,
        key=ClientAssertionKey(SecretText(pem), alg, "k1"),
        client_auth=ClientAuthMethod.KEY,
    )
    form, _ = prove_client(one, METADATA, TOKEN, FORM, NOW)
    [assertion] = parse_qs(form)["client_assertion"]
    assert jwt.get_unverified_header(assertion)["kid"] == "k1"
    told = jwt.decode(
        assertion,
        key.public_key(),
        [alg],
        audience=TOKEN,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (told["iss"], told["sub"], told["exp"] - told["iat"]) == ("gateway", "gateway", 120)
    again, _ = prove_client(one, METADATA, TOKEN, FORM, NOW)
    assert parse_qs(again)["client_assertion"] != [assertion]


def test_apple_gets_a_token_in_the_place_of_a_secret() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    one = provider(
        secret=None,
        key=ClientAssertionKey(SecretText(pem), "ES256", "K1"),
        client_auth=ClientAuthMethod.APPLE,
        team="ABCDE12345",
    )
    form, fields = prove_client(one, METADATA, TOKEN, FORM, NOW)
    words = parse_qs(form)
    assert fields == {}
    assert words["client_id"] == ["gateway"]
    [secret] = words["client_secret"]
    assert jwt.get_unverified_header(secret)["kid"] == "K1"
    told = jwt.decode(
        secret,
        key.public_key(),
        ["ES256"],
        audience=one.issuer.issuer,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (told["iss"], told["sub"]) == ("ABCDE12345", "gateway")


def test_what_a_stranger_has_signed_stops_nobody() -> None:
    """Whoever is led to a provider that takes pushed requests has one signed."""
    key = rsa.generate_private_key(65537, 3_072)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    one = provider(
        secret=None,
        key=ClientAssertionKey(SecretText(pem.decode()), "RS256"),
        client_auth=ClientAuthMethod.KEY,
    )
    # A tenth of what it takes to read the key.
    ratio = cost_ratio(
        lambda: prove_client(one, METADATA, TOKEN, FORM, NOW),
        lambda: load_pem_private_key(pem, password=None),
        rounds=3,
    )
    assert ratio < 0.1
