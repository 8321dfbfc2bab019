"""Logout tokens of another issuer: which are believed, and what they end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.issuers import ClaimPath, Issuer
from gateway.identity.issuers.event_tokens import (
    EventError,
    EventToken,
    InvalidEventToken,
    ReportedEnd,
    invalid_request,
)
from gateway.identity.issuers.logout_tokens import LogoutTokenVerifier
from gateway.identity.issuers.security_events import SESSION_REVOKED as REVOKED
from gateway.identity.issuers.security_events import SecurityEventVerifier
from gateway.model import Reason
from tests.databases import Hands
from tests.identity.issuers.event_provider import (
    ABSENT,
    AUDIENCE,
    ISSUER,
    LOGOUT,
    Provider,
    by_hand,
    ec_key,
    rsa_key,
)

PROVIDER = Provider()
CLOCK = Hands()
NOW = CLOCK.now()
ENDED = "backchannel-logout"


async def judged(
    text: str, issuer: Issuer | None = None
) -> EventToken | InvalidEventToken | Reason:
    verifier = LogoutTokenVerifier(PROVIDER, CLOCK)
    return await verifier.verify(issuer or PROVIDER.issuer(), text)


async def believed(text: str, issuer: Issuer | None = None) -> EventToken:
    token = await judged(text, issuer)
    assert isinstance(token, EventToken), token
    return token


async def refused(text: str, issuer: Issuer | None = None) -> InvalidEventToken:
    token = await judged(text, issuer)
    assert isinstance(token, InvalidEventToken), token
    return token


async def test_a_logout_token_names_a_session_and_its_subject() -> None:
    token = await believed(PROVIDER.logout_token(NOW))
    assert token == EventToken("logout-1", int(NOW), (ReportedEnd(ENDED, "alice", "session-1"),))


async def test_one_of_both_names_is_enough() -> None:
    of_session = await believed(PROVIDER.logout_token(NOW, sub=ABSENT))
    assert of_session.ends == (ReportedEnd(ENDED, None, "session-1"),)
    of_subject = await believed(PROVIDER.logout_token(NOW, sid=ABSENT))
    assert of_subject.ends == (ReportedEnd(ENDED, "alice", None),)
    token = await refused(PROVIDER.logout_token(NOW, sub=ABSENT, sid=ABSENT))
    assert token.error is EventError.INVALID_REQUEST


@pytest.mark.parametrize("typ", ["logout+jwt", "application/logout+jwt", "LOGOUT+JWT", "JWT", None])
async def test_its_type_may_be_said_or_not(typ: str | None) -> None:
    assert await believed(PROVIDER.logout_token(NOW, {"typ": typ}))


@pytest.mark.parametrize("typ", ["at+jwt", "secevent+jwt", "id_token+jwt", "application/at+jwt"])
async def test_a_token_of_another_type_is_none(typ: str) -> None:
    assert (await refused(PROVIDER.logout_token(NOW, {"typ": typ}))).description == (
        "the token has another typ"
    )


async def test_every_algorithm_that_the_issuer_may_use_is_taken_and_no_other() -> None:
    by_curve = PROVIDER.logout_token(NOW, {"kid": "e1"})
    assert await believed(by_curve)
    token = await refused(by_curve, PROVIDER.issuer(algorithms=("RS256",)))
    assert token == InvalidEventToken(EventError.INVALID_KEY, "the algorithm is not taken")


async def test_a_token_without_signature_is_none() -> None:
    claims = json.loads(_claims_of(PROVIDER.logout_token(NOW)))
    for alg in ("none", "None", "NONE"):
        token = await refused(by_hand({"alg": alg, "kid": "k1", "typ": "logout+jwt"}, claims))
        assert token.error is EventError.INVALID_KEY
    stripped = PROVIDER.logout_token(NOW).rpartition(".")[0] + "."
    assert (await refused(stripped)).error is EventError.AUTHENTICATION_FAILED


async def test_a_public_key_is_no_secret_to_sign_with() -> None:
    """RFC 8725 section 2.1: HS256 with the issuer's RSA key, which everybody knows."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    claims = json.loads(_claims_of(PROVIDER.logout_token(NOW)))
    pem = (
        PROVIDER.keys["k1"]
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    header = {"alg": "HS256", "kid": "k1", "typ": "logout+jwt"}
    text = by_hand(header, claims).rpartition(".")[0]
    mac = hmac.new(pem, text.encode(), hashlib.sha256).digest()
    forged = by_hand(header, claims, mac)
    assert (await refused(forged)).error is EventError.INVALID_KEY


async def test_another_key_under_a_known_name_signs_nothing() -> None:
    token = await refused(PROVIDER.logout_token(NOW, {"key": rsa_key()}))
    assert token.error is EventError.AUTHENTICATION_FAILED


async def test_a_key_that_the_issuer_does_not_have_is_told_apart_from_one_that_is_away() -> None:
    unknown = PROVIDER.logout_token(NOW, {"kid": "k9", "key": rsa_key()})
    assert (await refused(unknown)).error is EventError.INVALID_KEY
    away = Provider(PROVIDER.keys, away=True)
    answer = await LogoutTokenVerifier(away, CLOCK).verify(
        away.issuer(), PROVIDER.logout_token(NOW)
    )
    assert answer is Reason.ISSUER_UNAVAILABLE


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"iss": "https://id.example.com/realms/main/"}, EventError.INVALID_ISSUER),
        ({"iss": "https://ID.example.com/realms/main"}, EventError.INVALID_ISSUER),
        ({"iss": [ISSUER]}, EventError.INVALID_ISSUER),
        ({"iss": ABSENT}, EventError.INVALID_ISSUER),
        ({"aud": "another-client"}, EventError.INVALID_AUDIENCE),
        ({"aud": ["a", "b"]}, EventError.INVALID_AUDIENCE),
        ({"aud": []}, EventError.INVALID_AUDIENCE),
        ({"aud": [AUDIENCE, 7]}, EventError.INVALID_AUDIENCE),
        ({"aud": {AUDIENCE: 1}}, EventError.INVALID_AUDIENCE),
        ({"aud": ABSENT}, EventError.INVALID_AUDIENCE),
        ({"nonce": "n"}, EventError.INVALID_REQUEST),
        ({"nonce": None}, EventError.INVALID_REQUEST),
        ({"events": ABSENT}, EventError.INVALID_REQUEST),
        ({"events": {}}, EventError.INVALID_REQUEST),
        ({"events": []}, EventError.INVALID_REQUEST),
        ({"events": [LOGOUT]}, EventError.INVALID_REQUEST),
        ({"events": {LOGOUT: None}}, EventError.INVALID_REQUEST),
        ({"events": {LOGOUT: True}}, EventError.INVALID_REQUEST),
        ({"events": {LOGOUT + "/": {}}}, EventError.INVALID_REQUEST),
        ({"jti": ABSENT}, EventError.INVALID_REQUEST),
        ({"jti": ""}, EventError.INVALID_REQUEST),
        ({"jti": 7}, EventError.INVALID_REQUEST),
        ({"jti": "j" * 257}, EventError.INVALID_REQUEST),
        ({"sub": ""}, EventError.INVALID_REQUEST),
        ({"sub": "a b"}, EventError.INVALID_REQUEST),
        ({"sub": "ä"}, EventError.INVALID_REQUEST),
        ({"sub": "a" * 256}, EventError.INVALID_REQUEST),
        ({"sub": 7}, EventError.INVALID_REQUEST),
        ({"sid": "a\nb"}, EventError.INVALID_REQUEST),
        ({"sid": None}, EventError.INVALID_REQUEST),
        ({"iat": ABSENT}, EventError.INVALID_REQUEST),
        ({"iat": True}, EventError.INVALID_REQUEST),
        ({"iat": "now"}, EventError.INVALID_REQUEST),
        ({"iat": -1}, EventError.INVALID_REQUEST),
        ({"iat": 1e300}, EventError.INVALID_REQUEST),
        ({"exp": "soon"}, EventError.INVALID_REQUEST),
        ({"nbf": None}, EventError.INVALID_REQUEST),
    ],
)
async def test_a_claim_that_is_wrong_refuses_the_token(
    changed: dict[str, Any], error: EventError
) -> None:
    assert (await refused(PROVIDER.logout_token(NOW, **changed))).error is error


