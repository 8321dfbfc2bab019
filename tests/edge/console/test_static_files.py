"""Style and scripts: what is served, and that it is what npm has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gateway.edge.console.static_files import FOLDER, StaticFiles
from tests.edge.console.house import console_house

VENDORED = {
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "htmx-sse.min.js": "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
}


@pytest.mark.parametrize("name", VENDORED)
def test_what_is_not_ours_is_as_npm_has_it(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == VENDORED[name]


@pytest.mark.parametrize("name", ["LICENSE-htmx.txt", "LICENSE-htmx-sse.txt"])
def test_its_licence_lies_beside_it(name: str) -> None:
    assert "hereby granted" in (FOLDER / name).read_text("utf-8")


def test_no_script_makes_code_of_text() -> None:
    """What htmx could (`allowEval`) its configuration forbids, and the policy besides."""
    layout = (Path(FOLDER).parent / "templates" / "console.html").read_text("utf-8")
    for word in ('"allowEval":false', '"allowScriptTags":false', '"includeIndicatorStyles":false'):
        assert word in layout


async def test_a_file_is_kept_by_its_name_and_known_by_its_tag() -> None:
    async with console_house() as house:
        path = StaticFiles().paths["console.css"]
        answer = await house.ask(path)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
        assert "immutable" in answer.headers["Cache-Control"]
        again = await house.ask(path, If_None_Match=f'"x", {answer.headers["ETag"]}')
        assert (again.status, again.text) == (304, "")


@pytest.mark.parametrize("name", ["console.css", "LICENSE-htmx.txt", "x/y.js"])
async def test_another_name_is_none(name: str) -> None:
    async with console_house() as house:
        assert (await house.ask(f"/admin/assets/{name}")).status == 404
