"""Binding only what is named gives the answer that binding everything would give."""

from __future__ import annotations

from typing import Any

import cel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.context import USER, EvaluationContext, activation
from gateway.access.conditions.expressions import read_expression
from gateway.access.conditions.functions import AddressBlocks
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.model import Call, Principal
from tests.access.test_conditions import BOOK
from tests.access.worlds import NOW, who

DATA: dict[str, Any] = {
    "teams": {"red": {"members": ["u1", "u2"], "lead": "u2"}, "blue": {"members": []}},
    "flags": {"beta": True, "old": False},
    "homes": {"u1": "red", "u2": "green", "red": 1},
    "levels": [1, 2, 3],
    "names": ["u1", 1, None, "red", "u1"],
    "long": ["red", *(f"u{number}" for number in range(200)), 7],
    "lists": {"red": ["u1", "x"], "u1": [], "long": [f"u{number}" for number in range(200)]},
}
ATOMS = st.sampled_from(
    ["user.id", "user.email", "user.email_verified", "user.roles", "user.claims", "user.claims.tier",
     "user", "resource", "resource.owner", "resource.team", "resource.none", "resource['owner']",
     "request.method", "request.path", "request.host", "request.params.id",
     "request.query.page", "request.query['none']", "request.headers['x-zone']", "client.ip",
     "data.teams[resource.team]", "data.teams[resource.team].members", "data.teams.red.lead",
     "data.teams['blue'].members", "data.flags.beta", "data.flags", "data.levels", "data.levels[1]",
     "data.names", "data.long", "data.lists", "data.lists[resource.team]", "data.lists.long",
     "data.names[0]", "data.lists['u1']", "data", "user.claims.tier",
     "data.teams[user.id].members", "data.teams[resource['team']].lead",
     "data.teams[data.homes[user.id]].lead", "data.teams[user.roles[0]]",
     "'u1'", "'red'", "'x'", "true", "1", "null", "['u1', 'x']", "user.roles[0]", "'page'"]
)  # fmt: skip
TESTS = st.one_of(
    st.builds("{} == {}".format, ATOMS, ATOMS),
    st.builds("{} != {}".format, ATOMS, ATOMS),
    st.builds("{} in {}".format, ATOMS, ATOMS),
    st.builds("{} in {} == {}".format, ATOMS, ATOMS, ATOMS),
    st.builds("{} in {} + {}".format, ATOMS, ATOMS, ATOMS),
    st.builds("{} + {} in {}".format, ATOMS, ATOMS, ATOMS),
    st.builds("{0} in {1} && {0} == {1}[{2}]".format, ATOMS, ATOMS, ATOMS),
    st.builds("{0} in {1} && {2} in {1}[{0}]".format, ATOMS, ATOMS, ATOMS),
    st.builds("size({}) > 1".format, ATOMS),
    st.builds("{}.exists(i, i == {})".format, ATOMS, ATOMS),
    st.builds("{}.all(i, i != {})".format, ATOMS, ATOMS),
    st.sampled_from(
        ["has(user.email)", "has(resource.none)", "has(request.query.page)", "has(data.flags.none)",
         "has(data.teams[resource.team].lead)", "'page' in request.query", "'none' in request.query",
         "'red' in data.teams", "resource.team in data.teams", "user.email_verified",
         "data.flags.beta", "has_role('member')", "in_cidr(client.ip, '127.0.0.0/8')"]
    ),
)  # fmt: skip
EXPRESSIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
    ),
    max_leaves=4,
)


def everything(context: EvaluationContext, call: Call) -> dict[str, Any]:
    """All variables whole, as a naive binder would hand them over."""
    caller = context.principal
    return {
        "user": None if caller is None else {name: get(caller) for name, get in USER.items()},
        "resource": dict(context.resource),
        "request": {
            "method": call.method,
            "path": "/" + "/".join(call.segments),
            "host": call.host,
            "params": dict(context.params),
            "query": dict(context.query),
            "headers": dict(context.headers),
        },
        "client": {"ip": call.client_ip},
        "data": DATA,
        "has_role": lambda role: caller is not None and role in BOOK.expand(caller.roles),
        "in_cidr": AddressBlocks().in_cidr,
    }


CALLERS = st.sampled_from(
    [None, who("u1", "lead"), who("red", email="a@b.example", email_verified=True),
     who("u2", "a", "b", claims={"tier": "x"})]
)  # fmt: skip
RESOURCES = st.sampled_from(
    [{}, {"owner": "u1", "team": "red"}, {"owner": "x", "team": "blue"}, {"team": "green"},
     {"owner": 1, "team": 7}, {"owner": ["u1"], "team": None}]
)  # fmt: skip


