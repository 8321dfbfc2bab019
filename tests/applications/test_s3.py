"""docs/applications/s3.md, with boto3 and a server that judges its signatures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.applications.recipe import Recipe, followed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    with followed("s3", tmp_path_factory.mktemp("s3")) as recipe:
        recipe.start("program", "5000")
        recipe.serve()
        recipe.run("account")
        yield recipe


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
