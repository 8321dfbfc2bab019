"""What the second text of a condition, for long lists, knows of a call; and it gives the same."""

from __future__ import annotations

import re
from typing import Any

import cel
import pytest

from gateway.access.conditions.expressions import tokens_of
from gateway.access.conditions.long_lists import LongLists, long_lists, longest
from gateway.access.conditions.regular_expressions import MATCHES, kept_patterns

BOUND: dict[str, Any] = {
    "resource": {
        "items": ["a1", "a2", "a3"], "deep": {"items": ["b1", "b2"]}, "table": {"k": 1, "l": 2},
        "team": "red", "key": "items", "n": 7, "list": [["c1"]],
        "people": [{"name": "red"}, {"name": "blue"}],
    },
    "user": {"id": "u1", "claims": {"team": "red"}},
    "data": {"teams": {"red": ["a1"], "blue": []}, "x": {"y": ["a2"]}},
}  # fmt: skip
ITEMS = BOUND["resource"]["items"]
PEOPLE = BOUND["resource"]["people"]
DEEP = BOUND["resource"]["deep"]["items"]


def second(source: str) -> LongLists | None:
    words = tokens_of(source)
    return long_lists(source, words, kept_patterns(words))


def known(text: LongLists, bound: dict[str, Any] = BOUND) -> dict[str, Any] | None:
    """What it knows of the call, the parts of a list put together."""
    variables = text.variables(bound)
    if variables is None:
        return None
    put: dict[str, Any] = {}
    for name, value in variables.items():
        part = re.fullmatch(r"(.*_[0-9]+_)[0-9]+", name)
        if part is None:
            put[name] = value
        elif isinstance(value, dict):
            put[part[1]] = {**put.get(part[1], {}), **value}
        elif part[1] not in put:
            put[part[1]] = value
        elif value != []:
            put[part[1]] = [*put[part[1]], *value]
    return put


def outcome(program: Any, *variables: Any) -> Any:
    try:
        return program.execute(*variables)
    except KeyError as error:
        return f"there is no {error.args[0]}"
    except (IndexError, RuntimeError, TypeError) as error:
        return type(error)


@pytest.mark.parametrize(
    ("source", "knows"),
    [
        # An iteration over a field goes through its parts.
        ("resource.items.filter(i, i != 'a3')", {"long_0_": ITEMS}),
        ("resource['items'].map(i, i != 'a3', i + 'x')", {"long_0_": ITEMS}),
        ("resource[resource.key].map(i, i)", {"long_0_": ITEMS}),
        ("resource['deep'][resource.key].map(i, i)", {"long_0_": DEEP}),
        ("resource.deep.items.filter(i, i != 'b1') == ['b2']", {"long_0_": DEEP}),
        ("resource.items.filter(i, i != 'a3').map(j, j + 'x').filter(k, k != 'a2x')",
         {"long_0_": ITEMS}),
        ("resource.items.filter(i, true) + resource.deep.items.map(i, i)",
         {"long_0_": ITEMS, "long_1_": DEEP}),
        ("true ? resource.items.filter(i, true) : resource.items.map(x, x)",
         {"long_0_": ITEMS, "long_1_": ITEMS}),
        ("resource.items.filter(i, i == resource.team)[0] == 'a'",
         {"long_0_": ITEMS, "long_path_0": "red"}),
        ("resource.items.filter(i, i != 'a3').all(i, i in data.x.y)",
         {"long_0_": ITEMS, "long_path_0": ["a2"]}),
        ("resource.items.map(filter, filter)", {"long_0_": ITEMS}),
        ("resource.items.map(i, i).size() + resource.items.filter(map, map == 'a1').size()",
         {"long_0_": ITEMS, "long_1_": ITEMS}),
        ("resource.table.map(k, k).size()", {"long_0_": {"k": True, "l": True}}),
        ("resource.n.map(i, i).size()", {"long_0_": 7}),
        # A field that is asked for in an iteration is looked up before.
        ("resource.items.all(i, i in data.x.y)", {"long_path_0": ["a2"]}),
        ("resource.items.all(i, i == resource['team'])", {"long_path_0": "red"}),
        ("resource.items.exists(i, i in data.teams[resource.team])", {"long_path_0": ["a1"]}),
        ("resource.items.exists(i, i in data['teams'][user.claims.team])",
         {"long_path_0": ["a1"]}),
        ("resource.items.exists(i, i in data.x.y || i + 'x' in data.x.y)",
         {"long_path_0": ["a2"]}),
        ("resource.items.all(i, i in data.teams[user.claims.team] ||"
         " i + 'x' in data['teams'][user.claims['team']])", {"long_path_0": ["a1"]}),
        ("resource.items.all(i, i in data.x.y || i != resource.team)",
         {"long_path_0": ["a2"], "long_path_1": "red"}),
        ("resource.items.all(i, resource.team != i && has(resource.team))",
         {"long_path_0": "red"}),
        ("resource.items.all(i, has(resource.team) && resource.team != i)",
         {"long_path_0": "red"}),
        ("resource.items.all(i, i.size() > 0 && size(data.x.y) > 0)", {"long_path_0": ["a2"]}),
        ("resource.items.all(i, resource.items.size() > 1 && i != resource.team)",
         {"long_path_0": ITEMS, "long_path_1": "red"}),
        ("resource.items.exists(i, resource.deep.items[0] == i)", {"long_path_0": DEEP}),
        ("resource.items.exists(i, {'a': i}.a == resource.team)", {"long_path_0": "red"}),
        ("resource.items.all(a, a != 'a' && resource.items != [a]) && resource.n == 7",
         {"long_path_0": ITEMS}),
        ("resource.items.exists(i, i == resource.team) && resource.team == 'red'",
         {"long_path_0": "red"}),
        ("resource.items.exists_one(i, i == data.teams[resource.team][0])",
         {"long_path_0": ["a1"]}),
        # A field of the item is no field of the call.
        ("resource.people.filter(one, one.name == 'red').size()", {"long_0_": PEOPLE}),
        ("resource.people.map(one, one['name'])", {"long_0_": PEOPLE}),
        ("resource.people.exists(one, one.name == resource.team)", {"long_path_0": "red"}),
        ("resource.people.exists(one, 'a1' in data.teams[one.name])",
         {"long_path_0": BOUND["data"]["teams"]}),
        # By a key that the item tells, the table is read.
        ("resource.items.all(i, i in data.teams[i])", {"long_path_0": BOUND["data"]["teams"]}),
        ("resource.items.all(i, i in data.teams[i + 'x'])",
         {"long_path_0": BOUND["data"]["teams"]}),
        ("resource.items.all(i, i in data.teams[string(resource.team)])",
         {"long_path_0": BOUND["data"]["teams"], "long_path_1": "red"}),
        ("resource.items.all(i, data.teams[i.size() > 9 ? 'red' : 'blue'] == [])",
         {"long_path_0": BOUND["data"]["teams"]}),
        # What is not there is told when it is asked for, and not before.
        ("resource[resource.none].map(i, i)", {}),
        ("resource.none.map(i, i)", {}),
        ("resource.items.all(i, i in data.teams.green)", {}),
        ("resource.items.all(i, i != 'a' || i in data.teams.green.all)", {}),
        ("resource.items.all(i, i in data.teams[resource.none])", {}),
        # No name of the text is taken.
        ("resource.items.filter(long, long != 'a3').map(long_, long_ + 'x')",
         {"long___0_": ITEMS}),
        ("resource.items.map(longer, longer + resource.team)",
         {"long__0_": ITEMS, "long__path_0": "red"}),
        ("resource.list.map(i, i).filter == 1", {"long_0_": [["c1"]]}),
        # Texts and signs that only look like it.
        ("resource.items.map(i, '.filter(' + i + '(')", {"long_0_": ITEMS}),
        ("resource.items.filter(i, i in ['a1', 'a2'] // ( [\n)", {"long_0_": ITEMS}),
        ("resource.items.filter(i, i == true ? false : i != null)", {"long_0_": ITEMS}),
    ],
)  # fmt: skip
def test_a_second_text_knows_its_lists_and_fields_and_gives_the_same(
    source: str, knows: dict[str, Any]
) -> None:
    text = second(source)
    assert text is not None
    assert known(text) == knows
    variables = text.variables(BOUND)
    assert outcome(text, BOUND, variables) == outcome(cel.compile(source), BOUND)


