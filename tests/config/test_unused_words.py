"""What is valid and yet cannot be meant: routes that nobody can pass, rules and actions that nothing uses."""

from __future__ import annotations

import pytest

from gateway.config.warnings import open_to_anybody
from tests.access.worlds import snapshot
from tests.config.texts import PUBLIC


def test_a_route_that_nobody_can_pass_is_noted() -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, policy: p, action: orders:raed, upstream: api}",
        "policy: p\nrules: [{id: own, allow: ['orders:read']}]",
    )
    (notice,) = world.notices
    assert "nobody can pass; did you mean `orders:read`?" in str(notice)


@pytest.mark.parametrize(
    ("allow", "hint"),
    [("role-permission", "role-permissions"), ("orders:raed", "orders:read")],
)
def test_a_rule_that_covers_no_route_is_noted(allow: str, hint: str) -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, policy: p, action: orders:read, upstream: api}",
        f"policy: p\nrules: [{{id: own, allow: ['*']}}, {{id: idle, allow: [{allow}]}}]",
    )
    assert [str(notice) for notice in world.notices] == [
        f"policies/p0.yaml:3:34: rule `idle` covers the action of no route; did you mean `{hint}`?"
    ]


READ = "- {id: a, match: {path: /a}, policy: p, action: orders:read, upstream: api}"


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            "rules: [{id: own, allow: ['orders:read', 'orders:raed']}]",
            "policies/p0.yaml:3:9: rule `own`: no route has the action `orders:raed`; "
            "did you mean `orders:read`?",
        ),
        (
            "rules: [{id: own, allow: ['orders:read']}, {id: no, deny: ['order:*', '*:read']}]",
            "policies/p0.yaml:3:44: rule `no`: no route has the action `order:*`; "
            "did you mean `orders:read`?",
        ),
        (
            "roles: {viewer: [orders:read, orders:raed]}\nrules: [{id: r, allow: role-permissions}]",
            "policies/p0.yaml:3:9: role `viewer`: no route has the action `orders:raed`; "
            "did you mean `orders:read`?",
        ),
        (
            "roles: {viewer: [orders:raed]}\nrules: [{id: r, allow: role-permissions}]",
            "routes.yaml:11:5: route `a`: no rule of policy `p` and no role of it allows "
            "`orders:read`, so nobody can pass; did you mean `orders:raed`?",
        ),
        (
            "rules: [{id: own, allow: ['orders:*']}, {id: all, deny: ['*'], when: user.id == 'x'}]",
            "",
        ),
        ("roles: {viewer: ['*:read']}\nrules: [{id: r, allow: role-permissions}]", ""),
        ("roles: {viewer: [x:y]}\nrules: [{id: r, allow: ['orders:read']}]", ""),
    ],
)
def test_an_action_that_only_one_side_knows_is_a_warning(policy: str, said: str) -> None:
    world = snapshot(READ, f"policy: p\n{policy}")
    assert [str(one).partition(", `role-")[0] for one in world.notices] == ([said] if said else [])


def test_a_permission_of_a_shared_role_is_used_by_any_policy() -> None:
    rules = "rules: [{id: r, allow: role-permissions}]"
    roles = "version: 1\nroles:\n  clerk: [orders:read, bills:read, bils:write]"
    world = snapshot(
        READ + "\n- {id: b, match: {path: /b}, policy: q, action: bills:read, upstream: api}",
        f"policy: p\n{rules}",
        f"policy: q\n{rules}",
        roles=roles,
    )
    (notice,) = world.notices
    assert str(notice).startswith(
        "policies/roles.yaml:3:3: role `clerk`: no route has the action `bils:write`"
    )


def test_a_policy_that_judges_nothing_is_noted() -> None:
    world = snapshot(PUBLIC, "policy: p\nrules: [{id: own, allow: ['orders:read']}]")
    assert [str(notice) for notice in world.notices] == [
        "policies/p0.yaml:2:1: no route names policy `p`"
    ]


def test_an_action_on_a_route_that_no_policy_judges_is_noted() -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, auth: optional, action: orders:read, upstream: api}\n"
        "- {id: b, match: {path: /b}, auth: optional, upstream: api}",
        "policy: p\nrules: [{id: own, allow: ['*']}]",
    )
    said = [str(notice) for notice in world.notices if "no policy that judges it" in str(notice)]
    assert len(said) == 1
    assert "route `a` has the action `orders:read`" in said[0]


@pytest.mark.parametrize(
    ("issuers", "who", "said"),
    [("[own, c]", "anybody", True), ("[own, c]", "", False), ("[c]", "anybody", False)],
)
def test_a_route_is_open_to_who_may_make_an_account_that_it_takes(
    issuers: str, who: str, said: bool
) -> None:
    world = snapshot(f"""
version: 1
issuers: {{c: {{issuer: "https://c.example", audience: api}}}}
routes:
  - {{id: a, match: {{path: /a}}, issuers: {issuers}, policy: signed-in, direct_response: {{status: 204}}}}
""")
    found = [str(one) for one in open_to_anybody(world.routes, who)]
    assert [one.partition(", and ")[2] for one in found] == (
        ["anybody may make one (GATEWAY_REGISTRATION=open)"] if said else []
    )
