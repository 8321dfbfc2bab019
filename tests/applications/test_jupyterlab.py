"""docs/applications/jupyterlab.md, with the real JupyterLab in a real Chromium."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.applications.browser import assert_led_to_sign_in, sign_in, sign_in_and_out
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

lab = recipe_fixture("jupyterlab", "program:8888", "gateway", "account")


def test_a_cell_runs_over_the_socket_of_the_kernel(browser: Browser, lab: Recipe) -> None:
    sign_in(browser, lab)
    browser.open(f"{lab.url}/jupyter/lab")
    card = "//*[@data-category='Notebook']//*[contains(@title, 'Python 3')]"
    browser.wait_for(
        lambda: browser.driver.find_element(By.XPATH, card).is_displayed(), "the launcher"
    )
    browser.driver.find_element(By.XPATH, card).click()
    browser.wait_for(
        lambda: browser.driver.find_element(By.CSS_SELECTOR, ".jp-Notebook .cm-content"), "a cell"
    )
    browser.wait_for(lambda: "(ipykernel) | Idle" in browser.page(), "the kernel")
    cell = browser.driver.find_element(By.CSS_SELECTOR, ".jp-Notebook .cm-content")
    cell.click()
    cell.send_keys("6*7", Keys.SHIFT, Keys.ENTER)
    browser.wait_for(
        lambda: browser.driver.find_element(By.CSS_SELECTOR, ".jp-OutputArea-output").text == "42",
        "what the kernel says",
    )


def test_who_was_given_the_address_signs_in_and_out(browser: Browser, lab: Recipe) -> None:
    (lab.folder / "notes.txt").write_text("high water at noon")

    def names_the_person() -> bool:
        tab = browser.driver.find_element(By.CSS_SELECTOR, "[data-id=jp-collaboration-panel]")
        if "lm-mod-current" not in str(tab.get_attribute("class")):
            tab.click()
        shown = f".jp-UserInfo-Icon[title='{EMAIL}']"
        return browser.driver.find_element(By.CSS_SELECTOR, shown).is_displayed()

    sign_in_and_out(browser, lab, "/jupyter/lab/tree/notes.txt", names_the_person)


def test_the_bare_name_leads_to_the_program(browser: Browser, lab: Recipe) -> None:
    sign_in(browser, lab)
    browser.open(f"{lab.url}/jupyter")
    browser.wait_for(
        lambda: browser.driver.current_url.startswith(f"{lab.url}/jupyter/lab"), "JupyterLab"
    )


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, lab: Recipe) -> None:
    browser.open(f"{lab.url}/jupyter/lab")
    assert_led_to_sign_in(browser)
