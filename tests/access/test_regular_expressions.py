"""Patterns of `matches` are read once, wherever they stand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from tests.access.test_policies import OWN
from tests.access.worlds import decide, snapshot, who

PATTERNS = [rf"^\w+{number}@" for number in range(300)]
ROUTES = """
- id: orders
  match: {path: "/orders/{id}"}
  policy: p
  action: orders:read
  upstream: api
"""
POLICY = """
policy: p
rules:
- {id: all, allow: ["*"]}
- {id: d, deny: ["*"], when: "data.patterns.exists(p, user.email.matches(p))", reason: gone}
"""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The patterns that are read from now on."""
    texts: list[Any] = []

    def adapter(kept: Any, **options: Any) -> Any:
        texts.append(kept)
        return TypeAdapter(kept, **options)

    monkeypatch.setattr("gateway.access.conditions.regular_expressions.TypeAdapter", adapter)
    return texts


@pytest.mark.parametrize("patterns", [PATTERNS, {one: {"is": one} for one in PATTERNS}])
@pytest.mark.parametrize(
    ("email", "worlds", "is_kept_away"),
    [("ada@a.example", 1, False), ("Ada@a.example", 2, False), ("Ada299@a.example", 1, True)],
)
def test_those_of_a_long_table_are_read_once(
    read: list[Any], patterns: Any, email: str, worlds: int, is_kept_away: bool
) -> None:
    world = snapshot(
        ROUTES, POLICY, data__tables=yaml.safe_dump({"version": 1, "patterns": patterns})
    )
    caller = dataclasses.replace(who(), email=email)
    for _ in range(3):
        decision = decide(world, OWN, caller)
        assert (decision.reason == "gone") is is_kept_away
    assert len(read) == len(PATTERNS) * worlds


@pytest.mark.parametrize("number", [2, 5])
def test_rules_that_go_through_one_table_share_what_was_read(read: list[Any], number: int) -> None:
    rules = "".join(
        f'- {{id: d{at}, deny: ["*"], when: "data.patterns.exists(p, user.email.matches(p))"}}\n'
        for at in range(number)
    )
    policy = f'policy: p\nrules:\n- {{id: all, allow: ["*"]}}\n{rules}'
    tables = yaml.safe_dump({"version": 1, "patterns": PATTERNS})
    world = snapshot(ROUTES, policy, data__tables=tables)
    assert decide(world, OWN, dataclasses.replace(who(), email="Ada@a.example")).allowed
    assert len(read) == len(PATTERNS) * 2
