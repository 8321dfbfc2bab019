"""A prefix that the gateway takes off, and the backend once more, leads to no other route's page."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.spelling_worlds import NOBODY
from tests.access.worlds import decide, snapshot, who
from tests.cpu_cost import cost_ratio

STRIPPED = """
    - {id: rest, match: {path: "/api/v1/{rest:path}"}, auth: public, upstream: api,
       rewrite: {strip_prefix: /api/v1}}
    - {id: admin, match: {path: /api/v1/admin}, policy: nobody, upstream: api,
       rewrite: {strip_prefix: /api/v1}}
    - {id: user, match: {path: "/api/v1/users/{id:int}"}, policy: nobody, upstream: api,
       rewrite: {strip_prefix: /api/v1}}
    - {id: named, match: {path: /api/v1/api/v1/admin/own}, auth: public, upstream: api,
       rewrite: {strip_prefix: /api/v1}}
    - {id: own, match: {path: /api/v1/admin/own}, policy: nobody, upstream: api,
       rewrite: {strip_prefix: /api/v1}}
    - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
       rewrite: {strip_prefix: /moved}}
    - {id: desk, match: {path: /desk}, policy: nobody, upstream: api}
    - {id: start, match: {path: /}, policy: nobody, upstream: api}
    - {id: added, match: {prefix: /added}, auth: public, upstream: api,
       rewrite: {strip_prefix: /added, add_prefix: /added/v2}}
    - {id: added.own, match: {path: /v2/desk}, policy: nobody, upstream: api}
    - {id: twice, match: {prefix: /twice/twice}, auth: public, upstream: api,
       rewrite: {strip_prefix: /twice}}
    - {id: twice.own, match: {path: /twice/desk}, policy: nobody, upstream: api,
       rewrite: {strip_prefix: /twice}}
    - {id: other, match: {prefix: /other}, auth: public, upstream: other,
       rewrite: {strip_prefix: /other}}
"""


@pytest.mark.parametrize(
    "path",
    ["/api/v1/api/v1/admin", "/api/v1/API/V1/Admin/", "/api/v1/api/v1/api/v1/admin", "/api/v1/api/v1/admin.json", "/api/v1/api/v1/users/7", "/api/v1/api/v1/users/+7", "/api/v1/api/v1/index.php/admin",
     # What a route protects that rewrites nothing.
     "/moved/moved/desk", "/moved/Moved/desk/", "/moved/moved/moved/desk", "/moved/moved/desk.json", "/moved/moved", "/moved/moved/", "/api/v1/api/v1"],
)  # fmt: skip
def test_what_is_left_without_the_prefix_once_more_is_none_of_another_route(path: str) -> None:
    assert decide(snapshot(STRIPPED, NOBODY), f"GET {path}").reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    ("path", "route"),
    [("/api/v1/api/v1/x", "rest"), ("/api/v1/api/admin", "rest"), ("/api/v1/v1/admin", "rest"), ("/api/v1/x/api/v1/admin", "rest"), ("/api/v1/api/v1x/admin", "rest"), ("/api/v1/api/v1/api/admin", "rest"),
     ("/api/v1/api/v1/admin/own", "named"), ("/moved/moved/x", "moved"), ("/moved/x/moved/desk", "moved"), ("/added/desk", "added"), ("/added/added/desk", "added"), ("/twice/twice/desk", "twice"), ("/other/other/desk", "other")],
)  # fmt: skip
def test_what_is_left_of_no_protected_path_passes(path: str, route: str) -> None:
    decision = decide(snapshot(STRIPPED, NOBODY), f"GET {path}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


BROWSED = """
    - {id: owner, match: {path: "/git/{owner}"}, policy: some, action: owner, upstream: api,
       rewrite: {strip_prefix: /git}}
    - {id: repo, match: {path: "/git/{owner}/{repo}"}, policy: some, action: repo, upstream: api,
       rewrite: {strip_prefix: /git}}
    - {id: admin, match: {path: /git/admin}, policy: some, action: admin, upstream: api,
       rewrite: {strip_prefix: /git}}
    - {id: key, match: {path: "/git/keys/{key}"}, policy: some, action: key, upstream: api,
       rewrite: {strip_prefix: /git}}
    - {id: number, match: {path: "/git/{owner}/{repo}/{number:int}"}, policy: some,
       action: number, upstream: api, rewrite: {strip_prefix: /git}}
    - {id: file, match: {path: "/git/{owner}/{repo}/tree/{file}"}, policy: some, action: file,
       upstream: api, rewrite: {strip_prefix: /git}}
    - {id: rest, match: {path: "/git/{owner}/{repo}/{rest:path}"}, policy: some,
       action: rest, upstream: api, rewrite: {strip_prefix: /git}}
    - {id: stranger, match: {path: "/git/{owner}/{repo}/{part}"}, auth: public, upstream: api,
       rewrite: {strip_prefix: /git}}
    - {id: counted, match: {path: "/docs/{id}"}, policy: some, action: "docs:read", upstream: api,
       rewrite: {strip_prefix: /docs}, limits: [per-user]}
    - {id: page, match: {path: "/docs/{id}/{page}"}, policy: some, action: "docs:page",
       upstream: api, rewrite: {strip_prefix: /docs}}
    - {id: desk, match: {path: "/desk/{id}"}, policy: some, action: "desk:read", upstream: api,
       resource: {id: "{id}"}, rewrite: {strip_prefix: /desk}}
    - {id: drawer, match: {path: "/desk/{id}/{drawer}"}, policy: some, action: "desk:open",
       resource: {id: "{id}"}, upstream: api, rewrite: {strip_prefix: /desk}}
