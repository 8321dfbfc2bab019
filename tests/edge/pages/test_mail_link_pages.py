"""Registering and the pages of mailed links, as a browser without JavaScript meets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.model import Call
from tests.edge.auth_house import EMAIL, PASSWORD, House, open_house
from tests.edge.endpoints.mail_house import OTHER, MailHouse
from tests.edge.pages.visitor import Visitor, document, location

SIGN_IN = "/auth/ui/sign-in"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, verification="required") as opened:
        yield opened


@pytest.fixture
def mail(house: House) -> MailHouse:
    return MailHouse(house, house.deps.mailer)


async def test_people_register_confirm_and_sign_in(visitor: Visitor, mail: MailHouse) -> None:
    page = await visitor.get("/auth/ui/register")
    answer = await visitor.fill(page, "/register", email=EMAIL, password=PASSWORD)
    assert answer.status == 200
    assert f"If {EMAIL} has no account yet" in document(answer).text
    (token,) = await mail.links()
    link = f"/auth/ui/verify?token={token}"
    for _ in range(2):  # what reads mails opens the link before its owner does
        page = await visitor.get(link)
    answer = await visitor.fill(page, "/verify", password=OTHER)
    assert answer.status == 401
    assert document(answer).form("/verify").fields["token"] == token
    answer = await visitor.fill(answer, "/verify", password=PASSWORD)
    assert location(answer) == f"{SIGN_IN}?done=verified"
    page = await visitor.get(f"{SIGN_IN}?done=verified")
    assert "Your address is confirmed." in document(page).text
    assert location(await visitor.fill(page, "/sign-in", email=EMAIL, password=PASSWORD)) == "/"


async def test_the_page_says_the_same_for_an_address_that_has_an_account(
    house: House, visitor: Visitor
) -> None:
    await house.register()
    pages = []
    for email in (EMAIL, "bella@example.com"):
        answer = await visitor.post("/auth/ui/register", {"email": email, "password": PASSWORD})
        assert answer.status == 200
        pages.append(document(answer).text.replace(email, "EMAIL").partition("<main>")[2])
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("language", "password", "told"),
    [
        ("en", "password1", "it is one of the most common passwords"),
        ("de", "password1", "es ist eines der häufigsten Passwörter"),
        ("de", "alice@example.com1", "es besteht aus Ihrer Adresse"),
        ("de", "abcabcabcabc", "es ist zu leicht zu erraten"),
        ("de", "kurz", "mindestens 8 Zeichen"),
        ("de", "x" * 300, "höchstens 256 Zeichen"),
        ("de", "x" * 1024 + "y", "höchstens 1024 Zeichen"),
    ],
)
async def test_a_weak_password_is_refused_in_the_language_of_the_page(
    visitor: Visitor, language: str, password: str, told: str
) -> None:
    visitor.language = language
    answer = await visitor.post("/auth/ui/register", {"email": EMAIL, "password": password})
    assert answer.status == 422
    shown = document(answer)
    assert told in shown.text
    (field,) = (given for given in shown.all("input") if given.get("name") == "password")
    assert field["aria-invalid"] == "true"
    assert "password-told" in field["aria-describedby"]
    assert field.get("value") is None


async def test_a_field_that_is_left_out_is_asked_for(visitor: Visitor) -> None:
    answer = await visitor.post("/auth/ui/register", {})
    assert answer.status == 422
    shown = document(answer)
    assert "E-mail address: please fill in" in shown.text
    assert {"href": "#password"} in shown.all("a")


async def test_without_verification_who_registers_is_signed_in(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        visitor = Visitor(house)
        return_to = house.deps.return_targets.seal("gate.example", "/orders")
        page = await visitor.get(f"/auth/ui/register?return_to={return_to}")
        answer = await visitor.fill(page, "/register", email=EMAIL, password=PASSWORD)
        assert location(answer) == "/orders"
        assert "__Host-session" in visitor.cookies


@pytest.mark.parametrize("mode", ["closed", "invited"])
async def test_where_nobody_may_register_the_page_says_so(tmp_path: Path, mode: str) -> None:
    rules = RegistrationRules(mode=mode)  # type: ignore[arg-type]
    async with open_house(tmp_path, registration_rules=rules) as house:
        visitor = Visitor(house)
        answer = await visitor.get("/auth/ui/register")
        assert answer.status == 403
        assert "Nobody can register here by themselves." in document(answer).text
        assert "/register" not in document(await visitor.get(SIGN_IN)).text


async def test_an_address_of_another_domain_is_told_so(tmp_path: Path) -> None:
    rules = RegistrationRules(domains=frozenset(("corp.example",)))
    async with open_house(tmp_path, registration_rules=rules) as house:
        form = {"email": EMAIL, "password": PASSWORD}
        answer = await Visitor(house).post("/auth/ui/register", form)
        assert "Only addresses of certain domains" in document(answer).text


async def test_a_forgotten_password_is_set_anew_by_the_mailed_link(
    house: House, visitor: Visitor, mail: MailHouse
) -> None:
    await house.register()
    page = await visitor.get("/auth/ui/forgot")
    answer = await visitor.fill(page, "/forgot", email=EMAIL)
    assert f"If {EMAIL} has an account" in document(answer).text
    (token,) = await mail.links()
    page = await visitor.get(f"/auth/ui/reset?token={token}")
    weak = await visitor.fill(page, "/reset", password="password1")
    assert weak.status == 422
    answer = await visitor.fill(weak, "/reset", password=OTHER)
    assert location(answer) == f"{SIGN_IN}?done=reset"
    assert "__Host-device" in visitor.cookies
    assert location(await visitor.post(SIGN_IN, {"email": EMAIL, "password": OTHER})) == "/"


@pytest.mark.parametrize(
    ("page", "form", "offers"),
    [
        ("reset", {"password": OTHER}, "/auth/ui/forgot"),
        ("verify", {"password": OTHER}, "/auth/ui/resend"),
        ("confirm-email", {}, "/auth/ui/sign-in"),
    ],
)
async def test_a_link_that_is_over_offers_another(
    visitor: Visitor, page: str, form: dict[str, str], offers: str
) -> None:
    path = f"/auth/ui/{page}"
    answer = await visitor.fill(await visitor.get(f"{path}?token={'x' * 43}"), f"/{page}", **form)
    assert answer.status == 400
    shown = document(answer)
    assert "This link is not valid any more." in shown.text
    assert any(given.get("href") == offers for given in shown.all("a"))


async def test_a_link_without_its_token_is_told_so(visitor: Visitor) -> None:
    answer = await visitor.get("/auth/ui/reset")
    assert answer.status == 400
    assert "This link is not valid any more." in document(answer).text


async def test_an_address_is_changed_by_the_link_that_went_to_the_new_one(
    house: House, visitor: Visitor, mail: MailHouse
) -> None:
    await house.register()
    session = await house.sign_in()
    await house.ask(
        "POST",
        "/auth/email/change",
        {"password": PASSWORD, "email": "new@example.com"},
        token=session["access_token"],
    )
    (token,) = await mail.links()
    page = await visitor.get(f"/auth/ui/confirm-email?token={token}")
    answer = await visitor.fill(page, "/confirm-email")
    assert location(answer) == f"{SIGN_IN}?done=email-changed"
    form = {"email": "new@example.com", "password": PASSWORD}
    assert location(await visitor.post(SIGN_IN, form)) == "/"


async def test_an_unverified_account_gets_its_link_again(
    house: House, visitor: Visitor, mail: MailHouse
) -> None:
    password_hash = await house.deps.passwords.hash(PASSWORD)
    assert isinstance(password_hash, str)
    await house.deps.accounts.register(EMAIL, password_hash, verified=False)
    answer = await visitor.post(SIGN_IN, {"email": EMAIL, "password": PASSWORD})
    assert answer.status == 403
    answer = await visitor.fill(answer, "/resend")
    assert answer.status == 200
    assert len(await mail.links()) == 1


async def test_a_page_counts_within_the_limits_of_the_endpoint_that_it_asks(
    house: House, visitor: Visitor
) -> None:
    form = {"email": EMAIL, "password": PASSWORD}
    call = Call("POST", "x", "/", ("",), "", headers=(), client_ip="127.0.0.1", scheme="https")
    while await house.deps.limits.wait_s(("register",), call) == 0:
        pass
    answer = await visitor.post("/auth/ui/register", form)
    assert answer.status == 429
    assert "Too many requests have come from your network." in document(answer).text
    assert (await visitor.get(SIGN_IN)).status == 200