@pytest.mark.parametrize(
    ("changed", "description"),
    [
        ({"iss": "https://elsewhere.example"}, "iss names another issuer"),
        ({"header": {"kid": "k9", "key": ec_key()}}, "the issuer has no such key"),
        ({"header": {"kid": "e1", "key": ec_key()}}, "the signature does not hold"),
        ({"aud": "another"}, "aud does not name us"),
        ({"iat": ABSENT}, "iat is missing, or no date"),
        ({"iat": NOW + 11}, "iat is in the future"),
        ({"nbf": "now"}, "exp or nbf is no date"),
        ({"exp": NOW - 10}, "the token has expired"),
        ({"nbf": NOW + 11}, "the token is not valid yet"),
        ({"jti": ABSENT}, "jti is missing, or no text of 1 to 256 characters"),
        ({"iat": NOW - 311}, "the token is older than five minutes"),
        ({"events": {}}, "events does not hold an object for the logout event"),
        ({"nonce": "n"}, "the token has a nonce"),
        ({"sid": "a b"}, "sid is no text of 1 to 255 visible ASCII characters"),
        ({"sub": "a b"}, "sub is no text of 1 to 255 visible ASCII characters"),
        (
            {"sub": ABSENT, "sid": ABSENT},
            "neither sub nor sid names what tokens of this issuer are known by",
        ),
    ],
)
async def test_an_issuer_is_told_what_is_wrong_with_its_token(
    changed: dict[str, Any], description: str
) -> None:
    assert (await refused(PROVIDER.logout_token(NOW, **changed))).description == description


