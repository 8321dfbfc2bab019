"""How far the types of a condition are followed, and of what nothing is told."""

from __future__ import annotations

import pytest

from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.conditions.type_check import type_problems

MISTAKE = "'a' + 1 == 'b'"


@pytest.mark.parametrize("source", ["1 + 1", "user.id", "[true]", "true ? 1 : 2", "user.id + 'a'"])
def test_what_need_not_be_a_truth_may_be_anything(source: str) -> None:
    assert type_problems(source, EngineTypes())
    assert type_problems(source, EngineTypes(), truth=False) == []


def test_what_is_built_wrong_is_told_whether_or_not_it_has_to_be_a_truth() -> None:
    assert [at for at, _ in type_problems(MISTAKE, EngineTypes(), truth=False)] == [4]


@pytest.mark.parametrize(("before", "after"), [("(", ")"), ("!", "")])
def test_types_are_followed_to_the_sixtieth_level(before: str, after: str) -> None:
    def told(levels: int) -> int:
        source = f"{before * levels}({MISTAKE}){after * levels} && true"
        return len(type_problems(source, EngineTypes()))

    assert [told(levels) for levels in (57, 58, 59)] == [1, 1, 0]


def test_signs_before_a_value_are_levels_too() -> None:
    told = [len(type_problems("!" * signs + "user.id", EngineTypes())) for signs in (58, 59, 60)]
    assert told == [1, 1, 0]


def test_what_stands_in_a_row_is_no_deeper_than_one() -> None:
    row = "(true) && !true && (true ? true : true) && " * 70
    assert len(type_problems(row + MISTAKE, EngineTypes())) == 1
    assert type_problems(row + "(" * 60 + MISTAKE + ")" * 60, EngineTypes()) == []
    assert type_problems(row + "!" * 60 + f"({MISTAKE})", EngineTypes()) == []


@pytest.mark.parametrize("before", ["(true) && ", "!true && ", "(true ? true : true) && "])
def test_what_stood_beside_a_level_makes_it_no_less_deep(before: str) -> None:
    for levels, told in ((29, 1), (30, 0)):
        source = f"{'(' * 30}{before}{'(' * levels}{MISTAKE}{')' * (30 + levels)}"
        assert len(type_problems(source, EngineTypes())) == told


@pytest.mark.parametrize(
    "source",
    [
        f"{MISTAKE} )",
        f"{MISTAKE} 1",
        f"({MISTAKE}",
        f"[{MISTAKE} 1]",
        f"{{1 {MISTAKE}}}",
        f"{{{MISTAKE}}}",
        f"user.roles[{MISTAKE}",
        f"user.roles.exists(r {MISTAKE})",
        f"user.roles.exists(r, {MISTAKE}",
        f"user.roles.exists(r, {MISTAKE} 1)",
        f"true ? {MISTAKE} 1",
        f"{MISTAKE} &&",
        f"{MISTAKE} && *",
        f"{MISTAKE} && !",
        f"{MISTAKE} $",
        "",
    ],
)
def test_nothing_is_told_of_a_text_that_is_built_in_another_way(source: str) -> None:
    assert type_problems(source, EngineTypes()) == []
