"""docs/applications/radicale.md, with the real Radicale and the caldav package."""

from __future__ import annotations

import pytest

from tests.applications.recipe import Recipe, recipe_fixture

pytestmark = pytest.mark.slow

radicale = recipe_fixture("radicale", "program:5232", "gateway", "account", "key")


def test_an_event_is_kept_in_the_calendar_of_who_holds_the_key(radicale: Recipe) -> None:
    assert radicale.run("client").stdout == "Review\n"
    assert (radicale.folder / "collections/collection-root/ada@example.com").is_dir()


def test_a_wrong_key_is_asked_for_again(radicale: Recipe) -> None:
    key = radicale.folder / "key"
    good = key.read_text()
    key.write_text("agp_" + "0" * 49)
    try:
        refused = radicale.run("client", check=False)
    finally:
        key.write_text(good)
    assert refused.returncode != 0
    assert "AuthorizationError" in refused.stderr
