"""What is told agrees with what is decided."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.explanation import Explanation, explain
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.access.snapshot import Snapshot
from gateway.model import Principal, Reason
from tests.access.test_policies import PEOPLE, RULES, world_of
from tests.access.worlds import NOW, decide, rule_world, snapshot, who


def told(
    world: Snapshot,
    request: str,
    caller: Principal | Reason = Reason.NO_CREDENTIAL,
    **more: Any,
) -> Explanation:
    method, _, url = request.partition(" ")
    answer = simulate(SimulatedRequest(method, url, caller, clock=FixedClock(NOW), **more), world)
    assert answer.call is not None
    return explain(answer.decision, answer.call, world, lambda: NOW)


def test_each_rule_is_told_with_its_values_and_the_deciding_one_is_marked() -> None:
    world = rule_world(
        """
        - {id: own, allow: [orders:read], when: resource.owner == user.id}
        - {id: w, allow: [orders:write]}
        - {id: role, allow: role-permissions}
        - {id: no, deny: ["*"], when: "'bad' in user.roles"}
        """,
        roles="viewer: [orders:*]",
    )
    found = told(world, "GET /orders/u2", who("u1", "viewer"))
    assert [(s.rule, s.outcome, s.decided) for s in found.evaluations] == [
        ("own", "does not apply", False),
        ("w", "is about orders:write", False),
        ("role", "allows", True),
        ("no", "does not apply", False),
    ]
    assert found.evaluations[0].values == (("resource.owner", '"u2"'), ("user.id", '"u1"'))
    assert found.evaluations[2].values == (
        ("permission for orders:read", "orders:* (role viewer)"),
    )
    assert found.evaluations[3].values == (("user.roles", '["viewer"]'),)
    assert found.sentence == "allowed by rule role at policies/p0.yaml:8"
    assert found.caller == "u1, roles: viewer, from 127.0.0.1"


ORDERS = """
- {id: own, allow: [orders:read], when: resource.owner == user.id, reason: not_yours}
- {id: level, allow: [orders:list], when: user.claims.level > 3}
- {id: no, deny: ["*"], when: "'bad' in user.roles", reason: suspended}
- {id: broken, deny: [orders:cancel], when: user.claims.level < 3}
"""


@pytest.mark.parametrize(
    ("rules", "caller", "sentence"),
    [
        (
            ORDERS,
            who("u2"),
            "denied with not_yours: nothing allowed it; nearest was rule own at policies/p0.yaml:4",
        ),
        (ORDERS, who("u1", "bad"), "denied with suspended by rule no at policies/p0.yaml:6"),
        (
            ORDERS.replace(", reason: not_yours", ""),
            who("u2"),
            "denied with no_rule: nothing allowed it; nearest was rule own at policies/p0.yaml:4",
        ),
        (
            ORDERS.replace("orders:read", "orders:raed"),
            who("u1"),
            "denied with no_rule: no rule is about orders:read; nearest is rule own "
            "(orders:raed) at policies/p0.yaml:4",
        ),
        (
            ORDERS.replace("orders:list", "orders:read"),
            who("u1"),
            "allowed by rule own at policies/p0.yaml:4",
        ),
        (
            '- {id: level, allow: ["*"], when: user.claims.level > 3, reason: too_low}',
            who("u1"),
            "denied with condition_failed: nothing allowed it; the condition of rule level at "
            "policies/p0.yaml:4 could not be evaluated",
        ),
        (
            '- {id: all, allow: ["*"]}\n- {id: no, deny: ["*"], when: user.claims.level < 3}',
            who("u1"),
            "denied with condition_failed: the condition of rule no at policies/p0.yaml:5 could "
            "not be evaluated",
        ),
        (
            '- {id: no, deny: ["*"], when: user.id == "x"}',
            who("u1"),
            "denied with no_rule: no rule allows orders:read",
        ),
    ],
)
def test_a_denial_says_whether_a_rule_denied_or_nothing_allowed(
    rules: str, caller: Principal, sentence: str
) -> None:
    assert told(rule_world(rules), "GET /orders/u1", caller).sentence == sentence


def test_a_condition_that_fails_says_why() -> None:
    world = rule_world("- {id: a, allow: ['*'], when: user.claims.level > 3}")
    (step,) = told(world, "GET /orders/7", who()).evaluations
    assert (step.outcome, step.note) == ("fails", "there is no level")
    assert step.values == (("user.claims.level", "nothing"),)


def test_no_rule_is_told_of_a_call_that_was_refused_before() -> None:
    world = rule_world("- {id: a, allow: ['*']}")
    assert told(world, "GET /orders/7").evaluations == []


def test_the_routes_that_were_not_chosen_say_why() -> None:
    world = snapshot(
        """
        - {id: get, match: {path: '/a/{x}', methods: [GET]}, auth: public, upstream: api}
        - {id: put, match: {path: '/a/{x}', methods: [PUT]}, auth: public, upstream: api}
        - {id: num, match: {path: '/a/{x:int}'}, auth: public, upstream: api}
        - {id: rest, match: {path: '/a/{x:path}'}, auth: public, upstream: api}
        - {id: host, match: {path: '/a/{x}', host: h.example}, auth: public, upstream: api}
        - {id: far, match: {path: /b}, auth: public, upstream: api}
        """
    )
    whys = {other.route: other.why for other in told(world, "GET /a/b").others}
    assert whys == {
        "put": "takes PUT, not GET",
        "num": '"b" is no {x} (int)',
        "rest": "matches too, but /a/{x} is more specific",
        "host": "is for the host h.example, not localhost",
    }


def test_a_path_of_the_gateways_own_is_told_as_such() -> None:
    world = snapshot("- {id: a, match: {path: /a}, auth: public, upstream: api}")
    assert "answers this path itself" in told(world, "GET /auth/login").sentence


@settings(deadline=None, max_examples=80)
@given(st.lists(RULES, max_size=6), PEOPLE)
def test_the_steps_and_the_decision_never_disagree(
    rules: list[tuple[str, str, str | None]], caller: Principal
) -> None:
    world = world_of(rules)
    decision = decide(world, "GET /orders/u1", caller)
    steps = told(world, "GET /orders/u1", caller).evaluations
    denies = any(s.effect == "deny" and s.outcome.startswith("denies") for s in steps)
    allows = any(s.effect == "allow" and s.outcome == "allows" for s in steps)
    assert decision.allowed is (allows and not denies)
    decided = [step for step in steps if step.decided]
    assert [step.rule for step in decided] == ([decision.rule] if decision.rule else [])
    if decision.allowed:
        assert decided[0].outcome == "allows"
