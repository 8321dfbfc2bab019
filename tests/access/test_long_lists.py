"""What a condition costs, and gives, where it goes through a long list."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import cel
import pytest
from pydantic import TypeAdapter

from gateway.access.conditions.conditions import Condition, ConditionCompiler, ConditionFailed
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.long_lists import MAX_ITEMS, SHORT_ITEMS
from gateway.access.roles import RoleBook
from gateway.access.simulation import SimulatedRequest, simulated_call
from tests.access.worlds import NOW, who
from tests.cpu_cost import cost_ratio

CALLER = who("u1", claims={"team": "red", "level": 1})
BOOK = RoleBook([])
DATA: dict[str, Any] = {
    "shop": {
        "skus": {f"a{number}": number for number in range(900)},
        "list": [f"a{number}" for number in range(900)],
        "size": 3,
    },
    "teams": {"red": {"members": [f"a{number}" for number in range(600)]}, "blue": {}},
    "levels": [["a1"], ["a1", "a2"]],
}


def compiled(source: str, data: Mapping[str, Any]) -> Condition:
    condition = ConditionCompiler(data).compile(source, truth=False)
    assert isinstance(condition, Condition), condition
    return condition


def context_of(items: Any) -> EvaluationContext:
    call = simulated_call(SimulatedRequest("GET", "/a/b"))
    assert not isinstance(call, str)
    resource = {"items": items, "many": ["a1"] * 300, "team": "red", "none": None}
    return EvaluationContext(call, CALLER, BOOK, lambda: NOW, data=DATA, resource=resource)


def value(source: str, items: Any) -> Any:
    return compiled(source, DATA).value(context_of(items))


def cost_of(condition: Condition, items: Any, gives: Any) -> float:
    """Of one evaluation, in plain loops."""
    context = context_of(items)
    assert condition.value(context) == gives
    return cost_ratio(lambda: condition.value(context))


def engine(source: str, items: Any) -> Any:
    resource = {"items": items, "many": ["a1"] * 300, "team": "red", "none": None}
    user = {"id": "u1", "claims": dict(CALLER.claims), "roles": CALLER.roles}
    try:
        return cel.compile(source).execute({"resource": resource, "user": user, "data": DATA})
    except KeyError as error:
        return f"there is no {error.args[0]}"
    except (IndexError, TypeError, ValueError, RuntimeError):
        return "fails"


SOURCES = [
    "resource.items.filter(i, i != 'a3')",
    "resource.items.filter(i, i != 'a3').size() > 0 && resource.items.map(i, i + 'x').size() > 2",
    "resource['items'].map(i, i != 'a3', i + 'x')",
    "resource.items.filter(i, i != 'a3').map(j, '(' + j + ')').filter(i, i != '(a5)')",
    "resource.items.map(i, [i])[0]",
    "resource.items.map(i, i).exists(i, i == 'a7')",
    "['z'] + resource.items.map(i, i) + ['x']",
    "size(resource.items.filter(i, i in data.shop.skus)) - data.shop.size",
    "resource.items.all(i, i in data.shop.skus)",
    "resource.items.all(i, i in data.shop.list && data.shop.skus[i] >= 0)",
    "resource.items.exists_one(i, data.shop.skus[i] == data.shop.size)",
    "resource.items.exists(i, i in data.teams[user.claims.team].members)",
    "data.teams[user.claims.team].members.filter(m, m in resource.items)",
    "data.teams[resource.team].members.map(m, m == user.id ? 'me' : m)",
    "resource.items.exists(i, i in data.levels[user.claims.level])",
    "data.levels[user.claims.level].filter(i, resource.items.size() > 1)",
    "resource.items.filter(i, i in data.teams['green'].members)",
    "resource.items.filter(i, i in data.teams.blue.members)",
    "resource.items.filter(i, i == 'a3' || has(data.teams.blue.members))",
    "resource.items.filter(i, has(resource.team) && resource.team != i)",
    "resource.missing.filter(i, i == 'a') == [] || resource.many.size() > 0",
    "resource.missing.filter(i, i == 'a').size() > 0 && resource.many.exists(i, true)",
    "resource.many.exists(i, resource.missing == i)",
    "resource.team.filter(i, true).size() + resource.many.size()",
    "resource.none.map(i, true).size() + resource.many.size()",
    "data.shop.skus.filter(key, key == 'a7')",
    "resource.items.filter(long, long != 'a3').map(long_, long_ + 'long')",
    "resource.items.map(i, i.matches('^a[0-9]$'))",
    "resource.items.filter(i, i in ['a1', 'a2'] // a comment, resource.items.map(\n)",
    "resource.items.map(i, i) == resource.items && resource.items != []",
    "resource.items.map(i, {'name': i})",
    "resource.items.map(i, i == 'a3' ? 1u : 2u)",
    "resource.items.filter(i, i.size() > resource.none)",
    "resource.items.filter(i, i == 'z' ? i == resource.missing : i == resource.gone)",
    "resource.items.filter(i, i == 'z' ? i == resource.missing : int(i) == 1)",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("many", [0, 1, SHORT_ITEMS, SHORT_ITEMS + 1, 123])
def test_a_long_list_gives_what_the_engine_makes_of_it_at_once(source: str, many: int) -> None:
    for first in ("a", "b"):
        items = [f"{first}{number % 900}" for number in range(many)]
        given, expected = value(source, items), engine(source, items)
        if isinstance(given, ConditionFailed):
            given = given.text if given.text.startswith("there is no") else "fails"
        assert given == expected
        assert type(given) is type(expected)


@pytest.mark.parametrize(
    "source",
    [
        "resource.items.filter(i, i != 'a3')",
        "resource.items.map(i, i + 'x').filter(i, i != 'a3x')",
        "resource.items.map(i, i == 'a3', resource.items[i])",
        "resource.items.filter(i, resource.items[i] > 7)",
    ],
)
def test_an_object_in_place_of_a_list_is_its_keys(source: str) -> None:
    items = {f"a{number}": number for number in range(903)}
    assert sorted(value(source, items)) == sorted(engine(source, items))


@pytest.mark.parametrize(
    "items", [dict.fromkeys(map(str, range(MAX_ITEMS))), [{"a": 1}] * MAX_ITEMS]
)
def test_objects_of_a_caller_cost_no_thousand_squared(items: Any) -> None:
    """They took 70 ms, which is some 230 plain loops."""
    condition = compiled("resource.items.filter(i, i != 'a').size()", DATA)
    assert cost_of(condition, items, MAX_ITEMS) < 75


@pytest.mark.parametrize(
    "source",
    [
        "resource.items.filter(i, i != 'a').size() > 0",
        "resource.items.map(i, i + 'x').size() > 0",
        "resource.items.filter(i, i != 'a').map(i, i + 'x').size() > 0",
        "resource.items.all(i, i in data.shop.skus)",
        "resource.items.all(i, i.matches(r'^\\w{1,64}$'))",
        "resource.items.all(i, i.matches('^[\\\\w.+-]+$'))",
    ],
)
def test_a_thousand_items_of_a_caller_stop_the_worker_for_no_thousand_squared(source: str) -> None:
    """They took from 60 ms to 17 s, which is from 200 plain loops on."""
    items = [f"a{number % 900}" for number in range(MAX_ITEMS)]
    assert cost_of(compiled(source, DATA), items, True) < 50


@pytest.mark.parametrize("pattern", ["'^\\\\w{1,64}$'", "resource.team"])
def test_a_pattern_is_read_once(pattern: str) -> None:
    """`\\w{1,64}` takes 16 ms to be read, which is thousands of matches."""
    condition = compiled(f"resource.items.matches({pattern})", DATA)
    context = context_of("été")
    context.resource = {**context.resource, "team": "^\\w{1,64}$"}
    assert condition.evaluate(context) is True
    engine_ = cel.compile("'a'.matches('^\\\\w{1,64}$')")
    # The engine reads it each time.
    assert cost_ratio(lambda: condition.evaluate(context), lambda: engine_.execute({})) < 0.1


def patterns_kept() -> int:
    return sum(type(one) is TypeAdapter for one in gc.get_objects())


def test_patterns_of_which_each_comes_once_are_read_by_the_engine() -> None:
    """To read one to keep it takes forty times as long."""
    condition = compiled("request.path.matches(resource.items)", DATA)
    call = simulated_call(SimulatedRequest("GET", "/a/b"))
    assert not isinstance(call, str)
    contexts = [
        EvaluationContext(call, None, BOOK, lambda: NOW, resource={"items": f"^/a/b({number})?$"})
        for number in range(500)
    ]
    before = patterns_kept()
    for _ in range(3):
        assert all(condition.evaluate(context) is True for context in contexts)
    assert patterns_kept() == before


def test_a_pattern_that_came_before_gives_the_same() -> None:
    """The first is asked of the engine, the others of what was kept."""
    source = "[1, 2, 3].map(i, resource.team.matches(resource.items))"
    assert value(source, "^r.d$") == [True] * 3
    assert value(source, "^e") == [False] * 3
    assert isinstance(
        value("[1, 2].exists(i, resource.team.matches(resource.items))", "("), ConditionFailed
    )
    assert value("[1, 2].exists(i, i == 2 || resource.team.matches(resource.items))", "r") is True


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("resource.team.matches('e')", True),
        ("resource.team.matches('^e')", False),
        ("resource.team.matches(resource.items)", True),
        ("resource.team.matches(resource.items + '(')", None),
        ("resource.none.matches('a')", None),
        ("resource.team.matches(resource.none)", None),
        ("resource.none.matches('a') || resource.team == 'red'", True),
        ("resource.team.matches(resource.items + '(') != true", None),
        ("!resource.none.matches('a')", None),
    ],
)
def test_a_pattern_is_found_or_not_or_fails(
    source: str, outcome: bool | None, capfd: pytest.CaptureFixture[str]
) -> None:
    given = value(source, "r.d")
    assert given is outcome if outcome is not None else isinstance(given, ConditionFailed)
    assert capfd.readouterr() == ("", "")


def test_a_pattern_with_escapes_is_checked_at_load() -> None:
    problems = ConditionCompiler().compile("request.path.matches('^\\\\w(')")
    assert isinstance(problems, list)
    assert "fails always" in problems[0][1]


def test_matches_takes_one_pattern() -> None:
    problems = ConditionCompiler().compile("request.path.matches('a', 'b')")
    assert problems == [(13, "`matches` takes 2 argument(s), not 3")]
