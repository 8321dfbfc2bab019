"""Roles that only keep their bearer away, found in the rules."""

from __future__ import annotations

import pytest

from tests.access.worlds import rule_world, snapshot

OPEN = "- {id: all, allow: ['*']}\n"


def found(rules: str, roles: str = "") -> frozenset[str]:
    return rule_world(rules, roles=roles).barring_roles


@pytest.mark.parametrize(
    "rule",
    [
        "deny: ['*'], when: \"'suspended' in user.roles\"",
        "deny: ['x'], when: \"has_role('suspended') && request.method != 'GET'\"",
        "deny: ['*'], when: \"user != null && !(!('suspended' in user.roles))\"",
        "deny: ['*'], when: \"user.roles.exists(r, r in ['suspended'])\"",
        "deny: ['*'], when: \"['suspended'].exists(r, r in user.roles)\"",
        "deny: ['*'], when: \"user.roles.exists(r, r == 'suspended' && request.method != 'GET')\"",
        "deny: ['*'], when: \"['suspended'].exists(r, has_role(r) && request.method != 'GET')\"",
        "deny: ['*'], when: \"user.roles[0] == 'suspended'\"",
        "allow: ['*'], when: \"!user.roles.exists(r, r == 'suspended' && request.method != 'GET')\"",
        "deny: ['*'], when: \"has_role('suspended') == true\"",
        "deny: ['*'], when: \"has_role('suspended') ? true : false\"",
        "allow: ['*'], when: \"!has_role('suspended')\"",
        "allow: ['*'], when: \"has_role('suspended') ? false : true\"",
        "allow: ['*'], when: \"('suspended' in user.roles) == false\"",
        "allow: ['*'], when: \"!user.roles.exists(r, r in ['suspended'])\"",
        "allow: ['*'], when: \"user.roles.all(r, r != 'suspended')\"",
        "allow: ['*'], when: \"user != null && !('suspended' in user.roles || has_role('suspended'))\"",
    ],
)
def test_a_role_by_which_a_rule_refuses_bars(rule: str) -> None:
    assert found(f"{OPEN}- {{id: r, {rule}}}") == {"suspended"}


@pytest.mark.parametrize(
    "rule",
    [
        "deny: ['*'], when: \"!('member' in user.roles)\"",
        "deny: ['*'], when: \"('member' in user.roles) == false\"",
        "deny: ['*'], when: \"has_role('member') ? false : true\"",
        "deny: ['*'], when: \"'member' in user.scopes\"",
        "deny: ['*'], when: \"'member' in user.roles\", mode: shadow",
        "allow: ['*'], when: \"has_role('member')\"",
        "deny: ['*'], when: \"user.id == 'member'\"",
        "deny: ['*'], when: \"size(user.roles.filter(r, r == 'member')) == 0\"",
        "deny: ['*'], when: \"has_role('member') == has_role('other')\"",
        "deny: ['*'], when: \"user.roles.exists(r, r.startsWith('member'))\"",
        "deny: ['*'], when: \"has_role('mem' + 'ber')\"",
        "deny: ['*'], when: \"has_role('member')\", step_up: {max_age: 5m}",
        "deny: ['*'], when: \"has_role('admin')\"",
    ],
)
def test_one_for_which_nothing_is_refused_does_not(rule: str) -> None:
    assert found(f"{OPEN}- {{id: r, {rule}}}") == frozenset()


DENY = "- {id: d, deny: ['*'], when: \"'support' in user.roles\"}\n"


@pytest.mark.parametrize(
    ("rules", "roles"),
    [
        ("- {id: a, allow: ['*'], when: \"has_role('support')\"}", ""),
        ("- {id: a, allow: ['*'], when: \"user.roles.exists(r, r == 'support')\"}", ""),
        ("- {id: a, allow: ['*'], when: \"(has_role('support') ? 1 : 2) == 1\"}", ""),
        (
            "- {id: a, allow: ['*'], when: \"user.roles.filter(r, r in ['support']).size() > 0\"}",
            "",
        ),
        (
            "- {id: a, allow: ['*'], when: \"user.roles.exists(r, r in ['support'] && resource.id != '1')\"}",
            "",
        ),
        ("- {id: a, allow: ['*'], when: \"has_role('support')\", mode: shadow}", ""),
        ("- {id: a, allow: role-permissions}", "support: {permissions: ['x']}"),
        ("- {id: a, allow: ['*']}", "support: {inherits: [other]}\nother: {}"),
    ],
)
def test_one_that_gives_anything_does_not(rules: str, roles: str) -> None:
    assert found(DENY + rules, roles) == frozenset()


def test_a_word_that_is_asked_of_something_else_gives_nothing() -> None:
    for condition in ("resource.type != 'support'", "user.claims.status == 'support'",
                      "!('support' in user.scopes)"):  # fmt: skip
        assert found(f'{DENY}- {{id: a, allow: ["*"], when: "{condition}"}}') == {"support"}


def test_what_inherits_nothing_but_such_a_role_is_one() -> None:
    rules = OPEN + "- {id: d, deny: ['*'], when: \"has_role('suspended')\"}"
    roles = "member: {}\nsuspended: {}\nbanned: {inherits: [suspended]}\ngone: {inherits: [banned]}\nstaff: {inherits: [suspended, member]}"
    assert found(rules, roles) == {"suspended", "banned", "gone"}


def test_of_a_role_of_several_policies_counts_what_it_inherits_in_any() -> None:
    rules = "rules:\n  - {id: a, allow: ['*']}\n  - {id: d, deny: ['*'], when: \"has_role('suspended')\"}\n"
    policies = [
        f"policy: {name}\nroles: {{suspended: {{}}, member: {{}}, banned: {{inherits: [{role}]}}}}\n{rules}"
        for name, role in (("p", "suspended"), ("q", "member"))
    ]
    routes = "\n".join(
        f'- {{id: {name}, match: {{path: "/{name}"}}, policy: {name}, upstream: api}}'
        for name in "pq"
    )
    for _ in range(8):
        assert snapshot(routes, *policies).barring_roles == {"suspended"}


def test_roles_in_a_table_are_read() -> None:
    routes = '- {id: r, match: {path: "/r"}, policy: p, upstream: api}'
    deny = "  - {id: d, deny: ['*'], when: \"user.roles.exists(r, r in data.barred) || 'support' in user.roles\"}\n"
    allow = "  - {id: a, allow: ['*'], when: \"user.roles.exists(r, r in data.teams)\"}\n"
    tables = "version: 1\nbarred: [x, y]\nteams: {support: {lead: ann}}\n"
    world = snapshot(routes, f"policy: p\nrules:\n{deny}{allow}", data__tables=tables)
    assert world.barring_roles == {"x", "y"}


def test_what_one_policy_gives_no_other_takes() -> None:
    policies = (
        "policy: p\nrules:\n  - {id: a, allow: ['*']}\n"
        "  - {id: d, deny: ['*'], when: \"'x' in user.roles || 'y' in user.roles\"}\n",
        "policy: q\nrules:\n  - {id: a, allow: ['*'], when: \"'x' in user.roles\"}\n",
        "policy: s\nmode: shadow\nrules:\n  - {id: d, deny: ['*'], when: \"'z' in user.roles\"}\n",
    )
    routes = "\n".join(
        f'- {{id: {name}, match: {{path: "/{name}"}}, policy: {name}, upstream: api}}'
        for name in "pqs"
    )
    assert snapshot(routes, *policies).barring_roles == {"y"}
