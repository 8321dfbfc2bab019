"""The gateway as a client of a provider: what it asks, what it believes, and what a provider that
fails costs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import gateway.identity.providers.client as client_module
from gateway.identity.issuers.fetching import FetchedDocument, FetchFailed
from gateway.identity.providers.asking import ProviderAnswer
from gateway.identity.providers.client import (
    ANY_AGE_S,
    AT_ONCE,
    STARTS_OF_NEIGHBOURHOOD,
    ProviderClient,
    ProviderResponse,
)
from gateway.identity.providers.id_tokens import ProviderUnavailable
from gateway.identity.providers.identities import IdentityRefused
from gateway.identity.providers.round_trips import RoundTrip
from gateway.model import SystemClock
from tests.identity.issuers import event_provider
from tests.identity.providers.parts import CLIENT, ISSUER, Keys, provider

TRIP = RoundTrip("idp", "", state="s", nonce="n", verifier="v" * 43)
IP = "192.0.2.1"


@dataclass
class Site:
    """A provider's server; meets `key_sets.Documents` and answers as `asking.ProviderServers`."""

    document: dict[str, Any] = field(
        default_factory=lambda: {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "userinfo_endpoint": f"{ISSUER}/me",
            "jwks_uri": f"{ISSUER}/keys",
        }
    )
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    away: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def get(self, url: str, ca: str | None, more: Any) -> Any:
        self.asked.append((url, ""))
        if self.away:
            raise FetchFailed(f"{url} is away")
        if isinstance(more, int):
            return FetchedDocument(json.dumps(self.document).encode(), 300.0)
        return self._answer(url)

    async def post(
        self, url: str, ca: str | None, form: str, fields: Mapping[str, str]
    ) -> ProviderAnswer:
        self.asked.append((url, form))
        if self.away:
            raise FetchFailed(f"{url} is away")
        return self._answer(url)

    def _answer(self, url: str) -> ProviderAnswer:
        status, value = self.answers[url]
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return ProviderAnswer(url, status, body)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def client(site: Site) -> ProviderClient:
    return ProviderClient(
        site,
        site,  # type: ignore[arg-type]
        Keys(event_provider.Provider()),
        SystemClock(),
        redirect_uri=lambda name: f"https://gate.example/auth/providers/{name}/callback",
    )


def id_token(**changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": CLIENT, "sub": "alice", "iat": now, "exp": now + 60, "nonce": "n",
        **changed,
    }  # fmt: skip
    return event_provider.Provider().signed(claims, typ="JWT")


async def test_the_request_has_all_that_keeps_a_sign_in_apart(client: ProviderClient) -> None:
    one = provider("parameters: {prompt: select_account}\nform_post: true")
    trip = RoundTrip("idp", "", max_age_s=60, state="s", nonce="n", verifier="v" * 43)
    words = parse_qs(urlsplit(await client.authorization_url(one, trip, IP)).query)
    assert words["code_challenge_method"] == ["S256"]
    assert words["code_challenge"] != [trip.verifier]
    assert (words["state"], words["nonce"], words["max_age"]) == (["s"], ["n"], ["59"])
    assert (words["response_type"], words["response_mode"]) == (["code"], ["form_post"])
    assert words["prompt"] == ["select_account"]
    assert words["scope"] == ["openid email"]


async def test_who_can_say_when_somebody_signed_in_is_asked_to(
    client: ProviderClient, site: Site
) -> None:
    """Else a session there of this morning would begin a fresh one here."""
    site.document["claims_supported"] = ["sub", "auth_time"]
    words = parse_qs(urlsplit(await client.authorization_url(provider(), TRIP, IP)).query)
    assert words["max_age"] == [str(ANY_AGE_S)]
    # One who does not say it all the same is believed as before.
    tokens = {"id_token": id_token(), "access_token": "a"}
    site.answers[f"{ISSUER}/token"] = (200, tokens)
    found = await client.identity(
        provider("userinfo: false"), TRIP, ProviderResponse("code", iss=None)
    )
    assert (found.subject, found.auth_time) == ("alice", None)


async def test_who_cannot_say_when_is_not_asked(client: ProviderClient) -> None:
    words = parse_qs(urlsplit(await client.authorization_url(provider(), TRIP, IP)).query)
    assert "max_age" not in words


