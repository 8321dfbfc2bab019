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
     "/admin.cgi/x", "/users.cgi/7", "/users/7.json", "/users/7.x", "/users/7.5"],
)  # fmt: skip
def test_what_a_server_runs_for_a_longer_path_is_refused_with_it(path: str) -> None:
    decision = decide(snapshot(SCRIPTS, NOBODY), f"GET {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    ("path", "route"),
    [("/report.php/x", "report.parts"), ("/tool.cgi/x", "tool.parts"), ("/other.php/x", "rest"),
     ("/x/wp-login.php/y", "rest"), ("/wp-login.phpx/y", "rest"), ("/index.phpother", "rest"),
     ("/sites/example.pl/x", "rest"), ("/users/7.png", "rest"), ("/users/x.5", "rest"), ("/x/app.pl/admin", "rest"), ("/app.plx/admin", "rest"), ("/myindex.phpadmin", "rest")],
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


PROGRAMS = """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public, upstream: api}
    - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
       rewrite: {strip_prefix: /moved}}
    - {id: program, match: {path: /cgi-bin/admin}, policy: nobody, upstream: api}
    - {id: deep, match: {path: /cgi-bin/tools/Backup}, policy: nobody, upstream: api}
    - {id: fast, match: {path: /fcgi-bin/admin}, policy: nobody, upstream: api}
    - {id: old, match: {path: /htbin/admin}, policy: nobody, upstream: api}
    - {id: based, match: {path: /site/cgi-bin/admin}, policy: nobody, upstream: api}
    - {id: page, match: {path: /users}, policy: nobody, upstream: api}
    - {id: folder, match: {path: /desk/}, policy: nobody, upstream: api}
    - {id: any, match: {path: "/cgi-bin/any/{name}"}, policy: nobody, upstream: api}
    - {id: open.parts, match: {path: "/cgi-bin/open/{rest:path}"}, auth: public, upstream: api}
    - {id: open.own, match: {path: /cgi-bin/open/own}, policy: nobody, upstream: api}
    - {id: closed, match: {prefix: /cgi-bin/closed}, policy: nobody, upstream: api}
    - {id: closed.help, match: {path: /cgi-bin/closed/help}, auth: public, upstream: api}
    - {id: closed.part, match: {path: "/cgi-bin/closed/parts/{part}"}, auth: public, upstream: api}
    - {id: perl, match: {path: /cgi-perl/admin}, policy: nobody, upstream: api}
    - {id: host.script, match: {path: /example.pl/login.php}, policy: nobody, upstream: api}
"""


@pytest.mark.parametrize(
    "path",
    ["/cgi-bin/admin/x", "/cgi-bin/admin/", "/cgi-bin/ADMIN/x/y", "/CGI-BIN/admin/x", "/cgi-bin/tools/backup/x", "/cgi-bin/tools/backup/x/y/z",
     "/fcgi-bin/admin/x", "/htbin/admin/x", "/site/cgi-bin/admin/x", "/index.php/cgi-bin/admin/x", "/cgi-bin/app/users", "/cgi-bin/app/USERS/",
     "/fcgi-bin/app/users", "/cgi-bin/app.py/users", "/app.py/users", "/app.wsgi/Users", "/cgi-bin/open/own/x", "/cgi-bin/open/OWN/x/y", "/cgi-bin/open/own.html",
     "/desk/index.cgi/x", "/desk/index.py/x/y", "/desk/index.pl/", "/desk/Default.aspx/x", "/desk/default.asp/x/y", "/desk/index.aspx/x", "/index.php5/users", "/index.phtml/users", "/app.phar/USERS/", "/app.pht/users", "/default.asp/users", "/index.aspx/users",
     "/cgi-bin/tools/app/users", "/cgi-bin/tools/app.py/users", "/cgi-bin/app.py/app.py/users", "/cgi-perl/admin/x", "/cgi-perl/app/users", "/example.pl/login.php/x", "/cgi-bin/admin/" + "x/" * 900],
)  # fmt: skip
def test_what_is_below_a_program_is_run_by_it(path: str) -> None:
    world = snapshot(PROGRAMS, NOBODY)
    for before in ("", "/moved"):
        decision = decide(world, f"GET {before}{path}")
        assert decision.reason is Reason.AMBIGUOUS_PATH, before


@pytest.mark.parametrize(
    ("path", "route"),
    [("/cgi-bin/other/x", "rest"), ("/cgi-bin/x/admin", "rest"), ("/cgi-bin/", "rest"), ("/cgi-bin/any", "rest"), ("/cgi-bin/admins/x", "rest"), ("/cgi-binary/admin/x", "rest"),
     ("/site/admin/x", "rest"), ("/cgi-bin/tools", "rest"), ("/cgi-bin/tools/x/backup", "rest"), ("/cgi-bin/open/x", "open.parts"), ("/cgi-bin/open/users", "open.parts"), ("/cgi-bin/open/x/users", "open.parts"),
     ("/cgi-bin/closed/help", "closed.help"), ("/cgi-bin/closed/parts/7", "closed.part"), ("/users/x", "rest"), ("/desk/x.cgi/y", "rest"), ("/desk/defaults.aspx/x", "rest"), ("/x/app.phar/users", "rest"), ("/cgi-bin/tools/users/app", "rest"), ("/perl/admin/x", "rest"), ("/x/app.py/users", "rest"), ("/example.pl/x/login.php", "rest")],
)  # fmt: skip
def test_what_is_below_no_protected_program_passes(path: str, route: str) -> None:
    decision = decide(snapshot(PROGRAMS, NOBODY), f"GET {path}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


RUN = (
    "php php3 php5 php8 phps pht phtml phar cgi fcgi scgi wsgi psgi pl py rb sh tcl lua exe dll bat cmd"
    " shtml stm asp asa ashx asmx aspx axd svc cfm cfc jsp jspx jsf do action nsf xq xql xqy"
)


@pytest.mark.parametrize("ending", RUN.split())
def test_what_servers_run_by_its_ending_is_run_for_what_is_below_it(ending: str) -> None:
    world = snapshot(
        f"""
        - {{id: rest, match: {{path: "/{{rest:path}}", except_reserved: true}}, auth: public,
           upstream: api}}
        - {{id: run, match: {{path: /tools/admin.{ending}}}, policy: nobody, upstream: api}}
        """,
        NOBODY,
    )
    for path in (f"/tools/admin.{ending}/x", f"/tools/ADMIN.{ending.upper()}/x/y"):
        assert decide(world, f"GET {path}").reason is Reason.AMBIGUOUS_PATH
    for path in (f"/tools/other.{ending}/x", f"/tools/x/admin.{ending}/y"):
        assert decide(world, f"GET {path}").allowed


@pytest.mark.parametrize("path", ["/tools/admin.pdf/x", "/tools/v1.2/x", "/tools/a.com/x"])
def test_a_folder_with_a_dot_in_its_name_is_no_script(path: str) -> None:
    world = snapshot(
        f"""
        - {{id: rest, match: {{path: "/{{rest:path}}", except_reserved: true}}, auth: public,
           upstream: api}}
        - {{id: folder, match: {{path: {path[:-2]}}}, policy: nobody, upstream: api}}
        """,
        NOBODY,
    )
    assert decide(world, f"GET {path}").allowed


BELOW = """
    - {id: run, match: {path: "/index.php/{rest:path}"}, auth: public, upstream: api}
    - {id: run.admin, match: {path: /index.php/admin}, policy: nobody, upstream: api}
    - {id: admin, match: {path: /else}, policy: nobody, upstream: api}
    - {id: tool, match: {path: "/tool.py/{rest:path}"}, auth: public, upstream: api}
    - {id: tool.page, match: {path: /tool.py/report.html}, policy: nobody, upstream: api}
    - {id: named, match: {path: "/{site}/setup.sh", except_reserved: true}, auth: public,
       upstream: api}
    - {id: setup, match: {path: /setup.sh}, policy: nobody, upstream: api}
    - {id: docs, match: {path: "/discord.py/{rest:path}"}, auth: public, upstream: api}
    - {id: docs.start, match: {path: /discord.py}, policy: nobody, upstream: api}
    - {id: jsp, match: {path: "/report.jsp/{rest:path}"}, auth: public, upstream: api}
    - {id: jsp.start, match: {path: /report.jsp}, policy: nobody, upstream: api}
    - {id: open, match: {path: "/cgi-bin/open/{rest:path}"}, auth: public, upstream: api}
    - {id: open.start, match: {path: /cgi-bin/open}, policy: nobody, upstream: api}
    - {id: tools, match: {path: "/{site}/cgi-bin/tools/{rest:path}", except_reserved: true},
       auth: public, upstream: api}
    - {id: tools.admin, match: {path: /cgi-bin/tools/admin}, policy: nobody, upstream: api}
    - {id: sited, match: {path: "/{site}/app.py/{rest:path}", except_reserved: true},
       auth: public, upstream: api}
    - {id: app.admin, match: {path: /app.py/admin}, policy: nobody, upstream: api}
    - {id: both, match: {path: "/a.php/b.php/{rest:path}"}, auth: public, upstream: api}
    - {id: b.admin, match: {path: /b.php/admin}, policy: nobody, upstream: api}
    - {id: get, match: {path: "/get.sh/{rest:path}"}, auth: public, upstream: api}
    - {id: get.admin, match: {path: /get.sh/admin}, policy: nobody, upstream: api}
"""


@pytest.mark.parametrize(
    "path",
    ["/index.php/admin.json", "/index.php/ADMIN", "/index.php/admin/__data.json", "/index.php/admin/index.html", "/tool.py/report", "/(S(x))/setup.sh",
     # The script itself, as the folder of what is asked for.
     "/discord.py/index.html", "/discord.py/__data.json", "/discord.py/_payload?json", "/report.jsp/index.html", "/report.jsp/__data.json", "/cgi-bin/open/index.html", "/cgi-bin/open/__data.json",
     # The script at another place.
     "/index.php/cgi-bin/tools/admin", "/(S(x))/cgi-bin/tools/admin", "/index.php/app.py/admin", "/(S(x))/app.py/admin", "/get.sh/app.pl/admin", "/get.sh/x.cgi/admin"],
)  # fmt: skip
def test_below_a_script_that_a_route_names_paths_have_other_spellings_too(path: str) -> None:
    assert decide(snapshot(BELOW, NOBODY), f"GET {path}").reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    "path",
    ["/index.php/else", "/index.php/else.json", "/index.php/x", "/index.php/setup.sh", "/tool.py/else", "/tool.py/x.py/y", "/x/setup.sh",
     "/discord.py/x", "/discord.py/x/index.html", "/discord.py/api/__data.json", "/report.jsp/x", "/cgi-bin/open/x", "/x/cgi-bin/tools/admin", "/x/app.py/admin", "/a.php/b.php/admin", "/a.php/b.php/admin.json", "/get.sh/app.pl/x"],
)  # fmt: skip
def test_what_is_below_a_script_that_a_route_names_is_its_own(path: str) -> None:
    assert decide(snapshot(BELOW, NOBODY), f"GET {path}").allowed


@pytest.mark.parametrize("ending", ["cgi", "fcgi", "lua", "php", "phar", "pl", "py", "rb"])
def test_a_protected_script_is_run_by_no_shorter_name(ending: str) -> None:
    world = snapshot(
        f"""
        - {{id: rest, match: {{path: "/{{rest:path}}", except_reserved: true}}, auth: public,
           upstream: api}}
        - {{id: run, match: {{path: /admin.{ending}}}, policy: nobody, upstream: api}}
        - {{id: index, match: {{path: /desk/index.{ending}}}, policy: nobody, upstream: api}}
        """,
        NOBODY,
    )
    paths = ["/admin", "/ADMIN/"] if ending == "phar" else ["/admin", "/ADMIN/", "/desk/", "/desk"]
    for path in paths:
        assert decide(world, f"GET {path}").reason is Reason.AMBIGUOUS_PATH
    for path in ("/admins", "/desk/x"):
        assert decide(world, f"GET {path}").allowed


NAMES = """
    - {id: org, match: {path: "/{org}/settings", except_reserved: true}, policy: nobody,
       upstream: api}
    - {id: repo, match: {path: "/{org}/{repo}/settings", except_reserved: true}, auth: public,
       upstream: api}
    - {id: folder, match: {path: /files}, policy: nobody, upstream: api}
    - {id: versions, match: {path: /files/versions}, policy: nobody, upstream: api}
    - {id: file, match: {path: "/files/{name}/versions"}, auth: public, upstream: api}
    - {id: records, match: {path: /domains/records}, policy: nobody, upstream: api}
    - {id: domain, match: {path: "/domains/{domain}/records"}, auth: public, upstream: api}
    - {id: part, match: {path: "/domains/{domain}/parts/{rest:path}"}, auth: public, upstream: api}
    - {id: part.own, match: {path: /domains/parts/own}, policy: nobody, upstream: api}
    - {id: script, match: {path: /files/setup.py}, policy: nobody, upstream: api}
    - {id: below, match: {path: "/{site}/login.py", except_reserved: true}, policy: nobody,
       upstream: api}
    - {id: beside, match: {path: "/{site}/{page}/login.py", except_reserved: true}, auth: public,
       upstream: api}
    - {id: admin, match: {path: /admin}, policy: nobody, upstream: api}
    - {id: sites, match: {path: "/{site}/admin", except_reserved: true}, auth: public,
       upstream: api}
    - {id: rest, match: {path: "/shop/{rest:path}"}, auth: public, upstream: api}
    - {id: shop, match: {path: /shop/admin}, policy: nobody, upstream: api}
"""


@pytest.mark.parametrize(
    ("path", "route"),
    [("/ann/discord.py/settings", "repo"), ("/ann/acme.sh/settings", "repo"), ("/ann/x.pl/settings", "repo"), ("/files/setup.exe/versions", "file"), ("/files/x.lua/versions", "file"), ("/domains/gov.py/records", "domain"),
     ("/domains/ifconfig.sh/records", "domain"), ("/domains/gov.py/parts/own", "part"), ("/a/x.py/login.py", "beside"), ("/x/admin", "sites"),
     # That of a folder, which leads to the folder.
     ("/files/index.py/versions", "file"), ("/files/default.aspx/versions", "file"), ("/files/Index.PHP/versions", "file"), ("/files/index.inc.py/versions", "file")],
)  # fmt: skip
def test_a_name_that_a_pattern_takes_below_another_may_end_like_a_script(
    path: str, route: str
) -> None:
    decision = decide(snapshot(NAMES, NOBODY), f"GET {path}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


REPOSITORIES = """
    - {id: repo, match: {path: "/repos/{owner}/{repo}/{rest:path}"}, auth: public, upstream: api}
    - {id: own, match: {path: "/repos/ann/discord/{rest:path}"}, policy: nobody, upstream: api}
    - {id: login, match: {path: LOGIN}, auth: public, upstream: api}
"""


@pytest.mark.parametrize("login", ["/login", "/a/b/c/login"])
@pytest.mark.parametrize("behind", ["issues", "issues/7.json", "blob/main/README.md"])
def test_such_a_name_is_one_whatever_follows_and_whatever_else_there_is(
    login: str, behind: str
) -> None:
    world = snapshot(REPOSITORIES.replace("LOGIN", login), NOBODY)
    decision = decide(world, f"GET /repos/ann/discord.py/{behind}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == ("repo", True), decision.reason


@pytest.mark.parametrize(
    "path",
    # What is run itself; in the first place, where front controllers stand; and where no pattern
    # names what follows.
    ["/files/setup.py/versions", "/a/login.py/login.py", "/app.py/admin", "/app.pl/admin", "/index.phtml/admin", "/shop/app.py/admin", "/shop/admin/index.py/x"],
)  # fmt: skip
def test_a_script_in_the_place_of_another_name_is_looked_for(path: str) -> None:
    assert decide(snapshot(NAMES, NOBODY), f"GET {path}").reason is Reason.AMBIGUOUS_PATH


WITHOUT_ENDINGS = """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public, upstream: api}
    - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
       rewrite: {strip_prefix: /moved}}
    - {id: moved.admin, match: {path: /moved/own}, policy: nobody, upstream: api,
       rewrite: {strip_prefix: /moved}}
    - {id: admin, match: {path: /admin}, policy: nobody, upstream: api}
    - {id: salaries, match: {path: /reports/salaries}, policy: nobody, upstream: api}
    - {id: desk, match: {path: /desk/}, policy: nobody, upstream: api}
    - {id: pre, match: {prefix: /pre}, policy: nobody, upstream: api}
    - {id: fold, match: {path: "/fold/{rest:path}"}, policy: nobody, upstream: api}
    - {id: user, match: {path: "/users/{id:int}"}, policy: nobody, upstream: api}
    - {id: page, match: {path: "/pages/{name}"}, policy: nobody, upstream: api}
    - {id: open, match: {path: /open.php/x}, auth: public, upstream: api}
    - {id: open.page, match: {path: /open}, policy: nobody, upstream: api}
    - {id: tool, match: {path: "/tool.php/{rest:path}"}, auth: public, upstream: api}
    - {id: tool.page, match: {path: /tool}, policy: nobody, upstream: api}
    - {id: tool.admin, match: {path: /tool/admin}, policy: nobody, upstream: api}
    - {id: run.admin, match: {path: /tool.php/admin}, policy: nobody, upstream: api}
    - {id: file, match: {path: "/files/{name}/versions"}, auth: public, upstream: api}
    - {id: file.setup, match: {path: /files/setup}, policy: nobody, upstream: api}
    - {id: setup.all, match: {path: "/files/setup/{rest:path}"}, policy: nobody, upstream: api}
"""


@pytest.mark.parametrize("ending", RUN.split())
def test_a_script_that_is_served_without_its_ending_is_run_for_what_is_below_it(
    ending: str,
) -> None:
    world = snapshot(WITHOUT_ENDINGS, NOBODY)
    for path in (f"/admin.{ending}/x", f"/ADMIN.{ending.upper()}/x/y", f"/users.{ending}/7"):
        assert decide(world, f"GET {path}").reason is Reason.AMBIGUOUS_PATH
    assert decide(world, f"GET /other.{ending}/x").allowed


@pytest.mark.parametrize(
    "path",
    ["/admin.php/", "/reports/salaries.php/x", "/desk.php/x", "/pre.php/x", "/index.php/admin.php/x", "/(S(x))/admin.aspx/x", "/admin.php./x", "/admin.php%20/x", "/admin.inc.php/x", "/admin.v1.inc.php/x/y.css", "/admin.php/x.php/y", "/admin.pl/x.html", "/tool.php/admin.php/x",
     # Its first part is the script.
     "/reports.php/salaries", "/Reports.PHP/Salaries/", "/reports.php/salaries.json", "/reports.php/salaries.php", "/reports.inc.php/salaries", "/(S(x))/reports.aspx/salaries", "/index.php/reports.php/salaries", "/reports.php./salaries", "/users.php/7", "/users.php/+7", "/users.php/7.json", "/fold.php/x", "/fold.php/x/y", "/pages.php/ann"],
)  # fmt: skip
def test_a_script_that_is_served_without_its_ending_is_looked_for_everywhere(path: str) -> None:
    world = snapshot(WITHOUT_ENDINGS, NOBODY)
    for before in ("", "/moved"):
        decision = decide(world, f"GET {before}{path}")
        assert decision.reason is Reason.AMBIGUOUS_PATH, before


def test_it_is_looked_for_where_both_routes_rewrite() -> None:
    for path in ("/moved/own.php/x", "/moved/own.php/x/y"):
        world = snapshot(WITHOUT_ENDINGS, NOBODY)
        assert decide(world, f"GET {path}").reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    "path",
    ["/open.php/x", "/tool.php/x", "/tool.php/x.php/y", "/files/setup.exe/versions", "/files/setup.py/versions", "/x/admin.php/y", "/admins.php/x", "/admin.phpx/x", "/admin.pdf/x", "/v1.admin.zip/x", "/reports.php/other", "/reports.txt/salaries", "/x.php/reports/other", "/users.txt/7", "/fold.txt/x", "/.php/x"],
)  # fmt: skip
def test_what_is_below_no_protected_page_passes(path: str) -> None:
    assert decide(snapshot(WITHOUT_ENDINGS, NOBODY), f"GET {path}").allowed
