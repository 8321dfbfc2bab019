"""docs/applications/verdaccio.md, with the real Verdaccio, npm, and a real Chromium."""

from __future__ import annotations

import subprocess

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.applications.browser import assert_led_to_sign_in, sign_in
from tests.applications.recipe import Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

PROGRAMS = ["npm", "node:nodejs", "openssl", "jq", "curl"]


packages = recipe_fixture(
    "verdaccio",
    "board",
    "program:4873",
    "gateway",
    "account",
    "key",
    "npmrc",
    "publish",
    programs=PROGRAMS,
)


def test_what_is_published_can_be_installed(packages: Recipe) -> None:
    assert packages.run("client").stdout.splitlines()[-1] == "hello"


def test_the_page_shows_packages_by_the_session(browser: Browser, packages: Recipe) -> None:
    sign_in(browser, packages)
    browser.open(f"{packages.url}/npm")
    browser.wait_for(lambda: "@team/hello" in browser.page(), "the list")
    assert "@board/plan" not in browser.page()
    browser.open(f"{packages.url}/npm/-/web/detail/@team/hello")
    browser.wait_for(lambda: "Says hello" in browser.page(), "the package")


def test_the_page_keeps_its_own_sign_in_beside_the_session(
    browser: Browser, packages: Recipe
) -> None:
    sign_in(browser, packages)
    browser.open(f"{packages.url}/npm/")
    browser.wait_for(lambda: "@team/hello" in browser.page(), "the list")
    press(browser, "header--button-login")
    field(browser, "login--dialog-username").send_keys("board")
    field(browser, "login--dialog-password").send_keys("horse battery 8 correct", Keys.ENTER)
    browser.wait_for(lambda: "@board/plan" in browser.page(), "what the board sees")
    browser.open(f"{packages.url}/npm/")
    browser.wait_for(lambda: "@board/plan" in browser.page(), "the same after a reload")


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, packages: Recipe) -> None:
    browser.open(f"{packages.url}/npm/")
    assert_led_to_sign_in(browser)


def test_a_key_that_reads_does_not_publish(packages: Recipe) -> None:
    assert packages.run("build").stdout.strip() == "1.0.0"
    refused = packages.run("refused", check=False)
    assert refused.returncode != 0
    assert "E403" in refused.stderr
    assert packages.run("build").stdout.strip() == "1.0.0"


def test_npm_asks_the_registry_about_weaknesses_and_takes_back(packages: Recipe) -> None:
    packages.run("client")
    # What npmjs.org says to it is not of this repository.
    npm(packages, "audit", "--registry", f"{packages.url}/npm/")
    assert "/-/npm/v1/security/" in packages.log("program")
    taken_back = npm(packages, "unpublish", "--force", "@team/hello")
    assert taken_back.returncode == 0, taken_back.stderr
    assert "E404" in npm(packages, "view", "@team/hello", "version").stderr


def npm(recipe: Recipe, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["npm", *arguments],
        cwd=recipe.folder / "app",
        env=recipe.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def press(browser: Browser, name: str) -> None:
    browser.wait_for(lambda: field(browser, name).is_displayed(), name)
    field(browser, name).click()


def field(browser: Browser, name: str) -> WebElement:
    return browser.driver.find_element(By.CSS_SELECTOR, f"[data-testid='{name}'], #{name}")
