"""Letters in another case, a final slash, the name of a script, the data of a page: what a backend may take for another route's path does
not get there by a route that asks for less."""

from __future__ import annotations

from time import thread_time

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.routing.route_table import Match
from gateway.access.routing.spellings import MOST_LETTERS, Spellings, spellings_of
from gateway.access.simulation import FixedAuthenticator, FixedClock, NoLimits
from gateway.model import Reason
from gateway.review.policy_override import with_policies, with_route
from tests.access.decision_world import call_of
from tests.access.worlds import NOW, decide, snapshot, who

ANN = who("ann")
NOBODY = "policy: nobody\nrules: [{id: none, deny: ['*']}]"
WORLD = snapshot(
    """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
       upstream: api}
    - {id: start, match: {path: /}, auth: public, upstream: api}
    - {id: admin, match: {prefix: /admin}, policy: nobody, upstream: api}
    - {id: open, match: {path: /admin/open}, auth: public, upstream: api}
    - {id: me, match: {path: /me}, policy: nobody, upstream: api}
    - {id: slash, match: {path: /slash/}, policy: nobody, upstream: api}
    - {id: reports, match: {path: /Reports}, policy: nobody, upstream: api}
    - {id: written, match: {path: /written, methods: [PUT]}, policy: nobody, upstream: api}
    - {id: elsewhere, match: {path: /elsewhere}, policy: nobody, upstream: other}
    - {id: book, match: {path: "/books/{id:int}/pages"}, policy: nobody, upstream: api}
    - {id: item, match: {path: "/items/{id:uuid}/pages"}, policy: nobody, upstream: api}
    - {id: both, match: {path: /Both}, auth: public, upstream: api}
    - {id: both.lower, match: {path: /both}, policy: nobody, upstream: api}
    - {id: site, match: {path: "/{rest:path}", host: site.example, except_reserved: true},
       auth: public, upstream: api}
    - {id: script, match: {prefix: /old.php}, policy: signed-in, upstream: api}
    - {id: files, match: {prefix: /files}, paths: files, policy: signed-in, upstream: api}
    - {id: files.own, match: {prefix: /files/own}, policy: nobody, upstream: api}
    """,
    NOBODY,
)