"""
SOME = "policy: some\nrules: [{id: all, allow: ['*']}]"


@pytest.mark.parametrize(
    ("path", "route"),
    [("/git/git", "owner"), ("/git/git/git", "repo"), ("/git/git/linux", "repo"), ("/git/GIT/linux", "repo"), ("/git/linux/git", "repo")],
)  # fmt: skip
def test_an_owner_may_bear_the_name_of_the_prefix(path: str, route: str) -> None:
    decision = decide(snapshot(BROWSED, SOME), f"GET {path}", who("ann"))
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


@pytest.mark.parametrize(
    "path",
    ["/git/git/admin", "/git/git/Admin", "/git/git/git/admin",
     # By letters in the middle, by a number, by a route for whatever is below.
     "/git/git/keys/7", "/git/git/linux/x/7", "/git/git/ann/linux/tree/readme",
     # A stranger, who passes a limit, of another document.
     "/git/git/linux/x", "/docs/docs/mine", "/desk/desk/mine"],
)  # fmt: skip
def test_nor_is_it_a_way_around_for_that(path: str) -> None:
    decision = decide(snapshot(BROWSED, SOME), f"GET {path}", who("ann"))
    assert decision.reason is Reason.AMBIGUOUS_PATH


def test_a_policy_is_told_of_the_path_that_came() -> None:
    world = snapshot(
        """
        - {id: rest, match: {path: "/api/{tenant}/{rest:path}"}, tenant: "{tenant}",
           policy: members, action: "x:read", upstream: api, rewrite: {strip_prefix: /api}}
        - {id: admin, match: {path: "/api/{tenant}/admin"}, tenant: "{tenant}",
           policy: members, action: "x:read", upstream: api, rewrite: {strip_prefix: /api}}
        """,
        "policy: members\nrules: [{id: all, allow: ['*']}]",
    )
    rest = world.routes.get("rest")
    assert rest is not None
    for path, elsewhere in (("api/api/acme/admin", True), ("api/api/acme/x", False)):
        found = world.routes.is_protected_elsewhere(rest, "", "GET", tuple(path.split("/")))
        assert found is elsewhere


def test_a_repeated_prefix_costs_no_more_than_some_loops_over_its_letters() -> None:
    routes, path = snapshot(STRIPPED, NOBODY).routes, "api/v1/" * 1_100 + "admin.a.b"
    # Split anew each time: the last path is remembered.  Measured 21; with each of the prefixes
    # taken off, and not three at most, 2 957.
    assert cost_ratio(lambda: routes.match("", "GET", tuple(path.split("/")))) < 100