@pytest.mark.parametrize("token_id", ["j", "j" * 256])
async def test_the_shortest_and_the_longest_token_id_are_taken(token_id: str) -> None:
    assert (await believed(PROVIDER.logout_token(NOW, jti=token_id))).token_id == token_id


@pytest.mark.parametrize(("at", "good"), [(2**53, True), (2**53 + 1, False)])
async def test_the_last_second_that_all_readers_see_alike_is_a_date(at: int, good: bool) -> None:
    assert isinstance(await judged(PROVIDER.logout_token(NOW, exp=at)), EventToken) is good


async def test_a_provider_may_put_flags_beside_the_event() -> None:
    """As Keycloak does where a logout ends offline sessions too."""
    events = {LOGOUT: {}, "revoke_offline_access": True}
    assert await believed(PROVIDER.logout_token(NOW, events=events))


async def test_a_claim_that_stands_twice_refuses_the_token() -> None:
    header, _, signature = PROVIDER.logout_token(NOW).split(".")
    claims = _claims_of(PROVIDER.logout_token(NOW))
    twice = claims[:-1] + ', "sub": "bob"}'
    payload = base64.urlsafe_b64encode(twice.encode()).rstrip(b"=").decode()
    token = await refused(f"{header}.{payload}.{signature}")
    assert token.error is EventError.INVALID_REQUEST


@pytest.mark.parametrize("member", ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip"])
async def test_a_header_that_brings_a_key_or_an_extension_refuses_the_token(member: str) -> None:
    claims = json.loads(_claims_of(PROVIDER.logout_token(NOW)))
    header = {"alg": "RS256", "kid": "k1", "typ": "logout+jwt", member: "x"}
    assert (await refused(by_hand(header, claims, b"s"))).error is EventError.INVALID_REQUEST


@pytest.mark.parametrize(
    "text", ["", "a", "a.b.c", "a.b", "e30.e30.", "{}", "\x00", "ä.ö.ü", "a.b.c.d.e"]
)
async def test_what_is_no_token_is_refused(text: str) -> None:
    assert await refused(text) == invalid_request(
        "the token is no signed JWS of JSON objects with a kid"
    )


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({"iat": NOW + 10}, True),
        ({"iat": NOW + 11}, False),
        ({"iat": NOW - 310}, True),
        ({"iat": NOW - 311}, False),
        ({"exp": NOW - 9}, True),
        ({"exp": NOW - 10}, False),
        ({"exp": ABSENT}, True),
        ({"nbf": NOW + 10}, True),
        ({"nbf": NOW + 11}, False),
    ],
)
async def test_its_times_are_judged_with_the_issuers_leeway(
    changed: dict[str, Any], good: bool
) -> None:
    token = await judged(PROVIDER.logout_token(NOW, **changed), PROVIDER.issuer(leeway_s=10))
    assert isinstance(token, EventToken) is good, token


