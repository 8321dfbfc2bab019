"""docs/applications/jupyterhub.md, with the real JupyterHub in a real Chromium."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.applications.browser import assert_led_to_sign_in, change_person, sign_in
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

hub = recipe_fixture("jupyterhub", "program:8000:8082", "gateway", "account", programs=["npm"])


def test_a_cell_runs_in_a_persons_own_server(browser: Browser, hub: Recipe) -> None:
    sign_in(browser, hub)
    browser.open(f"{hub.url}/jupyterhub")
    own = f"{hub.url}/jupyterhub/user/{EMAIL}/lab"
    browser.wait_for(lambda: browser.driver.current_url.startswith(own), "the person's server")
    card = "//*[@data-category='Notebook']//*[contains(@title, 'Python 3')]"
    browser.wait_for(
        lambda: browser.driver.find_element(By.XPATH, card).is_displayed(), "the launcher"
    )
    browser.driver.find_element(By.XPATH, card).click()
    browser.wait_for(lambda: "(ipykernel) | Idle" in browser.page(), "the kernel")
    cell = browser.driver.find_element(By.CSS_SELECTOR, ".jp-Notebook .cm-content")
    cell.click()
    cell.send_keys("6*7", Keys.SHIFT, Keys.ENTER)
    browser.wait_for(
        lambda: browser.driver.find_element(By.CSS_SELECTOR, ".jp-OutputArea-output").text == "42",
        "what the kernel says",
    )


def test_a_token_of_the_hub_counts_with_a_session_and_without(
    browser: Browser, hub: Recipe
) -> None:
    sign_in(browser, hub)
    browser.open(f"{hub.url}/jupyterhub/hub/home")
    token = (hub.folder / "token").read_text().strip()
    asked = browser.run(
        """const answer = await fetch('/jupyterhub/hub/api/users',
             {headers: {Authorization: 'token ' + args[0]}});
           return [answer.status, answer.status === 200 ? (await answer.json())[0].name : ''];""",
        token,
    )
    assert asked == [200, EMAIL]
    assert [user["name"] for user in json.loads(hub.run("client").stdout)] == [EMAIL]
    hub.blocks["stranger"] = hub.blocks["client"].replace("$(cat token)", "$(rev token)")
    assert hub.run("stranger", check=False).returncode == 22


def test_the_hub_follows_when_another_person_signs_in(browser: Browser, hub: Recipe) -> None:
    sign_in(browser, hub)
    browser.open(f"{hub.url}/jupyterhub/hub/token")
    browser.wait_for(lambda: EMAIL in browser.page(), "the Hub's page")
    change_person(browser, hub, "eve@example.com")

    def followed_to_eve() -> bool:
        browser.open(f"{hub.url}/jupyterhub/hub/token")
        return "eve@example.com" in browser.page() and EMAIL not in browser.page()

    browser.wait_for(followed_to_eve, "eve's page")
    browser.open(f"{hub.url}/jupyterhub/user/{EMAIL}/lab")
    assert "You have no access to this page." in browser.page()


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, hub: Recipe) -> None:
    browser.open(f"{hub.url}/jupyterhub/hub/home")
    assert_led_to_sign_in(browser)
    browser.open(f"{hub.url}/jupyterhub/user/{EMAIL}/lab")
    assert_led_to_sign_in(browser)
