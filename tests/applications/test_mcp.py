"""docs/applications/mcp.md, with the server and the client of the mcp package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.applications.recipe import EMAIL, Recipe, followed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    with followed("mcp", tmp_path_factory.mktemp("mcp")) as recipe:
        recipe.start("program", "8000")
        recipe.serve()
        recipe.run("account")
        recipe.run("key")
        yield recipe


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
