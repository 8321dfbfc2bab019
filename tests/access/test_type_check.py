"""What a condition could never be, told at load; and nothing that it could."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.context import EvaluationContext
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.conditions.expressions import read_expression
from gateway.access.conditions.type_check import type_problems
from gateway.access.conditions.vocabulary import vocabulary_problems
from gateway.access.roles import RoleBook
from gateway.access.simulation import SimulatedRequest, person, simulated_call
from tests.access.worlds import NOW, problems

ATOMS = (
    "'a'", "1", "1u", "1.5", "true", "null", "[1]", "{'a': 1}", "b'a'", "duration('5m')", "now",
    "user.id", "user.roles", "user.email_verified", "user.auth_time", "user.claims.level",
    "request.path", "request.query.x", "client.ip", "resource.owner", "user.roles.size()",
    "user.roles[0]", "user.roles.exists(r, r == 'a')", "string(1)", "dyn('a')", "-1", "!true",
)  # fmt: skip
OPERATORS = ("+", "-", "*", "/", "%", "<", "<=", ">", ">=", "in", "==", "!=")


def context() -> EvaluationContext:
    call = simulated_call(SimulatedRequest("GET", "/a?x=1"))
    assert not isinstance(call, str)
    caller = person("u1", ("a",), now=NOW, claims={"level": 3})
    book, values = RoleBook({}), {"owner": "u1"}
    return EvaluationContext(call, caller, book, lambda: NOW, query={"x": "1"}, resource=values)


def ran(source: str) -> Any:
    """What the engine makes of it, whatever our own checks say."""
    return Condition(source, read_expression(source)).evaluate(context())


def test_the_engine_and_the_check_agree_on_every_pair() -> None:
    """What the check refuses fails when it runs, or gives the same for ever; and where types
    are known on both sides, what it lets pass runs."""
    types = EngineTypes()
    for left, sign, right in product(ATOMS, OPERATORS, ATOMS):
        source = f"{left} {sign} {right}"
        if vocabulary_problems(read_expression(source), {}):
            continue
        found, outcome = type_problems(source, types, truth=False), ran(source)
        if found and "never equal" in found[0][1]:
            assert outcome is False, (source, found, outcome)
        elif found and sign not in ("==", "!="):
            assert isinstance(outcome, str), (source, found, outcome)
        elif found:
            assert outcome is (sign == "!="), (source, found, outcome)
        elif isinstance(outcome, str) and "not true or false" not in outcome:
            # Only of what the text does not tell.
            assert any(
                open_ in source for open_ in ("claims", "resource", "roles[0]", "dyn")
            ), (source, outcome)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "at", "said"),
    [
        ("'a' + 1 == 'b'", 4, "`+` is not defined for text and a number"),
        ("user.id == 'a' && user.id < 5", 26, "`<` is not defined for text and a number"),
        ("request.path.matches('[')", 21, "unclosed character class"),
        ("'x' in user.roles || request.path.matches('a(')", 42, "unclosed group"),
        ("resource.owner.matches('*')", 23, "fails always"),
        ("1 / 0 == 1", 2, "division by zero"),
        ("int(request.query.n) % 0 == 1", 21, "divides by zero"),
        ("now - user.auth_time < duration('5x')", 23, "it cannot be read"),
        ("timestamp('soon') < now", 0, "fails always"),
        ("9223372036854775807 + 1 > 0", 20, "fails always"),
        ("request.query.page == 2", 19, 'write it as text, "2"'),
        ("user.email_verified == 'true'", 20, "without quotes"),
        ("user.roles == 'admin'", 11, "`… in …`"),
        ("3 in user.id", 2, "it asks a list or a map"),
        ("user.id", 0, "gives text, not true or false"),
        ("[true]", 0, "gives a list, not true or false"),
        ("!user.id", 1, "`!` takes true or false"),
        ("user.id && true", 0, "`&&` takes true or false, not text"),
        ("user.id ? true : false", 0, "`?` takes true or false, not text"),
        ("request.path.startsWith(1)", 13, "text has no `startsWith` with a number"),
        ("user.id.exists(r, r == 'a')", 0, "goes through a list, not text"),
        ("in_cidr(client.ip, 10)", 19, "`in_cidr` takes text, not a number"),
        ("has_role(user.roles)", 9, "`has_role` takes text, not a list"),
        ("size(5) > 1", 0, "`size` does not take a number"),
        ("user.roles.exists(r, 'a')", 21, "`exists` takes true or false, not text"),
    ],
)
def test_what_could_never_be_judged_is_told_with_its_place(source: str, at: int, said: str) -> None:
    found = ConditionCompiler().compile(source)
    assert not isinstance(found, Condition), f"{source} was taken"
    ((where, text),) = found
    assert where == at
    assert said in text


@pytest.mark.parametrize(
    "source",
    [
        "user.email == null || user.email.endsWith('@example.com')",
        "now - user.auth_time < duration('5m')",
        "now > timestamp('2026-01-01T00:00:00Z') && now.getHours() < 18",
        "request.path.matches('^/v[0-9]+/')",
        "user.claims.level > 3 ? user.roles.size() > 0 : user.id == resource.owner",
        "user.roles.exists(r, r.startsWith('team-')) && size(user.roles) < 9",
        "int(request.query.page) + 1 <= 10 && double('1.5') < 2",
        "user.id in ['a', 'b'] || !(user.id in {'c': 1})",
        "string(1) + 'a' == user.id",
        "client.ip.in_cidr('10.0.0.0/8') && has(user.claims.x)",
        "user.roles.filter(r, r != 'a').map(r, r.size() > 1, r + 'x').size() == 1",
        "r'\\d' == user.id || '''a''' == user.id",
    ],
)
def test_what_could_be_is_taken(source: str) -> None:
    assert isinstance(ConditionCompiler().compile(source), Condition)


def test_however_deep_it_is_it_is_no_crash() -> None:
    for source in ("(" * 400 + "true" + ")" * 400, "!" * 400 + "true", "[" * 90 + "]" * 90):
        ConditionCompiler().compile(source)


def test_the_problem_names_the_file_the_line_and_the_column() -> None:
    rule = "rules:\n  - id: old\n    allow: ['*']\n    when: request.query.page == 2\n"
    routes = "- {id: a, match: {path: /a}, policy: p0, upstream: api}"
    (found,) = problems(routes, f"version: 1\npolicy: p0\n{rule}")
    assert found.startswith("policies/p0.yaml:6:30: `==`: text and a number are never equal")


def test_a_key_of_a_limit_may_be_any_text() -> None:
    assert isinstance(
        ConditionCompiler().compile("user.id + '/' + request.method", truth=False), Condition
    )
    assert not isinstance(ConditionCompiler().compile("user.id + 1", truth=False), Condition)
