"""What a person sees and changes one by one on the account page: roles, passkeys, linked providers,
and more sessions than are shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.edge.pages.account_page import SHOWN_SESSIONS
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.linked_identities import LinkedAccount, LinkedIdentities
from tests.authenticator import Authenticator
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, URL, House, open_house, told
from tests.edge.endpoints.passkey_calls import register, token_of
from tests.edge.pages.visitor import Visitor, document, location
from tests.identity.providers.parts import ISSUER, provider

SIGN_IN, ACCOUNT = "/auth/ui/sign-in", "/auth/ui/account"
LINK = "Link idp"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, providers={"idp": provider("trust_email: true")}) as opened:
        await opened.register()
        yield opened


async def signed_in(house: House) -> Visitor:
    visitor = Visitor(house)
    assert (await visitor.post(SIGN_IN, CREDENTIALS)).status == 303
    return visitor


async def test_the_roles_are_told(house: House) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.deps.accounts.grant(account.id, "editor")
    await house.deps.accounts.grant(account.id, "viewer")
    visitor = await signed_in(house)
    assert "Your roles: editor, viewer." in document(await visitor.get(ACCOUNT)).text


async def test_of_many_sessions_the_latest_are_shown_and_all_can_be_ended(house: House) -> None:
    visitor = await signed_in(house)
    others = [await house.sign_in() for _ in range(SHOWN_SESSIONS + 2)]
    page = document(await visitor.get(ACCOUNT))
    ended_one_by_one = [form for form in page.forms if form.action.endswith("/end-session")]
    assert SHOWN_SESSIONS - 1 <= len(ended_one_by_one) <= SHOWN_SESSIONS
    assert "3 older ones are not shown." in page.text
    asked = await visitor.get("/auth/ui/sign-out")
    assert {"class": "second", "name": "all", "value": "yes"} in document(asked).all("button")
    left = await visitor.fill(asked, "/sign-out", all="yes")
    assert location(left) == f"{SIGN_IN}?done=signed-out"
    for other in others:
        answer = await house.ask("GET", "/auth/me", token=other["access_token"])
        assert answer.status == 401


async def test_signing_out_leaves_the_other_sessions(house: House) -> None:
    visitor = await signed_in(house)
    other = await house.sign_in()
    await visitor.fill(await visitor.get("/auth/ui/sign-out"), "/sign-out")
    assert (await house.ask("GET", "/auth/me", token=other["access_token"])).status == 200


async def test_a_passkey_gets_another_name_and_is_removed(house: House) -> None:
    made = await register(house, Authenticator(URL), await token_of(house), name="laptop")
    assert made.status == 200, made.body
    visitor = await signed_in_by_code(house, told(made)["recovery_codes"][0])
    page = await visitor.get(ACCOUNT)
    assert "<strong>laptop</strong>" in document(page).text
    empty = await visitor.fill(page, "/rename-passkey", name="")
    assert empty.status == 422
    renamed = await visitor.fill(page, "/rename-passkey", name="old laptop")
    assert location(renamed) == f"{ACCOUNT}?done=rename-passkey#factors"
    page = await visitor.get(f"{ACCOUNT}?done=rename-passkey")
    assert "The passkey has its new name." in document(page).text
    assert "<strong>old laptop</strong>" in document(page).text
    removed = await visitor.fill(page, "/remove-passkey")
    assert location(removed) == f"{ACCOUNT}?done=remove-passkey#factors"
    assert "old laptop" not in document(await visitor.get(ACCOUNT)).text


async def signed_in_by_code(house: House, code: str) -> Visitor:
    visitor = Visitor(house)
    asked = await visitor.post(SIGN_IN, CREDENTIALS)
    assert (await visitor.fill(asked, "/factor", code=code)).status == 303
    return visitor


async def link(house: House, issuer: str = ISSUER) -> None:
    """As a sign-in by a provider that is trusted for addresses does."""
    notifications = SecurityNotifications(house.database, house.deps.mailer)
    by = provider("trust_email: true")
    by = replace(by, issuer=replace(by.issuer, issuer=issuer))
    identity = ProviderIdentity(by, "a", EMAIL, email_verified=True)
    found = await LinkedIdentities(house.database, notifications).sign_in(identity)
    assert isinstance(found, LinkedAccount)


async def link_of(visitor: Visitor) -> str:
    """Where the button leads by which a provider is linked."""
    page = document(await visitor.get(ACCOUNT))
    assert LINK in page.text
    (path,) = [given["href"] for given in page.all("a") if "permit=" in given.get("href", "")]
    return path


async def test_a_provider_is_unlinked_on_the_page(house: House) -> None:
    visitor = await signed_in(house)
    assert "Unlink idp" not in document(await visitor.get(ACCOUNT)).text
    await link(house)
    page = await visitor.get(ACCOUNT)
    assert "Unlink idp" in document(page).text
    assert LINK not in document(page).text
    house.clock.move(400)
    stale = await visitor.fill(page, "/account/unlink")
    assert location(stale).startswith("/auth/ui/step-up?return_to=")
    await visitor.fill(await visitor.get(location(stale)), "/step-up", password=PASSWORD)
    ended = await visitor.fill(await visitor.get(ACCOUNT), "/account/unlink")
    assert location(ended) == f"{ACCOUNT}?done=unlink#links"
    page = await visitor.get(f"{ACCOUNT}?done=unlink")
    assert "The provider is not linked any more." in document(page).text
    assert LINK in document(page).text


async def test_the_button_of_an_issuer_that_has_gone_unlinks_it_alone(house: House) -> None:
    visitor = await signed_in(house)
    await link(house, "https://old.example")
    await link(house)
    page = document(await visitor.get(ACCOUNT))
    [old] = [
        form
        for form in page.forms
        if form.action.endswith("/account/unlink") and form.fields["name"] != "idp"
    ]
    assert "Unlink https://old.example" in page.text
    assert (await visitor.post(old.action, old.fields)).status == 303
    told = document(await visitor.get(ACCOUNT)).text
    assert "Unlink idp" in told
    assert "old.example" not in told


async def test_who_links_a_provider_comes_back_to_the_page(house: House) -> None:
    path = await link_of(await signed_in(house))
    query = parse_qs(urlsplit(path).query)
    assert query["return_to"] == [f"{ACCOUNT}?done=link"]
    visitor = await signed_in(house)
    assert "The provider is linked." in document(await visitor.get(f"{ACCOUNT}?done=link")).text


async def test_who_signed_in_long_ago_confirms_it_before_a_provider_is_linked(house: House) -> None:
    """Else a stolen session would gain the thief a way in that stays."""
    visitor = await signed_in(house)
    house.clock.move(400)
    path = await link_of(visitor)
    led = location(await visitor.get(path))
    assert led.startswith("/auth/ui/step-up?return_to=")
    back = location(await visitor.fill(await visitor.get(led), "/step-up", password=PASSWORD))
    assert back == path
    # From here the provider would be asked, who cannot be reached in this house.
    assert (await visitor.get(back)).status == 503