async def test_a_pushed_request_is_not_in_the_url(client: ProviderClient, site: Site) -> None:
    site.document["pushed_authorization_request_endpoint"] = f"{ISSUER}/par"
    site.answers[f"{ISSUER}/par"] = (201, {"request_uri": "urn:x:1", "expires_in": 60})
    url = await client.authorization_url(provider(), TRIP, IP)
    assert parse_qs(urlsplit(url).query) == {"client_id": [CLIENT], "request_uri": ["urn:x:1"]}
    assert "code_challenge" in site.asked[-1][1]


async def test_an_address_is_verified_by_what_is_said_beside_it(
    client: ProviderClient, site: Site
) -> None:
    site.answers[f"{ISSUER}/token"] = (
        200, {"access_token": "a", "id_token": id_token(email="victim@example.com")},
    )  # fmt: skip
    told = {"sub": "alice", "email": "own@example.com", "email_verified": True}
    site.answers[f"{ISSUER}/me"] = (200, told)
    one = await client.identity(provider(), TRIP, ProviderResponse("c", None))
    assert (one.email, one.email_verified) == ("victim@example.com", False)
    site.answers[f"{ISSUER}/me"] = (200, {**told, "email": "victim@example.com"})
    one = await client.identity(provider(), TRIP, ProviderResponse("c", None))
    assert one.email_verified


@pytest.mark.parametrize(
    ("options", "email", "verified"),
    [
        ("", "email", "email_verified"),
        ("email: claims.mail\nemail_verified: claims.ok", "mail", "ok"),
    ],
)
async def test_a_token_that_names_no_address_says_of_none_that_it_is_verified(
    client: ProviderClient, site: Site, options: str, email: str, verified: str
) -> None:
    site.answers[f"{ISSUER}/token"] = (
        200, {"access_token": "a", "id_token": id_token(**{verified: True})},
    )  # fmt: skip
    told: dict[str, object] = {"sub": "alice", email: "victim@example.com", verified: False}
    site.answers[f"{ISSUER}/me"] = (200, told)
    one = await client.identity(provider(options), TRIP, ProviderResponse("c", None))
    assert (one.email, one.email_verified) == ("victim@example.com", False)
    site.answers[f"{ISSUER}/me"] = (200, {**told, verified: True})
    one = await client.identity(provider(options), TRIP, ProviderResponse("c", None))
    assert one.email_verified


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("token", (200, {})),
        ("token", (200, [])),
        ("token", (200, b"<html>")),
        ("token", (200, b'{"a": 1, "a": 2}')),
        ("token", (400, {"error": "invalid_grant"})),
        ("token", (401, {"error": "invalid_client", "error_description": "\x1b[31m"})),
        ("token", (200, {"error": "access_denied"})),
        ("token", (200, {"access_token": "a", "id_token": 7})),
        ("me", (200, {"sub": "bob"})),
        ("me", (200, {})),
        ("me", (200, b"a.jwt.instead")),
        ("me", (403, {})),
    ],
)
async def test_an_answer_that_says_too_little_or_of_somebody_else_is_refused(
    client: ProviderClient, site: Site, path: str, answer: tuple[int, Any]
) -> None:
    site.answers[f"{ISSUER}/token"] = (200, {"access_token": "a", "id_token": id_token()})
    site.answers[f"{ISSUER}/me"] = (200, {"sub": "alice"})
    assert (await client.identity(provider(), TRIP, ProviderResponse("c", ISSUER))).subject
    site.answers[f"{ISSUER}/{path}"] = answer
    with pytest.raises(IdentityRefused) as refused:
        await client.identity(provider(), TRIP, ProviderResponse("c", ISSUER))
    assert str(refused.value).isprintable()


async def test_an_answer_of_another_provider_is_refused_before_its_code_is_shown(
    client: ProviderClient, site: Site
) -> None:
    await client.metadata(provider())
    site.asked.clear()
    with pytest.raises(IdentityRefused):
        await client.identity(provider(), TRIP, ProviderResponse("c", "https://evil.example"))
    assert site.asked == []


async def test_a_provider_that_is_away_is_left_alone_after_some_tries(
    client: ProviderClient, site: Site
) -> None:
    site.away = True
    for _ in range(20):
        with pytest.raises(ProviderUnavailable):
            await client.authorization_url(provider(), TRIP, IP)
    assert len(site.asked) <= 6
    assert client.last_error(provider()) is not None


async def test_who_refuses_a_visitor_is_there_for_others(
    client: ProviderClient, site: Site
) -> None:
    site.answers[f"{ISSUER}/token"] = (400, {"error": "invalid_grant"})
    for _ in range(20):
        with pytest.raises(IdentityRefused):
            await client.identity(provider(), TRIP, ProviderResponse("c", None))
    assert client.last_error(provider()) is None
    assert await asyncio.wait_for(client.authorization_url(provider(), TRIP, IP), 60)


