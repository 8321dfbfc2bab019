"""The pages of the console: what they show, what they run, and which of them answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.edge.console.pages import ConsolePage, NavigationEntry, PageRegistry
from tests.edge.console.bulbs import Bulbs
from tests.edge.console.house import ConsoleHouse

ROOM = Path(__file__).parents[3] / "gateway" / "edge" / "console"


async def test_what_is_not_there_is_a_page_that_says_so(house: ConsoleHouse) -> None:
    await house.sign_in()
    missing = await house.ask("/admin/bulbs/none")
    assert (missing.status, "There is no such bulb." in missing.text) == (404, True)
    assert (await house.ask("/admin/bogus")).status == 404
    assert (await house.ask("/admin/bulbs/1/2/3/4/5/6")).status == 404
    assert (await house.ask("/admin//bulbs")).status == 404


async def test_a_store_that_is_away_is_a_page_that_says_so(
    house: ConsoleHouse, bulbs: Bulbs
) -> None:
    await house.sign_in()
    bulbs.away = True
    answer = await house.ask("/admin/bulbs/1")
    assert (answer.status, "Sign out" in answer.text) == (503, True)
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
async def test_a_page_without_actions_is_only_read(house: ConsoleHouse, method: str) -> None:
    await house.sign_in()
    answer = await house.ask("/admin", method, Origin=house.base)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_a_page_runs_nothing_but_the_files_of_the_console(house: ConsoleHouse) -> None:
    await house.sign_in()
    answer = await house.ask("/admin")
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert policy == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(
        r"<style| style=| on\w+=|hx-on|<script(?! src=\"/admin/assets/)", answer.text
    )


def test_no_template_holds_a_script_a_style_or_a_handler() -> None:
    for template in (ROOM / "templates").glob("*.html"):
        text = template.read_text("utf-8")
        assert not re.search(
            r"<style|\sstyle=|\son\w+=|hx-on|hx-vals='js|javascript:|\|\s*safe", text
        )
        assert re.findall(r"<script[^>]*>", text) in ([], ['<script src="{{ script }}" defer>'])


async def test_what_others_wrote_is_shown_as_text(house: ConsoleHouse) -> None:
    house.workers.problems = ["<script>alert(1)</script>"]
    await house.sign_in()
    text = (await house.ask("/admin")).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "&lt;b&gt;Hi&lt;/b&gt;" in text


def test_two_pages_of_one_address_are_an_error(bulbs: Bulbs) -> None:
    with pytest.raises(ValueError, match="one address"):
        PageRegistry([*bulbs.pages(), *bulbs.pages()], [])
    with pytest.raises(ValueError, match="leads nowhere"):
        PageRegistry(bulbs.pages(), [NavigationEntry("/admin/x", "X")])


def test_a_word_comes_before_a_name(bulbs: Bulbs) -> None:
    page = bulbs.pages()[0]
    exact = ConsolePage("/admin/bulbs/new", "New", bulbs.show)
    registry = PageRegistry([page, exact], [])
    assert registry.match(("admin", "bulbs", "new")) == (exact, {})
    assert registry.match(("admin", "bulbs", "7")) == (page, {"id": "7"})
