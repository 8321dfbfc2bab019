"""docs/applications/fastapi.md, with the real FastAPI and its Swagger page in a real Chromium."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.by import By

from tests.applications.browser import assert_led_to_sign_in, sign_in
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

fastapi = recipe_fixture("fastapi", "program:8000", "gateway", "account", "key")


def click(browser: Browser, selector: str) -> None:
    """As a person does: once it is there."""

    def clicked() -> bool:
        browser.driver.find_element(By.CSS_SELECTOR, selector).click()
        return True

    browser.wait_for(clicked, selector)


def executed(browser: Browser, operation: str) -> str:
    """What the page shows of the answer after "Try it out" and "Execute"."""
    if not browser.driver.find_elements(By.CSS_SELECTOR, f"{operation}.is-open"):
        click(browser, f"{operation} .opblock-summary-control")
        click(browser, f"{operation} .try-out__btn")
    for button in browser.driver.find_elements(By.CSS_SELECTOR, f"{operation} .btn-clear"):
        button.click()
    click(browser, f"{operation} .execute")
    answer = f"{operation} .live-responses-table"
    browser.wait_for(lambda: browser.driver.find_element(By.CSS_SELECTOR, answer), "the answer")
    return str(browser.driver.find_element(By.CSS_SELECTOR, answer).text)


def test_what_swagger_authorizes_with_is_the_applications_own(
    browser: Browser, fastapi: Recipe
) -> None:
    sign_in(browser, fastapi)
    browser.open(f"{fastapi.url}/fastapi/docs")
    publish = "#operations-default-publish_publish_post"
    browser.wait_for(lambda: browser.driver.find_element(By.CSS_SELECTOR, publish), "the page")
    assert f'"read_by": "{EMAIL}"' in executed(browser, "#operations-default-reports_reports_get")
    assert '"Not authenticated"' in executed(browser, publish)
    click(browser, ".btn.authorize")
    browser.driver.find_element(By.CSS_SELECTOR, ".auth-container input").send_keys("open sesame")
    click(browser, ".modal-btn.authorize")
    click(browser, ".modal-btn.btn-done")
    assert f'"published_by": "{EMAIL}"' in executed(browser, publish)
    assert f'"read_by": "{EMAIL}"' in executed(browser, "#operations-default-reports_reports_get")


def test_a_script_reads_with_its_key(fastapi: Recipe) -> None:
    assert json.loads(fastapi.run("client").stdout)["read_by"].startswith("client-")


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, fastapi: Recipe) -> None:
    browser.open(f"{fastapi.url}/fastapi/docs")
    assert_led_to_sign_in(browser)
