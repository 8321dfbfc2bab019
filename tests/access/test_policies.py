"""Any deny wins, nothing but an allow allows, and what fails never does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.policies import ActionRules, Effect, Policy, Verdict, signed_in_policy
from gateway.access.snapshot import Snapshot
from gateway.model import Principal, Reason
from tests.access.worlds import NOW, decide, rule_world, snapshot, who

OWN = "GET /orders/u1"


def test_the_owner_is_allowed_by_the_rule_that_says_so() -> None:
    world = rule_world("- {id: own, allow: [orders:read], when: resource.owner == user.id}")
    decision = decide(world, OWN, who("u1"))
    assert (decision.allowed, decision.reason, decision.rule) == (True, "rule_allowed", "own")
    assert str(decision.location) == "policies/p0.yaml:4"


def test_no_allow_is_a_deny_with_no_rule() -> None:
    world = rule_world("- {id: own, allow: [orders:read], when: resource.owner == user.id}")
    decision = decide(world, OWN, who("u2"))
    assert not decision.allowed
    assert decision.reason is Reason.NO_RULE
    assert decision.refusal is Reason.NO_RULE
    assert decision.rule is None


def test_no_allow_names_the_reason_of_the_rule_that_could_have() -> None:
    world = rule_world(
        """
        - {id: own, allow: [orders:read], when: resource.owner == user.id, reason: not_yours}
        - {id: late, allow: [orders:read], when: user.id == 'x', reason: too_late}
        """
    )
    decision = decide(world, OWN, who("u2"))
    assert (decision.reason, decision.refusal, decision.rule) == ("not_yours", None, "own")


def test_a_reason_of_a_rule_about_other_actions_is_not_named() -> None:
    world = rule_world("- {id: w, allow: [orders:write], reason: not_a_writer}")
    assert decide(world, OWN, who()).reason == Reason.NO_RULE


def test_a_deny_wins_over_every_allow() -> None:
    world = rule_world(
        """
        - {id: all, allow: ["*"]}
        - {id: no, deny: [orders:read], when: "'bad' in user.roles", reason: suspended}
        """
    )
    assert decide(world, OWN, who("u1")).allowed
    decision = decide(world, OWN, who("u1", "bad"))
    assert (decision.allowed, decision.reason, decision.rule) == (False, "suspended", "no")
    assert decision.refusal is None


def test_an_allow_that_fails_is_no_allow_but_lets_others_allow() -> None:
    broken = "- {id: broken, allow: ['*'], when: user.claims.level > 3}\n"
    assert not decide(rule_world(broken), OWN, who()).allowed
    assert decide(rule_world(broken + "- {id: all, allow: ['*']}"), OWN, who()).allowed


def test_a_deny_that_fails_denies() -> None:
    world = rule_world(
        """
        - {id: all, allow: ["*"]}
        - {id: no, deny: ["*"], when: user.claims.level < 3}
        """
    )
    decision = decide(world, OWN, who())
    assert (decision.allowed, decision.rule) == (False, "no")
    assert decide(world, OWN, who(claims={"level": 5})).allowed


def test_what_could_not_be_evaluated_has_a_reason_apart_from_the_rules_own() -> None:
    deny = """
        - {id: all, allow: ["*"]}
        - {id: no, deny: ["*"], when: user.claims.level < 3, reason: too_low}
        """
    decision = decide(rule_world(deny), OWN, who())
    assert (decision.reason, decision.rule) == ("condition_failed", "no")
    assert decision.refusal is Reason.CONDITION_FAILED
    decision = decide(rule_world(deny), OWN, who(claims={"level": 1}))
    assert (decision.reason, decision.refusal) == ("too_low", None)
    allow = "- {id: high, allow: ['*'], when: user.claims.level > 3, reason: too_low}"
    decision = decide(rule_world(allow), OWN, who())
    assert (decision.reason, decision.refusal) == ("condition_failed", Reason.CONDITION_FAILED)
    assert (decision.rule, decision.allowed) == ("high", False)
    assert decide(rule_world(allow), OWN, who(claims={"level": 1})).reason == "too_low"


def test_of_allows_that_fail_and_that_say_no_the_first_in_the_file_is_named() -> None:
    fails = "- {id: fails, allow: ['*'], when: user.claims.level > 3, reason: too_low}\n"
    says = "- {id: says, allow: ['*'], when: user.id == 'x', reason: not_x}\n"
    silent = "- {id: silent, allow: ['*'], when: user.id == 'x'}\n"
    assert decide(rule_world(fails + says), OWN, who()).reason == "condition_failed"
    assert decide(rule_world(says + fails), OWN, who()).reason == "not_x"
    assert decide(rule_world(silent + fails), OWN, who()).reason == "condition_failed"


def test_a_concealed_rule_conceals_that_its_condition_failed() -> None:
    world = rule_world("- {id: a, allow: ['*'], when: user.claims.level > 3, conceal: true}")
    decision = decide(world, OWN, who())
    assert (decision.reason, decision.conceal) == ("condition_failed", True)


@pytest.mark.parametrize("given", ["yes", 1, None, ["a"]])
def test_a_condition_that_is_no_truth_value_never_allows(given: object) -> None:
    caller, when = who(claims={"is": given}), "when: user.claims.is"
    assert not decide(rule_world(f'- {{id: a, allow: ["*"], {when}}}'), OWN, caller).allowed
    world = rule_world(f'- {{id: a, allow: ["*"]}}\n- {{id: d, deny: ["*"], {when}}}')
    assert not decide(world, OWN, caller).allowed


ROLES = "viewer: [orders:read]\nlead: {inherits: [viewer], permissions: [orders:*]}"


def test_role_permissions_hold_the_action_of_the_route() -> None:
    world = rule_world("- {id: by-role, allow: role-permissions}", roles=ROLES)
    assert decide(world, OWN, who("x", "viewer")).allowed
    assert decide(world, OWN, who("x", "lead")).allowed
    assert not decide(world, OWN, who("x", "stranger")).allowed


def test_role_permissions_may_ask_for_more() -> None:
    rule = "- {id: by-role, allow: role-permissions, when: user.email_verified}"
    world = rule_world(rule, roles=ROLES)
    assert not decide(world, OWN, who("x", "viewer")).allowed
    assert decide(world, OWN, who("x", "viewer", email_verified=True)).allowed


def test_conceal_answers_as_for_an_unknown_route() -> None:
    world = rule_world("- {id: own, allow: ['*'], when: user.id == 'x', conceal: true}")
    assert decide(world, OWN, who()).conceal


def test_an_open_deny_does_not_give_away_what_another_conceals() -> None:
    world = rule_world(
        """
        - {id: open, deny: ["*"], reason: closed_today}
        - {id: hidden, deny: ["*"], conceal: true}
        """
    )
    decision = decide(world, OWN, who())
    assert decision.conceal
    assert decision.rule == "open"


def test_a_deny_that_a_fresh_sign_in_lifts_does_not_give_away_what_another_conceals() -> None:
    fresh = '- {id: fresh, deny: ["*"], step_up: {max_age: 60s}}\n'
    hidden = "- {id: hidden, deny: ['*'], when: user.id != 'u9', conceal: true}\n"
    for rules in (fresh + hidden, hidden + fresh):
        decision = decide(rule_world(rules), OWN, who(auth_time=0))
        assert (decision.reason, decision.conceal, decision.rule) == ("no_rule", True, "hidden")
        assert decision.max_age_s is None
        asked = decide(rule_world(rules), OWN, who("u9", auth_time=0))
        assert (asked.reason, asked.conceal) == ("insufficient_user_authentication", False)


def test_who_has_not_stepped_up_is_not_told_that_what_a_deny_conceals_is_there() -> None:
    rule = "- {id: d, deny: ['*'], step_up: {amr: [otp]}, reason: needs_otp, conceal: true}"
    fresh = "\n- {id: fresh, deny: ['*'], step_up: {max_age: 60s}}"
    allow = "\n- {id: a, allow: ['*']}"
    for rules in (rule + allow, rule + fresh + allow):
        world = rule_world(rules)
        decision = decide(world, OWN, who(amr=["pwd"]))
        assert (decision.reason, decision.conceal, decision.rule) == ("needs_otp", True, "d")
        assert (decision.max_age_s, decision.amr) == (None, ())
        assert decide(world, OWN, who(amr=["otp"])).allowed


def test_what_was_lifted_by_a_fresh_sign_in_conceals_nothing() -> None:
    world = rule_world(
        """
        - {id: strong, deny: ["*"], step_up: {amr: [totp]}}
        - {id: hidden, deny: ["*"], step_up: {max_age: 60s}, conceal: true}
        """
    )
    decision = decide(world, OWN, who(auth_time=int(NOW)))
    assert (decision.reason, decision.conceal) == ("insufficient_user_authentication", False)
    assert decide(world, OWN, who(auth_time=int(NOW) - 61)).conceal


def test_what_conceals_and_could_not_be_evaluated_is_lifted_by_no_sign_in() -> None:
    world = rule_world(
        """
        - {id: strong, deny: ["*"], step_up: {amr: [totp]}}
        - {id: hidden, deny: ["*"], when: user.claims.level < 3, step_up: {max_age: 60s},
           conceal: true}
        """
    )
    decision = decide(world, OWN, who(auth_time=int(NOW)))
    assert (decision.reason, decision.conceal) == ("condition_failed", True)
    assert decision.rule == "hidden"


# Denies, one after another


def test_a_deny_is_found_behind_those_that_do_not_apply() -> None:
    other, lifted = "when: user.id == 'u9'", "step_up: {max_age: 60s}"
    for first in (other, lifted):
        world = rule_world(
            f"""
            - {{id: all, allow: ["*"]}}
            - {{id: first, deny: ["*"], {first}, reason: first}}
            - {{id: second, deny: ["*"], reason: second}}
            """
        )
        assert decide(world, OWN, who()).reason == "second"


def test_no_sign_in_lifts_a_deny_that_could_not_be_evaluated() -> None:
    world = rule_world(
        "- {id: d, deny: ['*'], when: user.claims.level < 3, step_up: {max_age: 60s}}"
    )
    decision = decide(world, OWN, who(auth_time=0))
    assert (decision.reason, decision.max_age_s) == ("condition_failed", None)


def test_nobody_is_asked_for_a_fresher_sign_in() -> None:
    world = rule_world(
        "- {id: d, deny: ['*'], step_up: {max_age: 60s}, reason: stale}", route="auth: optional"
    )
    decision = decide(world, OWN)
    assert (decision.reason, decision.max_age_s, decision.refusal) == ("stale", None, None)


def test_a_deny_without_a_reason_is_told_as_no_rule() -> None:
    decision = decide(rule_world("- {id: d, deny: ['*']}"), OWN, who())
    assert (decision.reason, decision.refusal, decision.rule) == ("no_rule", Reason.NO_RULE, "d")


@pytest.mark.parametrize(
    ("rules", "conceal"),
    [
        ("o", False),
        ("oo", False),
        ("c", True),
        ("oc", True),
        ("oco", True),
        ("ooc", True),
        ("ox", False),
        ("xo", False),
        ("fo", False),
        ("fxo", False),
    ],
)
def test_a_denial_is_concealed_where_any_deny_that_applies_asks_for_it(
    rules: str, conceal: bool
) -> None:
    """o: open, c: concealed, x: concealed of somebody else, f: concealed and lifted by the
    fresh sign-in."""
    kinds = {
        "o": "",
        "c": ", conceal: true",
        "x": ", conceal: true, when: user.id == 'u9'",
        "f": ", conceal: true, step_up: {max_age: 60s}",
    }
    lines = [f"- {{id: r{at}, deny: ['*']{kinds[kind]}}}" for at, kind in enumerate(rules)]
    decision = decide(rule_world("\n".join(lines)), OWN, who())
    assert not decision.allowed
    assert decision.conceal is conceal


def test_the_policy_for_the_signed_in_takes_everybody_and_nobody_else() -> None:
    world = snapshot("- {id: r, match: {path: /a}, policy: signed-in, upstream: api}")
    decision = decide(world, "GET /a", who())
    assert (decision.allowed, decision.reason) == (True, "signed_in")
    policy = signed_in_policy()
    (rule,) = policy.rules
    assert policy.name == "signed-in"
    assert (rule.id, rule.effect, rule.actions, rule.every_user) == (
        "signed-in", Effect.ALLOW, ("*",), True,
    )  # fmt: skip


# What is remembered of roles


def by_roles(*rules: str) -> tuple[Policy, ActionRules]:
    world = rule_world("\n".join(rules), roles=ROLES)
    policy = world.policies["p"]
    return policy, policy.rules_for("orders:read")


@pytest.mark.parametrize(
    ("rule", "plain"),
    [
        ("- {id: a, allow: role-permissions}", True),
        ("- {id: a, allow: ['*']}", True),
        ("- {id: a, deny: ['orders:*']}", True),
        ("- {id: a, allow: ['mail:*'], when: user.id == 'a'}", True),
        ("- {id: a, allow: ['*'], when: user.id == 'a'}", False),
        ("- {id: a, allow: ['*'], mode: shadow}", False),
        ("- {id: a, allow: ['*'], step_up: {max_age: 5m}}", False),
        ("- {id: a, allow: ['*'], limits: [per-user]}", False),
        ("- {id: a, allow: ['*'], headers: {X-A: '{user.id}'}}", False),
    ],
)
def test_a_verdict_is_remembered_where_it_follows_from_the_roles(rule: str, plain: bool) -> None:
    _, rules = by_roles(rule, "- {id: z, allow: role-permissions}")
    assert rules.by_roles == ({} if plain else None)


def test_a_policy_in_shadow_remembers_nothing() -> None:
    world = snapshot(
        "- {id: r, match: {path: /a}, policy: p, action: x:y, upstream: api}",
        "policy: p\nmode: shadow\nrules: [{id: a, allow: [x:y]}]",
    )
    assert world.policies["p"].rules_for("x:y").by_roles is None


def test_the_rules_of_an_action_are_found_once() -> None:
    policy, rules = by_roles("- {id: a, allow: role-permissions}")
    assert policy.rules_for("orders:read") is rules
    assert policy.rules_for("orders:write") is not rules
    assert rules.rules == policy.rules


def test_of_1024_sets_of_roles_a_verdict_is_remembered_and_then_anew() -> None:
    policy, rules = by_roles("- {id: a, allow: role-permissions}")
    verdict = Verdict(True, "x", None)
    policy.remember(rules, None, verdict)
    for number in range(1_023):
        policy.remember(rules, who("u", f"r{number}"), verdict)
    known = rules.by_roles
    assert known is not None
    assert len(known) == 1_024
    assert set(map(id, known.values())) == {id(verdict)}
    assert {None, ("r0",), ("r1022",)} <= set(known)
    policy.remember(rules, who("u", "one", "more"), verdict)
    assert list(known) == [("one", "more")]


# What must hold for every policy

CONDITIONS = st.sampled_from(
    [None, "'a' in user.roles", "resource.owner == user.id", "user.claims.nope == 1", "resource.owner",
     "has_role('b')", "request.method == 'GET'"]
)  # fmt: skip
RULES = st.tuples(
    st.sampled_from(["allow", "deny"]),
    st.sampled_from(['["*"]', "[orders:read]", "[orders:write]", "role-permissions"]),
    CONDITIONS,
).filter(lambda rule: rule[:2] != ("deny", "role-permissions"))
PEOPLE = st.builds(
    lambda subject, roles: who(subject, *roles),
    st.sampled_from(["u1", "u2"]),
    st.lists(st.sampled_from(["a", "b", "viewer"]), max_size=3, unique=True),
)


def world_of(rules: list[tuple[str, str, str | None]]) -> Snapshot:
    lines = []
    for number, (effect, actions, condition) in enumerate(rules):
        when = f', when: "{condition}"' if condition else ""
        lines.append(f"- {{id: r{number}, {effect}: {actions}{when}}}")
    return rule_world("\n".join(lines) or "[]", roles=ROLES)


@settings(deadline=None, max_examples=60)
@given(st.lists(RULES, max_size=6), PEOPLE, st.randoms(use_true_random=False))
def test_the_order_of_the_rules_never_decides(
    rules: list[tuple[str, str, str | None]], caller: Principal, shuffle: random.Random
) -> None:
    before = decide(world_of(rules), OWN, caller).allowed
    shuffle.shuffle(rules)
    assert decide(world_of(rules), OWN, caller).allowed is before


@settings(deadline=None, max_examples=60)
@given(st.lists(RULES, max_size=5), RULES, PEOPLE, st.integers(0, 5))
def test_another_allow_never_takes_and_another_deny_never_gives(
    rules: list[tuple[str, str, str | None]],
    rule: tuple[str, str, str | None],
    caller: Principal,
    at: int,
) -> None:
    before = decide(world_of(rules), OWN, caller).allowed
    after = decide(world_of([*rules[:at], rule, *rules[at:]]), OWN, caller).allowed
    if rule[0] == "allow":
        assert after or not before
    else:
        assert before or not after


def test_a_deny_for_everything_leaves_nothing() -> None:
    rules = "\n".join(f"- {{id: a{i}, allow: ['*']}}" for i in range(5))
    world = rule_world(rules + "\n- {id: d, deny: ['*']}")
    assert not decide(world, OWN, who("u1", "admin")).allowed
