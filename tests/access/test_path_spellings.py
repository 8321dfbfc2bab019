"""What a backend may take for another route's path does not get there by a route that asks for
less: letters in another case, a final slash, the data of a page."""

from __future__ import annotations

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.routing.route_table import Match
from gateway.access.simulation import FixedAuthenticator, FixedClock, NoLimits
from gateway.model import Reason
from gateway.review.policy_override import with_policies, with_route
from tests.access.decision_world import call_of
from tests.access.spelling_worlds import ANN, MEMBERS, NOBODY, TENANTS, WORLD
from tests.access.worlds import NOW, decide, snapshot, who


@pytest.mark.parametrize(
    "path",
    ["/ADMIN", "/Admin/", "/aDmin/users", "/%41dmin/users", "/ADMIN/users/", "/ME", "/me/", "/Me/",
     "/slash", "/SLASH", "/reports", "/Reports/", "/books/1/Pages", "/BOOKS/1/pages/",
     "/WRITTEN", "/written/", "/me%2F", "/BOTH", "/both/", "/_next/data/b1/admin.json", "/_next/data/b1/admin/users.json", "/_next/data/b1/me.json", "/me/__data.json", "/me/_payload.json", "/me.data", "/slash/__data.json",
     "/books/_next/data/b1/1/pages.json", "/index.php/admin", "/index.php/admin/users/", "/%69ndex.php/me", "/INDEX.PHP/ME",
     "/app.php/me/", "/books/index.php/1/pages", "/index.php/slash", "/files/index.php/own/x", "/files/OWN/x", "/files/Own;a/x", "/boo%E2%84%AAs/1/pages",
     "/Items/3F2504E0-4F89-11D3-9A0C-0305E82C3301/pages", "/files/a%5C..%5COWN",
     "/me.html", "/ME.HTML", "/me.html/", "/me.json", "/me.php", "/admin.xml", "/me.js", "/admin./users", "/admin%20/users", "/books/1/pages.pdf", "/books/1.js/pages", "/me.", "/me%20", "/me.html.",
     "/(S(lit3py55t21z5v55vlm25s55))/me", "/(s(a)F(b))/ADMIN/users", "/(A(x))/(S(y))/me", "/x.php/(S(y))/me.html", "/index.php/me/index", "/index.php/ME.html",
     "/page-data/me/page-data.json", "/page-data/admin/users/page-data.json", "/me/q-data.json", "/me.html__data.json", "/_next/data/b1/en/me.json", "/_next/data/b1/pt-BR/admin/users.json",
     "/me/index.txt", "/%EF%BD%8De", "/%E2%93%82e",
     "/me%3Fx", "/me%23x", "/ME%3F", "/me%23/public/x", "/admin%3F/users", "/me%EF%BC%9Fx", "/index.php/me%23x", "/me%3Fx%23y", "/me%23x%3Fy", "/me%3Fa%3Fb%3Fc%3Fd", "/me%23%23%23%23", "/books/1/pages%3Fx", "/files/OWN%3F;a/x"],
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
        ("/else.data", "rest"), ("/x__data.json", "rest"), ("/me__data.json", "rest"), ("/medata", "rest"), ("/x.me", "rest"), ("/books/x.js/pages", "rest"), ("/.me", "rest"), ("/_root.data", "rest"), ("/__data.json", "rest"), ("/index.phpx/me", "rest"), ("/old.php/me", "script"), ("/old.php/ME", "script"),
     ("/index.php/elsewhere", "rest"), ("/mee%3Fx", "rest"), ("/c%23", "rest"), ("/%3Fme", "rest"), ("/else%23/me", "rest"), ("/elsewhere%3Fx", "rest")],
)  # fmt: skip
def test_what_no_route_protects_otherwise_passes_as_it_came(path: str, route: str) -> None:
    decision = decide(WORLD, f"GET {path}", ANN)
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, route != "admin")
    assert decision.reason is not Reason.AMBIGUOUS_PATH


def test_what_begins_a_query_stands_in_a_name_that_a_route_has() -> None:
    """Else who has pages for `c` and for `c#` could have no route for both."""
    world = snapshot(
        """
        - {id: c, match: {path: /tags/c}, policy: nobody, upstream: api}
        - {id: sharp, match: {path: "/tags/c#"}, auth: public, upstream: api}
        - {id: below, match: {path: "/tags/{y}/list"}, auth: public, upstream: api}
        """,
        NOBODY,
    )
    assert decide(world, "GET /tags/c%23").allowed
    assert decide(world, "GET /tags/d%23x/list").allowed
    assert decide(world, "GET /tags/c%23x/list").reason == Reason.AMBIGUOUS_PATH


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
