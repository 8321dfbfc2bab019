"""A key that is limited to some roles of its account passes where both let it pass: a limit never
gives what a role takes away."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.decision_record import read_record, record_of
from gateway.access.evaluation import action_verdict
from gateway.access.explanation import describe, explain
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    SimulatedRequest,
    run_sync,
    simulate,
    simulated_call,
)
from gateway.access.snapshot import Snapshot
from gateway.model import Call, CredentialKind, Principal, Reason
from gateway.review.counterfactuals import find_counterfactuals
from tests.access.asked import Limits
from tests.access.decision_world import call_of
from tests.access.worlds import NOW, decide, rule_world, snapshot, who

OWN = "GET /orders/u1"
ROLES = "viewer: [orders:read]\nmanager: {inherits: [viewer], permissions: [orders:*]}"
DOCUMENTED = """
- id: own-orders
  allow: [orders:read, orders:cancel]
  when: resource.owner == user.id
  reason: not_your_order
- id: by-role
  allow: role-permissions
- id: no-suspended
  deny: ["*"]
  when: "'suspended' in user.roles"
  reason: account_suspended
"""


def key(*roles: str, of: tuple[str, ...], subject: str = "u1") -> Principal:
    """One with `roles`, of an account with the roles `of`."""
    return replace(who(subject, *roles), held_roles=of, scopes=("*",))


@pytest.mark.parametrize("roles", [(), ("manager",)])
@pytest.mark.parametrize("asked", ["'suspended' in user.roles", "has_role('suspended')"])
def test_a_role_that_takes_away_takes_from_every_key(asked: str, roles: tuple[str, ...]) -> None:
    world = rule_world(DOCUMENTED.replace("'suspended' in user.roles", asked), roles=ROLES)
    assert decide(world, OWN, who("u1", *roles)).allowed
    decision = decide(world, OWN, key(*roles, of=("manager", "suspended")))
    assert (decision.allowed, decision.reason, decision.rule) == (
        False, "account_suspended", "no-suspended",
    )  # fmt: skip
    assert str(decision.location) == "policies/p0.yaml:13"
    assert decision.by_held_roles
    assert decision.principal is not None
    assert decision.principal.roles == roles


def test_a_key_has_no_more_for_what_its_account_has() -> None:
    world = rule_world(DOCUMENTED, roles=ROLES)
    decision = decide(world, "GET /orders/u2", key("other", of=("manager", "other")))
    assert (decision.allowed, decision.reason) == (False, "not_your_order")
    assert not decision.by_held_roles
    allowed = decide(world, "GET /orders/u2", key("viewer", of=("manager", "viewer")))
    assert (allowed.allowed, allowed.rule) == (True, "by-role")


def test_a_rule_that_allows_without_a_role_is_asked_of_all() -> None:
    world = rule_world("- {id: a, allow: ['*'], when: \"!has_role('guest')\", reason: no_guests}")
    decision = decide(world, OWN, key(of=("guest",)))
    assert (decision.allowed, decision.reason, decision.by_held_roles) == (False, "no_guests", True)


@pytest.mark.parametrize("first", ["token", "key"])
def test_nothing_that_is_remembered_of_roles_is_told_of_a_limited_key(first: str) -> None:
    """A policy without conditions remembers its verdicts by the roles."""
    world = rule_world("- {id: a, allow: role-permissions}", roles="viewer: [orders:read]")
    (route,) = world.routes
    assert route.action_rules is not None
    remembered = route.action_rules.by_roles
    assert remembered == {}
    limited = key("viewer", of=("viewer", "z"))
    callers = [who("u1", "viewer"), limited]
    for caller in callers if first == "token" else reversed(callers):
        gate = Authorizer(FixedAuthenticator(caller), Limits(), clock=FixedClock(NOW))
        assert run_sync(gate, call_of(OWN, caller), world).allowed
    assert set(remembered) == {("viewer",)}
    assert remembered["viewer",].held_rule is None


def test_what_the_account_is_not_to_know_of_its_key_is_not_told_either() -> None:
    world = rule_world(
        """
        - {id: a, allow: ["*"], when: user.id == 'nobody', reason: not_you}
        - {id: d, deny: ["*"], when: has_role('suspended'), conceal: true}
        """
    )
    assert not decide(world, OWN, key(of=("other",))).conceal
    decision = decide(world, OWN, key(of=("suspended",)))
    assert (decision.allowed, decision.conceal, decision.rule) == (False, True, "d")


def test_of_two_hidden_refusals_the_one_of_the_key_is_told() -> None:
    world = rule_world("- {id: d, deny: ['*'], conceal: true, when: size(user.roles) < 9}")
    decision = decide(world, OWN, key(of=("a",)))
    assert (decision.conceal, decision.by_held_roles) == (True, False)


def test_a_sign_in_that_a_role_asks_for_is_asked_of_a_key() -> None:
    world = rule_world(
        """
        - {id: a, allow: ["*"]}
        - {id: d, deny: ["*"], when: has_role('admin'), step_up: {amr: [otp]}}
        """
    )
    decision = decide(world, OWN, key("viewer", of=("viewer", "admin")))
    assert (decision.reason, decision.amr) == (Reason.INSUFFICIENT_USER_AUTHENTICATION, ("otp",))


def test_the_backend_is_told_what_the_rules_add_for_the_roles_of_the_key() -> None:
    world = rule_world(
        """
        - {id: a, allow: ["*"], when: has_role('admin'), headers: {X-Level: all}}
        - {id: v, allow: ["*"], when: has_role('viewer'), headers: {X-Seen: "{resource.id}"}}
        """
    )
    decision = decide(world, OWN, key("viewer", of=("viewer", "admin")))
    assert (decision.rule, decision.headers) == ("v", (("X-Seen", "u1"),))


LIMITED = """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    limits:
      slow: {key: user, rate: 1/1m}
      quick: {key: user, rate: 60/1m}
    routes:
      - {id: r, match: {path: /a}, policy: p, action: x:y, upstream: api}
