"""Passkeys on the gateway's own pages, in a real browser with its virtual authenticator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.driving import NEEDS_CHROMIUM, Browser, Stranger, chromium
from tests.browser.passkeys import virtual_authenticator
from tests.contract.running import Running, started

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

PASSWORD = "correct horse 7 battery"
ROUTES = """\
version: 1
upstreams:
  page: {{targets: ["http://127.0.0.1:PAGE"]}}
routes:
  - {{id: home, match: {{path: /, methods: [GET]}}, policy: signed-in, upstream: page}}
"""
REQUIRED = "require_factor: {{everyone: true, within: 0s}}\n"


@dataclass
class Site:
    gateway: Running
    url: str

    def page(self, name: str) -> str:
        return f"{self.url}/auth/ui/{name}"


@pytest.fixture(scope="module")
def stranger() -> Stranger:
    served = Stranger()
    served.pages["/"] = "<!doctype html><title>home</title>"
    return served


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, stranger: Stranger) -> Iterator[Site]:
    routes = ROUTES.replace("PAGE", str(stranger.server_port))
    with started(tmp_path_factory.mktemp("pages") / "g", routes=routes) as gateway:
        yield Site(gateway, f"http://localhost:{gateway.port}")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as opened:
        yield opened


def give_password(browser: Browser, site: Site, email: str) -> None:
    """Of a new account; then the page is left."""
    body = {"email": email, "password": PASSWORD}
    site.gateway.call("POST", "/auth/register", json_body=body)
    browser.open(site.page("sign-in"))
    browser.fill_in("email", email)
    browser.fill_in("password", PASSWORD)
    browser.press("Sign in")


def waits_for(browser: Browser, title: str) -> None:
    browser.wait_for(lambda: browser.driver.title.startswith(title), title)


def test_a_passkey_is_added_on_the_account_page_and_asked_for_from_then_on(
    browser: Browser, site: Site
) -> None:
    with virtual_authenticator(browser):
        give_password(browser, site, "ada@example.com")
        waits_for(browser, "home")
        browser.open(site.page("account"))
        browser.fill_in("factors-name", "laptop")
        browser.press("Add a passkey")
        browser.wait_for(lambda: "/add-passkey" in browser.driver.current_url, "recovery codes")
        browser.open(site.page("account"))
        assert "laptop" in browser.page()
        browser.fill_in("factors-name", "again")
        browser.press("Add a passkey")
        browser.wait_for(lambda: "has a passkey for this account" in browser.page(), "the reason")

        browser.driver.delete_all_cookies()
        # What a browser without autofill of passkeys says.
        without = "PublicKeyCredential.isConditionalMediationAvailable = async () => false"
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": without})
        give_password(browser, site, "ada@example.com")
        browser.wait_for(lambda: "Use a passkey" in browser.page(), "the second step")
        browser.press("Use a passkey")
        waits_for(browser, "home")

        browser.open(site.page("step-up"))
        browser.press("Use a passkey")
        waits_for(browser, "home")


def test_whoever_gives_no_passkey_may_try_again_with_the_same_options(
    browser: Browser, site: Site
) -> None:
    with virtual_authenticator(browser):
        give_password(browser, site, "bob@example.com")
        waits_for(browser, "home")
        browser.open(site.page("account"))
        browser.press("Add a passkey")
        browser.wait_for(lambda: "/add-passkey" in browser.driver.current_url, "recovery codes")
        browser.open(site.page("step-up"))
        browser.driver.set_user_verified(False)
        browser.press("Use a passkey")
        browser.wait_for(lambda: "No passkey was given" in browser.page(), "the refusal")
        browser.driver.set_user_verified(True)
        browser.press("Use a passkey")
        waits_for(browser, "home")


def test_a_page_whose_session_has_ended_leads_to_the_sign_in(browser: Browser, site: Site) -> None:
    with virtual_authenticator(browser):
        give_password(browser, site, "eve@example.com")
        waits_for(browser, "home")
        browser.open(site.page("account"))
        browser.driver.delete_all_cookies()
        browser.press("Add a passkey")
        browser.wait_for(lambda: "/ui/sign-in?" in browser.driver.current_url, "the sign-in")


def test_who_must_have_a_factor_adds_a_passkey_before_going_on(
    browser: Browser, tmp_path: Path, stranger: Stranger
) -> None:
    routes = ROUTES.replace("PAGE", str(stranger.server_port)) + REQUIRED
    with started(tmp_path / "required", routes=routes) as gateway:
        site = Site(gateway, f"http://localhost:{gateway.port}")
        with virtual_authenticator(browser):
            give_password(browser, site, "joe@example.com")
            browser.wait_for(lambda: "Add a passkey instead" in browser.page(), "the enrolment")
            browser.press("Add a passkey instead")
            browser.wait_for(
                lambda: browser.driver.current_url.endswith("/enrol/passkey"), "recovery codes"
            )
            browser.open(f"{site.url}/")
            waits_for(browser, "home")