@pytest.mark.parametrize(
    "path",
    ["/ADMIN", "/Admin/", "/aDmin/users", "/%41dmin/users", "/ADMIN/users/", "/ME", "/me/", "/Me/",
     "/slash", "/SLASH", "/reports", "/Reports/", "/books/1/Pages", "/BOOKS/1/pages/",
     "/WRITTEN", "/written/", "/me%2F", "/BOTH", "/both/", "/_next/data/b1/admin.json", "/_next/data/b1/admin/users.json", "/_next/data/b1/me.json", "/me/__data.json", "/me/_payload.json", "/me.data", "/slash/__data.json",
     "/books/_next/data/b1/1/pages.json", "/index.php/admin", "/index.php/admin/users/", "/%69ndex.php/me", "/INDEX.PHP/ME",
     "/app.php/me/", "/books/index.php/1/pages", "/index.php/slash", "/files/index.php/own/x", "/files/OWN/x", "/files/Own;a/x", "/boo%E2%84%AAs/1/pages",
     "/Items/3F2504E0-4F89-11D3-9A0C-0305E82C3301/pages", "/files/a%5C..%5COWN",
     "/me.html", "/ME.HTML", "/me.html/", "/me.json", "/me.php", "/admin.xml", "/me.js", "/admin./users", "/admin%20/users", "/books/1/pages.pdf", "/me.", "/me%20", "/me.html.",
     "/(S(lit3py55t21z5v55vlm25s55))/me", "/(s(a)F(b))/ADMIN/users", "/(A(x))/(S(y))/me", "/x.php/(S(y))/me.html", "/index.php/me/index", "/index.php/ME.html",
     "/page-data/me/page-data.json", "/page-data/admin/users/page-data.json", "/me/q-data.json", "/me.html__data.json", "/_next/data/b1/en/me.json", "/_next/data/b1/pt-BR/admin/users.json",
     "/me/index.txt", "/%EF%BD%8De", "/%E2%93%82e"],
)  # fmt: skip
def test_what_a_backend_may_take_for_a_protected_path_is_refused(path: str) -> None:
    decision = decide(WORLD, f"GET {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    ("path", "route"),
    [("/Else", "rest"), ("/else/", "rest"), ("/administrators", "rest"), ("/mee", "rest"),
     ("/ELSEWHERE", "rest"), ("/books/x/pages", "rest"), ("/Items/x/pages", "rest"), ("/Both", "both"), ("/", "start"),
     ("/admin/Open/x", "admin"), ("/admin/open", "open"), ("/files/A;b", "files"), ("/index.php", "rest"), ("/index.php/else", "rest"),
     ("/mee.html", "rest"), ("/me.html/x", "rest"), ("/.html", "rest"), ("/(x)/me", "rest"), ("/(S())/me", "rest"), ("/(S(x)/me", "rest"), ("/x(S(x))/me", "rest"), ("/(S(x))", "rest"),
     ("/page-data/me.json", "rest"), ("/_next/data/b1/users/me.json", "rest"), ("/_next/data/b1/index.json", "rest"), ("/_next/data/b1/me", "rest"), ("/_next/data/me.json", "rest"), ("/_next/static/me.json", "rest"),
        ("/else.data", "rest"), ("/x__data.json", "rest"), ("/medata", "rest"), ("/x.me", "rest"), ("/books/1.js/pages", "rest"), ("/.me", "rest"), ("/_root.data", "rest"), ("/__data.json", "rest"), ("/index.phpx/me", "rest"), ("/old.php/me", "script"), ("/old.php/ME", "script"),
     ("/index.php/elsewhere", "rest")],
)  # fmt: skip
def test_what_no_route_protects_otherwise_passes_as_it_came(path: str, route: str) -> None:
    decision = decide(WORLD, f"GET {path}", ANN)
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, route != "admin")
    assert decision.reason is not Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("", []),
        ("a", []),
        ("A/b", ["a/b"]),
        ("a/b/", ["a/b"]),
        ("A/B/", ["a/b"]),
        ("a.phps", ["a.phps", "a"]),
        ("a.b.json", ["a.b.json", "a.b", "a"]),
        ("a.b7", ["a.b7", "a"]),
        ("\u247d", ["(10)"]),  # one letter, and the longest fold
        ("\ufdfa", []),
        ("a.js", []),
        ("a.7", []),
        ("a. /b. ", ["a. /b. ", "a/b"]),
        ("a.php", ["a.php", "a"]),
        ("index.php", ["index.php", "", "index"]),
        ("INDEX.PHP/A/b/", ["index.php/a/b", "a/b"]),
        ("a/b.php/c/d", ["a/b.php/c/d", "a/c/d"]),
        ("a/index.php", ["a/index.php", "a", "a/index"]),
        # The first script serves what stands behind it.
        ("a.php/b.php/c", ["a.php/b.php/c", "b.php/c", "c"]),
        ("a/(S(x))/b.html", ["a/(s(x))/b.html", "a/b.html", "a/(s(x))/b", "a/b"]),
    ],
)
def test_a_path_is_taken_for_itself_folded_and_for_the_one_without_a_script(
    path: str, others: list[str]
) -> None:
    segments = tuple(path.split("/"))
    found = ["/".join(one) for one in spellings_of(segments).paths]
    assert found == (others or [path])


