"""docs/applications/streamlit.md, with the real Streamlit in a real Chromium."""

from __future__ import annotations

import pytest

from tests.applications.browser import assert_led_to_sign_in, sign_in
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

streamlit = recipe_fixture("streamlit", "program:8501", "gateway", "account")


def test_the_app_knows_who_is_calling_and_its_buttons_work(
    browser: Browser, streamlit: Recipe
) -> None:
    sign_in(browser, streamlit)
    browser.open(f"{streamlit.url}/streamlit")
    browser.wait_for(lambda: f"Signed in as {EMAIL}" in browser.page(), "the app")
    browser.wait_for(lambda: "Counted: 0" in browser.page(), "the button")
    browser.press("Count")
    browser.wait_for(lambda: "Counted: 1" in browser.page(), "the count")


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, streamlit: Recipe) -> None:
    browser.open(f"{streamlit.url}/streamlit/")
    assert_led_to_sign_in(browser)
