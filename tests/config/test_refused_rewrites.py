"""`gateway validate` warns of a rewrite to paths of which a rule reads what the call does not say."""

from __future__ import annotations

import pytest

from tests.access.worlds import decide, snapshot, who

HEAD = """
version: 1
tenants: {roles: [owner]}
upstreams:
  api: {targets: [http://127.0.0.1:9001]}
  other: {targets: [http://127.0.0.1:9002]}
defaults: {policy: p, upstream: api}
limits: {per: {key: "request.params.name", rate: 5/1m}}
routes:
"""
OWN = "!has(request.params.id) || request.params.id == user.id"
USER = '{id: user, match: {path: "/users/{id}/{rest:path}"}}'
ME = '{id: me, match: {path: "/me/{rest:path}"}, rewrite: {path: "/users/me/{rest}"}}'


def told(call: str, *routes: str, rule: str = OWN) -> tuple[list[str], str]:
    """The notices of rewrites, and how a call of the caller `ann` is answered."""
    world = snapshot(
        HEAD + "\n".join(f"  - {route}" for route in routes),
        f'policy: p\nrules: [{{id: r, allow: ["*"], when: "{rule}"}}]',
        "policy: q\nrules: [{id: r, allow: [orders:read], when: user != null}]",
    )
    notices = [str(one) for one in world.notices if "by its rewrite" in str(one)]
    return notices, str(decide(world, call, who("ann")).reason)


def test_a_rewrite_of_which_each_call_is_refused_is_told_with_both_routes() -> None:
    (notice,), answer = told("GET /me/x", ME, USER)
    assert answer == "ambiguous_path"
    assert notice.startswith("routes.yaml:10:")
    assert "route `me` leads by its rewrite to paths of `user` (routes.yaml:11)" in notice
    assert "the parameter `{id}`" in notice


@pytest.mark.parametrize(
    ("call", "routes"),
    [
        # By another name nobody can say whether a rule means the same.
        ("GET /v1/users/ann/x", ['{id: v1, match: {path: "/v1/users/{org}/{rest:path}"}, rewrite: {strip_prefix: /v1}}', USER]),
        ("GET /v1/users/ann/x", ["{id: v1, match: {prefix: /v1}, rewrite: {strip_prefix: /v1}}", USER]),
        ("GET /v1/users/ann/x", ['{id: v1, match: {path: "/v1/{rest:path}", hosts: ["*.example.com"]}, rewrite: {strip_prefix: /v1}}', '{id: also, match: {path: "/v1/{rest:path}"}, rewrite: {strip_prefix: /v1}}', USER]),
        ("POST /mine", ['{id: mine, match: {path: /mine, methods: [PUT, POST]}, rewrite: {path: "/users/mine"}}', '{id: user, match: {path: "/users/{id}", methods: [POST]}}']),
        ("GET /o/7", ['{id: o, match: {path: "/o/{n}"}, rewrite: {path: "/users/{n}"}}', '{id: user, match: {path: "/users/{id:int}"}}']),
        ("GET /o/x", ['{id: o, match: {path: "/o/{n}"}, rewrite: {path: "/x/users/{n}"}}', '{id: user, match: {path: "/x/{any}/{id}"}}']),
        ("GET /x", ['{id: o, match: {path: "/x"}, rewrite: {add_prefix: /users}}', '{id: user, match: {path: "/users/{id}"}}']),
        # The tenant, a resource, another value, what a limit counts.
        ("GET /t/a/x", ['{id: t, match: {path: "/t/{n}/x"}, rewrite: {path: "/orgs/{n}/x"}}', '{id: org, match: {path: "/orgs/{org}/x"}, tenant: "{org}"}']),
        ("GET /t/a/x", ['{id: t, match: {path: "/t/{n}/x"}, rewrite: {path: "/orgs/{n}/x"}}', '{id: org, match: {path: "/orgs/{org}/x"}, resource: {owner: "{org}"}}']),
        ("GET /t/a/by/b", ['{id: t, match: {path: "/t/{name}/{rest:path}"}, limits: [per], rewrite: {path: "/{rest}"}}', '{id: org, match: {path: "/by/{name}"}, limits: [per]}']),
        ("GET /t/7/8", ['{id: t, match: {path: "/t/{name:int}/{n:int}"}, limits: [per], rewrite: {path: "/by/{n}"}}', '{id: org, match: {path: "/by/{name:int}"}, limits: [per]}']),
        ("GET /t/a/x", ['{id: t, match: {path: "/t/{name}/{n}"}, limits: [per], rewrite: {path: "/by/{n}"}}', '{id: org, match: {path: "/by/{name}"}, limits: [per]}']),
    ],
)  # fmt: skip
def test_whatever_pattern_leads_there_is_told(call: str, routes: list[str]) -> None:
    notices, answer = told(call, *routes)
    assert answer == "ambiguous_path"
    assert notices


@pytest.mark.parametrize(
    ("call", "routes"),
    [
        # The same parameter, by its name.
        ("GET /v1/users/ann/x", ['{id: v1, match: {path: "/v1/users/{id}/{rest:path}"}, rewrite: {strip_prefix: /v1}}', USER]),
        # What it makes is a path of a route that tells nothing, and another's that no call reaches.
        ("GET /me/x", [ME, USER, '{id: its, match: {path: "/users/me/{rest:path}"}}']),
        ("GET /me/x", [ME, USER.replace("}}", "}, upstream: other}")]),
        ("GET /me/x", [ME, USER.replace("}}", "}, rewrite: {add_prefix: /x}}")]),
        ("GET /me/x", [ME, '{id: user, match: {path: "/people/{id}/{rest:path}"}}']),
        ("GET /me", ['{id: me, match: {path: /me}, rewrite: {path: "/users/me"}}', USER]),
    ],
)  # fmt: skip
def test_a_rewrite_that_passes_is_not_told(call: str, routes: list[str]) -> None:
    notices, answer = told(call, *routes)
    assert answer == "rule_allowed"
    assert notices == []


def test_what_no_rule_reads_is_not_told() -> None:
    assert told("GET /me/x", ME, USER, rule="user.id == 'ann'") == ([], "rule_allowed")


def test_a_path_that_is_protected_by_more_is_not_told() -> None:
    """It is what a rewrite may not reach, whatever the rules read."""
    other = USER.replace("}}", "}, policy: q, action: orders:read}")
    assert told("GET /me/x", ME, other) == ([], "ambiguous_path")


def test_a_limit_of_a_rule_is_told_of() -> None:
    world = snapshot(
        HEAD
        + """
  - {id: t, match: {path: "/t/{name}/{n}"}, rewrite: {path: "/by/{n}"}}
  - {id: org, match: {path: "/by/{name}"}}
        """,
        'policy: p\nrules: [{id: r, allow: ["*"], when: user != null, limits: [per]}]',
    )
    assert decide(world, "GET /t/a/b", who("ann")).reason == "ambiguous_path"
    assert ["`{name}`" in str(one) for one in world.notices] == [True]


def test_one_of_several_is_told() -> None:
    more = '{id: more, match: {path: "/users/{id}"}}'
    prefix = "{id: v1, match: {prefix: /v1}, rewrite: {strip_prefix: /v1}}"
    (notice,), _ = told("GET /v1/x", prefix, USER, more)
    assert "paths of `user` (routes.yaml:11)" in notice
