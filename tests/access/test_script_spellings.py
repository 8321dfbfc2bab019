"""What servers run for a longer path is reached by no path but its own."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.spelling_worlds import ANN, NOBODY
from tests.access.worlds import decide, snapshot

SCRIPTS = """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
       upstream: api}
    - {id: login, match: {path: /wp-login.php}, policy: nobody, upstream: api}
    - {id: cgi, match: {path: /cgi-bin/x.cgi}, policy: nobody, upstream: api}
    - {id: page, match: {path: /Desk.aspx}, policy: nobody, upstream: api}
    - {id: admin, match: {path: /admin}, policy: nobody, upstream: api}
    - {id: users, match: {path: "/users/{id:int}"}, policy: nobody, upstream: api}
    - {id: report, match: {path: /report.php}, policy: nobody, upstream: api}
    - {id: report.parts, match: {path: "/report.php/{part}"}, auth: public, upstream: api}
    - {id: site.page, match: {path: "/sites/{domain}"}, policy: nobody, upstream: api}
    - {id: tool, match: {path: /tool.cgi}, policy: nobody, upstream: api}
    - {id: tool.parts, match: {path: "/tool.cgi/{part}"}, auth: public, upstream: api}
"""


@pytest.mark.parametrize(
    "path",
    ["/wp-login.php/x", "/wp-login.php/", "/WP-LOGIN.PHP/x/y", "/wp-login.ph%70/x.php/y",
     "/Desk.aspx/x", "/desk.ASPX/x", "/cgi-bin/x.cgi/y", "/admin/index.php", "/admin/index.php/x",
     "/admin/index.php/x.php/y", "/index.phpadmin", "/index.phpusers/7", "/report.PHP/x",
     "/index.cfm/admin", "/app.pl/ADMIN/", "/dispatch.fcgi/admin", "/admin.js", "/admin.css", "/ADMIN.phps", "/admin.zzz", "/admin.7",
     "/users/7.json", "/users/7.x", "/users/7.5"],
)  # fmt: skip
def test_what_a_server_runs_for_a_longer_path_is_refused_with_it(path: str) -> None:
    decision = decide(snapshot(SCRIPTS, NOBODY), f"GET {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    ("path", "route"),
    [("/report.php/x", "report.parts"), ("/tool.cgi/x", "tool.parts"), ("/other.php/x", "rest"),
     ("/x/wp-login.php/y", "rest"), ("/wp-login.phpx/y", "rest"), ("/index.phpother", "rest"),
     ("/admin.cgi/x", "rest"), ("/sites/example.pl/x", "rest"), ("/users/7.png", "rest"), ("/users/x.5", "rest"), ("/x/app.pl/admin", "rest"), ("/app.plx/admin", "rest"), ("/myindex.phpadmin", "rest")],
)  # fmt: skip
def test_what_runs_no_protected_script_passes(path: str, route: str) -> None:
    decision = decide(snapshot(SCRIPTS, NOBODY), f"GET {path}", ANN)
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


@pytest.mark.parametrize("path", ["/admin.7", "/orders.svc/x"])
def test_a_script_is_looked_for_where_no_route_has_another_spelling(path: str) -> None:
    world = snapshot(
        """
        - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
           upstream: api}
        - {id: admin, match: {path: /admin}, policy: nobody, upstream: api}
        - {id: orders, match: {path: /orders.svc}, policy: nobody, upstream: api}
        """,
        NOBODY,
    )
    assert decide(world, f"GET {path}", ANN).reason is Reason.AMBIGUOUS_PATH


FORMATS = """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public, upstream: api}
    - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
       rewrite: {strip_prefix: /moved}}
    - {id: admin, match: {prefix: /admin}, policy: nobody, upstream: api}
    - {id: books, match: {path: /books}, policy: nobody, upstream: api}
    - {id: secret, match: {path: /pages/secret}, policy: nobody, upstream: api}
    - {id: year, match: {path: /report.2024}, policy: nobody, upstream: api}
    - {id: number, match: {path: "/{id:int}"}, policy: nobody, upstream: api}
    - {id: password, match: {path: /.htpasswd}, policy: nobody, upstream: api}
    - {id: script, match: {path: /admin.min.js}, auth: public, upstream: api}
"""


@pytest.mark.parametrize(
    "path",
    # Rails: a format is all but `.`, `/` and `?`, before it is decoded.
    ["/admin.a%2E1", "/admin.json%2E1", "/admin.%2E1", "/admin.html%2E-x", "/books.a%2E1", "/BOOKS.a%2E1/", "/pages/secret.a%2E1", "/admin.a%2Ejs", "/books.a%2E_", "/books.7%2Ejs", "/index.php/books.a%2E1",
     # Spring before 5.3: `/admin.*`.
     "/admin.x.1", "/admin..1", "/admin.x%2E1", "/books.1.2.3.4.5.6.7.8.9", "/books.a.b.c.d.e.f", "/books........................7", "/books.-", "/books._.x.js",
     "/report.2024.x.1", "/report.2024.5.js", "/.htpasswd.x.1", "/books." + ".".join(["min"] * 300)],
)  # fmt: skip
def test_what_stands_before_any_dot_of_a_name_may_be_all_of_it(path: str) -> None:
    world = snapshot(FORMATS, NOBODY)
    for before in ("", "/moved"):
        decision = decide(world, f"GET {before}{path}")
        assert decision.reason is Reason.AMBIGUOUS_PATH, before


@pytest.mark.parametrize(
    ("path", "route"),
    [("/app.min.js", "rest"), ("/report.2023.pdf", "rest"), ("/report.pdf", "rest"), ("/jquery-3.7.1.slim.min.js", "rest"), ("/7.png", "rest"), ("/7.min.js", "rest"),
     ("/a." + "b." * 100 + "c", "rest"), ("/com.example.app.main.start.page.of.the.user.guide.in.english.and.more.txt", "rest"), ("/.admin.x.1", "rest"), ("/x.admin.1", "rest"),
     ("/admin.min.js", "script"), ("/site/admin.x.1", "rest"), ("/books.x.1/y", "rest"), ("/pages/secrets.x.1", "rest"), ("/.htpassword.1", "rest"), ("/v1.2.3/app.2.0.tar.gz", "rest")],
)  # fmt: skip
def test_a_name_with_many_endings_passes_where_nothing_protected_stands_before_one(
    path: str, route: str
) -> None:
    decision = decide(snapshot(FORMATS, NOBODY), f"GET {path}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


def test_a_script_is_looked_for_at_the_host_that_is_asked() -> None:
    world = snapshot(
        """
        - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
           upstream: api}
        - {id: run, match: {path: /run.cgi, host: site.example}, policy: nobody, upstream: api}
        """,
        NOBODY,
    )
    for host, reason in (("site", Reason.AMBIGUOUS_PATH), ("other", Reason.SIGNED_IN)):
        assert decide(world, f"GET http://{host}.example/run.cgi/x", ANN).reason is reason


def test_a_route_that_names_its_end_takes_no_other_spelling_before_it() -> None:
    world = snapshot(
        """
        - {id: any, match: {path: "/{site}/admin", except_reserved: true}, auth: public,
           upstream: api}
        - {id: admin, match: {path: /admin}, policy: nobody, upstream: api}
        """,
        NOBODY,
    )
    assert decide(world, "GET /a/admin").allowed
    for path in ("/index.php/admin", "/(S(x))/admin"):
        assert decide(world, f"GET {path}").reason is Reason.AMBIGUOUS_PATH
