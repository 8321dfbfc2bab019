"""docs/applications/prometheus.md, with the real Prometheus in a real Chromium."""

from __future__ import annotations

import json

import pytest

from tests.applications.browser import sign_in
from tests.applications.recipe import WITHIN_S, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser
from tests.servers import wait_until

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

prometheus = recipe_fixture(
    "prometheus", "program:9090", "gateway", "account", "key", programs=["prometheus"]
)


def test_the_page_shows_a_target(browser: Browser, prometheus: Recipe) -> None:
    sign_in(browser, prometheus)
    browser.open(f"{prometheus.url}/prometheus")
    browser.wait_for(
        lambda: browser.driver.current_url.startswith(f"{prometheus.url}/prometheus/"), "the page"
    )

    def shown() -> bool:
        # Debian's package has the older pages alone, which show what there was as they were made.
        browser.open(f"{prometheus.url}/prometheus/classic/targets")
        return "authgate" in browser.page()

    browser.wait_for(shown, "the target")


def test_a_script_asks_with_its_key_and_may_not_delete(prometheus: Recipe) -> None:
    def up() -> bool:
        answer = json.loads(prometheus.run("client").stdout)
        return bool(answer["data"]["result"]) and answer["data"]["result"][0]["value"][1] == "1"

    wait_until(up, WITHIN_S, "a scrape")
    refused = prometheus.run("refused", check=False)
    assert "no_rule" in refused.stdout