@pytest.mark.parametrize(
    ("path", "scripts"),
    [
        ("a", []),
        ("a.aspx/b", ["a.aspx"]),
        ("a/index.php/b", ["a/index.php", "a"]),
        # What stands behind the first is what it serves.
        ("a.pl/b.pl/c", ["a.pl", "b.pl/c"]),
        ("a.7", ["a"]),
        ("a.b/c.7", ["a.b/c"]),
        ("a.7/b", []),
        # A name that begins with a point has no ending.
        (".7", []),
        ("a/.7", []),
    ],
)
def test_a_path_runs_the_script_in_it_and_what_it_names_without_an_ending(
    path: str, scripts: list[str]
) -> None:
    found = spellings_of(tuple(path.split("/"))).scripts
    assert ["/".join(one) for one in found] == scripts


def test_a_host_whose_path_nobody_protects_is_none_of_anothers() -> None:
    assert decide(WORLD, "GET http://site.example/admin").allowed
    assert decide(WORLD, "GET http://site.example/ADMIN").allowed


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("me", False),
        ("ME", False),
        ("me/", False),
        ("Me/", False),
        ("m", True),
        ("Else/", True),
        ("index.php/me", False),
        ("index.php/m", True),
        ("me/index.php/x", False),
        ("run.php/x", False),
        ("index.phpme", False),
    ],
)
def test_a_rewrite_leads_to_no_spelling_of_it(path: str, allowed: bool) -> None:
    world = snapshot(
        """
        - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
           rewrite: {strip_prefix: /moved}}
        - {id: me, match: {path: /me}, policy: nobody, upstream: api}
        - {id: run, match: {path: /run.php}, policy: nobody, upstream: api}
        """,
        NOBODY,
    )
    decision = decide(world, f"GET /moved/{path}", ANN)
    assert decision.allowed is allowed
    assert allowed or decision.reason == Reason.AMBIGUOUS_PATH


HALF = """
- {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public, upstream: api}
- {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
   rewrite: {strip_prefix: /moved}}
- {id: half.read, match: {path: /half, methods: [GET]}, auth: public, upstream: api}
- {id: half.write, match: {path: /half, methods: [PUT]}, policy: nobody, upstream: api}
- {id: one.write, match: {path: /one, methods: [PUT]}, policy: nobody, upstream: api}
- {id: one.Read, match: {path: /One, methods: [GET]}, auth: public, upstream: api}
"""


@pytest.mark.parametrize(
    ("request_", "allowed"),
    [
        ("GET /HALF", True),
        ("PUT /HALF", False),
        ("POST /HALF", False),
        ("GET /moved/HALF", True),
        ("PUT /moved/HALF", False),
        ("GET /moved/half", True),
        ("PUT /moved/half", False),
        # Nobody names GET at this very path, and so the route of PUT may be who answers it.
        ("GET /moved/one", False),
        ("PUT /moved/one", False),
    ],
)
def test_a_path_is_protected_for_the_methods_that_are(request_: str, allowed: bool) -> None:
    decision = decide(snapshot(HALF, NOBODY), request_, ANN)
    assert decision.allowed is allowed
    assert allowed or decision.reason == Reason.AMBIGUOUS_PATH


def test_a_script_alone_is_no_other_path_where_there_is_none() -> None:
    world = snapshot('- {id: one, match: {path: "/a/{x}"}, auth: public, upstream: api}')
    assert decide(world, "GET /a/index.php").allowed


def test_a_route_that_asks_for_more_takes_every_spelling() -> None:
    world = snapshot(
        """
        - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: nobody,
           upstream: api}
        - {id: site, match: {path: /site}, auth: public, upstream: api}
        """,
        NOBODY,
    )
    decision = decide(world, "GET /SITE", ANN)
    assert (decision.route and decision.route.id, decision.reason) == ("rest", Reason.NO_RULE)


