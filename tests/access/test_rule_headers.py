"""The fields of every rule that allows a call, merged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.snapshot import Snapshot
from tests.access.worlds import decide, problems, rule_world, snapshot, who
from tests.cpu_cost import cost_ratio

ROUTE = "- {id: a, match: {path: '/a/{x}'}, policy: p, action: o:read, upstream: api}"


def world(*rules: str) -> Snapshot:
    return snapshot(ROUTE, "policy: p\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules))


def wrong(*rules: str) -> list[str]:
    return problems(ROUTE, "policy: p\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules))


def test_every_rule_that_allows_adds_its_fields() -> None:
    merged = world(
        "{id: who, allow: ['*'], headers: {X-Who: '{user.id}'}}",
        "{id: plain, allow: ['*']}",
        "{id: staff, allow: [o:read], when: \"'staff' in user.roles\", headers: {X-Staff: 'yes'}}",
        "{id: other, allow: [o:write], headers: {X-Writes: 'yes'}}",
        "{id: tried, allow: ['*'], mode: shadow, headers: {X-Tried: 'yes'}}",
    )
    assert decide(merged, "GET /a/1", who()).headers == (("X-Who", "u1"),)
    decision = decide(merged, "GET /a/1", who("u1", "staff"))
    assert decision.headers == (("X-Who", "u1"), ("X-Staff", "yes"))
    assert decision.rule == "who"


def test_a_rule_that_cannot_be_evaluated_adds_nothing() -> None:
    merged = world(
        "{id: all, allow: ['*'], headers: {X-A: a}}",
        "{id: broken, allow: ['*'], when: user.claims.team == 'x', headers: {X-B: b}}",
    )
    assert decide(merged, "GET /a/1", who()).headers == (("X-A", "a"),)


def test_a_rule_whose_sign_in_is_too_old_adds_nothing() -> None:
    merged = world(
        "{id: all, allow: ['*'], headers: {X-A: a}}",
        "{id: fresh, allow: ['*'], step_up: {amr: [totp]}, headers: {X-Strong: 'yes'}}",
    )
    assert decide(merged, "GET /a/1", who()).headers == (("X-A", "a"),)
    strong = decide(merged, "GET /a/1", who(amr=("pwd", "totp")))
    assert strong.headers == (("X-A", "a"), ("X-Strong", "yes"))


def test_the_first_rule_of_the_file_that_allows_has_the_field() -> None:
    merged = world(
        "{id: staff, allow: ['*'], when: \"'staff' in user.roles\", headers: {X-Level: high}}",
        "{id: all, allow: ['*'], headers: {x-level: low}}",
    )
    assert decide(merged, "GET /a/1", who()).headers == (("x-level", "low"),)
    assert decide(merged, "GET /a/1", who("u1", "staff")).headers == (("X-Level", "high"),)


def test_a_field_without_a_value_is_left_to_the_next_rule() -> None:
    merged = rule_world(
        """
        - {id: named, allow: ["*"], headers: {X-Mail: "{user.email}"}}
        - {id: unnamed, allow: ["*"], headers: {X-Mail: none}}
        """
    )
    assert decide(merged, "GET /orders/7", who(email="a@x.org")).headers == (("X-Mail", "a@x.org"),)
    assert decide(merged, "GET /orders/7", who()).headers == (("X-Mail", "none"),)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("hr", "hr"),
        ("%20hr", "%20hr"),
        ("hr%20%20", "hr%20%20"),
        ("%20", "%20"),
        ("h%20r", "h r"),
        ("%C2%A0hr", "%C2%A0hr"),
    ],
)
def test_no_value_becomes_another_by_the_blanks_around_it(sent: str, told: str) -> None:
    """A backend drops blanks at the ends of a field: a rule that denies `hr` was passed by ` hr`."""
    named = world("{id: all, allow: ['*'], headers: {X-Tenant: '{x}'}}")
    assert decide(named, f"GET /a/{sent}", who()).headers == (("X-Tenant", told),)


def test_blanks_within_a_value_are_gone_through_once() -> None:
    """60,000 of them in a field of a body, each tried for the end, held the worker for 15 s."""
    named = world("{id: all, allow: ['*'], headers: {X-Tenant: '{x}'}}")

    def filled(with_: str) -> Callable[[], object]:
        return lambda: decide(named, f"GET /a/a{with_ * 2_600}b", who())

    assert cost_ratio(filled("%20"), filled("%61")) < 5


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("allow: ['*'], headers: {X-A: a}", "allow: [o:read], headers: {X-A: b}"),
        ("allow: ['*'], headers: {X-A: a}", "allow: role-permissions, headers: {x-a: b}"),
        (
            "allow: role-permissions, headers: {X-A: '{user.id}'}",
            "allow: role-permissions, headers: {X-A: 'u-{user.id}'}",
        ),
        (
            "allow: [o:read, o:list], when: request.method == 'GET', headers: {X-A: a}",
            "allow: [o:read], when: request.method == 'GET', headers: {X-A: b}",
        ),
    ],
)
def test_a_field_that_an_earlier_rule_always_writes_otherwise_does_not_load(
    first: str, second: str
) -> None:
    (said,) = wrong(f"{{id: one, {first}}}", f"{{id: two, {second}}}")
    assert said.startswith("policies/p0.yaml:5:5: rule `two` never writes `")
    assert "rule `one` (policies/p0.yaml:4) writes it otherwise" in said


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("allow: ['*'], headers: {X-A: a}", "allow: [o:read], headers: {X-A: a}"),
        ("allow: [o:read], headers: {X-A: a}", "allow: ['o:*'], headers: {X-A: b}"),
        ("allow: [o:read], headers: {X-A: a}", "allow: role-permissions, headers: {X-A: b}"),
        ("allow: ['*'], when: user.email_verified, headers: {X-A: a}",
         "allow: ['*'], headers: {X-A: b}"),
        ("allow: ['*'], step_up: {amr: [totp]}, headers: {X-A: a}",
         "allow: ['*'], headers: {X-A: b}"),
        ("allow: ['*'], mode: shadow, headers: {X-A: a}", "allow: ['*'], headers: {X-A: b}"),
    ],
)  # fmt: skip
def test_what_only_the_call_can_tell_loads(first: str, second: str) -> None:
    world(f"{{id: one, {first}}}", f"{{id: two, {second}}}")


RULES = st.lists(
    st.tuples(st.sampled_from(["r0", "r1", "r2"]), st.sampled_from(["X-A", "X-B", "x-a"])),
    max_size=6,
)


@settings(deadline=None)
@given(RULES, st.frozensets(st.sampled_from(["r0", "r1", "r2"])))
def test_each_name_is_written_once_by_the_first_rule_that_allows(
    rules: list[tuple[str, str]], roles: frozenset[str]
) -> None:
    # Each condition is a text of its own, so that no rule is provably before another.
    merged = world(
        "{id: all, allow: ['*']}",
        *(
            f"{{id: n{n}, allow: ['*'], when: \"'{role}' in user.roles && {n} == {n}\","
            f" headers: {{{name}: 'v{n}'}}}}"
            for n, (role, name) in enumerate(rules)
        ),
    )
    wanted: dict[str, str] = {}
    for n, (role, name) in enumerate(rules):
        if role in roles:
            wanted.setdefault(name.lower(), f"v{n}")
    sent = decide(merged, "GET /a/1", who("u1", *sorted(roles))).headers
    assert {name.lower(): value for name, value in sent} == wanted
    assert len(sent) == len(wanted)


def test_nobody_is_named_in_no_field() -> None:
    world = rule_world(
        "- {id: a, allow: ['*'], headers: {X-Who: '{user.id}', X-Order: '{id}'}}",
        route="auth: optional",
    )
    assert decide(world, "GET /orders/7").headers == (("X-Order", "7"),)


def test_the_caller_is_named_with_whoever_vouches_for_them() -> None:
    world = rule_world(
        "- {id: a, allow: ['*'], headers: {X-Who: '{user.issuer}/{user.id}', X-Mail: '{user.email}'}}"
    )
    assert decide(world, "GET /orders/7", who("u1", email="a@b.example")).headers == (
        ("X-Who", "own/u1"),
        ("X-Mail", "a@b.example"),
    )
