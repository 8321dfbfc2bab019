"""docs/applications/datasette.md, with the real Datasette in a real Chromium."""

from __future__ import annotations

import json

import pytest

from tests.applications.browser import sign_in
from tests.applications.recipe import Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

datasette = recipe_fixture("datasette", "data", "program:8001", "gateway", "account", "key")


def test_the_tables_can_be_browsed_and_the_sql_page_is_another_role(
    browser: Browser, datasette: Recipe
) -> None:
    sign_in(browser, datasette)
    browser.open(f"{datasette.url}/datasette")
    browser.driver.find_element("link text", "data").click()
    browser.driver.find_element("link text", "planets").click()
    browser.wait_for(lambda: "Jupiter" in browser.page(), "the rows")
    browser.open(f"{datasette.url}/datasette/data/-/query?sql=select+1")
    assert "You have no access to this page." in browser.page()


def test_a_script_reads_the_rows_with_its_key(datasette: Recipe) -> None:
    rows = json.loads(datasette.run("client").stdout)
    assert [row["name"] for row in rows] == ["Earth", "Jupiter", "Mars"]
