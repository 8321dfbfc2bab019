"""What a page may ask about the links of its visitor's account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.edge.endpoints.rate_limits import LINKS
from gateway.identity.providers.metadata import ProviderMetadata
from gateway.identity.providers.provider_sessions import ProviderSession
from tests.config.provider_texts import provider as provider_of
from tests.edge.auth_house import CREDENTIALS, House, open_house, reason, request, told
from tests.edge.endpoints.test_provider_guesses import HUB
from tests.edge.rig import Answer
from tests.identity.providers.parts import ISSUER, provider

GATE, APP = "gate.example", "app1.example"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, providers={"idp": provider()}) as opened:
        await opened.register()
        yield opened


async def signed_in_at(house: House, host: str) -> list[str]:
    """What a page of the host sends with the session that begins."""
    body = b'{"email": "%s", "password": "%s", "transport": "cookie"}' % (
        CREDENTIALS["email"].encode(),
        CREDENTIALS["password"].encode(),
    )
    signed_in = await house.raw(request("POST", "/auth/login", body, host=host))
    line = next(v for v in signed_in.values("set-cookie") if v.startswith(b"__Host-session="))
    return [f"Cookie: {line.split(b';')[0].decode()}", "Sec-Fetch-Site: same-origin"]


async def by_cookie(house: House, host: str, method: str, path: str) -> Answer:
    """What a page of the host is told in a session that began there."""
    fields = await signed_in_at(house, host)
    return await house.raw(request(method, path, b"", headers=fields, host=host))


async def test_the_page_of_an_application_gets_no_permit_to_link(house: House) -> None:
    """It would lead its visitor with it to the public host, and have the identity of somebody else
    linked whom the browser is signed in as at the provider."""
    own = await by_cookie(house, GATE, "GET", "/auth/links")
    assert "permit=" in told(own)["available"][0]["start"]
    of_application = await by_cookie(house, APP, "GET", "/auth/links")
    assert told(of_application)["available"] == [{"name": "idp", "label": "idp", "start": None}]


async def test_the_page_of_an_application_ends_no_link(house: House) -> None:
    assert (await by_cookie(house, GATE, "DELETE", "/auth/links/idp")).status == 404
    answer = await by_cookie(house, APP, "DELETE", "/auth/links/idp")
    assert (answer.status, reason(answer)) == (403, "cross_origin")


@pytest.mark.parametrize("host", [GATE, APP])
async def test_the_page_of_an_application_is_told_no_id_token(
    house: House, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Where tokens of that provider count, it would be one that outlives the sign-out."""

    async def of_session(_session_id: str) -> ProviderSession:
        return ProviderSession("idp", "an.id.token")

    async def metadata(_provider: object) -> ProviderMetadata:
        ends = "https://id.example/end"
        return ProviderMetadata(
            f"{ISSUER}/auth", f"{ISSUER}/token", f"{ISSUER}/keys", end_session=ends
        )

    monkeypatch.setattr(house.deps.providers.sessions, "of_session", of_session)
    monkeypatch.setattr(house.deps.providers.client, "metadata", metadata)
    fields = await signed_in_at(house, host)
    body = b'{"provider": true}'
    answer = await house.raw(request("POST", "/auth/logout", body, headers=fields, host=host))
    assert answer.status == 200, answer.body
    location = told(answer)["provider_sign_out"]["location"]
    assert location.startswith("https://id.example/end?client_id=")
    assert ("id_token_hint=an.id.token" in location) is (host == GATE)


async def test_who_signed_in_long_ago_confirms_it_before_a_link_is_made_or_ended(
    house: House,
) -> None:
    fields = await signed_in_at(house, GATE)
    house.clock.move(301)
    listed = await house.raw(request("GET", "/auth/links", b"", headers=fields, host=GATE))
    start = told(listed)["available"][0]["start"]
    for method, path in (("GET", start), ("DELETE", "/auth/links/idp")):
        answer = await house.raw(request(method, path, b"", headers=fields, host=GATE))
        assert (answer.status, reason(answer)) == (401, "insufficient_user_authentication")
        assert not answer.values("location")


async def test_an_account_sets_out_to_be_linked_fifty_times_a_day(tmp_path: Path) -> None:
    """Each link leaves an event, and one more when it is ended: whoever has a script of both
    would fill the audit log.  Ending one is never refused."""
    async with open_house(tmp_path, providers={"idp": provider_of(HUB)}) as house:
        await house.register()
        fields = await signed_in_at(house, GATE)
        listed = await house.raw(request("GET", "/auth/links", b"", headers=fields, host=GATE))
        start = told(listed)["available"][0]["start"]

        async def ask(method: str, path: str) -> Answer:
            return await house.raw(request(method, path, b"", headers=fields, host=GATE))

        assert {(await ask("GET", start)).status for _ in range(LINKS[0].burst)} == {303}
        answer = await ask("GET", start)
        assert (answer.status, reason(answer)) == (429, "rate_limited")
        assert (await ask("DELETE", "/auth/links/idp")).status == 404
