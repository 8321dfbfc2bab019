"""What a condition says that it reads, and what it read of one call, for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.access.attributes import Attribute, AttributeType
from gateway.access.conditions.conditions import Condition, ConditionCompiler, Reads
from gateway.access.conditions.context import (
    USER,
    EvaluationContext,
    Missing,
    resolved_keys,
    value_at,
)
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.roles import RoleBook
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.model import Principal
from tests.access.worlds import NOW, who

DATA: dict[str, Any] = {
    "teams": {"red": {"lead": "u9"}, "blue": {"lead": "u2"}},
    "homes": {"u1": "red"},
}
RESOURCE: dict[str, Any] = {
    "owner": "u1", "team": "red", "a_b": {"c": 1}, "x y": 2, "": 3, "list": ["p"], "none": None,
    "n": 7,
}  # fmt: skip
NOTHING = Missing()


def compiled(source: str) -> Condition:
    condition = ConditionCompiler(DATA).compile(source, truth=False)
    assert isinstance(condition, Condition), condition
    return condition


def context(caller: Principal | None) -> EvaluationContext:
    call = simulated_call(SimulatedRequest("GET", "/a/b?x=1"))
    assert not isinstance(call, str)
    return EvaluationContext(
        call, caller, RoleBook(), lambda: NOW, {"id": "i"}, RESOURCE, {"q": "1"}, data=DATA
    )


def of(*names: str) -> frozenset[str]:
    return frozenset(names)


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("true", Reads()),
        ("now > user.auth_time", Reads(user=of("auth_time"), roots=of("now", "user"))),
        (
            "resource.owner == user.id",
            Reads(of("owner"), of("owner"), user=of("id"), roots=of("resource", "user")),
        ),
        (
            "has(resource.owner) && resource.owner == resource.a_b.c",
            Reads(of("owner", "a_b"), of("a_b"), roots=of("resource")),
        ),
        (
            "resource.owner == 'a' || has(resource.owner)",
            Reads(of("owner"), roots=of("resource")),
        ),
        (
            "has(resource.a.b) && resource.a.c == 'x'",
            Reads(of("a"), of("a"), roots=of("resource")),
        ),
        ("resource == {}", Reads(roots=of("resource"), whole_resource=True)),
        (
            "request.params.id == 'a' && request.query.q == request.headers['x-a']",
            Reads(
                params=of("id"),
                must_params=of("id"),
                query=of("q"),
                headers=of("x-a"),
                roots=of("request"),
            ),
        ),
        ("has(request.params.id)", Reads(params=of("id"), roots=of("request"))),
        ("'q' in request.query", Reads(query=of("q"), roots=of("request"))),
        (
            "request.method == 'GET' && resource.owner == 'a'",
            Reads(of("owner"), of("owner"), roots=of("request", "resource")),
        ),
        ("request.path == '/a'", Reads(roots=of("request"), path=True)),
        (
            "request.method == 'GET' || request['path'] == '/a'",
            Reads(roots=of("request"), path=True),
        ),
        (
            "data.teams[request.path].lead == data.teams[request.params.id].lead",
            Reads(params=of("id"), must_params=of("id"), roots=of("request", "data"), path=True),
        ),
        ("user.claims.a.b == user.email", Reads(user=of("claims", "email"), roots=of("user"))),
        ("user == null", Reads(user=of(*USER), roots=of("user"))),
        ("has_role('a')", Reads(user=of("roles"), roots=of("user"))),
        ("has_scope('a')", Reads(user=of("roles"), roots=of("user"))),
        ("in_cidr(client.ip, '10.0.0.0/8')", Reads(roots=of("client"))),
        (
            "data.teams[resource.team].lead == 'a'",
            Reads(of("team"), of("team"), roots=of("resource", "data")),
        ),
    ],
)
def test_what_a_condition_reads_is_known_before_any_call(source: str, reads: Reads) -> None:
    condition = compiled(source)
    assert condition.reads == reads
    assert condition.source == source
    assert {path.root for path in condition.expression.paths} <= condition.reads.roots


TIME = datetime.fromtimestamp(NOW, UTC)


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("true", []),
        (
            "has_role('x') && user.id == resource.owner && user.id == 'u1'",
            [("user.id", "u1"), ("resource.owner", "u1"), ("user.roles", ("lead", "red"))],
        ),
        ("has_role('x') && user.roles.size() > 1", [("user.roles", ("lead", "red"))]),
        ("has_scope('a:b')", []),
        ("resource.a_b.c", [("resource.a_b.c", 1)]),
        ("resource.a_b.d", [("resource.a_b.d", NOTHING)]),
        ("resource.owner.x", [("resource.owner.x", NOTHING)]),
        ("resource['x y']", [("resource['x y']", 2)]),
        ("resource['']", [("resource['']", 3)]),
        ("resource.list[0]", [("resource.list[…]", ["p"])]),
        ("resource.none", [("resource.none", None)]),
        ("resource.none.x", [("resource.none.x", NOTHING)]),
        ("resource", [("resource", RESOURCE)]),
        ("user.claims.a['b']", [("user.claims.a.b", 7)]),
        ("user.claims.list[0]", [("user.claims.list[…]", [1])]),
        ("'lead' in user.roles", [("user.roles", ("lead", "red"))]),
        ("user.roles[0]", [("user.roles", ("lead", "red"))]),
        ("'a' in user.scopes", [("user.scopes", ())]),
        ("resource.list[user.id]", [("user.id", "u1"), ("resource.list.u1", ["p"])]),
        (
            "data.teams[resource.team].lead",
            [("resource.team", "red"), ("data.teams.red.lead", "u9")],
        ),
        (
            "data.teams[data.homes[user.id]].lead",
            [("user.id", "u1"), ("data.homes.u1", "red"), ("data.teams.red.lead", "u9")],
        ),
        (
            "data.teams[resource.nope].lead",
            [("resource.nope", NOTHING), ("data.teams[…].lead", NOTHING)],
        ),
        ("data.teams[resource.n].lead", [("resource.n", 7), ("data.teams[…].lead", NOTHING)]),
        ("data.teams[user.email].lead", [("user.email", None), ("data.teams[…].lead", NOTHING)]),
        ("data.teams['r' + 'ed'].lead", [("data.teams[…].lead", DATA["teams"])]),
        ("data.teams.green.lead", [("data.teams.green.lead", NOTHING)]),
        ("user == null", [("user", {"id": "u1"})]),
        ("request.query.q", [("request.query.q", "1")]),
        ("request.query.r", [("request.query.r", NOTHING)]),
        ("request.params.id", [("request.params.id", "i")]),
        ("request.headers['x-a']", [("request.headers['x-a']", NOTHING)]),
        ("request.method + request.path", [("request.method", "GET"), ("request.path", "/a/b")]),
        ("client", [("client", {"ip": "127.0.0.1"})]),
        ("client.ip", [("client.ip", "127.0.0.1")]),
        ("now - user.auth_time", [("now", TIME), ("user.auth_time", TIME)]),
    ],
)
def test_what_was_read_of_a_call_is_shown_under_the_keys_of_the_call(
    source: str, values: list[tuple[str, Any]]
) -> None:
    caller = who("u1", "lead", "red", claims={"a": {"b": 7}, "list": [1]})
    assert compiled(source).values(context(caller)) == values


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("has_role('x')", []),
        ("user == null", [("user", None)]),
        ("user.roles.size() > 1", [("user.roles", NOTHING)]),
        (
            "data.teams[user.id].lead",
            [("user.id", NOTHING), ("data.teams[…].lead", NOTHING)],
        ),
    ],
)
def test_of_nobody_nothing_is_shown(source: str, values: list[tuple[str, Any]]) -> None:
    assert compiled(source).values(context(None)) == values


def test_what_is_missing_is_called_nothing() -> None:
    assert NOTHING.text == "nothing"


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("data.teams", ("teams",)),
        ("data.teams.red.lead", ("teams", "red", "lead")),
        ("data.teams[resource.team].lead", ("teams", "red", "lead")),
        ("data.teams[data.homes[user.id]]", ("teams", "red")),
        ("data.teams[resource.none].lead", None),
        ("data.teams['r' + 'ed'].lead", None),
    ],
)
def test_the_entry_of_a_table_is_named_where_the_call_tells_it(
    source: str, keys: tuple[str, ...] | None
) -> None:
    path = next(path for path in compiled(source).expression.paths if path.root == "data"
                and path.keys[0] == "teams")  # fmt: skip
    assert resolved_keys(path, context(who("u1"))) == keys
    if keys is not None:
        value: Any = DATA
        for key in keys:
            value = value[key]
        assert value_at(path, context(who("u1"))) == value


def test_the_conditions_of_one_configuration_ask_one_engine() -> None:
    asked: list[tuple[str, ...]] = []

    class Counted(EngineTypes):
        def takes(self, name: str, on: str | None, given: tuple[str, ...]) -> bool:
            asked.append((name, *given))
            return super().takes(name, on, given)

    compiler = ConditionCompiler(types=Counted()).with_data(DATA)
    assert isinstance(compiler.compile("size(user.id) > 1"), Condition)
    assert isinstance(compiler.compile("data.teams.red.lead == 'a'"), Condition)
    assert asked == [("size", "text")]


def test_without_tables_none_is_known() -> None:
    assert ConditionCompiler().compile("data.teams.red == 'a'") == [
        (0, "no file in data/ holds `teams`")
    ]


def test_attributes_of_accounts_are_known_beside_the_tables() -> None:
    attributes = {"level": Attribute("level", AttributeType.INTEGER)}
    compiler = ConditionCompiler(attributes=attributes).with_data(DATA)
    source = "user.attributes.level > 1 && data.teams.red.lead == 'a'"
    assert isinstance(compiler.compile(source), Condition)
    assert compiler.compile("user.attributes.level == 'a'") == [
        (22, "`==`: a number and text are never equal; make them alike: `int(…)`, `string(…)`")
    ]
    assert compiler.compile("true && user.attributes.level") == [
        (8, "`&&` takes true or false, not a number")
    ]
    assert compiler.compile("  user.attributes.level") == [(2, "gives a number, not true or false")]
    # A field of another thing has no type that an attribute of its name has.
    for source in ("resource.level == 'a'", "user.claims.level == 'a'"):
        assert isinstance(compiler.compile(source), Condition)


def test_without_attributes_none_is_known() -> None:
    assert ConditionCompiler().compile("user.attributes.level > 1") == [
        (0, "`attributes:` of routes.yaml has no `level`")
    ]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("user.attributes == {}", "an attribute is written out: `user.attributes.NAME`"),
        (
            "user.attributes.levl > 1",
            "`attributes:` of routes.yaml has no `levl`; did you mean `level`?",
        ),
        ("user.attributes.note == 'x'", "no token carries `note`: its `claim` is `off`"),
    ],
)
def test_an_attribute_that_no_condition_can_read_is_told(source: str, problem: str) -> None:
    attributes = {
        "level": Attribute("level", AttributeType.INTEGER),
        "note": Attribute("note", in_token=False),
    }
    compiler = ConditionCompiler(attributes=attributes)
    assert compiler.compile(f"true && {source}") == [(8, problem)]