@pytest.mark.parametrize(("auth", "allowed"), [("optional", True), ("required", False)])
def test_strangers_pass_where_another_route_asks_only_who_comes(auth: str, allowed: bool) -> None:
    policy = "" if auth == "optional" else "policy: signed-in,"
    world = snapshot(
        f"""
        - {{id: rest, match: {{path: "/{{rest:path}}", except_reserved: true}}, auth: public,
           upstream: api}}
        - {{id: greets, match: {{path: /greets}}, auth: {auth}, {policy} upstream: api}}
        """
    )
    assert decide(world, "GET /GREETS").allowed is allowed


def test_what_lasts_is_ended_where_another_configuration_protects_what_it_may_be() -> None:
    call = call_of("GET /LIVE", ANN)
    open_world = snapshot(
        """
        - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
           upstream: api}
        """
    )
    closed_world = snapshot(
        """
        - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
           upstream: api}
        - {id: live, match: {path: /live}, policy: nobody, upstream: api}
        """,
        NOBODY,
    )
    judge = Authorizer(FixedAuthenticator(ANN), NoLimits(), clock=FixedClock(NOW))
    assert judge.reevaluate(call, open_world, ANN).allowed
    assert judge.reevaluate(call, closed_world, ANN).reason == Reason.AMBIGUOUS_PATH


def test_a_refusal_names_the_route_that_took_the_path() -> None:
    decision = decide(WORLD, "GET /ADMIN", ANN)
    assert decision.route is not None
    assert (decision.route.id, decision.policy) == ("rest", "signed-in")


def test_it_is_remembered_with_the_route() -> None:
    for _ in range(2):
        match = WORLD.routes.match("", "GET", ("ADMIN",))
        assert isinstance(match, Match)
        assert match.read_elsewhere


@pytest.mark.parametrize("path", ["/ME", "/me/", "/moved/me", "/moved/Me"])
def test_two_names_of_one_backend_are_one(path: str) -> None:
    world = snapshot(
        """
        version: 1
        upstreams:
          api: {targets: [http://127.0.0.1:9001]}
          slow: {targets: [http://127.0.0.1:9001], timeout: {response: 60s}}
        routes:
          - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public,
             upstream: slow}
          - {id: moved, match: {prefix: /moved}, auth: public, upstream: slow,
             rewrite: {strip_prefix: /moved}}
          - {id: me, match: {path: /me}, policy: nobody, upstream: api}
        """,
        NOBODY,
    )
    assert decide(world, "GET /moved/m").allowed
    decision = decide(world, f"GET {path}")
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH)


@pytest.mark.parametrize("path", ["/ME", "/me/", "/moved/me"])
def test_two_sites_behind_one_address_are_two_backends(path: str) -> None:
    world = snapshot(
        """
        version: 1
        upstreams:
          shop: {targets: [http://127.0.0.1:9001], host: shop.internal}
          blog: {targets: [http://127.0.0.1:9001], host: blog.internal}
        routes:
          - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public,
             upstream: blog}
          - {id: moved, match: {prefix: /moved}, auth: public, upstream: blog,
             rewrite: {strip_prefix: /moved}}
          - {id: me, match: {path: /me}, policy: nobody, upstream: shop}
        """,
        NOBODY,
    )
    assert decide(world, f"GET {path}").allowed


def test_a_configuration_with_exchanged_policies_or_routes_refuses_alike() -> None:
    slashes = snapshot(TENANTS, MEMBERS)
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    (route,) = [route for route in slashes.routes if route.id == "rest"]
    for other in (with_policies(slashes, slashes.policies), with_route(slashes, route)):
        for path in ("/API%2Fbens/x", "/api%2Fbens/x", "/api%2Fanns/x"):
            found = decide(other, f"GET {path}", ann).reason
            assert found == decide(slashes, f"GET {path}", ann).reason
    (rest,) = [route for route in WORLD.routes if route.id == "rest"]
    for other in (with_policies(WORLD, WORLD.policies), with_route(WORLD, rest)):
        for path in ("/ADMIN", "/me/", "/Else"):
            assert (
                decide(other, f"GET {path}", ANN).reason == decide(WORLD, f"GET {path}", ANN).reason
            )


