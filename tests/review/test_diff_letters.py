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


def world(*rules: Rule, more: str = "") -> Snapshot:
    listed = [
        {"id": f"r{at}", effect: ["*"], "when": f"({when}){more}"}
        for at, (effect, when) in enumerate(rules)
    ]
    policy = yaml.safe_dump({"policy": "p", "rules": listed})
    return snapshot(ROUTE, policy, data__tables=TABLES)


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
