"""docs/applications/gradio.md, with the real Gradio in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By

from tests.applications.browser import sign_in
from tests.applications.recipe import EMAIL, Recipe, followed
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]


@pytest.fixture(scope="module")
def gradio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    with followed("gradio", tmp_path_factory.mktemp("gradio")) as recipe:
        recipe.start("program", "7860")
        recipe.start("pages", "9100")
        recipe.serve()
        recipe.run("account")
        yield recipe


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


def test_who_has_not_signed_in_is_refused(browser: Browser, gradio: Recipe) -> None:
    browser.open(f"{gradio.url}/gradio/")
    assert "no_credential" in browser.page()
