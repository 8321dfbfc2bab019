"""docs/applications/gradio.md, with the real Gradio in a real Chromium."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By

from tests.applications.browser import assert_led_to_sign_in, sign_in
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

gradio = recipe_fixture("gradio", "program:7860", "gateway", "account")


def test_an_answer_comes_over_the_stream_of_events(browser: Browser, gradio: Recipe) -> None:
    sign_in(browser, gradio)
    browser.open(f"{gradio.url}/gradio")
    browser.wait_for(
        lambda: browser.driver.find_element(By.CSS_SELECTOR, "[data-testid='textbox']"), "the form"
    )
    fields = browser.driver.find_elements(By.CSS_SELECTOR, "[data-testid='textbox']")
    fields[0].send_keys("Ada")
    browser.press("Submit")
    browser.wait_for(
        lambda: fields[1].get_property("value") == f"Hello Ada, signed in as {EMAIL}", "the answer"
    )


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, gradio: Recipe) -> None:
    browser.open(f"{gradio.url}/gradio/")
    assert_led_to_sign_in(browser)
