"""People sign in by a real provider, as their browser sees it, and as who means harm does it."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
import pytest

from tests.e2e.processes import until
from tests.providers.sign_in_site import BACK, PASSWORD, Site, opened, refused, start
from tests.providers.visitor import fetch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with opened(tmp_path_factory.mktemp("sign-in")) as site:
        yield site


def test_somebody_signs_in_and_an_account_is_made(site: Site) -> None:
    browser = site.browser()
    url, page = browser.sign_in("company", "ada", return_to="/me")
    assert (url, page.status) == (f"{site.origin}/me", 200)
    me = browser.me()
    assert (me["email"], me["email_verified"], me["roles"]) == ("ada@example.com", True, ["staff"])
    # Nothing is left of the round trip.
    ours = {name for name in browser.cookies[site.origin] if name.startswith("__Host-")}
    assert ours == {"__Host-session", "__Host-device"}
    assert ["X-Auth-Email", "ada@example.com"] in browser.call("GET", "/me").json["fields"]


def test_the_same_person_has_the_same_account(site: Site) -> None:
    first, second = site.browser(), site.browser()
    first.sign_in("company", "bea")
    second.sign_in("company", "bea")
    assert first.me()["user_id"] == second.me()["user_id"]
    assert first.me()["session_id"] != second.me()["session_id"]


def test_the_page_of_a_route_leads_to_the_provider_and_back(site: Site) -> None:
    browser = site.browser()
    url, page = browser.go(f"{site.origin}/me", "ada")
    assert url.startswith(f"{site.origin}/auth/ui/sign-in?")
    button = re.search(r'href="(/auth/providers/company/start[^"]*)"', page.body.decode())
    assert button, page.body
    assert b"Continue with Example Inc." in page.body
    url, page = browser.go(site.origin + html.unescape(button[1]), "ada")
    assert (url, page.status) == (f"{site.origin}/me", 200)


@pytest.mark.parametrize(
    "return_to",
    [
        "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)",
        "/%2f/evil.example", "https://user@evil.example", "/\t/evil.example", "///evil.example",
        "http://127.0.0.1:1/", "%2F%2Fevil.example",
    ],
)  # fmt: skip
def test_nobody_is_led_to_another_origin(site: Site, return_to: str) -> None:
    url, _ = site.browser().sign_in("company", "ada", return_to=return_to)
    assert urlsplit(url)[:3] in [
        ("http", urlsplit(site.origin).netloc, "/"),
        ("http", urlsplit(site.origin).netloc, "/%2f/evil.example"),
    ]


# --- who means harm


def test_a_state_of_another_browser_signs_nobody_in(site: Site) -> None:
    mine, theirs = site.browser(), site.browser()
    url = start(site, mine)
    status, told = refused(theirs.open(url, come_from=site.provider.issuer))
    assert (status, "another browser" in told) == (400, True)
    assert theirs.me() is None
    # With a trip of their own under way, too.
    start(site, theirs)
    assert refused(theirs.open(url, come_from=site.provider.issuer))[0] == 400


def test_what_came_back_counts_once(site: Site) -> None:
    browser = site.browser()
    url = start(site, browser)
    kept = dict(browser.cookies[site.origin])
    assert browser.open(url, come_from=site.provider.issuer).status == 303
    again = site.browser()
    again.cookies[site.origin] = kept
    assert refused(again.open(url, come_from=site.provider.issuer))[0] == 400
    assert again.me() is None


def changed(url: str, **words: str | None) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    query |= {name: value for name, value in words.items() if value is not None}
    kept = {name: value for name, value in query.items() if words.get(name, "") is not None}
    return parts._replace(query=urlencode(kept)).geturl()


@pytest.mark.parametrize("iss", ["https://evil.example", "", None])
def test_an_answer_of_a_mixed_up_provider_is_refused(site: Site, iss: str | None) -> None:
    browser = site.browser()
    url = changed(start(site, browser), iss=iss)
    status, _ = refused(browser.open(url, come_from=site.provider.issuer))
    assert (status, browser.me()) == (401, None)


def test_a_trip_to_one_provider_does_not_end_at_another(site: Site) -> None:
    browser = site.browser()
    url = start(site, browser).replace("/company/", "/other/")
    assert refused(browser.open(url, come_from=site.provider.issuer))[0] == 400


@pytest.mark.parametrize(
    "words",
    [
        {"code": "made-up"},
        {"code": None},
        {"code": "c" * 5000},
        {"error": "access_denied", "code": None},
    ],
)
def test_an_answer_without_a_good_code_signs_nobody_in(
    site: Site, words: dict[str, str | None]
) -> None:
    browser = site.browser()
    url = changed(start(site, browser), **words)
    assert refused(browser.open(url, come_from=site.provider.issuer))[0] == 401
    assert browser.me() is None


@pytest.mark.parametrize("more", ["&state=x", "&code=x", "&STATE=x", ";code=x"])
def test_an_answer_that_can_be_read_in_two_ways_is_refused(site: Site, more: str) -> None:
    browser = site.browser()
    url = start(site, browser) + more
    assert refused(browser.open(url, come_from=site.provider.issuer))[0] == 400


def test_a_code_of_another_sign_in_is_refused_by_its_verifier(site: Site) -> None:
    mine, theirs = site.browser(), site.browser()
    stolen = parse_qs(urlsplit(start(site, theirs, account="bea")).query)["code"][0]
    url = changed(start(site, mine), code=stolen)
    assert refused(mine.open(url, come_from=site.provider.issuer))[0] == 401
    assert mine.me() is None


def test_an_address_that_the_provider_has_not_verified_makes_no_account(site: Site) -> None:
    site.provider.describe("unverified", email="victim@example.com", email_verified=False)
    browser = site.browser()
    _, page = browser.sign_in("company", "unverified")
    status, told = refused(page)
    assert (status, "has not been confirmed there" in told) == (403, True)
    site.provider.describe("nobody")
    assert refused(browser.sign_in("company", "nobody")[1])[0] == 403
    assert site.account("victim@example.com") is None


def test_a_program_is_told_the_reason(site: Site) -> None:
    answer = fetch(f"{site.origin}{BACK}?state=a&code=b")
    assert (answer.status, answer.json["reason"]) == (400, "invalid_token")
    assert fetch(f"{site.origin}/auth/providers/unknown/start").status == 404
    assert fetch(f"{site.origin}/auth/providers/unknown/callback").status == 404
    listed = fetch(f"{site.origin}/auth/providers").json["providers"]
    assert [(one["name"], one["label"]) for one in listed] == [
        ("company", "Example Inc."), ("other", "other"),
    ]  # fmt: skip


# --- whose account it is


def test_an_account_of_a_verified_address_is_linked_and_keeps_its_password(site: Site) -> None:
    site.create("cyd@example.com", "--verified")
    browser = site.browser()
    browser.sign_in("company", "cyd")
    assert browser.me()["email"] == "cyd@example.com"
    assert site.login("cyd@example.com") == 200
    until(lambda: "provider_linked" in [row["event"] for row in site.audit()], 30)


def test_an_account_that_nobody_has_verified_is_not_taken_over(site: Site) -> None:
    site.create("dan@example.com")
    browser = site.browser()
    status, told = refused(browser.sign_in("company", "dan")[1])
    assert (status, "exists here" in told) == (409, True)
    assert browser.me() is None


def test_an_account_of_an_address_that_is_spelled_alike_is_not_taken_over(site: Site) -> None:
    site.create("gross@example.com", "--verified")
    site.provider.describe("sharp", email="gro\u00df@example.com", email_verified=True)
    browser = site.browser()
    status, told = refused(browser.sign_in("company", "sharp")[1])
    assert (status, "exists here" in told) == (409, True)
    assert browser.me() is None


def test_a_registration_that_waits_is_void_once_the_owner_has_come(site: Site) -> None:
    body = json.dumps({"email": "eve@example.com", "password": PASSWORD}).encode()
    fields = {"Content-Type": "application/json"}
    assert fetch(f"{site.origin}/auth/register", body, fields).status == 202
    link = site.link_mailed_to("eve@example.com")
    browser = site.browser()
    browser.sign_in("company", "eve")
    assert browser.me()["email"] == "eve@example.com"
    body = json.dumps({"token": link, "password": PASSWORD}).encode()
    assert fetch(f"{site.origin}/auth/email/verify", body, fields).status == 400
    assert site.login("eve@example.com") == 401


def test_a_disabled_account_does_not_come_in_by_a_provider(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("company", "fay")
    assert site.gateway.confirmed("users", "disable", "fay@example.com").returncode == 0
    assert refused(site.browser().sign_in("company", "fay")[1])[0] == 403


def test_who_is_in_no_group_that_is_asked_for_does_not_come_in(site: Site) -> None:
    site.other.describe("gus", email="gus@example.com", email_verified=True, groups=["guests"])
    status, told = refused(site.browser().sign_in("other", "gus")[1])
    assert (status, "you cannot sign in here" in told) == (403, True)
    site.other.describe("gus", email="gus@elsewhere.example", email_verified=True, groups=["staff"])
    assert refused(site.browser().sign_in("other", "gus")[1])[0] == 403
    # Whoever may, and has no account: none is made.
    site.other.describe("gus", email="gus@example.com", email_verified=True, groups=["staff"])
    status, told = refused(site.browser().sign_in("other", "gus")[1])
    assert (status, "No account here" in told) == (403, True)


def test_roles_are_those_of_the_last_sign_in_and_apart_from_the_operators(site: Site) -> None:
    site.provider.describe(
        "hal", email="hal@example.com", email_verified=True, groups=["staff", "admins"]
    )
    first = site.browser()
    first.sign_in("company", "hal")
    assert first.me()["roles"] == ["admins", "staff"]
    assert site.gateway.confirmed("roles", "grant", "hal@example.com", "own").returncode == 0
    assert site.gateway.confirmed("roles", "grant", "hal@example.com", "staff").returncode == 0
    site.provider.describe("hal", email="hal@example.com", email_verified=True, groups=["readers"])
    second = site.browser()
    second.sign_in("company", "hal")
    assert second.me()["roles"] == ["own", "readers", "staff"]
    # In the session of before at once, too.
    assert first.me()["roles"] == ["own", "readers", "staff"]
    assert site.gateway.confirmed("roles", "revoke", "hal@example.com", "staff").returncode == 0
    assert second.me()["roles"] == ["own", "readers"]


# --- second factors


def test_an_account_with_a_factor_gives_it_after_the_provider(site: Site) -> None:
    browser = site.browser()
    browser.sign_in("company", "ruth")
    secret = browser.call("POST", "/auth/factors/totp", {}).json["secret"]
    codes, now = pyotp.TOTP(secret), time.time()
    confirmed = browser.call("POST", "/auth/factors/totp/confirm", {"code": codes.at(now)})
    assert confirmed.status in (200, 204), confirmed.body
    later = site.browser()
    url, page = later.sign_in("company", "ruth", return_to="/me")
    assert later.me() is None
    form = dict(
        re.findall(r'name="(mfa_token|return_to|factors)" value="([^"]*)"', page.body.decode())
    )
    assert "mfa_token" in form, (url, page.body)
    wrong = later.open(
        f"{site.origin}/auth/ui/sign-in/factor",
        form={**form, "code": "000000"},
        come_from=site.origin,
    )
    assert (wrong.status, later.me()) == (401, None)
    done = later.open(
        f"{site.origin}/auth/ui/sign-in/factor",
        form={**form, "code": codes.at(now + 30)},
        come_from=site.origin,
    )
    assert (done.status, done.headers["Location"]) == (303, "/me")
    assert later.me()["email"] == "ruth@example.com"
    # It is of the provider's session all the same.
    later.go(f"{site.provider.issuer}/session/end", "ruth")
    assert [later.me() for _ in range(4)] == [None] * 4


# --- a provider that is away


def test_a_provider_that_is_away_leaves_the_other_ways_open(site: Site) -> None:
    site.create("rob@example.com", "--verified")
    site.other.describe("rob", email="rob@example.com", email_verified=True, groups=["staff"])
    browser = site.browser()
    url = start(site, browser)
    site.provider.answer_with("hanging")
    try:
        began = time.monotonic()
        status, told = refused(browser.open(url, come_from=site.provider.issuer))
        assert (status, "another way" in told) == (503, True)
        assert time.monotonic() - began < 8
        assert site.login("rob@example.com") == 200
        assert site.browser().open(f"{site.origin}/auth/providers/other/start").status == 303
    finally:
        site.provider.answer_again()
    later = site.browser()
    later.sign_in("company", "ada")
    assert later.me() is not None


def test_a_provider_that_fails_again_and_again_is_left_alone(site: Site) -> None:
    def start_one(_: int) -> float:
        began = time.monotonic()
        page = site.browser().open(f"{site.origin}/auth/providers/company/start")
        assert refused(page)[0] == 503
        return time.monotonic() - began

    site.provider.answer_with("hanging")
    try:
        with ThreadPoolExecutor(32) as visitors:
            first = list(visitors.map(start_one, range(32)))
            then = list(visitors.map(start_one, range(32)))
    finally:
        site.provider.answer_again()
    assert max(first) > 4
    # Each worker tries with one of them, and tells the others at once.
    assert sorted(then)[16] < 2, then
