"""Passkeys in a real browser, with its virtual authenticator, over the endpoints alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser.driving import NEEDS_CHROMIUM, Browser, Stranger, chromium
from tests.browser.passkeys import CALL, REGISTER, SIGN_IN, virtual_authenticator
from tests.contract.running import Running, started

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

PASSWORD = "correct horse 7 battery"
ROUTES = """\
version: 1
upstreams:
  page: {{targets: ["http://127.0.0.1:PAGE"]}}
routes:
  - {{id: home, match: {{path: /, methods: [GET]}}, auth: public, upstream: page}}
  - {{id: page, match: {{path: /page, methods: [GET]}}, auth: public, upstream: page}}
"""
PAGE = '<!doctype html><title>page</title><input id="email" autocomplete="username webauthn">'


@dataclass
class Site:
    gateway: Running
    stranger: Stranger
    url: str
    """At the name of this machine: no browser makes passkeys for an IP address."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    stranger = Stranger()
    stranger.pages.update({"/page": PAGE, "/": PAGE.replace("page", "home")})
    routes = ROUTES.replace("PAGE", str(stranger.server_port))
    with started(tmp_path_factory.mktemp("passkeys") / "g", routes=routes) as gateway:
        yield Site(gateway, stranger, f"http://localhost:{gateway.port}")


@pytest.fixture
def browser(tmp_path: Path, site: Site) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as opened:
        opened.open(f"{site.url}/page")
        yield opened


def sign_in_by_password(browser: Browser, site: Site, email: str) -> None:
    if email not in site.gateway.users:
        site.gateway.sign_in(email)
    body = json.dumps({"email": email, "password": PASSWORD, "transport": "cookie"})
    answer = browser.run(CALL + f'return call("/auth/login", {body});')
    assert answer["status"] == 200, answer


def caller(browser: Browser) -> dict[str, Any]:
    return dict(browser.run('return (await fetch("/auth/me")).json();'))


def test_a_passkey_is_made_and_signs_in_alone(browser: Browser, site: Site) -> None:
    with virtual_authenticator(browser):
        sign_in_by_password(browser, site, "ada@example.com")
        made = browser.run(REGISTER, "laptop")
        assert made["status"] == 200, made
        passkey = made["passkey"]
        assert (passkey["name"], passkey["discoverable"]) == ("laptop", True)
        assert passkey["transports"] == ["internal"]
        browser.driver.delete_all_cookies()
        assert caller(browser)["reason"] == "no_credential"
        for mediation in ("optional", "conditional"):
            answer = browser.run(SIGN_IN, mediation)
            assert (answer["status"], answer["user"]["email"]) == (200, "ada@example.com")
            assert caller(browser)["email"] == "ada@example.com"
            browser.driver.delete_all_cookies()


def test_the_same_authenticator_makes_no_second_passkey(browser: Browser, site: Site) -> None:
    """It is told which there are; its browser says so to the page (WebAuthn, section 5.1.3)."""
    with virtual_authenticator(browser):
        sign_in_by_password(browser, site, "bob@example.com")
        assert browser.run(REGISTER, "one")["status"] == 200
        assert browser.run(SIGN_IN, "optional")["status"] == 200
        assert browser.run(REGISTER, "two") == "rejected: InvalidStateError"


def test_who_is_not_verified_does_not_sign_in_alone(browser: Browser, site: Site) -> None:
    with virtual_authenticator(browser, is_user_verified=False):
        sign_in_by_password(browser, site, "eve@example.com")
        browser.driver.set_user_verified(True)
        assert browser.run(REGISTER, "one")["status"] == 200
        browser.driver.set_user_verified(False)
        browser.driver.delete_all_cookies()
        assert browser.run(SIGN_IN, "optional") == "rejected: NotAllowedError"
        # A page that asks for less than was said gets an answer that is worth nothing.
        wanted = 'asked.public_key.userVerification = "discouraged";\nconst publicKey'
        answer = browser.run(SIGN_IN.replace("const publicKey", wanted), "optional")
        assert (answer["status"], answer["reason"]) == (401, "invalid_credentials")


def test_a_page_of_another_site_gets_no_passkey_of_ours(browser: Browser, site: Site) -> None:
    """Nor does one of another port: the RP id is the same, and the origin is signed."""
    with virtual_authenticator(browser):
        sign_in_by_password(browser, site, "joe@example.com")
        assert browser.run(REGISTER, "one")["status"] == 200
        asked = browser.run(CALL + 'return call("/auth/login/passkey/options", {});')
        steal = (
            "const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(args[0]);"
            "return (await navigator.credentials.get({publicKey})).toJSON();"
        )
        browser.open(site.stranger.same_site)
        assert browser.run(steal, asked["public_key"]) == "rejected: SecurityError"
        browser.open(site.stranger.cross_site)
        stolen = browser.run(steal, asked["public_key"])
        assert isinstance(stolen, dict)
        answer = site.gateway.call(
            "POST",
            "/auth/login/passkey",
            json_body={"challenge_token": asked["challenge_token"], "credential": stolen},
        )
        assert (answer.status, answer.json["reason"]) == (401, "invalid_credentials")


def test_a_page_that_another_site_frames_gets_none(browser: Browser, site: Site) -> None:
    """Even where the one that frames it allows it to ask: its answer says that it was framed."""
    with virtual_authenticator(browser):
        sign_in_by_password(browser, site, "sue@example.com")
        assert browser.run(REGISTER, "one")["status"] == 200
        for allow, refused in (("", True), ("publickey-credentials-get *", False)):
            site.stranger.pages["/frame"] = (
                f'<!doctype html><iframe allow="{allow}" src="{site.url}/page"></iframe>'
            )
            browser.open(f"{site.stranger.same_site}/frame")
            browser.driver.switch_to.frame(0)
            answer = browser.run(SIGN_IN, "optional")
            if refused:
                assert answer == "rejected: NotAllowedError"
            else:
                assert (answer["status"], answer["reason"]) == (401, "invalid_credentials")


def test_people_sign_in_on_the_page_by_a_button_and_by_autofill(
    browser: Browser, site: Site
) -> None:
    with virtual_authenticator(browser):
        sign_in_by_password(browser, site, "kim@example.com")
        assert browser.run(REGISTER, "one")["status"] == 200
        for by_button in (False, True):
            browser.driver.delete_all_cookies()
            if by_button:  # what a browser without autofill of passkeys says
                without = "PublicKeyCredential.isConditionalMediationAvailable = async () => false"
                browser.driver.execute_cdp_cmd(
                    "Page.addScriptToEvaluateOnNewDocument", {"source": without}
                )
            browser.open(f"{site.url}/auth/ui/sign-in")
            if by_button:
                browser.press("Sign in with a passkey")
            browser.wait_for(lambda: browser.driver.title == "home", "the sign-in to lead on")
            assert caller(browser)["email"] == "kim@example.com"


def test_whoever_gives_no_passkey_is_told_and_may_try_again(browser: Browser, site: Site) -> None:
    with virtual_authenticator(browser):
        browser.open(f"{site.url}/auth/ui/sign-in")
        browser.press("Sign in with a passkey")
        browser.wait_for(lambda: "No passkey was given" in browser.page(), "the refusal to be told")
        assert browser.driver.current_url == f"{site.url}/auth/ui/sign-in"
