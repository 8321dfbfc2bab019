"""The evidence of docs/: every test that a page names exists, and no row stands without evidence."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PAGES = sorted(path for path in DOCS.rglob("*.md") if NAMED.search(path.read_text("utf-8")))
ASVS = DOCS / "security" / "asvs.md"
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([123]) \| (.+?) \| ([a-z ]+) \| (.+) \|$", re.M)


@cache
def names_in(file: str) -> frozenset[str]:
    """The tests of a file: its functions and classes; none where there is no such file."""
    path = REPOSITORY / file
    if not path.is_file():
        return frozenset()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = ast.parse(path.read_text("utf-8"))
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return frozenset({node.name for node in tree.body if isinstance(node, kinds)} | assigned)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text("utf-8"))
    assert [f"{file}::{name}" for file, name in named if name not in names_in(file)] == []


def test_every_row_has_its_evidence() -> None:
    wrong = []
    for number, _, _, verdict, evidence in ROW.findall(ASVS.read_text("utf-8")):
        good = {
            "met": bool(NAMED.search(evidence)),
            "document": "](" in evidence,
            "in part": len(evidence) > 40,
            "not met": len(evidence) > 40,
            "by construction": len(evidence) > 20,
        }
        if not good.get(verdict):
            wrong.append((number, verdict))
    assert wrong == []


def test_the_counts_of_the_verdicts_are_those_of_the_rows() -> None:
    text = ASVS.read_text("utf-8")
    counted = Counter(verdict for _, _, _, verdict, _ in ROW.findall(text))
    told = {
        verdict: int(number)
        for verdict, number in re.findall(r"^\| ([a-z ]+) \| (\d+) \|", text, re.M)
    }
    assert told == dict(counted)


def test_level_2_is_whole() -> None:
    """Rows of levels 1 and 2 that apply; a row that is taken out must be a decision."""
    levels = Counter(level for _, level, _, _, _ in ROW.findall(ASVS.read_text("utf-8")))
    assert (levels["1"], levels["2"]) == (63, 133)


def test_each_defect_of_others_is_held_by_a_test() -> None:
    rows = re.findall(
        r"^\| (?!id |-)(.+?) \| .* \| (.+) \|$",
        (DOCS / "security" / "cves.md").read_text("utf-8"),
        re.M,
    )
    assert len(rows) > 100
    assert [name for name, evidence in rows if not NAMED.search(evidence)] == []
