"""Odd tokens of another issuer, signed by the JOSE code that authlib itself brings: what a stock
library of Python makes of a key and of claims is judged as what any other makes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from authlib.deprecate import AuthlibDeprecationWarning
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

with warnings.catch_warnings():
    # authlib keeps it for those who use it already, and points others to joserfc.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.jose import JsonWebKey, JsonWebSignature

from gateway.access.issuers import Issuer
from gateway.identity.issuers.event_tokens import EventError, EventToken, InvalidEventToken
from gateway.identity.issuers.jwk_set import read_jwk_set
from gateway.identity.issuers.logout_tokens import LogoutTokenVerifier
from gateway.identity.issuers.verifier import IssuerVerifier, read_foreign_token
from gateway.model import Principal, Reason
from tests.databases import Hands
from tests.identity.issuers.event_provider import AUDIENCE as LOGOUT_AUDIENCE
from tests.identity.issuers.event_provider import ISSUER as LOGOUT_ISSUER
from tests.identity.issuers.event_provider import LOGOUT, Provider
from tests.identity.issuers.provider import CLAIMS, Signer, document, issuer, signer
from tests.identity.keyring import MAX_LIFE_S, START, HandClock

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")
KEY = signer("ES256")
ANOTHER = signer("ES256")
PROVIDER = Provider()
NOW = int(Hands().now())


def made(claims: dict[str, Any], key: Any, **header: Any) -> str:
    """The compact form; a claim or a member of the header that is `...` is left out."""
    protected = {name: value for name, value in header.items() if value is not ...}
    payload = {name: value for name, value in claims.items() if value is not ...}
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    library = JsonWebSignature([header["alg"]])
    text = library.serialize_compact(protected, json.dumps(payload), JsonWebKey.import_key(pem))
    return str(text.decode())


def access(
    by: Signer = KEY, header: dict[str, Any] | None = None, key: Any = None, **claims: Any
) -> str:
    named = {"alg": by.alg, "typ": "at+jwt", "kid": by.kid, **(header or {})}
    return made({**CLAIMS, **claims}, key or by.key, **named)


def verdict(text: str, of: Issuer | None = None, key: Signer = KEY) -> Principal | Reason | None:
    """None for what is no token of the issuer at all."""
    judge = IssuerVerifier(of or issuer(), max_life_s=MAX_LIFE_S, now=HandClock().now)
    token = read_foreign_token(text, {judge.issuer.issuer: judge.issuer.name})
    if token is None:
        return None
    return judge.verify(token, read_jwk_set(document(key)).keys[key.kid])


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_an_access_token_of_every_algorithm_is_taken(alg: str) -> None:
    key = signer(alg)
    found = verdict(access(key), issuer(algorithms=(alg,)), key)
    assert isinstance(found, Principal), found
    assert (found.subject, found.session_id) == ("company:alice", "company:s-1")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (lambda: access(key=ANOTHER.key), Reason.TOKEN_SIGNATURE_INVALID),
        (lambda: access(header={"jwk": ANOTHER.public()}, key=ANOTHER.key), None),
        (lambda: access(header={"kid": ...}), None),
        (lambda: access(iss=CLAIMS["iss"] + "/"), None),
        (lambda: access(header={"typ": "logout+jwt"}), Reason.TOKEN_CLAIMS_INVALID),
        (lambda: access(header={"typ": "JWT"}, at_hash="h"), Reason.TOKEN_CLAIMS_INVALID),
        (lambda: access(events={LOGOUT: {}}), Reason.TOKEN_CLAIMS_INVALID),
        (lambda: access(aud=...), Reason.TOKEN_CLAIMS_INVALID),
        (lambda: access(aud=["web", "account"]), Reason.TOKEN_CLAIMS_INVALID),
        (lambda: access(nbf=START + 60), Reason.TOKEN_CLAIMS_INVALID),
        (lambda: access(exp=START + MAX_LIFE_S + 1), Reason.TOKEN_CLAIMS_INVALID),
        (lambda: access(iat=START - 300, exp=START - 10), Reason.TOKEN_EXPIRED),
    ],
    ids=[
        "another key", "brings a key", "no kid", "another iss", "logout typ", "ID token", "event",
        "no aud", "list without us", "not yet", "lives too long", "over",
    ],
)  # fmt: skip
def test_an_odd_access_token_is_refused_with_its_reason(
    text: Callable[[], str], refusal: Reason | None
) -> None:
    assert verdict(text()) is refusal
    assert isinstance(verdict(access()), Principal)


def test_a_token_by_an_algorithm_that_is_not_taken_is_refused() -> None:
    key = signer("RS256")
    of_another_padding = access(key, header={"alg": "PS256"})
    assert verdict(of_another_padding, key=key) is Reason.TOKEN_SIGNATURE_INVALID


def logout(header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
    said: dict[str, Any] = {
        "iss": LOGOUT_ISSUER, "aud": LOGOUT_AUDIENCE, "iat": NOW, "exp": NOW + 120, "jti": "j-1",
        "sub": "alice", "sid": "session-1", "events": {LOGOUT: {}},
    }  # fmt: skip
    named = {"alg": "RS256", "typ": "logout+jwt", "kid": "k1", **(header or {})}
    return made({**said, **claims}, key or PROVIDER.keys[named["kid"]], **named)


async def ended(text: str) -> EventToken | InvalidEventToken | Reason:
    return await LogoutTokenVerifier(PROVIDER, Hands()).verify(PROVIDER.issuer(), text)


async def test_a_logout_token_of_every_key_is_taken() -> None:
    for header in ({}, {"alg": "ES256", "kid": "e1"}, {"typ": ...}):
        token = await ended(logout(header))
        assert isinstance(token, EventToken), token
        assert (token.ends[0].subject, token.ends[0].session_id) == ("alice", "session-1")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (lambda: logout(nonce="n"), EventError.INVALID_REQUEST),
        (lambda: logout(events=...), EventError.INVALID_REQUEST),
        (lambda: logout(sub=..., sid=...), EventError.INVALID_REQUEST),
        (lambda: logout(jti=...), EventError.INVALID_REQUEST),
        (lambda: logout(iat=NOW - 400), EventError.INVALID_REQUEST),
        (lambda: logout({"typ": "at+jwt"}), EventError.INVALID_REQUEST),
        (lambda: logout({"jwk": ANOTHER.public()}), EventError.INVALID_REQUEST),
        (lambda: logout(iss=LOGOUT_ISSUER + "/"), EventError.INVALID_ISSUER),
        (lambda: logout(aud="web"), EventError.INVALID_AUDIENCE),
        (lambda: logout({"alg": "PS256"}), EventError.INVALID_KEY),
        (lambda: logout(key=signer("RS256").key), EventError.AUTHENTICATION_FAILED),
    ],
    ids=[
        "nonce", "no events", "no names", "no jti", "stale", "access typ", "brings a key",
        "another iss", "another aud", "another alg", "another key",
    ],
)  # fmt: skip
async def test_an_odd_logout_token_is_refused_with_its_error(
    text: Callable[[], str], error: EventError
) -> None:
    token = await ended(text())
    assert isinstance(token, InvalidEventToken), token
    assert token.error is error
