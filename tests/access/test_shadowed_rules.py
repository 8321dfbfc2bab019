"""A rule or a policy in shadow is told of, and not enforced."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.test_policies import OWN, ROLES
from tests.access.worlds import decide, rule_world, snapshot, who


def test_a_rule_in_shadow_is_told_and_not_enforced() -> None:
    world = rule_world(
        "- {id: a, allow: ['*']}\n- {id: d, deny: ['*'], mode: shadow, reason: gone}"
    )
    decision = decide(world, OWN, who())
    assert decision.allowed
    (one,) = decision.shadowed
    assert (one.rule, one.allowed, one.reason, one.location.line) == ("d", False, "gone", 5)


def test_an_allow_in_shadow_does_not_allow() -> None:
    world = rule_world("- {id: a, allow: ['*'], mode: shadow}")
    decision = decide(world, OWN, who())
    assert not decision.allowed
    assert [(one.rule, one.allowed) for one in decision.shadowed] == [("a", True)]


def test_an_allow_in_shadow_changes_nothing_where_a_deny_decides() -> None:
    world = rule_world("- {id: a, allow: ['*'], mode: shadow}\n- {id: d, deny: ['*']}")
    assert decide(world, OWN, who()).shadowed == ()


def test_a_policy_in_shadow_lets_every_signed_in_caller_pass() -> None:
    world = snapshot(
        "- {id: r, match: {path: /a}, policy: p, action: x:y, upstream: api}",
        "policy: p\nmode: shadow\nrules: [{id: a, allow: [x:y], when: user.id == 'u9'}]",
    )
    decision = decide(world, "GET /a", who("u1"))
    assert decision.allowed
    assert [(one.policy, one.allowed, one.reason) for one in decision.shadowed] == [
        ("p", False, "no_rule")
    ]
    assert decide(world, "GET /a", who("u9")).shadowed == ()
    assert not decide(world, "GET /a").allowed


@pytest.mark.parametrize("mode", ["", "mode: shadow"])
def test_a_policy_in_shadow_opens_no_optional_route_to_strangers(mode: str) -> None:
    world = snapshot(
        "- {id: r, match: {path: /a}, auth: optional, policy: p, action: x:y, upstream: api}",
        f"policy: p\n{mode}\nrules: [{{id: a, allow: [x:y], when: user != null}}]",
    )
    decision = decide(world, "GET /a")
    assert (decision.allowed, decision.reason, decision.shadowed) == (False, Reason.NO_RULE, ())
    assert decide(world, "GET /a", who("u1")).allowed


def test_a_stranger_whom_a_policy_in_shadow_would_let_pass_is_told_of() -> None:
    world = snapshot(
        "- {id: r, match: {path: /a}, auth: optional, policy: p, action: x:y, upstream: api}",
        "policy: p\nmode: shadow\nrules: [{id: a, allow: [x:y]}]",
    )
    decision = decide(world, "GET /a")
    assert not decision.allowed
    assert [(one.rule, one.allowed) for one in decision.shadowed] == [("a", True)]


def test_a_rule_in_shadow_by_roles_is_judged_for_the_action() -> None:
    world = rule_world("- {id: r, allow: role-permissions, mode: shadow}", roles=ROLES)
    assert [one.rule for one in decide(world, OWN, who("u1", "viewer")).shadowed] == ["r"]
    assert decide(world, OWN, who("u1")).shadowed == ()


def test_a_deny_in_shadow_is_not_told_of_what_is_denied_anyway() -> None:
    world = rule_world("- {id: d, deny: ['*'], mode: shadow}")
    assert decide(world, OWN, who()).shadowed == ()


def test_a_policy_in_shadow_tells_its_own_denial() -> None:
    world = snapshot(
        "- {id: r, match: {path: '/r/{x}'}, policy: p, action: x:y, upstream: api}",
        """
        policy: p
        mode: shadow
        rules:
          - {id: a, allow: [x:y], when: request.params.x == 'a'}
          - {id: d, deny: [x:y], when: request.params.x == 'd', reason: no_d}
          - {id: s, deny: [x:y], when: request.params.x == 'a', mode: shadow, reason: soon}
        """,
    )
    told = {
        "/r/a": [("s", False, "soon", 7)],
        "/r/b": [(None, False, "no_rule", 2)],
        "/r/d": [("d", False, "no_d", 6)],
    }
    for path, shadowed in told.items():
        decision = decide(world, f"GET {path}", who())
        assert (decision.allowed, decision.reason) == (True, "signed_in")
        assert str(decision.location) == "policies/p0.yaml:2"
        assert [
            (one.rule, one.allowed, one.reason, one.location.line) for one in decision.shadowed
        ] == shadowed


def test_a_policy_in_shadow_takes_no_stranger_and_tells_where_its_rules_would_have() -> None:
    world = snapshot(
        "- {id: r, match: {path: /a}, auth: optional, policy: p, action: x:y, upstream: api}",
        """
        policy: p
        mode: shadow
        rules: [{id: a, allow: [x:y]}]
        """,
    )
    decision = decide(world, "GET /a")
    assert (decision.allowed, decision.reason) == (False, "no_rule")
    assert decision.refusal is Reason.NO_RULE
    assert str(decision.location) == "policies/p0.yaml:2"
    assert [(one.rule, one.allowed, one.reason) for one in decision.shadowed] == [
        ("a", True, "rule_allowed")
    ]
