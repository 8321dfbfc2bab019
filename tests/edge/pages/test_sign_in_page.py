"""`/auth/ui/sign-in`, as a browser without JavaScript meets it, over the real endpoints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.access.definitions import Cors
from tests.edge.auth_house import EMAIL, PASSWORD, House, open_house
from tests.edge.pages.visitor import NAVIGATION, Visitor, document, location

PAGE = "/auth/ui/sign-in"
WRONG = "wrong horse 7 battery"


def sealed(house: House, path: str) -> str:
    return house.deps.return_targets.seal("gate.example", path)


async def test_a_right_password_leads_back_to_where_the_visitor_was(
    house: House, visitor: Visitor
) -> None:
    page = await visitor.get(f"{PAGE}?return_to={sealed(house, '/orders?page=2')}")
    answer = await visitor.fill(page, PAGE, email=EMAIL, password=PASSWORD)
    assert location(answer) == "/orders?page=2"
    assert "__Host-session" in visitor.cookies
    assert "__Host-device" in visitor.cookies


@pytest.mark.parametrize(
    "return_to",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        "/ok\r\nSet-Cookie: a=b",
        "/\t/evil.example",
        " //evil.example",
        "user@evil.example",
        "/orders",
        "",
    ],
)
async def test_a_sign_in_leads_nowhere_that_was_not_sealed_here(
    visitor: Visitor, return_to: str
) -> None:
    form = {"email": EMAIL, "password": PASSWORD, "return_to": return_to}
    assert location(await visitor.post(PAGE, form)) == "/"


async def test_a_wrong_password_shows_the_form_again_and_keeps_the_address(
    house: House, visitor: Visitor
) -> None:
    return_to = sealed(house, "/orders")
    page = await visitor.get(f"{PAGE}?return_to={return_to}")
    answer = await visitor.fill(page, PAGE, email=EMAIL, password=WRONG)
    assert answer.status == 401
    shown = document(answer)
    assert shown.form(PAGE).fields["email"] == EMAIL
    assert shown.form(PAGE).fields["password"] == ""
    assert shown.form(PAGE).fields["return_to"] == return_to
    assert "The address and the password do not match." in shown.text
    assert "<title>Error: Sign in" in shown.text
    assert WRONG not in shown.text


async def test_the_page_speaks_the_language_of_the_browser(visitor: Visitor) -> None:
    visitor.language = "fr;q=0.9, de-AT, en;q=0.5"
    page = await visitor.get(PAGE)
    assert page.values("content-language") == [b"de"]
    assert ("html", {"lang": "de"}) in document(page).attributes
    assert "Anmelden" in document(page).text


async def test_what_a_visitor_types_is_shown_as_text(visitor: Visitor) -> None:
    typed = '"><script>alert(1)</script>{{ 7 * 7 }}{wait}@x.example'
    answer = await visitor.post(PAGE, {"email": typed, "password": WRONG})
    shown = document(answer)
    assert shown.form(PAGE).fields["email"] == typed
    assert "<script>alert" not in shown.text


async def test_nothing_runs_but_what_bears_the_nonce_of_the_answer(visitor: Visitor) -> None:
    answers = [await visitor.get(PAGE) for _ in range(2)]
    nonces = set()
    for answer in answers:
        (policy,) = answer.values("content-security-policy")
        (nonce,) = re.findall(r"style-src 'nonce-([\w-]+)'", policy.decode())
        nonces.add(nonce)
        assert "default-src 'none'" in policy.decode()
        assert "frame-ancestors 'none'" in policy.decode()
        assert "unsafe" not in policy.decode()
        for tag in ("script", "style"):
            assert all(given.get("nonce") == nonce for given in document(answer).all(tag))
        assert [given["nonce"] for given in document(answer).all("link") if "nonce" in given] == [
            nonce
        ]
        assert not any(
            name.startswith("on") for _, given in document(answer).attributes for name in given
        )
        assert answer.values("cache-control") == [b"no-store"]
        assert answer.values("x-frame-options") == [b"DENY"]
        assert answer.values("cross-origin-opener-policy") == [b"same-origin"]
    assert len(nonces) == 2


async def test_a_form_of_another_site_signs_nobody_in(visitor: Visitor) -> None:
    form = {"email": EMAIL, "password": PASSWORD}
    for proof in (
        ("Sec-Fetch-Site: cross-site", "Origin: https://evil.example"),
        ("Sec-Fetch-Site: same-site", "Origin: https://app.gate.example"),
        ("Sec-Fetch-Site: same-origin", "Origin: null"),
        ("Origin: https://evil.example",),
        ("Origin: null",),
        (),
    ):
        answer = await visitor.post(PAGE, form, (*proof, "Accept: text/html"))
        assert answer.status == 403
        assert "sent by another site" in document(answer).text
        assert "__Host-session" not in visitor.cookies


async def test_whose_pages_may_call_the_endpoints_may_send_no_form(tmp_path: Path) -> None:
    """`auth: cors` is for scripts that read what they are answered."""
    app = "https://app.example"
    cors = Cors("app", frozenset((app,)), credentials=True)
    async with open_house(tmp_path, auth_cors=cors) as house:
        await house.register()
        visitor = Visitor(house)
        fields = ("Sec-Fetch-Site: cross-site", f"Origin: {app}", "Accept: text/html")
        refused = await visitor.post(PAGE, {"email": EMAIL, "password": PASSWORD}, fields)
        assert refused.status == 403
        assert "__Host-session" not in visitor.cookies


async def test_an_older_browser_proves_itself_by_its_origin(visitor: Visitor) -> None:
    form = {"email": EMAIL, "password": PASSWORD}
    answer = await visitor.post(PAGE, form, ("Origin: https://gate.example",))
    assert location(answer) == "/"


async def test_who_is_signed_in_already_goes_on(house: House, visitor: Visitor) -> None:
    await visitor.post(PAGE, {"email": EMAIL, "password": PASSWORD})
    page = await visitor.get(f"{PAGE}?return_to={sealed(house, '/orders')}")
    assert location(page) == "/orders"
    page = await visitor.get(PAGE)
    assert f"You are signed in as {EMAIL}." in document(page).text


async def test_after_a_failure_the_page_brings_a_challenge_so_that_no_attempt_is_spent_on_one(
    house: House, visitor: Visitor
) -> None:
    for _ in range(3):
        house.clock.move(20)
        answer = await visitor.post(PAGE, {"email": EMAIL, "password": WRONG})
    shown = document(answer)
    (field,) = (given for given in shown.all("input") if given["name"] == "captcha")
    assert field["data-challenge"].startswith('{"parameters"')
    assert sum("captcha" in script["src"] for script in shown.all("script")) == 1
    house.clock.move(20)
    solved = {"email": EMAIL, "password": PASSWORD, "captcha": house.solution()}
    assert location(await visitor.post(PAGE, solved)) == "/"


async def test_a_visitor_without_the_challenge_is_told_why(house: House, visitor: Visitor) -> None:
    for _ in range(4):
        house.clock.move(20)
        answer = await visitor.post(PAGE, {"email": EMAIL, "password": WRONG})
    assert answer.status == 403
    assert "needs JavaScript for that" in document(answer).text


async def test_too_many_attempts_say_how_long_to_wait(house: House, visitor: Visitor) -> None:
    for _ in range(8):
        house.clock.move(20)
        answer = await visitor.post(
            PAGE, {"email": EMAIL, "password": WRONG, "captcha": house.solution()}
        )
    assert answer.status == 429
    assert int(answer.values("retry-after")[0]) > 90
    assert re.search(r"Try again in \d+ minutes\.", document(answer).text)


async def test_who_was_too_quick_is_given_a_challenge_for_the_next_attempt(
    house: House, visitor: Visitor
) -> None:
    for _ in range(3):
        house.clock.move(20)
        await visitor.post(PAGE, {"email": EMAIL, "password": WRONG})
    solved = {"email": EMAIL, "password": PASSWORD, "captcha": house.solution()}
    answer = await visitor.post(PAGE, solved)
    assert answer.status == 429
    assert [given for given in document(answer).all("input") if given["name"] == "captcha"]
    house.clock.move(20)
    again = {"email": EMAIL, "password": PASSWORD, "captcha": house.solution()}
    assert location(await visitor.post(PAGE, again)) == "/"


async def test_a_disabled_account_is_told_so_after_its_right_password(
    house: House, visitor: Visitor
) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.deps.accounts.disable(account.id)
    answer = await visitor.post(PAGE, {"email": EMAIL, "password": PASSWORD})
    assert answer.status == 403
    assert "This account is disabled." in document(answer).text


async def test_a_store_that_is_away_is_a_page_with_the_request_id(
    house: House, visitor: Visitor
) -> None:
    house.database.away = True
    answer = await visitor.post(PAGE, {"email": EMAIL, "password": PASSWORD})
    assert answer.status == 503
    assert answer.values("retry-after") == [b"5"]
    (request_id,) = answer.values("x-request-id")
    assert request_id.decode() in document(answer).text


async def test_signing_out_asks_first_and_takes_the_cookie_away(visitor: Visitor) -> None:
    await visitor.post(PAGE, {"email": EMAIL, "password": PASSWORD})
    page = await visitor.get("/auth/ui/sign-out")
    answer = await visitor.fill(page, "/sign-out")
    assert location(answer) == f"{PAGE}?done=signed-out"
    assert "__Host-session" not in visitor.cookies
    assert "__Host-device" in visitor.cookies
    assert "You have signed out." in document(await visitor.get(f"{PAGE}?done=signed-out")).text


async def test_signing_out_twice_is_signing_out(visitor: Visitor) -> None:
    answer = await visitor.post("/auth/ui/sign-out", {})
    assert location(answer) == f"{PAGE}?done=signed-out"


async def test_what_is_said_to_be_done_comes_from_a_list(visitor: Visitor) -> None:
    page = await visitor.get(f"{PAGE}?done=%3Cb%3Ehacked")
    assert "hacked" not in document(page).text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/auth/ui/nothing", 404), ("GET", "/auth/ui", 404), ("DELETE", PAGE, 405)],
)
async def test_a_refusal_below_ui_is_a_page_where_a_browser_asks(
    house: House, method: str, path: str, status: int
) -> None:
    answer = await house.ask(method, path, headers=NAVIGATION)
    assert answer.status == status
    assert document(answer).all("h1") == [{}]
    assert (await house.ask(method, path)).values("content-type") == [b"application/problem+json"]


async def test_a_body_that_is_no_form_is_a_page(house: House) -> None:
    answer = await house.ask("POST", PAGE, {"email": EMAIL}, headers=NAVIGATION)
    assert answer.status == 415
    assert "could not be read" in document(answer).text


async def test_what_a_page_loads_is_ours_and_may_be_kept(visitor: Visitor) -> None:
    page = document(await visitor.get(PAGE))
    types = {"stylesheet": b"text/css; charset=utf-8", "icon": b"image/svg+xml"}
    assert {given["rel"] for given in page.all("link")} == types.keys()
    for given in page.all("link"):
        # Of this origin: the policy of the page lets nothing else in.
        answer = await visitor.get(given["href"])
        assert answer.status == 200
        assert answer.values("content-type") == [types[given["rel"]]]
        assert answer.values("cache-control") == [b"public, max-age=31536000, immutable"]
    assert len(page.text.encode()) < 30_000