class SlowSite(Site):
    """One that answers a pushed request when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.document["pushed_authorization_request_endpoint"] = f"{ISSUER}/par"
        self.answers[f"{ISSUER}/par"] = (201, {"request_uri": "urn:x", "expires_in": 60})
        self.go_on = asyncio.Event()
        self.pushed = 0

    async def post(
        self, url: str, ca: str | None, form: str, fields: Mapping[str, str]
    ) -> ProviderAnswer:
        if url.endswith("/par"):
            self.pushed += 1
            await self.go_on.wait()
        return await super().post(url, ca, form, fields)


@pytest.fixture
async def slow() -> SlowSite:
    return SlowSite()


@pytest.fixture
def patient(slow: SlowSite) -> ProviderClient:
    return ProviderClient(
        slow,
        slow,  # type: ignore[arg-type]
        Keys(event_provider.Provider()),
        SystemClock(),
        redirect_uri=lambda name: f"https://gate.example/auth/providers/{name}/callback",
    )


async def test_those_of_one_neighbourhood_who_set_out_are_pushed_a_few_at_a_time(
    patient: ProviderClient, slow: SlowSite
) -> None:
    """Whoever has no account sets out as often as they like: each is a question to the provider
    under the gateway's name."""
    one = provider()
    await patient.metadata(one)
    crowd = [
        asyncio.create_task(patient.authorization_url(one, TRIP, f"2001:db8:7:{n:x}::1"))
        for n in range(20)
    ]
    await asyncio.sleep(0)
    while slow.pushed < STARTS_OF_NEIGHBOURHOOD:
        await asyncio.sleep(0)
    other = asyncio.create_task(patient.authorization_url(one, TRIP, "198.51.100.7"))
    while slow.pushed < STARTS_OF_NEIGHBOURHOOD + 1:
        await asyncio.sleep(0)
    slow.go_on.set()
    assert await other
    assert all(await asyncio.gather(*crowd))


async def test_however_many_set_out_those_who_come_back_have_their_places(
    patient: ProviderClient, slow: SlowSite
) -> None:
    one = provider()
    await patient.metadata(one)
    slow.answers[f"{ISSUER}/token"] = (400, {"error": "invalid_grant"})
    crowd = [
        asyncio.create_task(patient.authorization_url(one, TRIP, f"198.51.{n}.7"))
        for n in range(AT_ONCE + 4)
    ]
    while slow.pushed < AT_ONCE:
        await asyncio.sleep(0)
    with pytest.raises(IdentityRefused):
        await asyncio.wait_for(patient.identity(one, TRIP, ProviderResponse("c", None)), 60)
    assert slow.pushed == AT_ONCE
    slow.go_on.set()
    assert all(await asyncio.gather(*crowd))


async def test_who_gets_no_turn_to_set_out_is_told_that_too_many_ask(
    patient: ProviderClient, slow: SlowSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PLACE_WAIT_S", 0.05)
    one = provider()
    await patient.metadata(one)
    crowd = [
        asyncio.create_task(patient.authorization_url(one, TRIP, IP))
        for _ in range(STARTS_OF_NEIGHBOURHOOD)
    ]
    while slow.pushed < STARTS_OF_NEIGHBOURHOOD:
        await asyncio.sleep(0)
    with pytest.raises(ProviderUnavailable, match="too many"):
        await patient.authorization_url(one, TRIP, IP)
    slow.go_on.set()
    await asyncio.gather(*crowd)


async def test_a_provider_that_hangs_is_left_alone_by_one_neighbourhood_too(
    patient: ProviderClient, slow: SlowSite
) -> None:
    """Else each of its visitors would wait for a turn, as long as it hangs."""
    one = provider()
    await patient.metadata(one)
    crowd = [
        asyncio.create_task(patient.authorization_url(one, TRIP, IP))
        for _ in range(STARTS_OF_NEIGHBOURHOOD)
    ]
    while slow.pushed < STARTS_OF_NEIGHBOURHOOD:
        await asyncio.sleep(0)
    slow.away = True
    slow.go_on.set()
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    assert all(isinstance(answer, ProviderUnavailable) for answer in answers)
    asked = len(slow.asked)
    with pytest.raises(ProviderUnavailable):
        await patient.authorization_url(one, TRIP, IP)
    assert len(slow.asked) == asked