@pytest.mark.parametrize(
    "source",
    [
        "resource.items.size() > 1",
        "resource.items.exists(i, i == 'a1') && resource.team == 'red'",
        "resource.team == 'red' && resource.items.exists(resource, resource == 'a1')",
        "resource.items.all(i, has(resource.team))",
        "resource.filter(i, i == 'team').size() == 1",
        "resource['it' + 'ems'].map(i, i)",
        "resource[resource.key + ''].map(i, i)",
        "resource.list[0].map(i, i)",
        "['a'].map(i, i)",
        "resource.filter == 1 || resource.map.size() == 1",
        "resource.items.exists(i, [user] == [])",
    ],
)
def test_where_there_is_nothing_to_know_before_there_is_no_second_text(source: str) -> None:
    assert second(source) is None


@pytest.mark.parametrize(
    "source",
    ["resource[resource.n].map(i, i)", "resource.items.all(i, i in data.teams[resource.n])"],
)
def test_by_a_key_that_is_no_text_only_the_first_text_finds_anything(source: str) -> None:
    text = second(source)
    assert text is not None
    assert text.variables(BOUND) is None


def test_what_the_engine_takes_once_alone_has_no_second_text() -> None:
    source = "resource.items.filter(i, i == 'a')"
    while (text := second(source)) is not None:
        source = f"[{source}]"
        assert text.variables(BOUND) is not None
    assert cel.compile(source).execute(BOUND)


def test_a_second_text_is_given_what_it_asks_for_alone() -> None:
    text = second("resource.items.filter(i, i.matches('1') && user.id != i)")
    assert text is not None
    other = object()  # the engine takes no such thing
    bound = {**BOUND, "data": other, MATCHES: lambda one, pattern: pattern in one}
    assert text.execute(bound, text.variables(bound) or {}) == ["a1"]


def test_a_list_in_parts_is_whole() -> None:
    text = second("resource.items.map(i, i)")
    assert text is not None
    for many in (0, 1, 9, 10, 11, 999, 1_000):
        items = list(range(many))
        bound: dict[str, Any] = {"resource": {"items": items}}
        assert known(text, bound) == {"long_0_": items}
        assert text.execute(bound, text.variables(bound) or {}) == items
        table = {f"k{one}": one for one in items}
        bound = {"resource": {"items": dict(table)}}
        assert list((known(text, bound) or {})["long_0_"]) == list(table)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (None, 0),
        ("text", 0),
        ([], 0),
        ({}, 0),
        ([1], 1),
        (("a", "b"), 2),
        ({"a": 1, "b": 2, "c": 3}, 3),
        ({"a": [1, 2, 3], "b": 4}, 3),
        ([[1, 2, 3], 4], 3),
        ([[], [{"a": (1, 2, 3, 4)}]], 4),
    ],
)
def test_the_longest_list_or_map_counts(value: Any, items: int) -> None:
    assert longest(value) == items
