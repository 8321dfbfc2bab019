"""Browsers that lack a session, led to the pages and back, at a started gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.contract.answers import Answer
from tests.contract.running import ROUTES, Running, started

MORE = """\
  - id: desk
    match: {{prefix: /desk}}
    policy: signed-in
    sign_in: page
    upstream: echo
  - id: desk.locked
    match: {{path: /desk/locked}}
    policy: orders
    action: orders:write
    resource: {{owner: nobody}}
    sign_in: page
    upstream: echo
  - id: desk.hidden
    match: {{path: /desk/hidden}}
    policy: hidden
    sign_in: page
    upstream: echo
  - id: desk.away
    match: {{path: /desk-away}}
    policy: signed-in
    sign_in: page
    upstream: nowhere
"""
DEFAULTS = "defaults:\n  auth: required\n"
BROWSER = (
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("led") / "g", routes=ROUTES + MORE) as running:
        yield running


def navigate(site: Running, path: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
    return site.call(method, path, *BROWSER, *fields)


def page_of(answer: Answer) -> str:
    assert answer.status == 303, answer
    page, _, sealed = (answer.get("location") or "").partition("?return_to=")
    assert len(sealed) > 40
    return page


def test_a_navigation_without_a_session_is_led_to_the_page(site: Running) -> None:
    answer = navigate(site, "/desk/orders?page=2")
    assert page_of(answer) == "/auth/ui/sign-in"
    assert answer.get("cache-control") == "no-store"
    assert answer.get("www-authenticate") is None
    assert "orders" not in (answer.get("location") or "")


def test_a_session_that_is_over_is_taken_away_on_the_way_there(site: Running) -> None:
    site.sign_in("ada@example.com")
    answer = navigate(site, "/desk", ("Cookie", f"__Host-session={'x' * 54}"))
    assert page_of(answer) == "/auth/ui/sign-in"
    assert "Max-Age=0" in (answer.get("set-cookie") or "")


def test_every_other_client_gets_its_401(site: Running) -> None:
    for fields in ((), (("Accept", "text/html"),), (("Authorization", "Bearer x.y.z"), *BROWSER)):
        answer = site.call("GET", "/desk", *fields)
        assert answer.status == 401
        assert answer.get("content-type") == "application/problem+json"
        assert answer.get("www-authenticate")


def test_a_form_that_was_posted_comes_back_by_get(site: Running) -> None:
    answer = navigate(site, "/desk/send", ("Content-Length", "0"), method="POST")
    assert page_of(answer) == "/auth/ui/sign-in"


def cookie_of(site: Running, email: str) -> tuple[str, str]:
    site.sign_in(email)
    answer = site.call(
        "POST",
        "/auth/login",
        ("Sec-Fetch-Site", "same-origin"),
        json_body={"email": email, "password": "correct horse 7 battery", "transport": "cookie"},
    )
    assert answer.status == 200, answer
    return "Cookie", (answer.get("set-cookie") or "").partition(";")[0]


def test_a_path_that_is_hidden_is_answered_like_one_that_is_not_there(site: Running) -> None:
    """No page is shown: that would tell that there is something."""
    cookie = cookie_of(site, "ada@example.com")
    hidden, unknown = (navigate(site, path, cookie) for path in ("/desk/hidden", "/nowhere"))
    assert (hidden.status, unknown.status) == (404, 404)
    differing = ("x-request-id", "date")
    fields = [
        [(name, value) for name, value in answer.fields if name.lower() not in differing]
        for answer in (hidden, unknown)
    ]
    assert fields[0] == fields[1]
    documents = [
        {name: value for name, value in answer.json.items() if name != "request_id"}
        for answer in (hidden, unknown)
    ]
    assert documents[0] == documents[1]


def page_shown(answer: Answer) -> str:
    assert answer.get("content-type") == "text/html; charset=utf-8", answer
    assert answer.get("cache-control") == "no-store"
    assert "frame-ancestors 'none'" in (answer.get("content-security-policy") or "")
    document = answer.body.decode()
    assert (answer.get("x-request-id") or "-") in document
    return document


def test_who_may_not_is_told_so_by_a_page(site: Running) -> None:
    cookie = cookie_of(site, "ada@example.com")
    refused = navigate(site, "/desk/locked", cookie)
    assert refused.status == 403
    assert "You have no access to this page." in page_shown(refused)
    german = navigate(site, "/desk/locked", cookie, ("Accept-Language", "de"))
    assert "Sie haben keinen Zugriff" in page_shown(german)
    script = site.call("GET", "/desk/locked", cookie, ("Sec-Fetch-Site", "same-origin"))
    assert script.reason == "no_rule"


def test_the_reason_of_a_rule_is_no_word_for_people(site: Running) -> None:
    cookie = cookie_of(site, "eve@example.com")
    site.confirmed("roles", "grant", "eve@example.com", "suspended")
    cookie = cookie_of(site, "eve@example.com")
    refused = navigate(site, "/desk/locked", cookie)
    assert refused.status == 403
    document = page_shown(refused)
    assert "You have no access to this page." in document
    assert "account_suspended" not in document


def test_an_application_that_is_away_is_told_by_a_page(site: Running) -> None:
    away = navigate(site, "/desk-away", cookie_of(site, "ada@example.com"))
    assert away.status == 502
    assert "does not answer" in page_shown(away)


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    routes = (ROUTES + MORE).replace(DEFAULTS, DEFAULTS + "  sign_in: page\n", 1)
    with started(tmp_path_factory.mktemp("everywhere") / "g", routes=routes) as running:
        yield running


def test_where_all_browsers_get_pages_what_is_hidden_is_like_what_is_not_there(
    everywhere: Running,
) -> None:
    cookie = cookie_of(everywhere, "ada@example.com")
    pages = [navigate(everywhere, path, cookie) for path in ("/desk/hidden", "/nowhere")]
    assert [answer.status for answer in pages] == [404, 404]
    documents = [
        page_shown(answer).replace(answer.get("x-request-id") or "-", "ID") for answer in pages
    ]
    nonces = [re.findall(r'nonce="([^"]+)"', document) for document in documents]
    assert all(nonces)
    plain = [
        re.sub("|".join(map(re.escape, found)), "N", document)
        for found, document in zip(nonces, documents, strict=True)
    ]
    assert plain[0] == plain[1]
    names = [[name for name, _ in answer.fields] for answer in pages]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("path", "host", "reason"),
    [
        ("/desk/%2e%2e/x", "", "ambiguous_path"),
        ("/desk//x", "", "ambiguous_path"),
        ("/desk", "a b", "request_malformed"),
    ],
)
def test_where_all_browsers_get_pages_what_cannot_be_read_is_refused_all_the_same(
    everywhere: Running, path: str, host: str, reason: str
) -> None:
    fields = (("Host", host),) if host else ()
    assert navigate(everywhere, path, *fields).reason == reason


def test_where_a_browser_is_led_is_explained(site: Running) -> None:
    told = site.cli("explain", "GET", "/desk/orders")
    assert "a browser is led to /auth/ui/sign-in (303)" in told.stdout, told
    told = site.cli("explain", "GET", "/me")
    assert "a browser" not in told.stdout


def test_a_change_of_where_browsers_are_led_is_told_by_diff(site: Running) -> None:
    other = site.folder / "other"
    (other / "policies").mkdir(parents=True)
    for path in (site.folder / "policies").glob("*.yaml"):
        (other / "policies" / path.name).write_text(path.read_text())
    text = (site.folder / "routes.yaml").read_text()
    (other / "routes.yaml").write_text(text.replace("sign_in: page", "sign_in: off", 1))
    told = site.cli("diff", ".", "other", "--fail-on", "change")
    assert "route desk: browsers without a session are answered 401 now" in told.stdout, told
    assert told.returncode == 0  # nobody gains or loses access
