"""The site that `make docs` builds of the docs: whole, found by search, and from nowhere else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def test_every_page_of_the_docs_is_on_it(site: Path) -> None:
    docs = REPOSITORY / "docs"
    for page in docs.rglob("*.md"):
        name = page.relative_to(docs).with_suffix("")
        assert (site / (name.parent if name.name == "index" else name) / "index.html").exists()


def test_what_a_page_links_to_in_the_repository_is_on_it(site: Path) -> None:
    unit = REPOSITORY / "deploy" / "authgate.service"
    assert (site / "repository/deploy/authgate.service").read_bytes() == unit.read_bytes()
    folder = (site / "repository/deploy/nginx/index.html").read_text("utf-8")
    assert 'href="nginx.conf"' in folder
    assert "Working on" in (site / "repository/CONTRIBUTING/index.html").read_text("utf-8")


def test_every_reason_is_found_by_its_word(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text("utf-8"))
    found = {one["location"].partition("#")[0] for one in index["docs"]}
    reasons = {path.stem for path in (REPOSITORY / "docs/reasons").glob("*.md")}
    assert reasons
    assert {name for name in reasons if f"reasons/{name}/" not in found} == set()


def test_a_browser_asks_nobody_else_for_any_part_of_it(site: Path) -> None:
    loaded = re.compile(
        r'<(?:script|img|iframe|link rel="?stylesheet"?)[^>]*(?:src|href)="?(https?:)'
    )
    foreign = [page for page in site.rglob("*.html") if loaded.search(page.read_text("utf-8"))]
    assert foreign == []


def test_every_file_of_its_navigation_is_reached_by_one_title() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    pages = re.findall(r"[\w./-]+\.(?:md|yaml)$", text, re.M)
    assert len(pages) == len(set(pages)) > 50
    docs = REPOSITORY / "docs"
    shown = {docs / page for page in pages}
    told = {
        path
        for path in docs.rglob("*.md")
        if path.parent.name not in ("reasons", "decisions", "applications")
    }
    assert told - shown == set()
