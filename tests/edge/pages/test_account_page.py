"""`/auth/ui/account`, as a browser without JavaScript meets it."""

from __future__ import annotations

import json
import re

import pytest

from gateway.access.step_up import StepUp
from gateway.edge.endpoints.factor_changes import FRESH_S
from gateway.edge.pages.account_actions import attributes_of_form
from gateway.identity.accounts.account_facts import AccountFacts
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, House
from tests.edge.endpoints.mail_house import OTHER, MailHouse
from tests.edge.endpoints.test_factors import code_at
from tests.edge.pages.visitor import NAVIGATION, Visitor, document, location
from tests.edge.rig import Answer

SIGN_IN, ACCOUNT = "/auth/ui/sign-in", "/auth/ui/account"


@pytest.fixture
async def visitor(house: House) -> Visitor:
    visitor = Visitor(house)
    assert (await visitor.post(SIGN_IN, CREDENTIALS)).status == 303
    return visitor


async def done(visitor: Visitor, answer: Answer) -> str:
    """The page to which an action has led, with its fragment left out."""
    return document(await visitor.get(location(answer).partition("#")[0])).text


async def test_who_is_not_signed_in_signs_in_first_and_comes_back(house: House) -> None:
    stranger = Visitor(house)
    led = location(await stranger.get(ACCOUNT))
    assert led.startswith(f"{SIGN_IN}?return_to=")
    page = await stranger.get(led)
    answer = await stranger.fill(page, "/sign-in", email=EMAIL, password=PASSWORD)
    assert location(answer) == ACCOUNT


async def test_the_page_shows_what_the_person_has_here(visitor: Visitor) -> None:
    page = await visitor.get(ACCOUNT)
    shown = document(page)
    assert f"You are signed in as {EMAIL}." in shown.text
    assert "This is the session that you are using." in shown.text
    ids = [given["id"] for _, given in shown.attributes if "id" in given]
    assert len(ids) == len(set(ids))
    labels = {given["for"] for given in shown.all("label")}
    typed = {
        given["id"]
        for given in shown.all("input")
        if given["type"] != "hidden" and "hidden" not in given
    }
    assert typed == labels
    assert len(page.body) < 30_000


async def test_the_password_is_changed(house: House, visitor: Visitor) -> None:
    page = await visitor.get(ACCOUNT)
    wrong = await visitor.fill(page, "/account/password", password=OTHER, new_password=OTHER)
    assert wrong.status == 401
    assert "The password is wrong." in document(wrong).text
    house.clock.move(20)
    weak = await visitor.fill(
        page, "/account/password", password=PASSWORD, new_password="password1"
    )
    assert {"href": "#password-new_password"} in document(weak).all("a")
    answer = await visitor.fill(page, "/account/password", password=PASSWORD, new_password=OTHER)
    assert "Your password has been changed" in await done(visitor, answer)


async def test_the_address_is_changed_by_a_mailed_link(house: House, visitor: Visitor) -> None:
    page = await visitor.get(ACCOUNT)
    form = {"email": "new@example.com", "password": PASSWORD}
    answer = await visitor.fill(page, "/account/email", **form)
    assert "A link is on its way to the new address." in await done(visitor, answer)
    assert len(await MailHouse(house, house.deps.mailer).links()) == 1


async def test_another_session_is_ended(house: House, visitor: Visitor) -> None:
    other = await house.sign_in(headers=["User-Agent: other phone"])
    page = await visitor.get(ACCOUNT)
    assert "other phone" in document(page).text
    answer = await visitor.fill(page, "/account/end-session")
    assert "The session has ended." in await done(visitor, answer)
    assert (await house.ask("GET", "/auth/me", token=other["access_token"])).status == 401


async def test_a_key_is_shown_once_and_removed(visitor: Visitor) -> None:
    page = await visitor.get(ACCOUNT)
    made = await visitor.fill(page, "/account/create-key", key_name="laptop", days="7")
    assert made.status == 200
    assert re.search(r"<code>agp_\w+</code>", document(made).text)
    page = await visitor.get(ACCOUNT)
    assert "agp_" not in document(page).text
    answer = await visitor.fill(page, "/account/end-key")
    assert "The key has been removed." in await done(visitor, answer)


async def test_a_key_of_a_wrong_life_is_told_by_its_field(visitor: Visitor) -> None:
    page = await visitor.get(ACCOUNT)
    answer = await visitor.fill(page, "/account/create-key", key_name="laptop", days="99999")
    assert answer.status == 422
    assert {"href": "#keys-days"} in document(answer).all("a")


async def test_an_app_is_set_up_by_a_qr_code_and_brings_recovery_codes(
    house: House, visitor: Visitor
) -> None:
    page = await visitor.get(ACCOUNT)
    begun = await visitor.fill(page, "/account/totp")
    shown = document(begun)
    (path,) = (given["d"] for given in shown.all("path") if given["fill"] == "#000")
    assert path.count("M") > 400
    uri = shown.form("/confirm-totp").fields["otpauth_uri"]
    secret = uri.partition("secret=")[2].partition("&")[0]
    assert secret in shown.text.replace(" ", "")
    wrong = await visitor.fill(begun, "/confirm-totp", code="000000")
    assert wrong.status == 401
    assert "The code is wrong" in document(wrong).text
    made = await visitor.fill(wrong, "/confirm-totp", code=code_at(house, secret))
    assert len(document(made).all("code")) == 10
    page = await visitor.get(ACCOUNT)
    assert "Recovery codes that are left: 10." in document(page).text
    renewed = await visitor.fill(page, "/account/recovery-codes")
    assert len(document(renewed).all("code")) == 10
    answer = await visitor.fill(page, "/account/remove-totp")
    assert "The authenticator app has been removed." in await done(visitor, answer)


