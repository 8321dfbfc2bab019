"""What a stranger may send as a token: none of it is believed, whatever it is made of."""

from __future__ import annotations

import hmac
import json
import socket
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.identity.keys.jwk import Alg, SigningKey, generate, public_jwk, thumbprint, verifying
from gateway.identity.tokens.access_tokens import unknown_kid
from gateway.identity.tokens.jws import Header, parse
from gateway.model import Principal, Reason
from tests.identity.keyring import Gate, b64, ed_key, rsa_key, signed, unb64
from tests.identity.test_access_tokens import CLAIMS
from tests.identity.test_jwk import private_pem

SETTINGS = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


async def key_of(gate: Gate, alg: Alg) -> SigningKey:
    """One whose tokens the gate believes."""
    if alg is Alg.EDDSA:
        return gate.ring.signing_key()
    private = rsa_key() if alg is Alg.RS256 else generate(alg)
    imported = await gate.rotation.import_key(private_pem(private), verify_only=True)
    return SigningKey(imported.kid, alg, private)


def header_of(key: SigningKey, **more: Any) -> dict[str, Any]:
    return {"alg": key.alg, "typ": "at+jwt", "kid": key.kid, **more}


def unsigned(header: Any, claims: Any = CLAIMS) -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"


# The algorithm


