"""docs/applications/s3.md, with boto3 and a server that judges its signatures."""

from __future__ import annotations

import pytest

from tests.applications.recipe import Recipe, recipe_fixture

pytestmark = pytest.mark.slow

store = recipe_fixture("s3", "program:5000", "gateway", "account")


def test_objects_of_any_name_and_in_parts_keep_their_signatures(store: Recipe) -> None:
    listed = store.run("client").stdout.splitlines()
    assert sorted(listed) == sorted(
        ["2026/a b.txt", "50% off;final.txt", "back\\slash", "naïve/ключ", "large"]
    )


def test_a_wrong_secret_is_refused_by_the_server_behind(store: Recipe) -> None:
    credentials = store.folder / "credentials"
    good = credentials.read_text()
    name, access, secret = good.splitlines()
    credentials.write_text("\n".join((name, access, secret[:-1] + "x")) + "\n")
    try:
        refused = store.run("client", check=False)
    finally:
        credentials.write_text(good)
    assert "SignatureDoesNotMatch" in refused.stderr