def test_what_is_open_to_everybody_opens_no_page_by_its_data() -> None:
    world = snapshot(
        """
        - {id: assets, match: {prefix: /_next}, auth: public, upstream: api}
        - {id: start, match: {path: /}, policy: signed-in, upstream: api}
        - {id: pages, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
           upstream: api}
        """,
        NOBODY,
    )
    for path in ("/_next/data/b1/desk.json", "/_next/data/b1/index.json"):
        assert decide(world, f"GET {path}").reason is Reason.AMBIGUOUS_PATH
    assert decide(world, "GET /_next/static/chunks/main.js").allowed


STRIPPED = """
    - {id: app, match: {prefix: /app}, policy: signed-in, upstream: api,
       allow_encoded_slash: true, rewrite: {strip_prefix: /app}}
    - {id: admin, match: {path: /app/admin}, policy: nobody, upstream: api,
       rewrite: {strip_prefix: /app}}
    - {id: secret, match: {path: "/app/docs/secret/{x}"}, policy: nobody, upstream: api,
       rewrite: {strip_prefix: /app}}
    - {id: shelf, match: {path: "/shelf/{name}"}, policy: signed-in, upstream: api,
       allow_encoded_slash: true, rewrite: {path: "/s/{name}"}}
    - {id: shelf.own, match: {path: "/shelf/own/{name}"}, policy: nobody, upstream: api,
       rewrite: {path: "/s/own/{name}"}}
    - {id: else, match: {path: /app/else}, policy: nobody, upstream: other,
       rewrite: {strip_prefix: /app}}
    - {id: unchanged, match: {path: /app/as-it-is}, policy: nobody, upstream: api}
    - {id: old, match: {path: /old/else}, policy: nobody, upstream: api,
       rewrite: {strip_prefix: /old}}
"""


