"""What of the sample page needs no browser."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.access.routing.route_table import RouteTable
from gateway.access.routing.routes import Auth
from gateway.access.snapshot import Snapshot
from gateway.config.compile import compile_snapshot
from gateway.config.files import read_sources

SPA = Path(__file__).parents[2] / "examples" / "spa"


def routes(tmp_path: Path) -> RouteTable:
    sources = read_sources(SPA / "routes.yaml", tmp_path)
    assert not isinstance(sources, list), sources
    snapshot = compile_snapshot(sources)
    assert isinstance(snapshot, Snapshot), snapshot
    return snapshot.routes


def test_its_routes_are_valid_and_ask_for_a_sign_in(tmp_path: Path) -> None:
    made = list(routes(tmp_path))
    assert {route.id for route in made if route.auth is Auth.PUBLIC} == {"page.assets"}
    assert all(route.sign_in_page for route in made if route.auth is not Auth.PUBLIC)


def test_nothing_of_the_page_is_inline_or_comes_from_elsewhere() -> None:
    page = (SPA / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son[a-z]+=|\sstyle=", page)
    assert not re.search(r"(src|href)=\"(?!/|data:,)", page)


def test_its_script_keeps_nothing() -> None:
    script = (SPA / "app.js").read_text("utf-8")
    assert not re.search(
        r"localStorage|sessionStorage|indexedDB|document\.cookie|innerHTML", script
    )
