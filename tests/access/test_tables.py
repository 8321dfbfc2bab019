"""What of `data` is handed to the engine, which copies it for each evaluation."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.tables import LONG_ITEMS
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.model import Call
from tests.access.test_conditions import BOOK, evaluate
from tests.access.worlds import NOW, who

UNTAKEN = object()
"""The engine takes no such thing: whoever hands it over fails."""
TABLES: dict[str, Any] = {
    "teams": {"red": {"members": ["u1", UNTAKEN], "lead": "u9"}, "blue": UNTAKEN},
    "homes": {"u1": "red", "blue": UNTAKEN},
    "names": ["x", UNTAKEN, "u1"],
    "long": [*(f"name-{number}" for number in range(LONG_ITEMS)), UNTAKEN, "u1"],
    "blue": UNTAKEN,
}


@pytest.mark.parametrize(
    "source",
    [
        "data.teams.red.lead == 'u9'",
        "data.teams[resource.team].lead == 'u9'",
        "data.teams[data.homes[user.id]].lead == 'u9'",
        "data.teams.red.lead == 'u9' && data.homes.u1 == 'red'",
    ],
)
def test_of_a_table_the_entry_alone_is_handed_over(source: str) -> None:
    assert evaluate(source, who("u1"), data=TABLES, resource={"team": "red"}) is True


@pytest.mark.parametrize(
    "source",
    [
        "user.id in data.names",
        "'u1' in data.names",
        "(user.id in data.long)",
        "user.id in data.long == true",
        "!('x' in data.long)",
        "!(resource.team in data.names) && user.id in data.names && 'x' in data.names",
        "resource.team in data.teams",
        "!(user.id in data.teams)",
        "'u1' in data.teams.red.members",
        "user.id in data.teams[resource.team].members",
        "resource.team in data.teams && user.id in data.teams[resource.team].members",
        "user.id in data.teams[resource.team].members && resource.team in data.teams",
        "user.id in data.teams[data.homes[user.id]].members ? user.id in data.long : false",
    ],
)
def test_of_a_list_or_a_table_only_the_text_that_is_looked_for_is_handed_over(source: str) -> None:
    assert evaluate(source, who("u1"), data=TABLES, resource={"team": "red"}) is True


@pytest.mark.parametrize(
    "source",
    [
        "user.id + '' in data.names",
        "'' + user.id in data.names",
        "'u' + '1' in data.names",
        "user.id in data.names + ['u1']",
        "user.roles[0] in data.names",
        "user.id in data.names && data.names[0] == 'x'",
        "data.names[0] == 'x' && user.id in data.names",
        "user.id in data.names && data.names.exists(i, i == 'x')",
        "data.homes[user.id] in data.names",
    ],
)
def test_what_reads_more_of_a_list_is_handed_all_of_it(source: str) -> None:
    caller = who("u1", "u1")
    assert isinstance(evaluate(source, caller, data=TABLES, resource={"team": "red"}), str)
    tables = {"names": ["x", "u1", "red"], "homes": {"u1": "red"}}
    assert evaluate(source, caller, data=tables, resource={"team": "red"}) is True


@pytest.mark.parametrize("asked", [1, 1.0, True, None, ["a"], {"a": 1}])
def test_what_is_no_text_is_compared_by_the_engine(asked: Any) -> None:
    tables = {"names": ["a", asked], "none": ["a"]}
    source = "resource.of in data.names && !(resource.of in data.none)"
    assert evaluate(source, who("u1"), data=tables, resource={"of": asked}) is True


def test_what_is_not_there_is_looked_for_nowhere() -> None:
    outcome = evaluate("resource.of in data.names", who("u1"), data=TABLES, resource={})
    assert outcome == "there is no of"


def test_a_list_of_another_configuration_is_read_anew() -> None:
    condition = ConditionCompiler({"names": []}).compile("resource.of in data.names")
    assert isinstance(condition, Condition)
    call = simulated_call(SimulatedRequest("GET", "/"))
    assert isinstance(call, Call)
    found = []
    for number in range(3 * LONG_ITEMS):
        texts = [f"{number}-{one}" for one in range(LONG_ITEMS + 1)]
        context = EvaluationContext(
            call, None, BOOK, lambda: NOW, resource={"of": f"{number}-1"},
            data={"names": texts},
        )  # fmt: skip
        found.append(condition.evaluate(context))
    assert found == [True] * len(found)


LONG = [f"name-{number}" for number in range(LONG_ITEMS + 1)]


@pytest.mark.parametrize(
    ("source", "long"),
    [
        ("resource.of in data.long", False),
        ("'name-1' in data.long", False),
        ("resource.of in data.teams[resource.team].members", False),
        ("resource.of in data.teams", False),
        ("data.teams[resource.team].lead == user.id", False),
        ("resource.of + '' in data.short", False),
        ("size(data.few) == 1", False),
        ("resource.of + '' in data.long", True),
        ("user.roles[0] in data.long", True),
        ("data.long[0] == user.id", True),
        ("size(data.teams[resource.team].members) == 1", True),
        ("size(data.teams) == 1", True),
        ("data.teams[user.roles[0]].lead == user.id", True),
        ("size(data.deep) == 1", True),
        ("user.roles.exists(i, i == 'a')", True),
    ],
)
def test_a_condition_that_hands_over_much_may_take_long(source: str, long: bool) -> None:
    data = {
        "long": LONG,
        "short": LONG[:LONG_ITEMS],
        "few": {"a": ["b", "c"]},
        "deep": {"a": [LONG]},
        "teams": {"a": {"lead": "u1", "members": []}, "b": {"lead": "u1", "members": LONG}},
    }
    condition = ConditionCompiler(data).compile(source)
    assert isinstance(condition, Condition), condition
    assert condition.may_take_long is long