@pytest.mark.parametrize(
    "path",
    ["/app/ADMIN", "/app/admin/", "/app/index.php/admin", "/app/admin/__data.json",
     "/app/docs/SECRET/x", "/app/docs/secret%2Fx", "/app/docs/Secret%2Fx",
     "/shelf/own%2Fx", "/shelf/OWN%2Fx"],
)  # fmt: skip
def test_a_path_that_is_protected_before_its_rewrite_is_reached_by_no_spelling(path: str) -> None:
    decision = decide(snapshot(STRIPPED, NOBODY), f"GET {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.target


@pytest.mark.parametrize(
    "path",
    ["/app/Else", "/app/As-It-Is", "/app/docs/open%2Fx", "/app/docs/SECRETS/x", "/app/a/",
     "/shelf/a%2Fb", "/app/index.php/a", "/app/else/"],
)  # fmt: skip
def test_what_goes_elsewhere_or_as_it_came_is_no_spelling_of_it(path: str) -> None:
    decision = decide(snapshot(STRIPPED, NOBODY), f"GET {path}", ANN)
    assert decision.allowed, decision.reason


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
     "/users/7.json", "/users/7.x"],
)  # fmt: skip
def test_what_a_server_runs_for_a_longer_path_is_refused_with_it(path: str) -> None:
    decision = decide(snapshot(SCRIPTS, NOBODY), f"GET {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    ("path", "route"),
    [("/report.php/x", "report.parts"), ("/tool.cgi/x", "tool.parts"), ("/other.php/x", "rest"),
     ("/x/wp-login.php/y", "rest"), ("/wp-login.phpx/y", "rest"), ("/index.phpother", "rest"),
     ("/admin.cgi/x", "rest"), ("/sites/example.pl/x", "rest"), ("/users/7.png", "rest"), ("/users/7.5", "rest"), ("/x/app.pl/admin", "rest"), ("/app.plx/admin", "rest"), ("/myindex.phpadmin", "rest")],
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


FOLDERS = """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
       upstream: api}
    - {id: start, match: {path: /}, policy: nobody, upstream: api}
    - {id: admin, match: {path: /Admin}, policy: nobody, upstream: api}
    - {id: desk, match: {path: /desk/}, policy: nobody, upstream: api}
    - {id: shown, match: {path: /desk/index.html}, auth: public, upstream: api}
    - {id: user, match: {path: "/users/{id:int}"}, policy: nobody, upstream: api}
    - {id: manual, match: {path: "/manual/{rest:path}"}, auth: public, upstream: api}
    - {id: old, match: {path: "/guides/old/{rest:path}"}, auth: public, upstream: api}
    - {id: board, match: {prefix: /board}, policy: nobody, upstream: api}
    - {id: board.page, match: {path: "/board/{page}"}, auth: public, upstream: api}
    - {id: sheet, match: {path: "/sheets/{name}"}, auth: public, upstream: api}
    - {id: moved, match: {prefix: /moved}, policy: signed-in, upstream: api,
       rewrite: {strip_prefix: /moved}}
"""


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


TENANTS = """
    version: 1
    tenants: {roles: [owner, member]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: members, upstream: api}
    routes:
      - {id: org, match: {path: "/api/{org}/{rest:path}"}, tenant: "{org}"}
      - {id: Org, match: {path: "/Api/{org}/{rest:path}"}, tenant: "{org}"}
      - {id: order, match: {path: "/orders/{owner}"}, resource: {owner: "{owner}"}}
      - {id: moved, match: {path: "/v1/{rest:path}"}, rewrite: {strip_prefix: /v1}}
      - {id: again, match: {path: "/v2/{org}/{rest:path}"}, tenant: "{org}",
         rewrite: {path: "/api/{org}/{rest}"}}
      - {id: shelf, match: {path: "/shelf/{name}"}, allow_encoded_slash: true,
         rewrite: {path: "/{name}"}}
      - {id: rest, match: {prefix: /, except_reserved: true}, allow_encoded_slash: true}
"""
MEMBERS = """
    policy: members
    rules:
      - {id: in, allow: ['*'], when: user.tenant != null}
      - {id: others, deny: ['*'], when: has(resource.owner) && resource.owner != user.id}
"""


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/api/bens/x", Reason.NO_RULE), ("/API/bens/x", Reason.AMBIGUOUS_PATH),
     ("/index.php/api/bens/x", Reason.AMBIGUOUS_PATH), ("/v1/api/bens/x", Reason.AMBIGUOUS_PATH),
     ("/v1/API/bens/x", Reason.AMBIGUOUS_PATH), ("/api%2Fbens/x", Reason.NO_RULE),
     ("/Api%2Fbens/x", Reason.NO_RULE), ("/API%2Fbens/x", Reason.AMBIGUOUS_PATH), ("/v2/bens/x", Reason.NO_RULE),
     ("/Orders/ben", Reason.AMBIGUOUS_PATH), ("/v1/orders/ben", Reason.AMBIGUOUS_PATH),
     ("/orders/ben.json/", Reason.AMBIGUOUS_PATH), ("/shelf/api%2Fbens%2Fx", Reason.AMBIGUOUS_PATH)],
)  # fmt: skip
def test_the_policy_is_told_of_the_tenant_and_the_resource_in_every_spelling(
    path: str, reason: Reason
) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    world = snapshot(TENANTS, MEMBERS)
    for allowed in (
        "/api/anns/x",
        "/v2/anns/x",
        "/v1/x",
        "/x",
        "/orders/ann",
        "/api%2Fanns/x",
        "/Api%2Fanns/x",
    ):
        assert decide(world, f"GET {allowed}", ann).allowed
    decision = decide(world, f"GET {path}", ann)
    assert (decision.allowed, decision.reason) == (False, reason)


