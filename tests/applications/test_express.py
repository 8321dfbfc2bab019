"""docs/applications/express.md, with the real Express in a real Chromium."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By

from tests.applications.browser import assert_led_to_sign_in, sign_in
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

express = recipe_fixture("express", "program:3000", "gateway", "account", programs=["npm"])


def test_who_has_signed_in_writes_a_note_under_their_own_name(
    browser: Browser, express: Recipe
) -> None:
    sign_in(browser, express)
    browser.open(f"{express.url}/")
    browser.wait_for(lambda: f"Hello {EMAIL}" in browser.page(), "the greeting")
    browser.driver.find_element(By.NAME, "text").send_keys("<b>bread</b>")
    browser.driver.find_element(By.TAG_NAME, "button").click()
    browser.wait_for(lambda: f"<b>bread</b> ({EMAIL})" in browser.page(), "the note")


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, express: Recipe) -> None:
    browser.open(f"{express.url}/notes")
    assert_led_to_sign_in(browser)
