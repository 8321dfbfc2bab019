"""A real browser led to the sign-in page and back, at several hosts and in many tabs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.driving import NEEDS_CHROMIUM, Browser, chromium
from tests.browser.test_hand_over import (
    EMAIL,
    FLAGS,
    LOGIN,
    ONE,
    PASSWORD,
    ROUTES,
    TWO,
    Site,
    hosts,
    shown,
)
from tests.servers import wait_until

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

TABS = 20
WITH_PAGE = (
    ROUTES.replace("accept: [cookie]", "accept: [cookie], sign_in: page", 1)
    + f"""\
  - {{{{id: locked, match: {{{{host: {ONE}, path: /locked}}}}, policy: orders, action: orders:write, resource: {{{{owner: nobody}}}}, upstream: echo}}}}
  - {{{{id: own, match: {{{{host: {LOGIN}, path: "/own/{{{{rest:path}}}}"}}}}, policy: signed-in, upstream: echo}}}}
"""
)


FRESH_S = 10
FRESH = f"""\
version: 1
policy: fresh
rules:
  - {{id: fresh, allow: ["*"], when: user != null, step_up: {{max_age: {FRESH_S}s}}}}
"""
FRESH_ID = "pay.fresh"
FRESH_ROUTE = f"""\
  - {{id: {FRESH_ID}, match: {{host: {ONE}, path: /pay}}, policy: fresh, action: pay, upstream: echo}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with hosts(tmp_path_factory.mktemp("hosts"), WITH_PAGE) as opened:
        folder = opened.gateway.folder
        (folder / "policies" / "fresh.yaml").write_text(FRESH)
        routes = folder / "routes.yaml"
        routes.write_text(routes.read_text() + FRESH_ROUTE)
        wait_until(
            lambda: FRESH_ID in opened.gateway.admin("/metrics").body.decode(), 30, "the route"
        )
        yield opened


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile", *FLAGS) as opened:
        yield opened


def sign_in(browser: Browser) -> None:
    browser.fill_in("email", EMAIL)
    browser.fill_in("password", PASSWORD)
    browser.press("Sign in")


def test_a_browser_signs_in_at_the_page_and_comes_back_from_every_host(
    browser: Browser, site: Site
) -> None:
    browser.open(site.url(ONE, "/report?year=2026&q=a%20b"))
    assert browser.driver.current_url.startswith(site.url(LOGIN, "/auth/ui/sign-in?return_to="))
    sign_in(browser)
    browser.wait_for(lambda: shown(browser) == ("/report?year=2026&q=a%20b", EMAIL), "the page")
    assert browser.driver.current_url == site.url(ONE, "/report?year=2026&q=a%20b")
    for host, path in ((TWO, "/other"), (LOGIN, "/own/page")):
        browser.open(site.url(host, path))
        assert shown(browser) == (path, EMAIL)


def test_a_session_that_ends_while_a_page_is_open_comes_back_to_where_it_was(
    browser: Browser, site: Site
) -> None:
    browser.open(site.url(ONE, "/draft/7"))
    sign_in(browser)
    browser.wait_for(lambda: shown(browser) == ("/draft/7", EMAIL), "the page")
    assert browser.run("return (await fetch('/auth/logout', {method: 'POST'})).status") == 204
    status = browser.run("return (await fetch('/draft/7')).status")
    assert status == 401  # a script's call is no navigation
    browser.driver.refresh()
    assert "/auth/ui/sign-in" in browser.driver.current_url
    sign_in(browser)
    browser.wait_for(lambda: shown(browser) == ("/draft/7", EMAIL), "the page again")


def test_who_may_not_sees_a_page_in_plain_words(browser: Browser, site: Site) -> None:
    browser.open(site.url(ONE, "/locked"))
    sign_in(browser)
    browser.wait_for(lambda: "You have no access to this page." in browser.page(), "the page")
    assert "no_rule" not in browser.page()


def test_a_step_up_is_done_at_the_public_host_and_counts_at_the_other(
    browser: Browser, site: Site
) -> None:
    browser.open(site.url(ONE, "/report"))
    sign_in(browser)
    browser.wait_for(lambda: shown(browser) == ("/report", EMAIL), "the page")

    def asked_again() -> bool:
        browser.open(site.url(ONE, "/pay?amount=7"))
        return "/auth/ui/step-up" in browser.driver.current_url

    browser.wait_for(asked_again, f"the sign-in to be older than {FRESH_S} s")
    assert browser.driver.current_url.startswith(site.url(LOGIN, "/auth/ui/step-up?return_to="))
    browser.fill_in("password", PASSWORD)
    browser.driver.find_element("css selector", "main form button").click()
    browser.wait_for(lambda: shown(browser) == ("/pay?amount=7", EMAIL), "the page")
    assert browser.driver.current_url == site.url(ONE, "/pay?amount=7")


def test_of_twenty_tabs_that_come_back_at_once_each_ends_where_it_was(
    browser: Browser, site: Site
) -> None:
    paths = [f"/tab/{number}" for number in range(TABS)]
    browser.open(site.url(ONE, paths[0]))
    tabs = [browser.driver.current_window_handle]
    tabs += [browser.new_tab(site.url(ONE, path)) for path in paths[1:]]
    browser.look_at(tabs[0])
    sign_in(browser)
    browser.wait_for(lambda: shown(browser) == (paths[0], EMAIL), "the first tab")
    browser.driver.delete_all_cookies()  # of this host: each tab has to be handed the session
    for tab in tabs:
        browser.look_at(tab)
        browser.driver.execute_script("setTimeout(() => location.reload(), 0)")
    for tab, path in zip(tabs, paths, strict=True):
        browser.look_at(tab)
        browser.wait_for(lambda path=path: shown(browser) == (path, EMAIL), path)  # type: ignore[misc]