OWNED = """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: members, upstream: api}
    routes:
      - {id: order, match: {path: "/orders/{owner}"}, resource: {owner: "{owner}"}}
      - {id: named, match: {path: "/{kind}/{id}", except_reserved: true},
         resource: RESOURCE}
"""


@pytest.mark.parametrize(
    ("resource", "whose", "reason"),
    [
        ('{owner: "{id}"}', "ann", Reason.RULE_ALLOWED),
        ('{owner: "{id}"}', "ben", Reason.NO_RULE),
        ('{owner: "{id}", kind: "{kind}"}', "ann", Reason.RULE_ALLOWED),
        # The rule about owners would pass what it is told no owner of.
        ('{kind: "{kind}"}', "ann", Reason.AMBIGUOUS_PATH),
        ('{kind: "{kind}"}', "ben", Reason.AMBIGUOUS_PATH),
    ],
)
def test_a_route_that_tells_of_the_same_fields_takes_every_spelling(
    resource: str, whose: str, reason: Reason
) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    world = snapshot(OWNED.replace("RESOURCE", resource), MEMBERS)
    assert decide(world, f"GET /Orders/{whose}", ann).reason is reason


CLOSED = """
    - {id: rest, match: {prefix: /, except_reserved: true}, auth: public, upstream: api,
       allow_encoded_slash: true}
    - {id: metrics, match: {path: /metrics}, auth: public, direct_response: {status: 404}}
    - {id: inner, match: {path: "/inner/{rest:path}"}, auth: public, direct_response: {status: 403}}
    - {id: site, match: {path: "/site/{x}", host: site.example}, auth: public,
       direct_response: {status: 403}}
    - {id: broken, match: {path: /broken}, auth: public, direct_response: {status: 400}}
    - {id: written, match: {path: /written, methods: [PUT]}, auth: public,
       direct_response: {status: 403}}
    - {id: read, match: {path: /written, methods: [GET]}, auth: public, upstream: api}
    - {id: robots, match: {path: /robots.txt}, auth: public, direct_response: {body: none}}
    - {id: gone, match: {prefix: /gone}, auth: public, direct_response: {status: 410}}
    - {id: docs, match: {path: /docs}, auth: public, redirect: {to: /docs/}}
    - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
       rewrite: {strip_prefix: /moved}}
"""


@pytest.mark.parametrize(
    "request_",
    ["GET /METRICS", "GET /metrics/", "POST /index.php/metrics", "GET /metrics.json",
     "GET /Inner/x", "GET /inner%2Fx", "GET /Broken", "PUT /WRITTEN", "POST /written/",
     "GET http://site.example/site%2Fx"],
)  # fmt: skip
def test_what_a_route_refuses_itself_no_backend_is_asked_in_another_spelling(
    request_: str,
) -> None:
    decision = decide(snapshot(CLOSED), request_)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    ("request_", "route"),
    [("GET /ROBOTS.TXT", "rest"), ("GET /docs/", "rest"), ("GET /DOCS", "rest"),
     ("GET /Written", "rest"), ("GET /inner", "rest"), ("GET /metric", "rest"),
     ("GET /gone/A/", "gone"), ("GET http://other.example/site%2Fx", "rest"),
     ("GET /moved/metrics", "moved")],
)  # fmt: skip
def test_what_a_route_answers_otherwise_is_not_closed(request_: str, route: str) -> None:
    decision = decide(snapshot(CLOSED), request_)
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


def test_what_refuses_everything_else_closes_nothing_that_has_a_route() -> None:
    world = snapshot(
        """
        - {id: app, match: {path: "/app/{rest:path}"}, auth: public, upstream: api}
        - {id: else, match: {prefix: /, except_reserved: true}, auth: public,
           direct_response: {status: 404}}
        """
    )
    for path in ("/app/index.html", "/app/a.json", "/app/A/"):
        assert decide(world, f"GET {path}").allowed


