"""Who gains, who loses: nothing missed, nothing made up."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.conditions import Condition, compile_condition
from gateway.access.snapshot import Snapshot
from gateway.review.diff import compare
from gateway.review.opaque import taken_apart
from tests.access.worlds import decide, rule_world, snapshot, who

ROLES = "viewer: [orders:read]\nlead: {inherits: [viewer], permissions: [orders:*]}"


def changes(old: str, new: str, roles: tuple[str, str] = (ROLES, ROLES)) -> list[str]:
    report = compare(rule_world(old, roles=roles[0]), rule_world(new, roles=roles[1]))
    assert report.inexact == []
    return sorted({str(change).replace("GET ", "X ").replace("POST ", "X ").replace("PUT ", "X ")
                   .replace("PATCH ", "X ").replace("DELETE ", "X ") for change in report.changes})  # fmt: skip


OWN = "- {id: own, allow: [orders:read], when: resource.owner == user.id}"


def test_the_same_configuration_changes_nothing_and_asks_nothing() -> None:
    report = compare(rule_world(OWN), rule_world(OWN))
    assert (report.changes, report.asked) == ([], 0)


def test_the_owner_who_loses_is_named_with_the_line() -> None:
    assert changes(OWN, "- {id: a, allow: role-permissions}") == [
        "everyone signed in as {id} LOSES X /orders/{id} (policies/p0.yaml:7)",
        "lead GAINS X /orders/{id} (policies/p0.yaml:7)",
        "viewer GAINS X /orders/{id} (policies/p0.yaml:7)",
    ]


def test_a_role_that_gets_a_permission_gains() -> None:
    rule = "- {id: a, allow: role-permissions}"
    assert changes(rule, rule, (ROLES, ROLES + "\nguest: [orders:read]")) == [
        "guest GAINS X /orders/{id} (policies/p0.yaml:8)"
    ]


def test_what_only_two_roles_together_do_is_found() -> None:
    old = "- {id: a, allow: role-permissions}"
    new = old + "\n- {id: d, deny: ['*'], when: \"'frozen' in user.roles\"}"
    assert changes(old, new) == [
        "frozen+lead LOSES X /orders/{id} (policies/p0.yaml:8)",
        "frozen+viewer LOSES X /orders/{id} (policies/p0.yaml:8)",
    ]


def test_a_condition_that_reads_more_is_tried_both_ways_and_told() -> None:
    new = OWN.replace(
        "resource.owner == user.id",
        "\"resource.owner == user.id && in_cidr(client.ip, '10.0.0.0/8')\"",
    )
    assert changes(OWN, new) == [
        "everyone signed in as {id} LOSES X /orders/{id} (policies/p0.yaml:7)"
        " where `in_cidr(client.ip, '10.0.0.0/8')` is not true"
    ]


def test_the_same_condition_has_the_same_outcome_on_both_sides() -> None:
    one = "- {id: a, allow: ['*'], when: user.email_verified}"
    two = "- {id: b, allow: [orders:read], when: user.email_verified}"
    assert changes(one, two) == []


def test_a_route_that_goes_or_comes_is_a_change() -> None:
    a = "- {id: a, match: {path: /a, methods: [GET]}, policy: signed-in, upstream: api}\n"
    b = "- {id: b, match: {path: /b, methods: [GET]}, auth: public, upstream: api}\n"
    said = [str(change) for change in compare(snapshot(a), snapshot(b)).changes]
    assert said == [
        "everyone signed in LOSES GET /a (routes.yaml:11)",
        "anonymous GAINS GET /b (routes.yaml:11)",
        "everyone signed in GAINS GET /b (routes.yaml:11)",
    ]


def test_a_more_specific_route_takes_over() -> None:
    a = "- {id: a, match: {path: '/a/{x}', methods: [GET]}, auth: public, upstream: api}\n"
    b = (
        a
        + "- {id: b, match: {path: '/a/{x:int}', methods: [GET]}, policy: signed-in, upstream: api}\n"
    )
    said = [str(change) for change in compare(snapshot(a), snapshot(b)).changes]
    assert said == ["anonymous LOSES GET /a/{x:int} (routes.yaml:12)"]


def test_a_step_up_takes_access_from_a_stale_sign_in() -> None:
    new = OWN.replace("}", ", step_up: {max_age: 5m}}")
    assert changes(OWN, new) == [
        "everyone signed in as {id} without a fresh sign-in LOSES X /orders/{id}"
        " (policies/p0.yaml:7)"
    ]


def test_many_conditions_are_not_said_to_be_exact() -> None:
    parts = " && ".join(f"user.claims.c{i} == 1" for i in range(8))
    report = compare(rule_world(OWN), rule_world(f"- {{id: a, allow: ['*'], when: '{parts}'}}"))
    assert report.inexact
    assert report.changes


def test_a_rewrite_that_now_trespasses_is_a_change() -> None:
    v1 = "- {id: a, match: {path: '/v1/x', methods: [GET]}, auth: public, upstream: api, rewrite: {strip_prefix: /v1}}\n"
    new = v1 + "- {id: b, match: {path: /x, methods: [GET]}, policy: signed-in, upstream: api}\n"
    said = [str(change) for change in compare(snapshot(v1), snapshot(new)).changes]
    assert any("anonymous LOSES GET /v1/x" in line for line in said)


@pytest.mark.parametrize(
    ("source", "atoms"),
    [
        ("a && b || !(c)", ["a", "b", "c"]),
        ("user.id == 'a && b' && (x || y)", ["user.id == 'a && b'", "x", "y"]),
        ("a ? b : c && d", ["a ? b : c && d"]),
        (
            "user.roles.exists(r, r == 'x' || r == 'y')",
            ["user.roles.exists(r, r == 'x' || r == 'y')"],
        ),
        ("((a))", ["a"]),
        ("!a", ["!a"]),
        ("(a) || (b)", ["a", "b"]),
    ],
)
def test_a_condition_is_taken_apart_at_its_connectives(source: str, atoms: list[str]) -> None:
    names = {"a": "user.email_verified", "b": "user != null", "c": "has_role('c')",
             "d": "has_role('d')", "x": "has_role('x')", "y": "has_role('y')"}  # fmt: skip

    def filled(text: str) -> str:
        import re

        return re.sub(r"(?<![\w.'])([abcdxy])(?![\w'(])", lambda m: names[m.group(1)], text)

    plain = "'" in source
    given_source = (
        source.replace("x || y", f"{names['x']} || {names['y']}") if plain else filled(source)
    )
    condition = compile_condition(given_source)
    assert isinstance(condition, Condition), condition
    wanted = [names.get(atom, atom if plain else filled(atom)) for atom in atoms]
    assert [atom.source for atom in taken_apart(condition).atoms()] == wanted


# Against brute force

CONDITIONS = st.sampled_from(
    [None, "resource.owner == user.id", "'a' in user.roles", "has_role('viewer')",
     "'b' in user.roles && resource.owner != user.id", "user != null"]
)  # fmt: skip
RULES = st.tuples(
    st.sampled_from(["allow", "deny"]),
    st.sampled_from(['["*"]', "[orders:read]", "[orders:write]", "role-permissions"]),
    CONDITIONS,
).filter(lambda rule: rule[:2] != ("deny", "role-permissions"))
WORLDS = st.tuples(st.lists(RULES, max_size=4), st.sampled_from(["required", "optional"]))


def world_of(made: tuple[list[tuple[str, str, str | None]], str]) -> Snapshot:
    rules, auth = made
    lines = [
        f"- {{id: r{n}, {effect}: {actions}" + (f', when: "{when}"' if when else "") + "}"
        for n, (effect, actions, when) in enumerate(rules)
    ]
    return rule_world("\n".join(lines) or "[]", roles=ROLES, route=f"auth: {auth}")


def brute_force(old: Snapshot, new: Snapshot) -> set[tuple[bool, frozenset[str], bool, bool]]:
    """(signed in, roles, owner, gains) for every caller whose answer differs."""
    found = set()
    roles = ["a", "b", "viewer", "lead"]
    sets = [frozenset(s) for n in range(5) for s in combinations(roles, n)]
    for held in sets:
        for owner in (True, False):
            caller = who("mine" if owner else "somebody", *sorted(held))
            before, after = (decide(w, "GET /orders/mine", caller).allowed for w in (old, new))
            if before != after:
                found.add((True, held, owner, after))
    before, after = (decide(w, "GET /orders/mine").allowed for w in (old, new))
    if before != after:
        found.add((False, frozenset(), False, after))
    return found


@settings(deadline=None, max_examples=60)
@given(WORLDS, WORLDS)
def test_the_difference_is_that_of_brute_force(
    old: tuple[list[tuple[str, str, str | None]], str],
    new: tuple[list[tuple[str, str, str | None]], str],
) -> None:
    before, after = world_of(old), world_of(new)
    truth = brute_force(before, after)
    told = [c for c in compare(before, after).changes if c.request.method == "GET"]
    assert all(not change.conditions for change in told)
    # Whatever is told is true of the very class of callers that is named …
    for change in told:
        caller = change.caller
        assert (caller.signed_in, caller.roles, bool(caller.is_), change.gains) in truth
    # … and whoever's answer differs is named, or has more than somebody who is.
    for signed_in, held, owner, gains in truth:
        assert any(
            change.gains is gains
            and change.caller.signed_in is signed_in
            and change.caller.roles <= held
            and (owner or not change.caller.is_)
            for change in told
        )
