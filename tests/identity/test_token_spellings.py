"""A token has one spelling, and its JSON one reading: no text is believed that two readers could
take for two."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.identity.keys.jwk import Alg, SigningKey
from gateway.model import Principal, Reason
from tests.identity.keyring import Gate, b64, signed, unb64
from tests.identity.test_access_tokens import CLAIMS
from tests.identity.test_token_forgeries import header_of, key_of


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p + "=",
        lambda p: p + "==",
        lambda p: " " + p,
        lambda p: p + " ",
        lambda p: p + "\n",
        lambda p: p[:5] + "\n" + p[5:],
        lambda p: p[:5] + " " + p[5:],
        lambda p: p[:5] + "\x00" + p[5:],
        lambda p: p[:5] + "+" + p[6:],
        lambda p: p[:5] + "/" + p[6:],
        lambda p: p[:5] + "%" + p[6:],
        lambda p: p[:5] + "é" + p[6:],
        lambda p: p[:5] + "Ａ" + p[6:],  # full-width: a digit to some, a letter to others
        lambda p: p + "A",
        lambda p: p + "AA",
        lambda p: p + ".",
        lambda p: "",
    ],
)
async def test_a_part_in_another_spelling_is_refused(gate: Gate, part: int, spoil: Any) -> None:
    parts = gate.token().split(".")
    parts[part] = spoil(parts[part])
    assert isinstance(gate.verifier.verify(".".join(parts)), Reason)


@pytest.mark.parametrize("alg", list(Alg))
async def test_a_signature_has_one_spelling(gate: Gate, alg: Alg) -> None:
    """The bits that do not count must be zero, else one token has many texts."""
    key = await key_of(gate, alg)
    text = signed(key, header_of(key), CLAIMS)
    same = [
        other
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        if (other := text[:-1] + last) != text
        and unb64(other.split(".")[2]) == unb64(text.split(".")[2])
    ]
    assert same
    assert all(gate.verifier.verify(other) is Reason.TOKEN_MALFORMED for other in same)


@pytest.mark.parametrize("size", [1, 2])
async def test_signed_parts_have_one_spelling_too(gate: Gate, size: int) -> None:
    """Even where the signature was made over the other spelling."""
    key = gate.ring.signing_key()
    payload = json.dumps(CLAIMS).encode()
    payload += b" " * ((size - len(payload)) % 3)
    parts = [b64(json.dumps(header_of(key)).encode()), b64(payload)]
    assert isinstance(gate.verifier.verify(_over(parts, key)), Principal)
    parts[1] = parts[1][:-1] + chr(ord(parts[1][-1]) + 1)
    assert unb64(parts[1]) == payload
    assert gate.verifier.verify(_over(parts, key)) is Reason.TOKEN_MALFORMED


def _over(parts: list[str], key: SigningKey) -> str:
    text = ".".join(parts)
    return f"{text}.{b64(key.sign(text.encode()))}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b",
        "e30.e30.",
        "e30.e30.e30",
        "e30.e30.e30.e30",
        "null",
        "Bearer e30.e30.e30",
        "{}",
        '{"payload":"e30","signature":"e30"}',
        "\x00",
        "é.é.é",
        "A" * 8192,
        "A" * 10_000_000,
        "." * 8192,
        "e30." * 2048,
    ],
    ids=lambda text: repr(text[:12]),
)
async def test_what_is_no_token_at_all_is_malformed(gate: Gate, text: str) -> None:
    assert gate.verifier.verify(text) is Reason.TOKEN_MALFORMED


async def test_an_encrypted_token_is_malformed(gate: Gate) -> None:
    assert gate.verifier.verify("e30.e30.e30.e30.e30") is Reason.TOKEN_MALFORMED


def payload_with(raw: bytes) -> bytes:
    return json.dumps(CLAIMS).encode()[:-1] + b"," + raw + b"}"


@pytest.mark.parametrize(
    "payload",
    [
        payload_with(b'"sub":"u-admin"'),
        payload_with(b'"s\\u0075b":"u-admin"'),
        payload_with(b'"x":{"a":1,"a":2}'),
        payload_with(b'"x":NaN'),
        payload_with(b'"x":Infinity'),
        payload_with(b'"x":-Infinity'),
        payload_with(b'"x":1e999'),
        payload_with(b'"x":' + b"9" * 5000),
        payload_with(b'"x":' + b"[" * 40 + b"]" * 40),
        payload_with(b'"x":' + b'{"a":' * 40 + b"1" + b"}" * 40),
        payload_with(b'"x":' + b"[" * 2000 + b"]" * 2000),
        payload_with(b'"x":"\\ud800"'),
        payload_with(b'"\\udfff":1'),
        payload_with(b'"x":"\xff"'),
        payload_with(b'"x":"\xc0\xaf"'),
        payload_with(b'"x":"\xed\xa0\x80"'),
        payload_with(b'"x":"\n"'),
        payload_with(b'"x":01'),
        payload_with(b'"x":1,'),
        payload_with(b"'x':1"),
        payload_with(b'"x":1/*c*/'),
        payload_with(b'"x":1') + b"{}",
        payload_with(b'"x":1') + b"\x00",
        b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode(),
        json.dumps(CLAIMS).encode("utf-16"),
        json.dumps(CLAIMS).encode("utf-32"),
        json.dumps([CLAIMS]).encode(),
        json.dumps(json.dumps(CLAIMS)).encode(),
        b"null",
        b"true",
        b"7",
        b'""',
        b"[]",
        b"{}",
        b" ",
    ],
    ids=lambda payload: repr(payload[-24:]),
)
async def test_json_that_two_readers_could_read_otherwise_is_malformed(
    gate: Gate, payload: bytes
) -> None:
    key = gate.ring.signing_key()
    assert gate.verifier.verify(signed(key, header_of(key), payload)) is Reason.TOKEN_MALFORMED


async def test_claims_of_somebody_elses_are_carried(gate: Gate) -> None:
    key = gate.ring.signing_key()
    payload = payload_with(b'"tenant":{"id":[1,2.5,null,"\\u00e9\\ud83d\\ude00"]}')
    principal = gate.verifier.verify(signed(key, header_of(key), payload))
    assert isinstance(principal, Principal)
    assert principal.claims["tenant"] == {"id": [1, 2.5, None, "é😀"]}


@pytest.mark.parametrize(
    "spelled", [b"1800000900.0", b"18e8", b"1.8000009e9", b'"1800000900"', b"true"]
)
async def test_a_time_in_another_spelling_is_no_time(gate: Gate, spelled: bytes) -> None:
    key = gate.ring.signing_key()
    payload = json.dumps(CLAIMS).encode().replace(b'"exp": 1800000900', b'"exp": ' + spelled)
    assert spelled in payload
    assert gate.verifier.verify(signed(key, header_of(key), payload)) is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"EdDSA","typ":"at+jwt","kid":"%b","alg":"none"}',
        b'{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"%b"}',
        b'{"alg":"EdDSA","typ":"at+jwt","kid":"%b","kid":"x"}',
        b'\xef\xbb\xbf{"alg":"EdDSA","typ":"at+jwt","kid":"%b"}',
        b'[{"alg":"EdDSA","typ":"at+jwt","kid":"%b"}]',
        b'{"alg":"EdDSA","typ":"at+jwt","kid":"%b"}x',
        b'{"alg":"EdDSA","typ":"at+jwt","kid":"%b","x":NaN}',
    ],
)
async def test_a_header_that_two_readers_could_read_otherwise_is_malformed(
    gate: Gate, header: bytes
) -> None:
    key = gate.ring.signing_key()
    text = signed(key, header.replace(b"%b", key.kid.encode()), CLAIMS)
    assert gate.verifier.verify(text) is Reason.TOKEN_MALFORMED