MANY = "/index.php/(S(x))/_next/data/b/en/a/index.html.json"


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("x.php/(S(x))/_next/data/b/en/a.json", 16),
        ("index.php/x.php/(S(x))/index.html", 0),  # 17
        # 16 in two steps of backends, and more in the third.
        ("x.php/(S(x))/_next/data/b/en/index.json", 0),
    ],
)
def test_a_path_has_sixteen_spellings_or_is_compared_in_none(path: str, count: int) -> None:
    found = spellings_of(tuple(path.split("/")))
    assert len(found.paths) == count
    assert count or found == Spellings([], [])


def test_a_long_path_has_room_for_few_other_spellings() -> None:
    long = "x" * (MOST_LETTERS // 2)
    assert len(spellings_of((long, "a.html")).paths) == 1 + 1
    assert spellings_of((long, "a.tar.gz")) == Spellings([], [])
    longest = "x" * (MOST_LETTERS - len("/a"))
    assert len(spellings_of((longest, "a.html")).paths) == 1 + 1
    assert spellings_of((longest + "x", "a.html")) == Spellings([], [])


def test_a_path_of_very_many_spellings_may_be_any() -> None:
    routes = snapshot(FOLDERS, NOBODY).routes
    rest = routes.get("rest")
    assert rest is not None
    segments = tuple(MANY[1:].split("/"))
    assert routes.bypasses_route(rest, "GET", segments)
    assert routes.is_protected_elsewhere(rest, "", "GET", segments)


def test_a_path_of_very_many_spellings_is_none() -> None:
    for open_ in (MANY, f"/moved{MANY}"):
        assert decide(snapshot(FOLDERS, NOBODY), f"GET {open_}", ANN).reason is (
            Reason.AMBIGUOUS_PATH
        )


@pytest.mark.parametrize(
    "path",
    ["/index.php/(S(x))" * 470 + "/a.html.json.", "/x.php/(S(x))/_next/data/b/en" * 270 + "/page-data.json",
     "/_next/data" * 700, "/_next/data" * 700 + "/x.jsonx", "/_next/data" * 700 + "/x.json",
     "/_next/data/" + "x/" * 3900 + ".json", "/a.php" * 1300, "/index.phpx" * 700,
     "/" + "index.php" * 880, "/" + ".php" * 1990, "/" + ".data" * 1600, "/_" * 4000 + ".data",
     "/__data.json" * 650, "/a.pl.pl" * 990, "/index" * 1360,
     "/default.html" * 620, "/me/index.php" * 610, "/(S(x))" * 1160, "/x/(S(x))" * 900 + "/",
     "/" + "(s(" * 2600 + "))/x", "/(S(x" + "(a" * 3000 + "))/x", "/" + "." * 8000 + "x", "/x" + ". " * 4000, "/x" + "./" * 4000, "/" + "a.pl" * 2000 + "/x", "/" + "a.pl/" * 1600, "/" + ".cfm/." * 1300, "/" + ".html" * 1600,
     "/page-data" * 800 + "/page-data.json", "/x/" + "\ufdfa" * 900 + ".html", "/x/" + "\ufdf2" * 900 + "/.html", "/_next/data/b/en" * 500 + ".json",
     "/index.php" * 780 + ".aaa.bbb.ccc.ddd", "/A.PHP" * 1300 + ".html__data.json",
     "/\xe9.php/admin./a." * 430 + "/__data.json", "/a.php" * 100 + ".a.b.c",
     "/admin./a.cgi/(s(x)f(y))/e\u0301.php/index.php/a." * 160 + "/a..data"],
)  # fmt: skip
def test_no_path_takes_long_to_compare(path: str) -> None:
    segments = tuple(path[1:].split("/"))
    assert len(path) < 8_192
    took_s = []
    for _ in range(5):
        began = thread_time()
        WORLD.routes.match("", "GET", segments)
        took_s.append(thread_time() - began)
    assert min(took_s) < 0.01
