"""`/auth/ui/sign-in/passkey`: what the script of the sign-in page sends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.access.factor_rule import FactorRule
from gateway.identity.factors.challenges import CHALLENGE_TTL_S
from tests.authenticator import USER_PRESENT, Authenticator
from tests.edge.auth_house import EMAIL, PASSWORD, URL, House, open_house, request, told
from tests.edge.endpoints.passkey_calls import add_passkey, asked_to_sign_in
from tests.edge.pages.visitor import NAVIGATION, Form, Visitor, document, location
from tests.edge.rig import Answer

PAGE = "/auth/ui/sign-in"
ENDING = "/auth/ui/sign-in/passkey"


@pytest.fixture
async def authenticator(house: House) -> Authenticator:
    made = Authenticator(URL)
    await add_passkey(house, made)
    return made


async def filled(house: House, page: Answer, authenticator: Authenticator) -> Form:
    """As the script fills the form in."""
    asked = await asked_to_sign_in(house)
    form = document(page).form(ENDING)
    form.fields["challenge_token"] = asked["challenge_token"]
    form.fields["credential"] = json.dumps(authenticator.get(asked["public_key"]))
    return form


async def test_a_passkey_leads_back_to_where_the_visitor_was(
    house: House, visitor: Visitor, authenticator: Authenticator
) -> None:
    return_to = house.deps.return_targets.seal("gate.example", "/orders?page=2")
    page = await visitor.get(f"{PAGE}?return_to={return_to}")
    form = await filled(house, page, authenticator)
    answer = await visitor.post(form.action, form.fields)
    assert location(answer) == "/orders?page=2"
    assert "__Host-session" in visitor.cookies


async def test_without_a_script_nobody_sees_what_needs_one(visitor: Visitor) -> None:
    page = document(await visitor.get(PAGE))
    (form,) = (one for one in page.all("form") if "data-passkey" in one)
    assert "hidden" in form
    assert form["data-options"] == "/auth/login/passkey/options"
    assert any("passkeys" in one["src"] for one in page.all("script"))


async def test_a_passkey_that_is_refused_shows_the_form_again(
    house: House, visitor: Visitor, authenticator: Authenticator
) -> None:
    authenticator.flags = USER_PRESENT
    form = await filled(house, await visitor.get(PAGE), authenticator)
    refused = await visitor.post(form.action, form.fields)
    assert refused.status == 401
    assert "This passkey does not sign in here." in document(refused).text
    assert (await visitor.post(form.action, form.fields)).status == 401
    house.clock.move(CHALLENGE_TTL_S)
    again = await visitor.post(form.action, form.fields)
    assert again.status == 400
    assert "That took too long." in document(again).text


async def test_what_is_no_credential_is_refused_as_a_page(visitor: Visitor) -> None:
    for credential in ("", "{", "[]", "7", '{"a": 1, "a": 2}'):
        fields = {"challenge_token": "a", "credential": credential}
        answer = await visitor.post(ENDING, fields)
        assert answer.status in (400, 422)
        document(answer)


async def test_another_site_sends_no_passkey(
    house: House, visitor: Visitor, authenticator: Authenticator
) -> None:
    form = await filled(house, await visitor.get(PAGE), authenticator)
    foreign = ("Sec-Fetch-Site: cross-site", *NAVIGATION[1:])
    answer = await visitor.post(form.action, form.fields, headers=foreign)
    assert answer.status == 403
    assert "__Host-session" not in visitor.cookies


async def test_where_no_passkey_can_be_asked_for_none_is(house: House) -> None:
    fields = [*NAVIGATION]
    answer = await house.raw(request("GET", PAGE, b"", headers=fields, host="app1.example"))
    assert "data-passkey" not in document(answer).text


async def signed_in(visitor: Visitor) -> None:
    page = await visitor.get(PAGE)
    answer = await visitor.fill(page, PAGE, email=EMAIL, password=PASSWORD)
    assert location(answer) == "/"


async def test_who_may_not_add_a_passkey_yet_is_led_to_the_step_up(
    house: House, visitor: Visitor
) -> None:
    """The script gets no options, and sends the form without a passkey."""
    await signed_in(visitor)
    ending = "/auth/ui/account/add-passkey"
    assert location(await visitor.post(ending, {})) == "/auth/ui/account#factors"
    house.clock.move(600)
    assert location(await visitor.post(ending, {})).startswith("/auth/ui/step-up?return_to=")
    visitor.cookies.clear()
    assert location(await visitor.post(ending, {})).startswith("/auth/ui/sign-in?return_to=")


async def test_who_must_enrol_a_factor_may_enrol_a_passkey(tmp_path: Path) -> None:
    async with open_house(tmp_path, factor_rule=FactorRule(everyone=True)) as house:
        await house.register()
        visitor, authenticator = Visitor(house), Authenticator(URL)
        page = await visitor.get(PAGE)
        enrolment = await visitor.fill(page, PAGE, email=EMAIL, password=PASSWORD)
        form = document(enrolment).form("/enrol/passkey")
        late = await visitor.post(form.action, form.fields)
        assert location(late) == f"{PAGE}?done=too-late"
        asked = await house.ask(
            "POST",
            "/auth/factors/passkeys/options",
            {"mfa_token": form.fields["mfa_token"]},
        )
        form.fields["challenge_token"] = told(asked)["challenge_token"]
        wrong = {**form.fields, "credential": "{}"}
        shown = await visitor.post(form.action, wrong)
        assert shown.status == 422
        assert document(shown).form("/enrol/passkey").fields["mfa_token"]
        again = await house.ask(
            "POST",
            "/auth/factors/passkeys/options",
            {"mfa_token": form.fields["mfa_token"]},
        )
        form.fields["challenge_token"] = told(again)["challenge_token"]
        form.fields["credential"] = json.dumps(authenticator.create(told(again)["public_key"]))
        added = await visitor.post(form.action, form.fields)
        assert added.status == 200
        assert "__Host-session" in visitor.cookies
        assert len(document(added).all("code")) == 10
