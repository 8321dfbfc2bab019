"""How often a provider is believed of one person: what it says of them is written each time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.rate_limits import PROVIDED_SIGN_INS
from gateway.identity.providers.asking import ProviderAnswer
from tests.config.provider_texts import provider
from tests.edge.auth_house import House, open_house, reason
from tests.edge.endpoints.test_provider_guesses import HUB, Servers, come_back

ISSUER = "https://github.com"
CREATES = (
    f"{HUB}\ntrust_email: true\naccounts: create\nscopes: [read:user, user:email, read:org]\n"
    "roles: claims.groups"
)


class Hub(Servers):
    """A provider that knows whoever comes, and says what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 7
        self.groups = ["one"]

    async def post(
        self, url: str, ca: str | None, form: str, fields: Mapping[str, str]
    ) -> ProviderAnswer:
        return ProviderAnswer(url, 200, json.dumps({"access_token": "t"}).encode())

    async def get(self, url: str, ca: str | None, fields: Mapping[str, str]) -> ProviderAnswer:
        said: object = {"id": self.number, "login": f"p{self.number}"}
        if url.endswith("/emails"):
            email = f"p{self.number}@x.example"
            said = [{"email": email, "primary": True, "verified": True}]
        elif "/orgs" in url:
            said = [{"login": name} for name in self.groups]
        return ProviderAnswer(url, 200, json.dumps(said).encode())


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
async def house(tmp_path: Path, hub: Hub) -> AsyncIterator[House]:
    providers = {"idp": provider(CREATES)}
    async with open_house(tmp_path, providers=providers, provider_servers=hub) as opened:
        yield opened


async def test_roles_that_change_at_each_sign_in_are_written_as_often_as_one_may_sign_in(
    house: House, hub: Hub
) -> None:
    """Whoever chooses their own groups there would else fill the audit log."""
    assert (await come_back(house)).status == 303
    hub.groups = ["two"]
    assert (await come_back(house)).status == 303
    kinds = [event.kind for event in house.recorded.events]
    assert kinds.count(AuditKind.ROLE_CHANGED) == 1
    for _ in range(PROVIDED_SIGN_INS[0].burst - 2):
        assert await house.deps.limits.provided_wait_s(ISSUER, "7") == 0.0
    written = len(house.recorded.events)
    hub.groups = ["three"]
    early = await come_back(house)
    assert (early.status, reason(early)) == (429, "rate_limited")
    assert early.values("retry-after") == [b"18"]
    assert len(house.recorded.events) == written
    account = await house.deps.accounts.by_email("p7@x.example")
    assert account is not None
    assert account.roles == ("two",)
    hub.number = 8
    assert (await come_back(house)).status == 303


async def test_who_comes_back_in_a_known_browser_is_counted_apart_from_strangers(
    house: House,
) -> None:
    """Whoever has the password of an account with a factor may use up what is not proven."""
    first = await come_back(house)
    (device,) = (v for v in first.values("set-cookie") if v.startswith(b"__Host-device="))
    account = await house.deps.accounts.by_email("p7@x.example")
    assert account is not None
    while await house.deps.limits.account_wait_s(account.id, False) == 0.0:
        pass
    assert (await come_back(house)).status == 429
    assert (await come_back(house, device.decode().partition(";")[0])).status == 303
