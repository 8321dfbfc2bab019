"""What a stranger can have asked of a provider, by answers that it never gave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.edge.endpoints.rate_limits import PROVIDER
from gateway.identity.issuers.fetching import AnswerTooLong
from gateway.identity.providers.asking import ProviderAnswer, ProviderServers
from gateway.identity.sign_in.throttle import ADDRESS_FAILURES
from tests.config.provider_texts import provider
from tests.edge.auth_house import House, open_house, reason, request
from tests.edge.house_parts import no_addresses
from tests.edge.rig import Answer

HUB = "preset: github\nclient_id: gateway\nclient_secret: {secret: s}"


class Servers(ProviderServers):
    """Of a provider that knows no code."""

    def __init__(self) -> None:
        super().__init__(no_addresses)
        self.asked = 0
        self.error = "bad_verification_code"
        self.too_long = False

    async def post(
        self, url: str, ca: str | None, form: str, fields: Mapping[str, str]
    ) -> ProviderAnswer:
        self.asked += 1
        if self.too_long:
            raise AnswerTooLong(f"{url} answered more than anybody reads")
        return ProviderAnswer(url, 200, json.dumps({"error": self.error}).encode())


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
async def house(tmp_path: Path, servers: Servers) -> AsyncIterator[House]:
    providers = {"idp": provider(HUB)}
    async with open_house(tmp_path, providers=providers, provider_servers=servers) as opened:
        yield opened


async def come_back(house: House, *cookies: str, code: str = "made-up") -> Answer:
    """With a code that nobody has given; `cookies` are those that the browser has besides."""
    return await come_back_from(house, await start(house), *cookies, code=code)


async def start(house: House) -> Answer:
    """What sends a browser to the provider."""
    begun = await house.ask("GET", "/auth/providers/idp/start")
    assert begun.status == 303, begun.body
    return begun


async def come_back_from(
    house: House, begun: Answer, *cookies: str, code: str = "made-up"
) -> Answer:
    (location,) = begun.values("location")
    state = parse_qs(urlsplit(location.decode()).query)["state"][0]
    cookie = begun.values("set-cookie")[0].decode().partition(";")[0]
    path = f"/auth/providers/idp/callback?code={code}&state={state}"
    return await house.ask("GET", path, headers=[f"Cookie: {one}" for one in (cookie, *cookies)])


async def test_what_an_address_makes_up_is_asked_about_fifty_times(
    house: House, servers: Servers
) -> None:
    for _ in range(ADDRESS_FAILURES):
        answer = await come_back(house)
        assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    answer = await come_back(house)
    assert (answer.status, reason(answer)) == (429, "too_many_attempts")
    assert servers.asked == ADDRESS_FAILURES


async def test_who_is_refused_for_our_own_secret_has_not_failed(
    house: House, servers: Servers
) -> None:
    servers.error = "invalid_client"
    for _ in range(ADDRESS_FAILURES + 1):
        assert (await come_back(house)).status == 401


@pytest.mark.parametrize("code", ["a%0Ab", "%C3%A4", "a" * 4_097])
async def test_what_can_be_no_code_is_asked_about_nowhere(
    house: House, servers: Servers, code: str
) -> None:
    """RFC 6749 appendix A.11.  A provider that fails over it would be closed to everybody."""
    answer = await come_back(house, code=code)
    assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert servers.asked == 0


async def test_an_answer_that_is_too_long_closes_the_provider_to_nobody(
    house: House, servers: Servers
) -> None:
    servers.too_long = True
    for _ in range(10):
        answer = await come_back(house)
        assert (answer.status, reason(answer)) == (401, "invalid_credentials")
    assert servers.asked == 10


async def test_who_begins_without_end_waits_and_the_provider_is_left_in_peace(
    house: House,
) -> None:
    client = await house.client()
    asked = request("GET", "/auth/providers/idp/start", b"")
    statuses = []
    for _ in range(PROVIDER[0].burst + 1):
        await client.send(asked)
        statuses.append((await client.answer()).status)
    assert statuses[-1] == 429
    assert set(statuses[:-1]) == {303}
