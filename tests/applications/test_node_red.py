"""docs/applications/node-red.md, with the real Node-RED in a real Chromium."""

from __future__ import annotations

import pytest

from tests.applications.browser import assert_led_to_sign_in, sign_in
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

node_red = recipe_fixture("node-red", "program:1880", "gateway", "account", programs=["npm"])


def test_the_editor_is_there_and_its_socket_is_open(browser: Browser, node_red: Recipe) -> None:
    sign_in(browser, node_red)
    browser.open(f"{node_red.url}/node-red")
    browser.wait_for(lambda: "Deploy" in browser.page(), "the editor")
    opened = browser.run(
        """return await new Promise((resolve) => {
             const socket = new WebSocket(`ws://${location.host}/node-red/comms`);
             socket.onopen = () => resolve('open'); socket.onerror = () => resolve('refused');
           });"""
    )
    assert opened == "open"
    browser.open(f"{node_red.url}/flows/hello")
    assert browser.page() == f"Hello {EMAIL}"


def test_a_flow_is_there_for_strangers_and_the_editor_is_not(
    browser: Browser, node_red: Recipe
) -> None:
    assert node_red.run("client").stdout == "Hello stranger"
    browser.open(f"{node_red.url}/node-red/")
    assert_led_to_sign_in(browser)