@pytest.mark.parametrize("spelling", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA", "e30"])
async def test_a_token_that_is_not_signed_is_refused(
    gate: Gate, spelling: str, signature: str
) -> None:
    header = {**header_of(gate.ring.signing_key()), "alg": spelling}
    verdict = gate.verifier.verify(f"{unsigned(header)}.{signature}")
    assert verdict is Reason.TOKEN_SIGNATURE_INVALID


@pytest.mark.parametrize("hash_name", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("alg", list(Alg))
@pytest.mark.parametrize("form", ["pem", "pem-stripped", "der", "jwk", "jwk-compact", "raw", "kid"])
async def test_our_public_key_is_no_shared_secret(
    gate: Gate, hash_name: str, alg: Alg, form: str
) -> None:
    # CVE-2022-29217, CVE-2017-11424, CVE-2024-37568
    key = await key_of(gate, alg)
    public = key.private.public_key()
    spki, jwk = PublicFormat.SubjectPublicKeyInfo, verifying(public).jwk()
    pem = public.public_bytes(Encoding.PEM, spki)
    secret = {
        "pem": pem,
        "pem-stripped": pem.strip(),
        "der": public.public_bytes(Encoding.DER, spki),
        "jwk": json.dumps(jwk).encode(),
        "jwk-compact": json.dumps(public_jwk(public), separators=(",", ":")).encode(),
        "raw": json.dumps({"keys": [jwk]}).encode(),
        "kid": key.kid.encode(),
    }[form]
    text = unsigned({"alg": hash_name, "typ": "at+jwt", "kid": key.kid})
    digest = hmac.new(secret, text.encode(), f"sha{hash_name[2:]}").digest()
    verdict = gate.verifier.verify(f"{text}.{b64(digest)}")
    assert verdict is Reason.TOKEN_SIGNATURE_INVALID


@pytest.mark.parametrize(
    "claimed", ["RS256", "ES256", "EdDSA", "PS256", "RS512", "ES384", "Ed25519"]
)
@pytest.mark.parametrize("alg", list(Alg))
async def test_a_good_signature_under_another_algorithms_name_is_refused(
    gate: Gate, claimed: str, alg: Alg
) -> None:
    # CVE-2026-48523: the key decides, never the header.
    if claimed == alg:
        return
    key = await key_of(gate, alg)
    text = signed(key, {**header_of(key), "alg": claimed}, CLAIMS)
    assert gate.verifier.verify(text) is Reason.TOKEN_SIGNATURE_INVALID


async def test_an_rsa_signature_by_pss_is_refused(gate: Gate) -> None:
    key = await key_of(gate, Alg.RS256)
    for claimed in ("PS256", "RS256"):
        text = unsigned({**header_of(key), "alg": claimed})
        signature = jwt.get_algorithm_by_name("PS256").sign(text.encode(), key.private)
        verdict = gate.verifier.verify(f"{text}.{b64(signature)}")
        assert verdict is Reason.TOKEN_SIGNATURE_INVALID


# The key


async def test_a_strangers_key_under_our_kid_is_refused(gate: Gate) -> None:
    key = gate.ring.signing_key()
    text = signed(SigningKey(key.kid, Alg.EDDSA, ed_key()), header_of(key), CLAIMS)
    assert gate.verifier.verify(text) is Reason.TOKEN_SIGNATURE_INVALID


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"])
@pytest.mark.parametrize("value", [None, True, [], "", "https://evil.example/jwks.json", ["exp"]])
async def test_what_a_token_brings_with_it_is_never_followed(
    gate: Gate, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CVE-2018-0114, CVE-2026-32597.  Even under our own signature.
    def no_network(*_: object) -> None:
        raise AssertionError("an outbound call")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    key = gate.ring.signing_key()
    text = signed(key, header_of(key, **{name: value}), CLAIMS)
    assert gate.verifier.verify(text) is Reason.TOKEN_MALFORMED


async def test_a_token_that_embeds_its_own_key_is_refused(gate: Gate) -> None:
    mine = ed_key()
    jwk = public_jwk(mine.public_key())
    key = SigningKey(thumbprint(mine.public_key()), Alg.EDDSA, mine)
    assert gate.verifier.verify(signed(key, header_of(key), CLAIMS)) is Reason.KEY_UNKNOWN
    text = signed(key, header_of(key, jwk=jwk), CLAIMS)
    assert gate.verifier.verify(text) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "kid",
    [
        "",
        "../../../../dev/null",
        "/etc/passwd",
        "' OR '1'='1",
        'x" --',
        "a\x00b",
        "a\r\nb",
        "|whoami",
        "${env.X}",
        "{{x}}",
        "é" * 43,
        "k" * 1000,
    ],
)
async def test_a_kid_of_somebodys_invention_is_a_miss(gate: Gate, kid: str) -> None:
    key = gate.ring.signing_key()
    text = signed(key, {"alg": key.alg, "typ": "at+jwt", "kid": kid}, CLAIMS)
    assert gate.verifier.verify(text) is Reason.KEY_UNKNOWN
    assert await gate.ring.find(unknown_kid(text) or "") is None


@pytest.mark.parametrize("kid", [None, 7, True, 1.5, [], ["x"], {}, {"kid": "x"}])
async def test_a_kid_that_is_no_text_is_malformed(gate: Gate, kid: Any) -> None:
    key = gate.ring.signing_key()
    text = signed(key, {"alg": key.alg, "typ": "at+jwt", "kid": kid}, CLAIMS)
    assert gate.verifier.verify(text) is Reason.TOKEN_MALFORMED


async def test_a_kid_of_a_megabyte_is_refused_unread(gate: Gate) -> None:
    key = gate.ring.signing_key()
    text = signed(key, {"alg": key.alg, "typ": "at+jwt", "kid": "k" * 1_000_000}, CLAIMS)
    assert gate.verifier.verify(text) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("name", ["alg", "typ", "kid"])
async def test_a_header_without_one_of_its_three_members_is_malformed(
    gate: Gate, name: str
) -> None:
    key = gate.ring.signing_key()
    header = {k: v for k, v in header_of(key).items() if k != name}
    assert gate.verifier.verify(signed(key, header, CLAIMS)) is Reason.TOKEN_MALFORMED


# The signature


@pytest.mark.parametrize("alg", list(Alg))
async def test_no_bit_of_the_signature_may_flip(gate: Gate, alg: Alg) -> None:
    # CVE-2021-29652
    key = await key_of(gate, alg)
    text = signed(key, header_of(key), CLAIMS)
    head, _, tail = text.rpartition(".")
    assert isinstance(gate.verifier.verify(text), Principal)
    signature = unb64(tail)
    for bit in range(len(signature) * 8):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        verdict = gate.verifier.verify(f"{head}.{b64(bytes(flipped))}")
        assert verdict is Reason.TOKEN_SIGNATURE_INVALID


async def test_no_bit_of_the_signed_parts_may_flip(gate: Gate) -> None:
    text = gate.token()
    head, _, tail = text.rpartition(".")
    for part, raw in enumerate(map(unb64, head.split("."))):
        for bit in range(len(raw) * 8):
            flipped = bytearray(raw)
            flipped[bit // 8] ^= 1 << bit % 8
            parts = head.split(".")
            parts[part] = b64(bytes(flipped))
            assert isinstance(gate.verifier.verify(f"{'.'.join(parts)}.{tail}"), Reason)


@pytest.mark.parametrize("alg", list(Alg))
async def test_a_signature_of_another_length_or_of_zeros_is_refused(gate: Gate, alg: Alg) -> None:
    # CVE-2022-21449: an ECDSA signature of zeros holds for everything, if nobody looks.
    key = await key_of(gate, alg)
    head = unsigned({"alg": alg, "typ": "at+jwt", "kid": key.kid})
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551.to_bytes(32, "big")
    for signature in (
        b"",
        b"\0",
        b"\0" * 64,
        b"\0" * 256,
        b"\xff" * 64,
        b"\xff" * 256,
        n + n,
        n * 8,
    ):
        verdict = gate.verifier.verify(f"{head}.{b64(signature)}")
        assert verdict is Reason.TOKEN_SIGNATURE_INVALID


async def test_an_ecdsa_signature_in_der_is_refused(gate: Gate) -> None:
    key = await key_of(gate, Alg.ES256)
    assert isinstance(key.private, ec.EllipticCurvePrivateKey)
    text = unsigned(header_of(key))
    der = key.private.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    assert gate.verifier.verify(f"{text}.{b64(der)}") is Reason.TOKEN_SIGNATURE_INVALID


async def test_the_signature_of_one_token_does_not_fit_another(gate: Gate) -> None:
    one, other = gate.token(), gate.token()
    mixed = other.rpartition(".")[0] + "." + one.rpartition(".")[2]
    assert gate.verifier.verify(mixed) is Reason.TOKEN_SIGNATURE_INVALID


# A header that was read before


async def test_the_header_of_a_token_that_was_believed_vouches_for_no_other(gate: Gate) -> None:
    good = gate.token()
    assert isinstance(gate.verifier.verify(good), Principal)
    header, payload, signature = good.split(".")
    others = (
        f"{header}.{b64(json.dumps({**CLAIMS, 'sub': 'u-mallory'}).encode())}.{signature}",
        f"{header}.{payload}.{b64(bytes(64))}",
        f"{header}.{payload}.",
    )
    for text in others:
        assert gate.verifier.verify(text) is Reason.TOKEN_SIGNATURE_INVALID
    for text in (
        f"{header}.{payload}",
        f"{header}..{signature}",
        f"{header}.{payload}=.{signature}",
    ):
        assert gate.verifier.verify(text) is Reason.TOKEN_MALFORMED


async def test_a_key_that_was_revoked_is_unknown_under_a_header_that_was_believed(
    gate: Gate,
) -> None:
    assert isinstance(gate.verifier.verify(gate.token()), Principal)
    later = gate.token()
    await gate.rotation.revoke(gate.ring.signing_key().kid)
    assert gate.verifier.verify(later) is Reason.KEY_UNKNOWN


async def test_what_was_read_of_a_header_is_told_of_its_very_text_alone(gate: Gate) -> None:
    key = gate.ring.signing_key()
    header, *rest = gate.token().split(".")
    read = Header("a", "b", "c")
    for known, told in (
        ({header: read}, ("a", "b", "c")),
        ({header[:-1]: read, f"{header}A": read}, (key.alg, "at+jwt", key.kid)),
    ):
        parsed = parse(".".join((header, *rest)), known=known)
        assert parsed is not None
        assert (parsed.alg, parsed.typ, parsed.kid) == told


# Anything


@SETTINGS
@given(text=st.text(max_size=200))
async def test_no_text_is_believed_and_none_raises(gate: Gate, text: str) -> None:
    assert gate.verifier.verify(text) is Reason.TOKEN_MALFORMED


@SETTINGS
@given(header=st.binary(max_size=120), payload=st.binary(max_size=120), tail=st.binary(max_size=64))
async def test_no_bytes_in_the_form_of_a_token_are_believed(
    gate: Gate, header: bytes, payload: bytes, tail: bytes
) -> None:
    text = f"{b64(header)}.{b64(payload)}.{b64(tail)}"
    assert isinstance(gate.verifier.verify(text), Reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@SETTINGS
@given(name=st.sampled_from(sorted(CLAIMS)), value=JSON)
async def test_any_value_of_any_claim_under_our_own_signature_is_judged(
    gate: Gate, name: str, value: Any
) -> None:
    """Whoever holds an imported key may sign what they like: the verdict is never an error,
    and whom it names has a name of the form that headers and policies can carry."""
    key = gate.ring.signing_key()
    verdict = gate.verifier.verify(signed(key, header_of(key), {**CLAIMS, name: value}))
    if isinstance(verdict, Principal):
        assert type(verdict.expires_at) is int
        assert all(c.isascii() and c.isprintable() and c not in ", " for c in verdict.subject)
        assert all(role.isascii() and "," not in role for role in verdict.roles)


@SETTINGS
@given(where=st.integers(0, 10_000), new=st.characters(max_codepoint=0x2FF))
async def test_a_token_with_one_character_changed_is_refused(
    gate: Gate, where: int, new: str
) -> None:
    text = gate.token()
    at = where % len(text)
    assume(new != text[at])
    assert isinstance(gate.verifier.verify(text[:at] + new + text[at + 1 :]), Reason)


def test_the_floor_of_the_jwt_library_is_held() -> None:
    # CVE-2026-102275 and those before it
    assert tuple(map(int, jwt.__version__.split(".")[:2])) >= (2, 15)