@settings(deadline=None, max_examples=600)
@given(EXPRESSIONS, CALLERS, RESOURCES, st.booleans())
def test_what_is_bound_never_changes_the_answer(
    source: str, caller: Principal | None, resource: dict[str, Any], query: bool
) -> None:
    condition = ConditionCompiler(DATA).compile(source)
    if not isinstance(condition, Condition):
        return
    call = simulated_call(SimulatedRequest("GET", "/a/b"))
    assert isinstance(call, Call)
    context = EvaluationContext(
        call, caller, BOOK, lambda: NOW, {"id": "u1"}, resource,
        {"page": "1"} if query else {}, {"x-zone": "x"} if query else {}, DATA,
    )  # fmt: skip
    narrow = condition.evaluate(context)
    try:
        whole: Any = cel.compile(source).execute(everything(context, call))
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError):
        whole = "failed"
    if whole is True or whole is False:
        assert narrow is whole, (narrow, whole)
    else:
        assert isinstance(narrow, str), (narrow, whole)


HANDED_OVER: tuple[dict[str, Any], ...] = (
    {},
    {"patch": None, "items": []},
    {"patch": "text", "n": 1},
    {"patch": {}, "items": [{"a": 1}], "n": 7, "k": "a"},
    {"patch": {"a": {"b": 1}}, "items": [{"a": 1}], "k": "a"},
    {"patch": {"is_admin": True, "a": {"b": 1, "c": {"d": 2}}}, "items": [1, 2], "n": 1},
    {"patch": {"is_admin": {"x": 1}, "a": [1]}, "n": {"m": 1}},
    {"patch": [{"is_admin": True}], "items": {"a": 1}},
)


@pytest.mark.parametrize(
    "source",
    [
        "has(resource.patch)",
        "has(resource.patch) && has(resource.patch.is_admin)",
        "has(resource.patch) && resource.patch.is_admin == true",
        "has(resource.patch.a.c) && resource.patch.a.c.d == 2",
        "resource.patch.a.b == 1 && has(resource.patch.a)",
        "resource.patch['a'].b == 1 || has(resource.patch.is_admin.x)",
        "resource.patch == null || resource.patch.is_admin == true",
        "resource.patch == {} || has(resource.patch.a)",
        "'is_admin' in resource.patch && !has(resource.patch.a)",
        "size(resource.items) > 0 && has(resource.items)",
        "has(resource.items) && resource.items.exists(i, i.a == resource.n)",
        "resource.items[0] == resource.patch.a.b",
        "has(resource.patch.a) ? resource.patch.a.b == 1 : resource.n == 7",
        "resource.patch.all(k, k != 'is_admin')",
        "has((resource.patch).is_admin)",
        "!has((resource.patch.a).b)",
        "has((resource.patch['a']).b)",
        "has(resource.patch['a'].b)",
        "has(resource.items[0].a)",
        "has((resource.items)[0].a)",
        "has(resource.patch[resource.k].b)",
        "has(resource.items.filter(i, i == 1)[0].a)",
        "has((resource.patch).a) && resource.patch.a.b == 1",
    ],
)
def test_what_is_handed_over_of_a_resource_gives_what_all_of_it_gives(source: str) -> None:
    condition = Condition(source, read_expression(source))
    call = simulated_call(SimulatedRequest("GET", "/x"))
    assert isinstance(call, Call)
    for resource in HANDED_OVER:
        context = EvaluationContext(call, None, BOOK, lambda: NOW, resource=resource)
        try:
            whole = cel.compile(source).execute({"resource": resource})
        except (LookupError, TypeError, ValueError, RuntimeError):
            whole = None
        found = condition.evaluate(context)
        assert found == whole if isinstance(whole, bool) else isinstance(found, str), resource


def test_of_a_resource_what_is_read_is_handed_over_alone() -> None:
    """The engine copies it, for each condition."""
    source = (
        "has(resource.patch) && has(resource.patch.is_admin) && has(resource.items)"
        " && resource.patch.a.b == 1 && resource.n > 1"
    )
    ((_, bind),) = activation(read_expression(source))
    many: dict[str, Any] = {str(number): {} for number in range(1_000)}
    resource = {
        "patch": {**many, "is_admin": many, "a": {"b": many, "c": many}},
        "items": [many],
        "n": 7,
        "other": many,
    }
    call = simulated_call(SimulatedRequest("GET", "/x"))
    assert isinstance(call, Call)
    context = EvaluationContext(call, None, BOOK, lambda: NOW, resource=resource)
    assert bind(context) == {"patch": {"is_admin": {}, "a": {"b": many}}, "items": [], "n": 7}