async def test_who_signed_in_long_ago_is_asked_again_before_a_factor_is_changed(
    house: House, visitor: Visitor
) -> None:
    house.clock.move(400)
    page = await visitor.get(ACCOUNT)
    led = location(await visitor.fill(page, "/account/totp"))
    assert led.startswith("/auth/ui/step-up?return_to=")
    # A provider is to be asked for a sign-in that is as fresh.
    target = house.deps.return_targets.open(led.partition("return_to=")[2], "gate.example")
    assert target is not None
    assert target.asked == StepUp(FRESH_S, ())
    asked = await visitor.get(led)
    back = location(await visitor.fill(asked, "/step-up", password=PASSWORD))
    assert back == f"{ACCOUNT}?done=step-up"
    assert (await visitor.fill(await visitor.get(back), "/account/totp")).status == 200


async def test_own_data_is_downloaded_as_json(visitor: Visitor) -> None:
    answer = await visitor.get(f"{ACCOUNT}/export")
    assert answer.values("content-disposition") == [b'attachment; filename="own-data.json"']
    assert answer.values("cache-control") == [b"no-store"]
    assert EMAIL in json.loads(answer.body)["account"].values()


async def test_an_account_is_deleted_after_a_question(house: House, visitor: Visitor) -> None:
    page = await visitor.get(f"{ACCOUNT}/delete")
    assert EMAIL in document(page).text
    answer = await visitor.fill(page, "/account/delete")
    assert location(answer) == f"{SIGN_IN}?done=deleted"
    assert "__Host-session" not in visitor.cookies
    assert await house.deps.accounts.by_email(EMAIL) is None


@pytest.mark.parametrize("action", ["delete", "password", "totp", "end-session", "create-key"])
async def test_a_form_of_another_site_changes_nothing(
    house: House, visitor: Visitor, action: str
) -> None:
    fields = ("Sec-Fetch-Site: cross-site", "Origin: https://evil.example", *NAVIGATION[1:])
    answer = await visitor.post(f"{ACCOUNT}/{action}", {"name": "x"}, fields)
    assert answer.status == 403
    assert await house.deps.accounts.by_email(EMAIL) is not None


async def test_a_person_sets_their_own_attributes(house: House, visitor: Visitor) -> None:
    shown = document(await visitor.get(ACCOUNT))
    assert "Profile" in shown.text
    assert "department" not in shown.text
    page = await visitor.get(ACCOUNT)
    answer = await visitor.fill(page, "/account/profile", **{"attribute-nickname": "Al"})
    assert "Your profile has been saved." in await done(visitor, answer)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    assert account.attributes == {"nickname": "Al"}
    again = await visitor.get(ACCOUNT)
    (field,) = [f for f in document(again).all("input") if f.get("id") == "profile-nickname"]
    assert field["value"] == "Al"
    # What no attribute could be is told beside its field, and an empty field takes it away.
    long = await visitor.fill(again, "/account/profile", **{"attribute-nickname": "x" * 300})
    assert long.status == 422
    assert b"profile-nickname-told" in long.body
    empty = await visitor.fill(again, "/account/profile", **{"attribute-nickname": ""})
    assert "Your profile has been saved." in await done(visitor, empty)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    assert account.attributes == {}


async def test_a_person_chooses_the_tenant_of_the_session(house: House, visitor: Visitor) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    for tenant, role in (("acme", "owner"), ("globex", "member")):
        await AccountFacts(house.database).put_tenant(account.id, tenant, role)
    assert (await visitor.post(SIGN_IN, CREDENTIALS)).status == 303
    page = await visitor.get(ACCOUNT)
    assert "Your role there: owner." in document(page).text
    answer = await visitor.post(f"{ACCOUNT}/tenant", {"tenant": "globex"})
    text = await done(visitor, answer)
    assert "You are working for another organisation now." in text
    assert "You are working for this one now." in text
    refused = await visitor.post(f"{ACCOUNT}/tenant", {"tenant": "initech"})
    assert refused.status == 422
    assert b"initech" not in refused.body


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", " x ", "x"),
        ("integer", "-7", -7),
        ("integer", "seven", "seven"),
        ("boolean", "true", True),
        ("boolean", "maybe", "maybe"),
        ("list", "a, b,, ", ["a", "b"]),
        ("list", " , ", None),
        ("string", "", None),
    ],
)
def test_a_field_is_read_as_its_type_has_it(kind: str, text: str, value: object) -> None:
    editable = {"one": {"type": kind, "values": []}}
    assert attributes_of_form({"attribute-one": text, "other": "x"}, editable) == {"one": value}
