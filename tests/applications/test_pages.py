"""Every page of docs/applications is run by a test of its name, and listed."""

from __future__ import annotations

from pathlib import Path

from tests.applications.recipe import PAGES

NAMES = {page.stem for page in PAGES.glob("*.md")} - {"index"}


def test_every_page_is_followed_by_a_test_of_its_name() -> None:
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert {name.replace("-", "_") for name in NAMES} == tests - {"pages"}


def test_the_list_leads_to_every_page() -> None:
    text = (PAGES / "index.md").read_text("utf-8")
    assert {name for name in NAMES if f"]({name}.md)" in text} == NAMES
