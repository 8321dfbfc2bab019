"""The page of a folder, and a file that has a shorter name, are reached by no other name."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.spelling_worlds import ANN, FOLDERS, NOBODY
from tests.access.worlds import decide, snapshot


@pytest.mark.parametrize(
    "path",
    ["/admin/index", "/Admin/Index", "/admin/index.html", "/desk/index.htm", "/desk/Default.aspx",
     "/users/7/index", "/index.html", "/index", "/default.html", "/moved/desk/index.html",
     "/desk/INDEX.HTML", "/desk/index/", "/board/index.html"],
)  # fmt: skip
def test_the_page_of_a_folder_is_refused_by_its_own_name(path: str) -> None:
    decision = decide(snapshot(FOLDERS, NOBODY), f"GET {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    ("path", "route"),
    [("/desk/index.html", "shown"), ("/desk/index.js", "rest"), ("/desk/myindex.html", "rest"),
     ("/desk/index.html/x", "rest"), ("/else/index.html", "rest"), ("/users/x/index", "rest"),
     ("/desk/default", "rest"), ("/desk/indexes", "rest"), ("/manual/index.html", "manual"),
     ("/manual/index.php", "manual"), ("/manual/part/index.html", "manual"), ("/manual/__data.json", "manual"),
     ("/sheets/index.html", "sheet"), ("/guides/old/index.html", "old")],
)  # fmt: skip
def test_what_is_no_page_of_a_protected_folder_passes(path: str, route: str) -> None:
    decision = decide(snapshot(FOLDERS, NOBODY), f"GET {path}", ANN)
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


PAGES = """
    - {id: rest, match: {prefix: /, except_reserved: true}, policy: signed-in, upstream: api}
    - {id: desk, match: {path: /desk/index.php}, policy: nobody, upstream: api}
    - {id: list, match: {path: /List.html}, policy: nobody, upstream: api}
    - {id: start, match: {path: /index.html}, policy: nobody, upstream: api}
    - {id: shown, match: {path: /shown/}, auth: public, upstream: api}
    - {id: shown.page, match: {path: /shown/index.php}, policy: nobody, upstream: api}
    - {id: named, match: {path: /named}, auth: public, upstream: api}
    - {id: named.page, match: {path: /named.html}, policy: nobody, upstream: api}
    - {id: manifest, match: {path: /manifest.json}, auth: public, upstream: api}
    - {id: manual, match: {path: /manual}, policy: nobody, upstream: api}
    - {id: manual.page, match: {path: /manual.pdf}, auth: public, upstream: api}
    - {id: notes, match: {path: /notes-1.2.html}, policy: nobody, upstream: api}
    - {id: feed, match: {path: /feed.json}, policy: nobody, upstream: api}
    - {id: board, match: {path: /board/index.html}, policy: nobody, upstream: api}
    - {id: wall, match: {path: /wall/secret}, policy: nobody, upstream: api}
    - {id: archive, match: {path: /archive/Index}, policy: nobody, upstream: api}
    - {id: card, match: {path: "/users/{id:int}/card.html"}, policy: nobody, upstream: api}
    - {id: coffee, match: {path: "/caf%C3%A9"}, policy: nobody, upstream: api}
    - {id: moved, match: {prefix: /moved}, policy: signed-in, upstream: api,
       rewrite: {strip_prefix: /moved}}
"""


def test_a_page_is_looked_for_below_a_folder_that_has_the_name_of_one() -> None:
    world = snapshot(
        """
        - {id: manual, match: {prefix: /manual.html}, auth: public, upstream: api}
        - {id: part, match: {path: /manual.html/part.html}, policy: nobody, upstream: api}
        """,
        NOBODY,
    )
    assert decide(world, "GET /manual.html/other").allowed
    assert decide(world, "GET /manual.html/part").reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    "path",
    ["/desk/", "/desk", "/DESK/", "/desk/index", "/list", "/LIST/", "/desk/index.php/x",
     "/(S(x))/desk/", "/cafe%CC%81", "/CAF%C3%89", "/Manual.pdf", "/moved/desk", "/moved/list",
     "/users/7/card", "/notes-1.2", "/board/", "/archive/", "/Archive", "/moved/archive"],
)  # fmt: skip
def test_what_is_served_by_a_protected_file_is_refused_by_its_shorter_name(path: str) -> None:
    decision = decide(snapshot(PAGES, NOBODY), f"GET {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    ("path", "route"),
    [("/", "rest"), ("/shown/", "shown"), ("/named", "named"), ("/manifest.json", "manifest"),
     ("/manual.pdf", "manual.page"), ("/desks", "rest"), ("/list/x", "rest"), ("/else.json", "rest"),
     ("/else/index.php", "rest"), ("/list.js", "rest"), ("/desk.js", "rest"),
     ("/feed", "rest"), ("/wall/", "rest"), ("/wall", "rest"),
     ("/moved/list.js", "moved"), ("/moved/desk.js", "moved")],
)  # fmt: skip
def test_a_route_that_names_the_path_itself_takes_it(path: str, route: str) -> None:
    decision = decide(snapshot(PAGES, NOBODY), f"GET {path}", ANN)
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason
