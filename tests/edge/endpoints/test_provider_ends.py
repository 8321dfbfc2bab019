"""What a provider ends while somebody is on their way in, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from gateway.access.issuers import Issuer
from gateway.access.providers import Provider as SignInProvider
from gateway.identity.factors.factor_kinds import FactorKind, FactorNeeded
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.linked_identities import LinkedAccount
from gateway.identity.providers.metadata import ProviderMetadata
from gateway.model import Reason
from gateway.stores.protocols import StoreUnavailable
from tests.edge.auth_house import EMAIL, House, open_house, reason, request, told
from tests.edge.endpoints.test_factors import code_at, enrol, kinds_of, second_step
from tests.edge.endpoints.test_required_factors import links_of
from tests.edge.rig import Answer
from tests.identity.issuers.event_provider import ABSENT, PublishedKey
from tests.identity.providers.parts import CLIENT, ISSUER, provider

THERE = "session-1"
IDP = provider("trust_email: true\nbackchannel_logout: true")


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with open_house(tmp_path, providers={"idp": IDP}) as opened:
        await opened.register()

        async def metadata(one: SignInProvider) -> ProviderMetadata:
            del one
            return ProviderMetadata(f"{ISSUER}/auth", f"{ISSUER}/token", f"{ISSUER}/keys")

        async def find(issuer: Issuer, kid: str, jwks_uri: str) -> PublishedKey | Reason:
            del jwks_uri
            return await opened.provider.find(issuer, kid)

        monkeypatch.setattr(opened.deps.providers.client, "metadata", metadata)
        monkeypatch.setattr(opened.deps.providers.keys, "find", find)
        yield opened


async def ended_there(house: House, sid: str = THERE) -> Answer:
    """The provider tells of the end of the session there; it names the session alone."""
    token = house.provider.logout_token(house.clock.now(), aud=CLIENT, sub=ABSENT, sid=sid)
    content = urlencode({"logout_token": token}).encode()
    path = "/auth/providers/idp/backchannel-logout"
    form = "application/x-www-form-urlencoded"
    return await house.raw(request("POST", path, content, content_type=form))


async def came_back(house: House) -> tuple[LinkedAccount, ProviderIdentity]:
    identity = ProviderIdentity(IDP, "alice", EMAIL, email_verified=True, session_id=THERE)
    found = await links_of(house).sign_in(identity)
    assert isinstance(found, LinkedAccount)
    return found, identity


async def at_the_second_factor(house: House) -> str:
    """The `mfa_token` of who came back from the provider."""
    found, identity = await came_back(house)
    origin = house.deps.providers.sessions.origin(identity, found.identity_id)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    needed = FactorNeeded(account, ("fed",), (FactorKind.TOTP,))
    return house.deps.mfa_tokens.issue(
        needed, "gate.example", "cookie", known_device=True, origin=origin
    ).text


async def live_sessions(house: House) -> list[str]:
    async with house.database.transaction() as tx:
        rows = await tx.all("SELECT id FROM families WHERE ended_at IS NULL AND transport='cookie'")
    return [str(row["id"]) for row in rows]


async def test_who_is_at_the_second_factor_in_a_session_that_has_ended_there_gets_none(
    house: House,
) -> None:
    """It has begun no session here yet by which anybody could know whose it is."""
    secret, _ = await enrol(house)
    waiting = await at_the_second_factor(house)
    assert (await ended_there(house)).status == 200
    done = await second_step(house, waiting, code_at(house, secret))
    assert (done.status, reason(done)) == (401, "invalid_credentials")
    assert not done.values("set-cookie")
    assert await live_sessions(house) == []
    assert kinds_of(house)[-1] == "sign_in_failed"


async def test_the_end_of_another_session_there_stops_nobody(house: House) -> None:
    secret, _ = await enrol(house)
    waiting = await at_the_second_factor(house)
    assert (await ended_there(house, sid="another")).status == 200
    done = await second_step(house, waiting, code_at(house, secret))
    assert done.status == 200, done.body
    assert len(await live_sessions(house)) == 1


async def test_where_nobody_can_say_what_has_ended_there_nobody_gets_in(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, _ = await enrol(house)
    waiting = await at_the_second_factor(house)

    async def is_away(_origin: object) -> bool:
        raise StoreUnavailable("redis", "away")

    monkeypatch.setattr(house.deps.providers.ended_sessions, "has_ended", is_away)
    done = await second_step(house, waiting, code_at(house, secret))
    assert (done.status, reason(done)) == (503, "store_unavailable")
    assert await live_sessions(house) == []


async def test_who_is_to_enrol_a_factor_in_a_session_that_has_ended_there_enrols_none(
    house: House,
) -> None:
    """Else whoever was sent away there would have the only factor of the account."""
    found, identity = await came_back(house)
    origin = house.deps.providers.sessions.origin(identity, found.identity_id)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    waiting = house.deps.mfa_tokens.issue(
        FactorNeeded(account, ("fed",), ()),
        "gate.example",
        "cookie",
        known_device=True,
        origin=origin,
    ).text
    begun = await house.ask("POST", "/auth/factors/totp", {"mfa_token": waiting})
    secret = str(told(begun)["secret"])
    assert (await ended_there(house)).status == 200
    body = {"mfa_token": waiting, "code": code_at(house, secret)}
    for path in ("/auth/factors/totp/confirm", "/auth/factors/totp"):
        answer = await house.ask(
            "POST", path, body if "confirm" in path else {"mfa_token": waiting}
        )
        assert (answer.status, reason(answer)) == (400, "invalid_token")
    token = str((await house.sign_in())["access_token"])
    assert told(await house.ask("GET", "/auth/factors", token=token))["totp"] is None
