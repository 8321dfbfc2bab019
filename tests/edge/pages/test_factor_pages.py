"""The second step of a sign-in, and step-up, as a browser without JavaScript meets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.access.factor_rule import FactorRule
from gateway.access.step_up import StepUp
from gateway.identity.sign_in.mfa_tokens import MFA_TTL_S
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, House, open_house
from tests.edge.endpoints.test_factors import code_at, enrol
from tests.edge.pages.visitor import Visitor, document, location

SIGN_IN, STEP_UP = "/auth/ui/sign-in", "/auth/ui/step-up"
ENROL = f"{SIGN_IN}/enrol"


def sealed(house: House, asked: StepUp | None = None) -> str:
    return house.deps.return_targets.seal("gate.example", "/orders", asked)


async def test_a_code_completes_the_sign_in_and_leads_back(house: House, visitor: Visitor) -> None:
    secret, _ = await enrol(house)
    page = await visitor.get(f"{SIGN_IN}?return_to={sealed(house)}")
    asked = await visitor.fill(page, "/sign-in", email=EMAIL, password=PASSWORD)
    assert asked.status == 200
    assert "__Host-session" not in visitor.cookies
    (field,) = (given for given in document(asked).all("input") if given["name"] == "code")
    assert field["autocomplete"] == "one-time-code"
    wrong = await visitor.fill(asked, "/factor", code="000000")
    assert wrong.status == 401
    assert "The code is wrong, or was used already." in document(wrong).text
    done = await visitor.fill(wrong, "/factor", code=code_at(house, secret))
    assert location(done) == "/orders"
    assert "__Host-session" in visitor.cookies


async def test_a_recovery_code_does_too(house: House, visitor: Visitor) -> None:
    _, enrolled = await enrol(house)
    asked = await visitor.post(SIGN_IN, CREDENTIALS)
    done = await visitor.fill(asked, "/factor", code=enrolled["recovery_codes"][0])
    assert location(done) == "/"


async def test_who_takes_too_long_begins_anew(house: House, visitor: Visitor) -> None:
    secret, _ = await enrol(house)
    asked = await visitor.post(SIGN_IN, CREDENTIALS)
    house.clock.move(MFA_TTL_S + 1)
    answer = await visitor.fill(asked, "/factor", code=code_at(house, secret))
    assert location(answer) == f"{SIGN_IN}?done=too-late"
    assert location(await visitor.get(f"{SIGN_IN}/factor")) == SIGN_IN


async def test_a_password_steps_an_account_without_factors_up(
    house: House, visitor: Visitor
) -> None:
    await visitor.post(SIGN_IN, CREDENTIALS)
    house.clock.move(400)
    page = await visitor.get(f"{STEP_UP}?return_to={sealed(house, StepUp(300))}")
    wrong = await visitor.fill(page, "/step-up", password="wrong horse 7 battery")
    assert wrong.status == 401
    assert "The password is wrong." in document(wrong).text
    house.clock.move(20)
    assert location(await visitor.fill(wrong, "/step-up", password=PASSWORD)) == "/orders"


async def test_who_has_a_factor_steps_up_with_it(house: House, visitor: Visitor) -> None:
    secret, _ = await enrol(house)
    asked = await visitor.post(SIGN_IN, CREDENTIALS)
    await visitor.fill(asked, "/factor", code=code_at(house, secret))
    house.clock.move(400)
    page = await visitor.get(f"{STEP_UP}?return_to={sealed(house)}")
    assert "password" not in document(page).form("/step-up").fields
    done = await visitor.fill(page, "/step-up", code=code_at(house, secret))
    assert location(done) == "/orders"


async def test_a_step_up_that_needs_a_factor_leads_who_has_none_to_the_account_page(
    house: House, visitor: Visitor
) -> None:
    await visitor.post(SIGN_IN, CREDENTIALS)
    page = await visitor.get(f"{STEP_UP}?return_to={sealed(house, StepUp(None, ('otp',)))}")
    assert {"class": "button", "href": "/auth/ui/account#factors"} in document(page).all("a")


async def test_who_is_signed_out_meanwhile_signs_in_instead(house: House, visitor: Visitor) -> None:
    return_to = sealed(house)
    page = await visitor.get(f"{STEP_UP}?return_to={return_to}")
    assert location(page) == f"{SIGN_IN}?return_to={return_to}"


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[House]:
    """Where everybody needs a factor, at once."""
    async with open_house(tmp_path, factor_rule=FactorRule(everyone=True)) as opened:
        await opened.register()
        yield opened


async def test_who_must_have_a_factor_sets_an_app_up_before_going_on(strict: House) -> None:
    visitor = Visitor(strict)
    page = await visitor.get(f"{SIGN_IN}?return_to={sealed(strict)}")
    asked = await visitor.fill(page, "/sign-in", email=EMAIL, password=PASSWORD)
    assert asked.status == 200
    assert "__Host-session" not in visitor.cookies
    uri = document(asked).form(ENROL).fields["otpauth_uri"]
    secret = uri.partition("secret=")[2].partition("&")[0]
    assert secret in document(asked).text.replace(" ", "")
    wrong = await visitor.fill(asked, ENROL, code="000000")
    assert wrong.status == 401
    assert "The code is wrong" in document(wrong).text
    assert document(wrong).all("svg"), "the code to scan is shown again"
    empty = await visitor.fill(wrong, ENROL, code="")
    assert {"href": "#code"} in document(empty).all("a")
    done = await visitor.fill(wrong, ENROL, code=code_at(strict, secret))
    assert done.status == 200
    assert "__Host-session" in visitor.cookies
    assert len(document(done).all("code")) == 10
    (on,) = [given["href"] for given in document(done).all("a") if given.get("class") == "button"]
    assert on == "/orders"
    # From now on it is asked for.
    again = await Visitor(strict).post(SIGN_IN, CREDENTIALS)
    assert document(again).form("/factor").fields["mfa_token"]


async def test_who_steps_up_behind_the_term_sets_an_app_up_and_goes_on(tmp_path: Path) -> None:
    rule = FactorRule(everyone=True, within_s=400)
    async with open_house(tmp_path, factor_rule=rule) as house:
        await house.register()
        visitor = Visitor(house)
        await visitor.post(SIGN_IN, CREDENTIALS)
        before = visitor.cookies["__Host-session"]
        house.clock.move(400)
        page = await visitor.get(f"{STEP_UP}?return_to={sealed(house, StepUp(300))}")
        wrong = await visitor.fill(page, "/step-up", password="wrong horse 7 battery")
        assert "The password is wrong." in document(wrong).text
        house.clock.move(20)
        asked = await visitor.fill(wrong, "/step-up", password=PASSWORD)
        assert visitor.cookies["__Host-session"] == before
        uri = document(asked).form(ENROL).fields["otpauth_uri"]
        secret = uri.partition("secret=")[2].partition("&")[0]
        done = await visitor.fill(asked, ENROL, code=code_at(house, secret))
        assert {"class": "button", "href": "/orders"} in document(done).all("a")
        assert visitor.cookies["__Host-session"] != before
        me = await visitor.get("/auth/me", headers=["Sec-Fetch-Site: same-origin"])
        assert me.status == 200


async def test_who_takes_too_long_to_set_an_app_up_begins_anew(strict: House) -> None:
    visitor = Visitor(strict)
    asked = await visitor.post(SIGN_IN, CREDENTIALS)
    strict.clock.move(MFA_TTL_S + 1)
    assert location(await visitor.fill(asked, ENROL, code="000000")) == f"{SIGN_IN}?done=too-late"
    assert location(await visitor.get(ENROL)) == SIGN_IN
    assert "__Host-session" not in visitor.cookies
