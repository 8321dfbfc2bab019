"""docs/applications/mcp.md, with the server and the client of the mcp package."""

from __future__ import annotations

import pytest

from tests.applications.recipe import EMAIL, Recipe, recipe_fixture

pytestmark = pytest.mark.slow

clerk = recipe_fixture("mcp", "program:8000", "gateway", "account", "key")


def test_a_tool_knows_whose_key_the_client_has(clerk: Recipe) -> None:
    assert clerk.run("client").stdout == f"{EMAIL} as assistant\n"


def test_without_a_good_key_no_tool_is_called(clerk: Recipe) -> None:
    key = clerk.folder / "key"
    good = key.read_text()
    key.write_text("agp_" + "0" * 49)
    try:
        refused = clerk.run("client", check=False)
    finally:
        key.write_text(good)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Server returned an error response" in refused.stderr