"""


def charged(world: Snapshot, caller: Principal) -> Decision:
    gate = Authorizer(FixedAuthenticator(caller), Limits(), clock=FixedClock(NOW))
    return run_sync(gate, call_of("GET /a", caller), world)


def test_a_key_sheds_no_limit_of_the_rule_by_which_its_account_passes() -> None:
    world = snapshot(
        LIMITED,
        """
        policy: p
        rules:
          - {id: trial, allow: ["*"], when: has_role('trial'), limits: [slow]}
          - {id: paid, allow: ["*"], when: has_role('paid'), limits: [quick]}
          - {id: rest, allow: ["*"]}
        """,
    )

    def names(caller: Principal) -> list[str]:
        return [limit.name for limit in charged(world, caller).last_limits]

    assert names(key("paid", of=("paid", "trial"))) == ["quick", "slow"]
    assert names(key(of=("trial",))) == ["slow"]
    assert names(key("paid", of=("paid", "z"))) == ["quick"]
    assert names(key(of=("z",))) == []
    # Whoever counts knows limits by their sequence.
    again = [charged(world, key("paid", of=("paid", "trial"))).last_limits for _ in range(2)]
    assert again[0] is again[1]


@pytest.mark.parametrize("mode", ["", "mode: shadow"])
def test_a_policy_in_shadow_tells_what_it_would_have_refused_of_a_key(mode: str) -> None:
    world = snapshot(
        "- {id: r, match: {path: /a}, policy: p, action: x:y, upstream: api}",
        f"policy: p\n{mode}\nrules:\n  - {{id: a, allow: ['*']}}\n"
        "  - {id: d, deny: ['*'], when: \"has_role('suspended')\", reason: gone}",
    )
    decision = decide(world, "GET /a", key(of=("suspended",)))
    assert decision.allowed is bool(mode)
    assert [one.reason for one in decision.shadowed] == (["gone"] if mode else [])


def test_a_call_that_goes_on_is_judged_anew_by_all_roles() -> None:
    caller = key("manager", of=("manager", "suspended"))
    asked = SimulatedRequest("GET", "/orders/u1", caller, kind=CredentialKind.API_KEY)
    call = simulated_call(asked)
    assert isinstance(call, Call)
    gate = Authorizer(FixedAuthenticator(caller), Limits(), clock=FixedClock(NOW))
    decision = gate.reevaluate(call, rule_world(DOCUMENTED, roles=ROLES), caller)
    assert (decision.allowed, decision.reason) == (False, "account_suspended")


def test_what_asks_a_policy_without_a_route_asks_by_all_roles() -> None:
    policy = rule_world(DOCUMENTED, roles=ROLES).policies["p"]
    caller = key("manager", of=("manager", "suspended"))
    verdict = action_verdict(policy, "orders:read", call_of(OWN, caller), caller, lambda: NOW)
    assert not isinstance(verdict, Reason)
    assert (verdict.allowed, verdict.reason) == (False, "account_suspended")


def test_an_explanation_has_the_roles_that_decided() -> None:
    world = rule_world(DOCUMENTED, roles=ROLES)
    caller = key("manager", of=("manager", "suspended"))
    request = SimulatedRequest("GET", "/orders/u1", caller, clock=FixedClock(NOW))
    answer = simulate(request, world)
    assert answer.call is not None
    found = explain(answer.decision, answer.call, world, lambda: NOW)
    assert found.sentence == (
        "denied with account_suspended by rule no-suspended at policies/p0.yaml:13;"
        " by all roles of the account"
    )
    (decided,) = [one for one in found.evaluations if one.decided]
    assert (decided.rule, decided.outcome) == ("no-suspended", "denies")
    assert decided.values == (("user.roles", '["manager", "suspended"]'),)
    assert "roles: manager (the account: manager, suspended)" in describe(caller, answer.call)
    unlimited = describe(who("u1", "manager"), answer.call)
    assert "roles: manager, " in unlimited
    other = [one.change for one in find_counterfactuals(request, answer, world)]
    assert "the caller had not the role suspended" in other


def test_a_record_has_all_roles_and_is_judged_by_them_again() -> None:
    world = rule_world(DOCUMENTED, roles=ROLES)
    caller = key("manager", of=("manager", "suspended"))
    request = SimulatedRequest(
        "GET", "/orders/u1", caller, kind=CredentialKind.API_KEY, clock=FixedClock(NOW)
    )
    answer = simulate(request, world)
    assert answer.call is not None
    line = record_of(answer.call, answer.decision, at=NOW, status=403, request_id="r", version="v")
    assert line["user"]["roles"] == ["manager"]
    assert line["user"]["held_roles"] == ["manager", "suspended"]
    found = read_record(line)
    assert found is not None
    assert isinstance(found.caller, Principal)
    assert (found.caller.roles, found.caller.held_roles) == (
        ("manager",), ("manager", "suspended"),
    )  # fmt: skip


# What must hold for every policy

NAMES = ("viewer", "manager", "suspended")
RULES = st.lists(
    st.tuples(
        st.sampled_from(("allow", "deny")),
        st.sampled_from(('["*"]', "[orders:read]", "role-permissions")),
        st.sampled_from(
            ("", "'suspended' in user.roles", "has_role('viewer')", "!has_role('manager')",
             "size(user.roles) > 1", "resource.owner == user.id", "user.claims.nope == 1")
        ),
        st.sampled_from(("", "", "", "conceal: true", "mode: shadow", "step_up: {amr: [otp]}")),
    ).filter(lambda one: one[:2] != ("deny", "role-permissions")),
    max_size=5,
)  # fmt: skip
SETS = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)


def world_of(rules: list[tuple[str, str, str, str]]) -> Snapshot:
    lines = []
    for number, (effect, actions, when, more) in enumerate(rules):
        condition = f', when: "{when}"' if when else ""
        lines.append(f"- {{id: r{number}, {effect}: {actions}{condition}{more and ', ' + more}}}")
    return rule_world("\n".join(lines) or "[]", roles=ROLES)


@settings(deadline=None, max_examples=150)
@given(RULES, SETS, SETS, st.sampled_from((OWN, "GET /orders/u2")))
def test_a_key_passes_where_its_roles_and_its_account_do_and_nowhere_else(
    rules: list[tuple[str, str, str, str]],
    held: tuple[str, ...],
    limit: tuple[str, ...],
    asked: str,
) -> None:
    roles = tuple(role for role in held if role in limit)
    caller = replace(who("u1", *roles), held_roles=None if roles == held else held)
    world = world_of(rules)
    decision = decide(world, asked, caller)
    own, account = decide(world, asked, who("u1", *roles)), decide(world, asked, who("u1", *held))
    assert decision.allowed is (own.allowed and account.allowed)
    assert decision.conceal is ((own.conceal and not own.allowed) or account.conceal)
    # Each rule in shadow is told of that would change it.
    told = {one.rule: one.allowed for one in decision.shadowed}
    changed = {}
    for number, rule in enumerate(rules):
        if rule[3] == "mode: shadow":
            enforced = [*rules[:number], (*rule[:3], ""), *rules[number + 1 :]]
            would = decide(world_of(enforced), asked, caller).allowed
            if would is not decision.allowed:
                changed[f"r{number}"] = would
    assert told == changed
