"""docs/applications/mlflow.md, with the real MLflow, its Python client and a real Chromium."""

from __future__ import annotations

import re

import pytest
from selenium.webdriver.common.by import By

from tests.applications.browser import assert_led_to_sign_in, sign_in
from tests.applications.recipe import Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

mlflow = recipe_fixture("mlflow", "program:5000", "gateway", "account", "key")


def test_what_a_program_logs_with_its_key_is_on_the_page(browser: Browser, mlflow: Recipe) -> None:
    said = mlflow.run("client").stdout
    assert "high water at noon" in said, "the file came back"
    run = re.search(r"View run first at: (\S+)", said)
    assert run is not None
    sign_in(browser, mlflow)
    browser.open(f"{mlflow.url}/mlflow")
    browser.wait_for(lambda: "tides" in browser.page(), "the experiment")
    browser.open(run[1])
    browser.wait_for(lambda: "Brest" in browser.page(), "the run")
    browser.open(f"{run[1]}/artifacts")
    name = "//*[text()='notes 100%; draft.txt']"
    browser.wait_for(lambda: browser.driver.find_element(By.XPATH, name).is_displayed(), "the file")
    browser.driver.find_element(By.XPATH, name).click()
    browser.wait_for(lambda: "high water at noon" in browser.page(), "what the file says")


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, mlflow: Recipe) -> None:
    browser.open(f"{mlflow.url}/mlflow/")
    assert_led_to_sign_in(browser)
