"""`gateway validate` warns of texts that are compared with numbers alone."""

from __future__ import annotations

import pytest

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.snapshot import Snapshot
from tests.access.worlds import snapshot

DATA = "version: 1\nblocked: [7, 8]\nnames: [hr]\nboth: [7, hr]\nflags: [true]\nempty: []\nby: {'7': {n: 1}}\nlim: {n: 7, s: x}\n"
ROUTE = 'id: x, match: {path: "/x/{id}"}, policy: p, upstream: api, resource: {id: "{id}", q: "{query.q}", h: "{headers.x-h}", j: "{id}-{query.q}", b: "{body.b}", t: fixed}'


def world(rule: str, *routes: str) -> Snapshot:
    return snapshot(
        "\n".join(f"- {{{one}}}" for one in routes or (ROUTE,)),
        f"policy: p\nrules:\n  - {{id: all, allow: ['*']}}\n  - {{id: r, {rule}}}\n",
        data__tables=DATA,
    )


def told(rule: str, *routes: str) -> list[str]:
    return [str(one) for one in world(rule, *routes).notices if "never equal" in str(one)]


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        ("resource.id == 7", "`resource.id`"),
        ("7 == resource.q", "`resource.q`"),
        ("resource.id in [7, 8]", "`resource.id`"),
        ("resource.id in data.blocked", "`resource.id`"),
        ("resource.h in data.blocked", "`resource.h`"),
        ("resource.j == 7", "`resource.j`"),
        ("resource.t == 7", "`resource.t`"),
        ("resource.id in data.flags", "`resource.id`"),
        ("resource.id == true", "`resource.id`"),
        ("resource.id == data.lim.n", "`resource.id`"),
        ("request.params.id in data.blocked", "`request.params.id`"),
        ("request.query.q in data.blocked", "`request.query.q`"),
        ("request.headers['x-h'] == data.lim.n", "`request.headers['x-h']`"),
    ],
)
@pytest.mark.parametrize("effect", ["deny", "allow", "mode: shadow, deny"])
def test_a_text_that_is_compared_with_what_is_none_is_told(
    effect: str, condition: str, what: str
) -> None:
    (notice,) = told(f'{effect}: ["*"], when: "{condition}"')
    assert notice.startswith("policies/p0.yaml:5:")
    assert f"rule `r` compares {what}" in notice
    assert "write" in notice
    if what.startswith("`resource"):
        assert "route `x` (routes.yaml:11)" in notice


@pytest.mark.parametrize(
    "condition",
    [
        "resource.id == '7'",
        "resource.id in [7, '7']",
        "resource.id in data.names",
        "resource.id in data.both",
        "resource.id in data.empty",
        "resource.id in data.by",
        "resource.id == data.lim.s",
        "resource.id == user.id",
        "resource.id == 7 || resource.id == '7'",
        "resource.b == 7",
        "resource.b in data.blocked",
        "int(resource.id) == 7",
        "int(request.params.id) in data.blocked",
        "dyn(resource.id) == 7",
        "size(resource.id) == 7",
        "resource.id == null",
    ],
)
def test_what_may_be_equal_is_not_told(condition: str) -> None:
    assert told(f'deny: ["*"], when: "{condition}"') == []


def test_each_rule_is_told_once_with_the_routes_that_give_a_text() -> None:
    of_body = 'id: y, match: {path: /y}, policy: p, upstream: api, resource: {id: "{body.id}"}'
    other = 'id: z, match: {path: "/z/{id}"}, policy: p, upstream: api, resource: {id: "{id}"}'
    (notice,) = told('deny: ["*"], when: resource.id == 7', ROUTE, of_body, other)
    assert "route `x` (routes.yaml:11)" in notice
    assert "1 more" in notice
    assert told('deny: ["*"], when: resource.id == 7', of_body) == []


@pytest.mark.parametrize(
    ("source", "at", "said"),
    [
        ("request.params.id in [7]", 18, 'write it as text, "7"'),
        ("request.query.q in [7, 8]", 16, "text and a number are never equal"),
        ("user.id in [true]", 8, "text and true or false are never equal"),
        ("!(client.ip in ([1]))", 12, "never equal"),
        ("3 in ['3']", 2, "a number and text are never equal"),
    ],
)
def test_what_is_in_no_list_that_is_written_out_does_not_load(
    source: str, at: int, said: str
) -> None:
    found = ConditionCompiler().compile(source)
    assert not isinstance(found, Condition)
    ((where, text),) = found
    assert where == at
    assert said in text


@pytest.mark.parametrize(
    "source",
    [
        "request.params.id in ['7', 7]",
        "request.params.id in [user.id, 7]",
        "request.params.id in []",
        "1 in [1.0, 2u]",
        "int(request.params.id) in [7]",
        "user.email in [null]",
        "resource.id in [7]",
    ],
)
def test_what_may_be_in_a_list_loads(source: str) -> None:
    assert isinstance(ConditionCompiler().compile(source), Condition)
