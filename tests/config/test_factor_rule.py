"""`require_factor` in `routes.yaml`."""

from __future__ import annotations

import pytest

from gateway.access.factor_rule import NO_FACTOR_RULE, FactorRule
from gateway.config.factor_rule import read_factor_rule
from gateway.config.yaml_reader import Reader
from gateway.model import ConfigProblem


def read(text: str) -> FactorRule | list[str]:
    problems: list[ConfigProblem] = []
    reader = Reader("routes.yaml", problems)
    root = reader.document(text)
    rule = read_factor_rule(reader, reader.entries(root, "x").get("require_factor"))
    return [str(problem) for problem in problems] or rule


def test_without_the_block_nobody_needs_a_factor() -> None:
    assert read("version: 1") == NO_FACTOR_RULE
    assert not NO_FACTOR_RULE.applies(["admin"])


def test_a_rule_holds_for_its_roles_or_for_everyone() -> None:
    rule = read("require_factor: {roles: [admin, ops], within: 14d}")
    assert rule == FactorRule(frozenset({"admin", "ops"}), False, 14 * 86_400)
    assert isinstance(rule, FactorRule)
    assert rule.applies(["user", "ops"])
    assert not rule.applies(["user"])
    everyone = read("require_factor: {everyone: true}")
    assert everyone == FactorRule(everyone=True)
    assert isinstance(everyone, FactorRule)
    assert everyone.applies([])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "`require_factor` needs `roles:`, or `everyone: true`"),
        ("{everyone: false}", "`require_factor` needs `roles:`, or `everyone: true`"),
        ("{everyone: true, roles: [a]}", "`everyone: true` holds for every role"),
        ("{roles: [admin], within: 14}", "`within` needs a unit"),
        ("{roles: [admin], within: -1d}", "`within` is a duration"),
        ("{roles: ['a b']}", "`a b` is no role"),
        ("{role: admin}", "unknown key `role` in `require_factor`"),
    ],
)
def test_a_wrong_rule_is_told_with_its_place(text: str, problem: str) -> None:
    problems = read(f"require_factor: {text}")
    assert isinstance(problems, list)
    assert any(problem in one and one.startswith("routes.yaml:1:") for one in problems)