async def test_a_time_with_a_fraction_is_never_later_than_it_says() -> None:
    token = await believed(PROVIDER.logout_token(NOW, iat=NOW - 0.5))
    assert token.issued_at == int(NOW) - 1


async def test_the_audience_of_events_may_be_another_than_that_of_access_tokens() -> None:
    issuer = PROVIDER.issuer(event_audience=("the-client",))
    assert await believed(PROVIDER.logout_token(NOW, aud=["x", "the-client"]), issuer)
    token = await refused(PROVIDER.logout_token(NOW), issuer)
    assert token.error is EventError.INVALID_AUDIENCE


async def test_nothing_is_fetched_for_a_token_that_names_another_issuer() -> None:
    provider = Provider(PROVIDER.keys)
    text = provider.logout_token(NOW, iss="https://elsewhere.example")
    await LogoutTokenVerifier(provider, CLOCK).verify(provider.issuer(), text)
    assert provider.asked == []


async def test_a_subject_that_tokens_name_by_another_claim_is_found_by_that() -> None:
    issuer = PROVIDER.issuer(subject=ClaimPath("claims.oid", ("oid",)))
    token = await believed(PROVIDER.logout_token(NOW, oid="o-1"), issuer)
    assert token.ends == (ReportedEnd(ENDED, "o-1", "session-1"),)
    # Without that claim the session is all that it names, and without one of those nothing.
    token = await believed(PROVIDER.logout_token(NOW), issuer)
    assert token.ends == (ReportedEnd(ENDED, None, "session-1"),)
    assert await refused(PROVIDER.logout_token(NOW, sid=ABSENT), issuer)


@pytest.mark.parametrize("named", ["o\n1", "", 7, ["o-1"], True])
async def test_what_could_end_a_header_line_is_no_subject(named: Any) -> None:
    issuer = PROVIDER.issuer(subject=ClaimPath("claims.oid", ("oid",)))
    token = await believed(PROVIDER.logout_token(NOW, oid=named), issuer)
    assert token.ends == (ReportedEnd(ENDED, None, "session-1"),)
    assert await refused(PROVIDER.logout_token(NOW, oid=named, sid=ABSENT), issuer)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_CLAIM = st.sampled_from(
    ["iss", "aud", "iat", "exp", "nbf", "jti", "sub", "sid", "events", "sub_id", "nonce"]
)


# In a new checkout the first input takes a second: constants of all modules are gathered for it.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(claims=st.dictionaries(_CLAIM, _JSON, max_size=4), name=st.sampled_from([LOGOUT, REVOKED]))
def test_whatever_an_issuer_signs_is_judged(claims: dict[str, Any], name: str) -> None:
    """A claim of any form is no reason to fail: the answer is a verdict."""

    async def verdicts() -> list[object]:
        issuer = PROVIDER.issuer()
        events = {name: {"subject": claims.get("sub_id")}}
        logout = PROVIDER.logout_token(NOW, **{"events": events, **claims})
        happened = claims.pop("events", events)
        event = PROVIDER.security_event(NOW, happened, **claims)
        return [
            await LogoutTokenVerifier(PROVIDER, CLOCK).verify(issuer, logout),
            await SecurityEventVerifier(PROVIDER, CLOCK).verify(issuer, event),
        ]

    for verdict in asyncio.run(verdicts()):
        assert isinstance(verdict, EventToken | InvalidEventToken)


def _claims_of(text: str) -> str:
    payload = text.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
