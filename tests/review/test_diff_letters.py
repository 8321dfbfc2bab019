"""What `diff` tells of addresses in other letters is what the gateway does with them."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from gateway.access.snapshot import Snapshot
from gateway.review.diff import compare
from tests.access.worlds import decide, snapshot, who

ROUTE = """
- id: lists
  match: {path: "/l/{owner}"}
  policy: p
  action: lists:read
  resource: {owner: "{owner}"}
  upstream: api
"""
TABLES = """
version: 1
blocked: [Eve@x.example]
staff: [eve@x.example, ann@x.example]
"""


Rule = tuple[str, str]
STAFF = ("allow", "user.email in data.staff")
ANYBODY = ("allow", "true")


def world(*rules: Rule, more: str = "", tables: str = TABLES) -> Snapshot:
    listed = [
        {"id": f"r{at}", effect: ["*"], "when": f"({when}){more}"}
        for at, (effect, when) in enumerate(rules)
    ]
    policy = yaml.safe_dump({"policy": "p", "rules": listed})
    return snapshot(ROUTE, policy, data__tables=tables)


def gains(old: Snapshot, new: Snapshot, email: str, path: str = "abc") -> bool:
    caller = dataclasses.replace(who(), email=email, claims={"email": email})
    before, after = (decide(one, f"GET /l/{path}", caller).allowed for one in (old, new))
    return after and not before


@pytest.mark.parametrize(
    "not_understood", ["", " && size(resource.owner) > 2", " && resource.owner.matches('^[a-z]+$')"]
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([STAFF, ("deny", "user.email in data.blocked")], [STAFF]),
        (
            [("allow", "user.email != 'Eve@x.example'")],
            [("allow", "user.email == 'eve@x.example'")],
        ),
        ([("allow", "user.email in data.staff && !(user.email in data.blocked)")], [STAFF]),
    ],
)
def test_whoever_gains_is_told_also_beside_what_is_not_understood(
    before: list[Rule], after: list[Rule], not_understood: str
) -> None:
    old, new = (world(*rules, more=not_understood) for rules in (before, after))
    eve = dataclasses.replace(who(), email="eve@x.example")
    assert not decide(old, "GET /l/abc", eve).allowed
    assert decide(new, "GET /l/abc", eve).allowed
    told = compare(old, new)
    assert any(change.gains for change in told.changes)
    assert told.may_widen if not_understood else told.widened


def test_nobody_gains_by_the_letters_of_a_rule_alone() -> None:
    old, new = (
        world(STAFF, ("deny", f"user.email == '{name}@x.example'"), more=" && size(user.id) > 2")
        for name in ("Eve", "eve")
    )
    assert not compare(old, new).changes


CORP = "version: 1\nstaff: [ann@corp.example, zed@partner.example]\n"
GONE = f"{CORP}gone: [Zed@partner.example]\n"
MIXED = "version: 1\nstaff: [Ann.Lee@Corp.example, Zed.Ray@Corp.example]\n"
LOWER = MIXED.lower()
DENY_STAFF = ("deny", "user.email in data.staff")
DENY_GONE = ("deny", "user.email in data.gone")
AT_CORP = ("allow", "user.email.endsWith('@Corp.example')")
ZED = ("allow", "user.email.startsWith('zed@')")


@pytest.mark.parametrize(
    ("tables", "before", "after", "email"),
    [
        # A deny that is narrowed by what is written in capitals.
        (
            CORP,
            [ANYBODY, DENY_STAFF],
            [ANYBODY, (DENY_STAFF[0], f"{DENY_STAFF[1]} && user.email.endsWith('@Corp.example')")],
            "zed@partner.example",
        ),
        (
            CORP,
            [ANYBODY, DENY_STAFF],
            [ANYBODY, ("deny", "user.email == 'Ann@corp.example'")],
            "zed@partner.example",
        ),
        (
            f"{CORP}gone: [Ann@corp.example]\nleft: [ann@corp.example, zed@partner.example]\n",
            [ANYBODY, ("deny", "user.email in data.left")],
            [ANYBODY, DENY_GONE],
            "zed@partner.example",
        ),
        # What kept away that is taken out.
        (
            GONE,
            [("allow", "user.email in data.staff && !(user.email in data.gone)")],
            [STAFF],
            "zed@partner.example",
        ),
        (GONE, [STAFF, DENY_GONE], [STAFF], "zed@partner.example"),
        (GONE, [ZED, DENY_GONE], [ZED], "zed@partner.example"),
        (GONE, [("allow", f"!({DENY_GONE[1]})")], [ZED], "zed@partner.example"),
        (
            CORP,
            [ZED, ("deny", "user.email == 'Zed@partner.example'")],
            [ZED],
            "zed@partner.example",
        ),
        (
            CORP,
            [STAFF, ("deny", "user.email.endsWith('@Partner.example')")],
            [STAFF],
            "zed@partner.example",
        ),
        (
            "version: 1\nstaff: {ann@corp.example: {on: true}, zed@partner.example: {on: true}}\n",
            [
                ("allow", "data.staff[user.email].on"),
                ("deny", "user.email.endsWith('@Partner.example')"),
            ],
            [("allow", "data.staff[user.email].on")],
            "zed@partner.example",
        ),
        (
            f"{MIXED}gone: [zed.ray@corp.example]\n",
            [STAFF, DENY_GONE],
            [STAFF],
            "Zed.Ray@Corp.example",
        ),
        (
            f"{LOWER}gone: [Zed.Ray@Corp.example]\n",
            [STAFF, DENY_GONE],
            [STAFF],
            "zed.ray@corp.example",
        ),
        (
            LOWER,
            [STAFF, ("deny", "user.email == 'Zed.Ray@corp.example'")],
            [STAFF],
            "zed.ray@corp.example",
        ),
        # A beginning or an end as it is written, of what is named otherwise.
        (
            CORP,
            [AT_CORP, ("deny", "user.email == 'zed.ray@corp.example'")],
            [AT_CORP],
            "zed.ray@Corp.example",
        ),
        (
            f"{CORP}gone: [zed.ray@corp.example]\n",
            [AT_CORP, DENY_GONE],
            [AT_CORP],
            "zed.ray@Corp.example",
        ),
        (
            CORP,
            [("allow", "user.email.startsWith('Zed.') && user.email != 'zed.ray@corp.example'")],
            [("allow", "user.email.startsWith('Zed.')")],
            "Zed.ray@corp.example",
        ),
        # What is one in other letters than capitals.
        (
            "version: 1\nstaff: [bo@x.example, anna@xn--bcher-kva.example]\ngone: [anna@bücher.example]\n",
            [STAFF, DENY_GONE],
            [STAFF],
            "anna@xn--bcher-kva.example",
        ),
        (
            "version: 1\nstaff: [bo@x.example, groß@x.example]\n",
            [STAFF, ("deny", "user.email == 'gross@x.example'")],
            [STAFF],
            "groß@x.example",
        ),
    ],
)
def test_whoever_a_deny_names_in_other_letters_and_a_table_as_they_write_is_told(
    tables: str, before: list[Rule], after: list[Rule], email: str
) -> None:
    old, new = (world(*rules, tables=tables) for rules in (before, after))
    assert gains(old, new, email)
    assert compare(old, new).widened


@pytest.mark.parametrize(
    ("before", "after", "email", "path"),
    [
        (
            [("allow", "!(user.email in data.blocked) || resource.owner == 'eve'")],
            [("allow", "user.email != 'eve@x.example' || resource.owner == 'eve'")],
            "Eve@x.example",
            "EVE",
        ),
        (
            [ANYBODY, ("deny", "user.email in data.blocked")],
            [
                ANYBODY,
                ("deny", "user.email.endsWith('@x.example') && !user.email.endsWith('@X.example')"),
            ],
            "EVE@X.EXAMPLE",
            "abc",
        ),
    ],
)
def test_whoever_gains_by_letters_that_nothing_is_written_in_is_told(
    before: list[Rule], after: list[Rule], email: str, path: str
) -> None:
    old, new = (world(*rules) for rules in (before, after))
    assert gains(old, new, email, path)
    assert compare(old, new).widened


@pytest.mark.parametrize("gone", ["zed.ray@corp.example", "Zed.Ray@Corp.example"])
def test_nobody_gains_where_a_table_is_written_in_other_letters(gone: str) -> None:
    old = world(ANYBODY, DENY_GONE, tables=f"version: 1\ngone: [{gone}]\n")
    new = world(ANYBODY, ("deny", f"user.email == '{gone.swapcase()}'"), tables=LOWER)
    assert not gains(old, new, "zed.ray@corp.example")
    report = compare(old, new)
    assert not report.changes
    assert not report.may_widen


def test_it_is_said_of_which_letters_a_part_is_true() -> None:
    old, new = world(STAFF, DENY_GONE, tables=GONE), world(STAFF, tables=GONE)
    (change,) = compare(old, new).changes
    assert "GAINS" in str(change)
    assert str(change).endswith(
        "`user.email in data.staff` is true and `user.email in data.gone` is true in lower case"
    )
    # Where nobody wrote capitals there is nothing to be said of letters.
    both = [world(*rules, tables=GONE.lower()) for rules in ([STAFF, DENY_GONE], [STAFF])]
    (change,) = compare(*both).changes
    assert str(change).endswith(" where `user.email in data.gone` is true")


def test_an_edit_of_a_table_is_told_by_the_values_in_whatever_letters() -> None:
    old = world(ANYBODY, DENY_GONE, tables="version: 1\ngone: [Zed@x.example, Ann@x.example]\n")
    new = world(ANYBODY, DENY_GONE, tables="version: 1\ngone: [Ann@x.example]\n")
    (change,) = compare(old, new).changes
    (values,) = zip(*change.values.rows, strict=True) if change.values is not None else ((),)
    assert {"Zed@x.example", "zed@x.example"} <= set(values)
    assert {value.lower() for value in values} == {"zed@x.example"}
