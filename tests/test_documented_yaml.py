"""Files that pages show: routes and policies load, with what they leave out made up beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.access.snapshot import Snapshot
from gateway.config.compile import TOP_KEYS, Sources, compile_snapshot

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted(REPOSITORY.glob("examples/*/README.md")),
]
_BLOCK = re.compile(r"^```yaml[^\n]*\n(.*?)^```$", re.M | re.S)
_OTHERS = frozenset(("applications", "coming-from.md"))
"""Run as a whole by tests of their own."""


_OF_A_PART = re.compile(
    "there is no secret |no route names a host of |unknown issuer |a resource says who gives tokens"
    "|the route has no `upstream:`|`attributes:` of routes.yaml has no "
    # A page that shows how an error is told.
    "|reads `resource.onwer`"
)
"""What is said of a part of a file, and not of the whole that it belongs to."""


def blocks() -> list[tuple[str, dict[str, Any]]]:
    """Each file that a page shows, with the page's name."""
    found = []
    for page in PAGES:
        name = str(page.relative_to(REPOSITORY))
        if _OTHERS & set(page.parts):
            continue
        for text in _BLOCK.findall(page.read_text("utf-8")):
            content = yaml.load(text, yaml.CSafeLoader)
            if isinstance(content, dict):
                found.append((name, content))
    return found


BLOCKS = blocks()
ROUTES = [(name, one) for name, one in BLOCKS if set(one) <= set(TOP_KEYS)]
POLICIES = [(name, one) for name, one in BLOCKS if {"policy", "rules"} <= set(one)]


def named(content: object, key: str) -> set[str]:
    """Whatever stands under `key`, anywhere."""
    if isinstance(content, dict):
        inside = set().union(*(named(value, key) for value in content.values()), set())
        value = content.get(key)
        values = value if isinstance(value, list) else [value]
        return inside | {one for one in values if isinstance(one, str)}
    if isinstance(content, list):
        return set().union(*(named(one, key) for one in content), set())
    return set()


def problems(content: dict[str, Any], *policies: dict[str, Any]) -> list[str]:
    """Of the file as it is, beside upstreams, limits and policies of every other name that it uses."""
    whole: dict[str, Any] = {"version": 1, **content}
    for key, block, made_up in (
        ("upstream", "upstreams", {"targets": ["http://127.0.0.1:1"]}),
        ("limits", "limits", {"key": "user", "rate": "10/1m"}),
    ):
        missing = named([content.get("routes"), content.get("defaults"), *policies], key)
        have = whole.get(block) or {}
        if missing - set(have):
            whole[block] = {**have, **dict.fromkeys(missing - set(have), made_up)}
    have_policies = {one["policy"] for one in policies}
    made = [
        {"version": 1, "policy": name, "rules": [{"id": "all", "allow": ["*"]}]}
        for name in named(content, "policy") - have_policies - {"signed-in"}
    ]
    files = [
        (f"policies/{one['policy']}.yaml", yaml.safe_dump(one, sort_keys=False))
        for one in (*policies, *made)
    ]
    found = compile_snapshot(
        Sources(("routes.yaml", yaml.safe_dump(whole, sort_keys=False)), tuple(files))
    )
    if isinstance(found, Snapshot):
        return []
    return [one.text for one in found if not _OF_A_PART.search(one.text)]


@pytest.mark.parametrize(("page", "content"), ROUTES, ids=[page for page, _ in ROUTES])
def test_routes_that_a_page_shows_load(page: str, content: dict[str, Any]) -> None:
    of_page = [one for name, one in POLICIES if name == page]
    assert problems(content, *of_page) == []


@pytest.mark.parametrize(("page", "content"), POLICIES, ids=[page for page, _ in POLICIES])
def test_a_policy_that_a_page_shows_loads(page: str, content: dict[str, Any]) -> None:
    assert problems({}, content) == []


def test_a_file_that_does_not_load_is_found() -> None:
    assert problems({"routes": [{"id": "a", "mtach": {"path": "/"}}]}) != []
