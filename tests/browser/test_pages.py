"""The pages in a real Chromium: with and without JavaScript, light and dark, narrow and wide, judged by
axe-core, and worked by the keyboard alone.

`make screenshots` writes the pictures of docs/pages.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyotp
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.driving import NEEDS_CHROMIUM, Browser, chromium
from tests.browser.looks import Look, axe_script
from tests.browser.passkeys import virtual_authenticator
from tests.contract.running import Running, started

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

EMAIL, PASSWORD = "ada@example.com", "correct horse 7 battery"
ROUTES = """\
version: 1
defaults: {{auth: required, accept: [cookie], sign_in: page}}
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
routes:
  - {{id: home, match: {{path: /}}, policy: signed-in, upstream: echo}}
  - {{id: orders, match: {{prefix: /orders}}, policy: signed-in, upstream: echo}}
"""
PICTURES = {
    ("sign-in", "light", 1280): "sign-in.png",
    ("sign-in", "dark", 320): "sign-in-dark-narrow.png",
    ("register, weak password", "light", 320): "register-weak-password-narrow.png",
    ("account", "light", 1280): "account.png",
    ("an app is set up", "dark", 1280): "set-up-app-dark.png",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("pages") / "g", routes=ROUTES) as running:
        running.sign_in(EMAIL)
        yield running


def look_at(browser: Browser, gateway: Running, *, javascript: bool = True, axe: str = "") -> Look:
    folder = os.environ.get("SCREENSHOTS")
    url = f"http://localhost:{gateway.port}"
    return Look(browser, url, javascript, axe, pictures=PICTURES, folder=folder)


@contextmanager
def looking(profile: Path, gateway: Running, *, javascript: bool) -> Iterator[Look]:
    axe = axe_script()
    with chromium(profile, "--lang=en") as browser:
        opened = look_at(browser, gateway, javascript=javascript, axe=axe)
        opened.command("Emulation.setScriptExecutionDisabled", value=not javascript)
        yield opened


@pytest.fixture(params=[True, False], ids=["javascript", "no-javascript"])
def look(request: pytest.FixtureRequest, tmp_path: Path, gateway: Running) -> Iterator[Look]:
    with looking(tmp_path / "profile", gateway, javascript=request.param) as opened:
        yield opened


def test_the_pages_of_who_is_signed_out_are_for_everybody(look: Look) -> None:
    look.open("/orders/7?page=2")
    assert look.path().startswith("/auth/ui/sign-in?return_to=")
    look.judge("sign-in")
    look.fill(email="nobody@example.com", password="wrong horse 7 battery")
    look.press("Sign in")
    assert "do not match" in look.browser.page()
    look.judge("sign-in, wrong password")
    look.open("/auth/ui/register")
    look.judge("register")
    look.fill(email="new@example.com", password="password1")
    look.press("Create account")
    assert "most common passwords" in look.browser.page()
    look.judge("register, weak password")
    for path in ("forgot", "resend", "reset?token=x", "verify?token=x", "confirm-email?token=x"):
        look.open(f"/auth/ui/{path}")
        look.judge(path)
    look.open("/auth/ui/forgot")
    look.fill(email=EMAIL)
    look.press("Send link")
    look.judge("mail sent")
    look.open("/auth/ui/nothing")
    look.judge("not found")


def test_the_pages_of_who_is_signed_in_are_for_everybody(look: Look) -> None:
    email = f"bea-{look.javascript}@example.com".lower()
    look.open("/auth/ui/register")
    look.fill(email=email, password=PASSWORD)
    look.press("Create account")
    assert look.path() == "/"
    for path in ("sign-in", "sign-out", "step-up", "account", "account/delete"):
        look.open(f"/auth/ui/{path}")
        look.judge(path)
    look.open("/auth/ui/account")
    look.press("Set up an authenticator app")
    look.judge("an app is set up")
    (secret,) = re.findall(r"secret=([A-Z2-7]+)", look.browser.driver.page_source)
    totp = pyotp.TOTP(secret)
    look.fill(code=totp.now())
    look.press("Confirm")
    look.judge("recovery codes")
    codes = [one.text for one in look.browser.driver.find_elements(By.CSS_SELECTOR, ".codes code")]
    assert len(codes) == 10
    look.open("/auth/ui/account")
    look.fill(keys__key_name="laptop")
    look.press("Create key")
    look.judge("a new key")
    look.open("/auth/ui/account")
    look.judge("account, with all")
    look.open("/auth/ui/sign-out")
    look.press("Sign out")
    assert "You have signed out." in look.browser.page()
    look.fill(email=email, password=PASSWORD)
    look.press("Sign in")
    look.judge("factor")
    look.fill(code=codes[0])
    look.press("Confirm")
    assert look.path() == "/"


def test_the_keyboard_is_enough(look: Look) -> None:
    def focused(attribute: str) -> str | None:
        return look.browser.driver.switch_to.active_element.get_attribute(attribute)

    def type_in(*keys: str) -> None:
        look.browser.driver.switch_to.active_element.send_keys(*keys)

    look.open("/orders/7?page=2")
    look.browser.wait_for(lambda: focused("id") == "email", "the focus on the first field")
    type_in("nobody@example.com", Keys.TAB)
    assert focused("id") == "password"
    type_in("wrong horse 7 battery", Keys.ENTER)
    look.browser.wait_for(lambda: focused("role") == "alert", "the focus on what is wrong")
    type_in(Keys.TAB)
    assert focused("id") == "email"
    type_in(Keys.CONTROL, "a", Keys.NULL, EMAIL, Keys.TAB)
    type_in(PASSWORD, Keys.ENTER)
    look.browser.wait_for(lambda: look.path() == "/orders/7?page=2", "the page that was asked for")


def test_a_challenge_is_solved_while_the_visitor_types(tmp_path: Path, gateway: Running) -> None:
    with chromium(tmp_path / "profile", "--lang=en") as browser:
        look = look_at(browser, gateway)
        look.open("/auth/ui/sign-in")
        look.fill(email="carl@example.com", password="wrong horse 7 battery")
        look.press("Sign in")
        browser.wait_for(lambda: "Checked." in browser.page(), "the challenge to be solved")
        value = browser.driver.find_element(By.ID, "captcha").get_attribute("value")
        assert len(value or "") > 100


def test_a_passkey_is_added_on_the_account_page_and_signs_in(
    tmp_path: Path, gateway: Running
) -> None:
    with chromium(tmp_path / "profile", "--lang=en") as browser, virtual_authenticator(browser):
        look = look_at(browser, gateway)
        look.open("/auth/ui/register")
        look.fill(email="dora@example.com", password=PASSWORD)
        look.press("Create account")
        look.open("/auth/ui/account")
        look.fill(factors__name="my laptop")
        browser.press("Add a passkey")
        browser.wait_for(lambda: "passkey" in look.path() or "recovery" in browser.page(), "it")
        look.open("/auth/ui/account")
        assert "my laptop" in browser.page()
        look.open("/auth/ui/sign-out")
        look.press("Sign out")
        browser.wait_for(
            lambda: look.path() == "/", "the passkey that the browser offers by itself"
        )
