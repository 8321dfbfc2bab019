"""ID tokens: which of them say who signs in, and what an attacker tries instead."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from gateway.access.providers import Provider as Configured
from gateway.identity.providers.id_tokens import ProviderUnavailable, read_id_token
from gateway.identity.providers.identities import IdentityRefused
from gateway.identity.providers.round_trips import RoundTrip
from tests.identity.issuers.event_provider import ABSENT, Provider, by_hand, ec_key, present
from tests.identity.providers.parts import CLIENT, ISSUER, Keys, provider

NOW = 1_800_000_000
TRIP = RoundTrip("idp", "", state="s", nonce="n-of-this-trip", verifier="v")
ACCESS_TOKEN = "an-access-token"


def at_hash(token: str) -> str:
    digest = hashlib.sha256(token.encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def claims(**changed: Any) -> dict[str, Any]:
    whole = {
        "iss": ISSUER,
        "aud": CLIENT,
        "sub": "alice",
        "iat": NOW,
        "exp": NOW + 300,
        "nonce": TRIP.nonce,
        **changed,
    }
    return present(whole)


async def judged(
    text: str,
    *,
    signer: Provider | None = None,
    trip: RoundTrip = TRIP,
    configured: Configured | None = None,
    access_token: str | None = ACCESS_TOKEN,
) -> dict[str, Any]:
    return await read_id_token(
        configured or provider(),
        text,
        trip,
        access_token,
        keys=Keys(signer or Provider()),
        jwks_uri=f"{ISSUER}/keys",
        now=NOW,
    )


async def test_a_good_one_says_who_signed_in() -> None:
    told = await judged(Provider().signed(claims(at_hash=at_hash(ACCESS_TOKEN)), typ="JWT"))
    assert told["sub"] == "alice"
    assert (await judged(Provider().signed(claims(), typ=None)))["sub"] == "alice"
    assert (await judged(Provider().signed(claims(aud=[CLIENT]), typ=None)))["sub"] == "alice"
    several = claims(aud=["another", CLIENT], azp=CLIENT)
    assert (await judged(Provider().signed(several, typ=None)))["sub"] == "alice"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another-client"},
        {"aud": ["another-client"]},
        {"aud": ["another-client", CLIENT]},
        {"aud": [CLIENT, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"aud": ABSENT},
        {"aud": {"x": CLIENT}},
        {"aud": []},
        {"iss": "https://evil.example"},
        {"iss": ISSUER + "/"},
        {"iss": ABSENT},
        {"iss": [ISSUER]},
        {"nonce": "n-of-another-trip"},
        {"nonce": ABSENT},
        {"nonce": ""},
        {"nonce": [TRIP.nonce]},
        {"nonce": None},
        {"exp": NOW - 60},
        {"exp": ABSENT},
        {"exp": "soon"},
        {"exp": None},
        {"iat": NOW + 3_600},
        {"iat": ABSENT},
        {"nbf": NOW + 3_600},
        {"sub": ABSENT},
        {"sub": None},
        {"sub": 7},
        {"at_hash": "another"},
        {"at_hash": 7},
        {"amr": "pwd"},
        {"events": {}},
    ],
    ids=lambda changed: "-".join(changed),
)
async def test_one_that_is_not_of_this_sign_in_here_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(IdentityRefused):
        await judged(Provider().signed(claims(**changed), typ="JWT"))


@pytest.mark.parametrize("typ", ["at+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt"])
async def test_a_token_of_another_kind_is_none(typ: str) -> None:
    with pytest.raises(IdentityRefused, match="typ"):
        await judged(Provider().signed(claims(), typ=typ))


async def test_nobody_but_the_provider_signs_one() -> None:
    forged = Provider().signed(claims(), typ="JWT", kid="e1", key=ec_key())
    with pytest.raises(IdentityRefused):
        await judged(forged, configured=provider("algorithms: [RS256, ES256]"))
    with pytest.raises(IdentityRefused, match="algorithms"):
        await judged(Provider().signed(claims(), typ="JWT", kid="e1"))
    unsigned = by_hand({"alg": "none", "kid": "k1"}, claims())
    with pytest.raises(IdentityRefused):
        await judged(unsigned)
    shared = by_hand({"alg": "HS256", "kid": "k1"}, claims(), b"x" * 32)
    with pytest.raises(IdentityRefused):
        await judged(shared)
    with pytest.raises(IdentityRefused, match="does not name"):
        await judged(Provider().signed(claims(), typ="JWT", kid="k9", key=Provider().keys["k1"]))
    for text in ("", "a.b", "a.b.c", "é", "x" * 40_000):
        with pytest.raises(IdentityRefused):
            await judged(text)


async def test_where_the_keys_cannot_be_had_nothing_is_said_of_it() -> None:
    away = Provider(away=True)
    with pytest.raises(ProviderUnavailable):
        await judged(away.signed(claims(), typ="JWT"), signer=away)


async def test_a_fresh_sign_in_there_was_asked_for() -> None:
    trip = RoundTrip("idp", "", max_age_s=60, nonce=TRIP.nonce)
    told = claims(auth_time=NOW - 30)
    assert (await judged(Provider().signed(told, typ="JWT"), trip=trip))["auth_time"] == NOW - 30
    for changed in ({"auth_time": NOW - 3_600}, {"auth_time": ABSENT}, {"auth_time": "now"}):
        with pytest.raises(IdentityRefused):
            await judged(Provider().signed(claims(**changed), typ="JWT"), trip=trip)


async def test_many_groups_fit_into_one() -> None:
    groups = [f"group-{number:04}" for number in range(1_000)]
    told = await judged(Provider().signed(claims(groups=groups), typ="JWT"))
    assert len(told["groups"]) == 1_000
