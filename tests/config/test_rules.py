"""What is wrong with a policy's rules and roles, and what they ask of a route."""

from __future__ import annotations

import pytest

from tests.access.worlds import snapshot
from tests.config.texts import one

RULES = [
    ("{allow: [x]}", "no `id`"),
    ("{id: a}", "either `allow:` or `deny:`"),
    ("{id: a, allow: [x], deny: [y]}", "either `allow:` or `deny:`"),
    ("{id: a, allow: []}", "`allow` is empty"),
    ("{id: a, allow: ['ord*']}", "is no action"),
    ("{id: a, deny: role-permissions}", "belongs to `allow:`"),
    ("{id: a, allow: [role-permissions, x]}", "stands alone"),
    ("{id: a, allow: [x], when: }", "`when` has no value"),
    ("{id: a, allow: [x], when: 7}", "is text"),
    ("{id: a, allow: [x], reason: 'Not you'}", "one lower-case word"),
    ("{id: a, allow: [x], reason: token_expired}", "means something else"),
    ("{id: a, allow: [x], conceal: yes}", "write true"),
    ("{id: a, allow: [x], mode: shadowed}", "did you mean `shadow`?"),
    ("{id: a, allow: [x], step_up: {}}", "asks for `max_age:`"),
    ("{id: a, allow: [x], step_up: {max_age: 300}}", "`300s`"),
    ("{id: a, allow: [x], limits: [nope]}", "unknown limit"),
    ("{id: a, deny: [x], limits: [per-user]}", "belong to an `allow` rule"),
    ("{id: a, allow: [x], headers: {X-Auth-User-Id: u}}", "the gateway itself writes it"),
    ("{id: a, allow: [x], headers: {Connection: close}}", "it speaks of one connection"),
    ("{id: a, allow: [x], headers: {Content-Encoding: gzip}}", "it frames or describes"),
    ("{id: a, allow: [x], headers: {Sec-WebSocket-Key: a}}", "belongs to one handshake"),
    ("{id: a, allow: [x], headers: {X-Real-IP: '{user.id}'}}", "the gateway itself writes it"),
    ("{id: a, allow: [x], headers: {Cookie: a=b}}", "a cookie is one caller's"),
    ("{id: a, allow: [x], headers: {X-A: a, x-a: b}}", "once is enough"),
    ("{id: a, allow: [x], headers: {'X A': u}}", "letters, digits"),
    ("{id: a, allow: [x], headers: {X-A: '{env.HOME}'}}", "nothing that can be filled in"),
    ("{id: a, allow: [x], headers: {X-A: '{user.claims}'}}", "`{user.claims}` cannot be filled in"),
    ("{id: a, allow: [x], wen: user.id == 'a'}", "did you mean `when`?"),
    ("{id: a, allow: [x]}, {id: a, allow: [y]}", "stands on line"),
]


@pytest.mark.parametrize(("rules", "said"), RULES)
def test_what_is_wrong_with_a_rule_is_told(rules: str, said: str) -> None:
    route = "- {id: a, match: {path: /a}, auth: public, upstream: api}"
    assert said in one(route, f"policy: p\nrules: [{rules}]")


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ("{a: {inherits: [b]}}", "unknown role `b`"),
        ("{a: {inherits: [a]}}", "in a ring: a → a"),
        ("{a: {inherits: [b]}, b: {inherits: [a]}}", "in a ring"),
        ("{a: ['x y']}", "is no action"),
        ("{a: {inherit: [b]}}", "did you mean `inherits`?"),
        ("{'a b': [x]}", "a role is 1 to 128"),
    ],
)
def test_what_is_wrong_with_a_role_is_told(roles: str, said: str) -> None:
    route = "- {id: a, match: {path: /a}, auth: public, upstream: api}"
    policy = f"policy: p\nroles: {roles}\nrules: [{{id: a, allow: ['*']}}]"
    assert said in one(route, policy)


def test_a_field_that_no_route_gives_is_the_mistake_of_the_rule() -> None:
    said = one(
        "- {id: a, match: {path: '/a/{x}'}, policy: p, action: o:read, upstream: api,"
        " resource: {owner: '{x}'}}",
        "policy: p\nrules: [{id: own, allow: [o:read], when: resource.onwer == user.id}]",
    )
    assert said.startswith("policies/p0.yaml:3:")
    assert "which no route of this policy gives; did you mean `owner`?" in said


def test_a_field_that_one_route_lacks_is_the_mistake_of_the_route() -> None:
    said = one(
        """
        - {id: a, match: {path: '/a/{x}'}, policy: p, action: o:read, upstream: api,
           resource: {owner: '{x}'}}
        - {id: b, match: {path: '/b/{x}'}, policy: p, action: o:read, upstream: api}
        """,
        "policy: p\nrules: [{id: own, allow: [o:read], when: resource.owner == user.id}]",
    )
    assert said.startswith("routes.yaml:")
    assert said.endswith("which this route does not give: add `resource: {owner: …}`")
    assert "(policies/p0.yaml:3)" in said


def test_a_field_for_the_upstream_that_no_route_can_fill_is_the_mistake_of_the_rule() -> None:
    said = one(
        "- {id: a, match: {path: '/a/{x}'}, policy: p, action: o:read, upstream: api,"
        " resource: {team: '{x}'}}",
        "policy: p\nrules: [{id: r, allow: [o:read], headers: {X-Team: '{resource.taem}'}}]",
    )
    assert "reads `resource.taem`, which no route of this policy gives; did you mean" in said


def test_what_any_rule_writes_no_client_writes_on_any_route() -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, auth: public, upstream: api}\n"
        "- {id: b, match: {path: /b}, policy: p, action: o:read, upstream: api}",
        "policy: p\nrules: [{id: r, allow: [o:read], headers: {X-Team: '{user.id}'}}]",
    )
    assert all(route.claimed_headers == {b"x-team"} for route in world.routes)


@pytest.mark.parametrize(
    "when", ["has(resource.owner) && resource.owner == user.id", "user.id == 'x'"]
)
def test_a_field_that_may_be_absent_need_not_be_given(when: str) -> None:
    snapshot(
        "- {id: a, match: {path: /a}, policy: p, action: o:read, upstream: api}",
        f'policy: p\nrules: [{{id: own, allow: [o:read], when: "{when}"}}]',
    )


def test_a_rule_about_other_actions_asks_nothing_of_a_route() -> None:
    snapshot(
        "- {id: a, match: {path: /a}, policy: p, action: o:list, upstream: api}",
        "policy: p\nrules: [{id: own, allow: [o:read], when: resource.owner == user.id}]",
    )
