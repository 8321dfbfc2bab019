"""docs/applications/datasette.md, with the real Datasette in a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.applications.browser import sign_in
from tests.applications.recipe import Recipe, followed
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]


@pytest.fixture(scope="module")
def datasette(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    with followed("datasette", tmp_path_factory.mktemp("datasette")) as recipe:
        recipe.run("data")
        recipe.start("program", "8001")
        recipe.start("pages", "9100")
        recipe.serve()
        recipe.run("account")
        recipe.run("key")
        yield recipe


def test_the_tables_can_be_browsed_and_the_sql_page_is_another_role(
    browser: Browser, datasette: Recipe
) -> None:
    sign_in(browser, datasette)
    browser.open(f"{datasette.url}/datasette")
    browser.driver.find_element("link text", "data").click()
    browser.driver.find_element("link text", "planets").click()
    browser.wait_for(lambda: "Jupiter" in browser.page(), "the rows")
    browser.open(f"{datasette.url}/datasette/data/-/query?sql=select+1")
    assert "no_rule" in browser.page()


def test_a_script_reads_the_rows_with_its_key(datasette: Recipe) -> None:
    rows = json.loads(datasette.run("client").stdout)
    assert [row["name"] for row in rows] == ["Earth", "Jupiter", "Mars"]
