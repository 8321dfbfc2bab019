"""What of a limit's key is counted as one in all its spellings: what is given, or joined."""

from __future__ import annotations

import pytest

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.counted_reads import counted_reads


def counted(source: str) -> tuple[str, list[str]]:
    condition = ConditionCompiler({"plans": {"a": "b"}}).compile(source, truth=False)
    assert isinstance(condition, Condition), condition
    other, reads = counted_reads(condition)
    names = [f"{one.kind}.{one.name}".rstrip(".") + "?" * (not one.is_text) for one in reads]
    return other.source, names


@pytest.mark.parametrize(
    ("source", "other", "names"),
    [
        ("resource.a", "counted_0", ["resource.a"]),
        ("(resource['a'])", "(counted_0)", ["resource.a"]),
        ("request.params.id", "counted_0", ["params.id"]),
        ("request.headers['x-a']", "counted_0", ["headers.x-a"]),
        ("user.id + ' ' + request.path", "user.id + ' ' + counted_0", ["path"]),
        ("'+ ?' + resource.a", "'+ ?' + counted_0", ["resource.a"]),
        ("string(resource.a)", "string(counted_0)", ["resource.a"]),
        ("dyn(resource.a)", "dyn(counted_0)", ["resource.a"]),
        ("client.ip", "counted_0", ["client"]),
        ("(client['ip'])", "(counted_0)", ["client"]),
        ("client.ip + ' ' + resource.a", "counted_0 + ' ' + counted_1", ["client", "resource.a"]),
        ("user == null ? client.ip : user.id", "user == null ? counted_0 : user.id", ["client"]),
        ("in_cidr(client.ip, '::/0') ? client.ip : 'x'", "in_cidr(client.ip, '::/0') ? counted_0 : 'x'", ["client"]),
        ("[client.ip, resource.a]", "[counted_0, resource.a]", ["client"]),
        ("[[user.id], [client]]", "[[user.id], [counted_0]]", ["client"]),
        ("{client.ip: resource.a, 'b': user == null ? client.ip : 'c'}", "{counted_0: resource.a, 'b': user == null ? counted_1 : 'c'}", ["client", "client"]),
        ("[client.ip] + [resource.a]", "[counted_0] + [resource.a]", ["client"]),
        ("user == null ? [client.ip, 'a' + string(client.ip)] : []", "user == null ? [counted_0, 'a' + string(counted_1)] : []", ["client", "client"]),
        ("'a' + string((resource.a))", "'a' + string((counted_0))", ["resource.a"]),
        ("resource.a + resource.b", "counted_0 + counted_1", ["resource.a?", "resource.b?"]),
        ("resource.a + resource.b + 'c'", "counted_0 + counted_1 + 'c'", ["resource.a", "resource.b"]),
        ("'c' + (resource.a + resource.b)", "'c' + (counted_0 + counted_1)", ["resource.a", "resource.b"]),
        ("resource.a + [user.id]", "counted_0 + [user.id]", ["resource.a?"]),
        ("resource.a == 'x' ? resource.a : user.id", "resource.a == 'x' ? counted_0 : user.id", ["resource.a"]),
        (
            "has(resource.a) ? 'a' + resource.a : (has(resource.b) ? resource.b : client.ip)",
            "has(resource.a) ? 'a' + counted_0 : (has(resource.b) ? counted_1 : counted_2)",
            ["resource.a", "resource.b", "client"],
        ),
        (
            "resource.a ? (resource.b ? 'x' : resource.c) : resource.d ? resource.e : resource.f",
            "resource.a ? (resource.b ? 'x' : counted_0) : resource.d ? counted_1 : counted_2",
            ["resource.c", "resource.e", "resource.f"],
        ),
        (
            "resource.l.exists(counted_0, counted_0 == 'x') ? resource.a : 'b'",
            "resource.l.exists(counted_0, counted_0 == 'x') ? counted_0 : 'b'",
            ["resource.a"],
        ),
    ],
)  # fmt: skip
def test_what_is_given_or_joined_is_counted(source: str, other: str, names: list[str]) -> None:
    assert counted(source) == (other, names)


@pytest.mark.parametrize(
    "source",
    [
        "user.id",
        "client.ip == '2001:db8::1'",
        "in_cidr(client.ip, '::/0') ? 'a' : 'b'",
        "data.plans[client.ip]",
        "[user.id].exists(one, one == client.ip)",
        "request.method + request.host",
        "resource",
        "resource.meta.account",
        "resource.items[0]",
        "data.plans[resource.a]",
        "user.claims[resource.a]",
        "[user.id, resource.a]",
        "{'a': resource.a}",
        "resource.a == 'x'",
        "!resource.a",
        "-resource.a",
        "resource.a && resource.b",
        "resource.a in ['x']",
        "resource.a - 1",
        "resource.a * 2 + resource.b",
        "has(resource.a)",
        "size(resource.a)",
        "resource.a.startsWith('x')",
        "string(size(resource.a))",
        "resource.a ? 'x' : user.id",
        "resource.l.map(x, x)",
        "user.id + data.plans['a']",
    ],
)
def test_whatever_is_asked_or_built_of_a_value_is_as_it_was_written(source: str) -> None:
    assert counted(source) == (source, [])
