"""Explanations as the list in `told/explanations.txt` has them: under each request all that is told
of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from gateway.access.authorizer import Decision
from gateway.access.conditions.context import Missing
from gateway.access.explanation import describe, explain, shown
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.model import Principal, Reason
from tests.access.told import listed, told_anew
from tests.access.worlds import NOW, snapshot, who

WORLD = snapshot(
    """
    - {id: orders, match: {path: "/orders/{id}"}, policy: orders, action: "orders:read",
       resource: {owner: "{id}"}, upstream: api}
    - {id: cancel, match: {path: "/orders/{id}/cancel", methods: [POST]}, policy: orders,
       action: "orders:cancel", resource: {owner: "{id}"}, upstream: api}
    - {id: raed, match: {path: /raed}, policy: orders, action: "orders:rea", upstream: api}
    - {id: odd, match: {path: /odd}, policy: orders, action: "mail:send", upstream: api}
    - {id: bare, match: {path: /bare}, policy: orders, upstream: api}
    - {id: limits, match: {path: "/limits/{id}"}, policy: limits, action: "orders:read",
       upstream: api}
    - {id: shadow, match: {path: /shadow}, policy: shadow, action: "a:b", upstream: api}
    - {id: empty, match: {path: /empty}, policy: empty, action: "a:b", upstream: api}
    - {id: signed, match: {path: /signed}, policy: signed-in, upstream: api}
    - {id: maybe, match: {path: /maybe}, auth: optional, upstream: api}
    - {id: query, match: {path: "/query"}, policy: query, action: "a:b", upstream: api}
    - {id: app, match: {prefix: /app}, redirect_slash: true, auth: public, upstream: api}
    - {id: files, match: {path: "/files/{x:path}"}, paths: files, policy: files, upstream: api}
    - {id: get, match: {path: "/a/{x}", methods: [GET]}, auth: public, upstream: api}
    - {id: put, match: {path: "/a/{x}", methods: [PUT, DELETE]}, auth: public, upstream: api}
    - {id: num, match: {path: "/a/{x:int}"}, auth: public, upstream: api}
    - {id: rest, match: {path: "/a/{x:path}"}, auth: public, upstream: api}
    - {id: deep, match: {path: "/a/{x}/c/{y:uuid}"}, auth: public, upstream: api}
    - {id: exact, match: {path: /a/b/c}, auth: public, upstream: api}
    - {id: host, match: {path: "/a/{x}", host: h.example}, auth: public, upstream: api}
    - {id: hosts, match: {path: "/h/{x}", hosts: [h.example, i.example]}, auth: public,
       upstream: api}
    - {id: wild, match: {path: "/h/{x}", host: "*.j.example"}, auth: public, upstream: api}
    - {id: named, match: {path: "/h/{x}", host: k.j.example}, auth: public, upstream: api}
    - {id: any, match: {path: "/h/{x}"}, auth: public, upstream: api}
    - {id: guest, match: {path: /guest}, auth: optional, policy: signed-in, upstream: api}
    - {id: near, match: {path: /near}, policy: near, action: "orders:raed", upstream: api}
    - {id: far, match: {path: /far}, policy: near, action: "orders:red", upstream: api}
    - {id: none, match: {path: /none}, policy: near, upstream: api}
    - {id: more, match: {path: "/a/{x}/{y:path}"}, auth: public, upstream: api}
    - {id: open, match: {path: "/open"}, auth: optional, policy: limits, action: "orders:read",
       upstream: api}
    - {id: reason, match: {path: /reason}, policy: reason, action: "a:b", upstream: api}
    - {id: one, match: {path: "/p/{x}"}, auth: public, upstream: api}
    - {id: all, match: {prefix: /p}, auth: public, upstream: api}
    - {id: shut, match: {prefix: /shut}, redirect_slash: true, policy: empty, action: "a:b",
       upstream: api}
    """,
    orders="""
    version: 1
    policy: orders
    roles: {viewer: ["orders:read"], lead: {inherits: [viewer], permissions: ["orders:*"]}}
    rules:
      - {id: own, allow: ["orders:read", "orders:list"], when: resource.owner == user.id,
         reason: not_yours}
      - {id: role, allow: role-permissions}
      - {id: level, allow: ["orders:cancel"], when: user.claims.level > 3 && has_role('lead'),
         step_up: {max_age: 5m}}
      - {id: bad, deny: ["*"], when: "'bad' in user.roles", reason: suspended}
      - {id: broken, deny: ["orders:cancel"], when: user.claims.level < 0}
      - {id: stale, deny: ["orders:list", "orders:cancel"], step_up: {max_age: 1h}}
      - {id: try, allow: ["orders:*"], mode: shadow}
    """,
    limits="""
    version: 1
    policy: limits
    roles: {viewer: ["orders:read"]}
    rules:
      - {id: both, allow: role-permissions, when: user == null || user.id == 'u2'}
      - {id: sure, allow: ["orders:read"], step_up: {amr: [totp]}}
    """,
    shadow="""
    version: 1
    policy: shadow
    rules:
      - {id: no, deny: ["*"], mode: shadow, when: user.id == 'u1'}
      - {id: yes, allow: ["*"]}
    """,
    empty="""
    version: 1
    policy: empty
    rules:
      - {id: gone, deny: ["a:*"], when: user.id == 'u2'}
    """,
    query="""
    version: 1
    policy: query
    rules:
      - {id: q, allow: ["*"], when: request.query.q == 'a'}
    """,
    reason="""
    version: 1
    policy: reason
    rules:
      - {id: silent, allow: ["a:b"], when: user.id == 'u9'}
      - {id: named, allow: ["a:b"], when: user.id == 'u9', reason: not_u9}
    """,
    near="""
    version: 1
    policy: near
    rules:
      - {id: first, allow: ["orders:read", "mail:send"], when: user.id == 'u9'}
      - {id: second, allow: ["orders:read"]}
      - {id: silent, allow: ["orders:red"], mode: shadow, when: user.id == 'u9'}
      - {id: no, deny: ["orders:rad"]}
    """,
    files="""
    version: 1
    policy: files
    rules:
      - {id: not-b, allow: ["*"], when: request.params.x != 'b'}
      - {id: not-e, deny: ["*"], when: "request.path in ['/files/e', '/files/q;c/d']"}
    """,
)
KEY = replace(who("u1"), scopes=("orders:*",), routes=frozenset(("limits",)))
CALLERS: dict[str, Principal | Reason] = {
    "nobody": Reason.NO_CREDENTIAL,
    "expired": Reason.TOKEN_EXPIRED,
    "u1": who("u1"),
    "u1-bad": who("u1", "bad", claims={"level": 5}),
    "lead": who("u2", "lead", email="u2@a.example", email_verified=True, claims={"level": 5}),
    "stale": who("u2", "lead", "x", email="u2@a.example", claims={"level": 5}, auth_time=NOW - 400),
    "older": who("u2", "lead", claims={"level": 5}, auth_time=NOW - 4_000),
    "viewer": who("u2", "viewer"),
    "strong": who("u1", amr=("pwd", "totp")),
    "scoped": who("u1", scopes=("mail:*",)),
    "key": KEY,
    "wide": who("u1", scopes=("*", "a:b")),
}


def told(line: str) -> Iterator[str]:
    method, url, name = line.split()
    caller = CALLERS[name]
    answer = simulate(SimulatedRequest(method, url, caller, clock=FixedClock(NOW)), WORLD)
    assert answer.call is not None
    found = explain(answer.decision, answer.call, WORLD, lambda: NOW)
    yield f"    {found.sentence}"
    yield f"    caller: {found.caller}"
    for one in found.evaluations:
        decided = ", which decided" if one.decided else ""
        assert isinstance(one.note, str)
        note = f": {one.note}" if one.note else ""
        yield f"    {one.effect} {one.rule} at {one.location} {one.outcome}{decided}{note}"
        if one.condition is not None:
            yield f"      when {one.condition}"
        for what, value in one.values:
            yield f"      {what} = {value}"
    for other in found.others:
        yield f"    not {other.route} at {other.location}: {other.why}"


def test_what_is_told_of_each_request_stands_in_the_list() -> None:
    assert list(told_anew("explanations", "", told)) == listed("explanations")


def test_who_calls_is_told_with_whose_token() -> None:
    answer = simulate(SimulatedRequest("GET", "/maybe", client_ip="10.0.0.1"), WORLD)
    assert answer.call is not None
    other = replace(who("company:u1", "a", "b", scopes=("x", "y")), issuer="company")
    assert describe(other, answer.call) == (
        "company:u1 of issuer company, roles: a, b, scopes: x, y, from 10.0.0.1"
    )


def test_the_scopes_that_a_token_lacks_are_told() -> None:
    answer = simulate(SimulatedRequest("GET", "/orders/u1", who("u1")), WORLD)
    assert answer.call is not None
    lacking = Decision(
        False, Reason.INSUFFICIENT_SCOPE, Reason.INSUFFICIENT_SCOPE, lacking_scopes=("a", "b")
    )
    assert explain(lacking, answer.call, WORLD, lambda: NOW).sentence == (
        "denied with insufficient_scope: the token was not granted a, b"
    )


def test_a_value_is_shown_as_a_policy_has_it() -> None:
    values = (
        None, True, False, "a", 7, 1.5, ["a", 1, [None]], ("a", True), (), Missing(), Missing("x"),
        {"a": "b"}, datetime.fromtimestamp(NOW, UTC),
    )  # fmt: skip
    assert [shown(value) for value in values] == [
        "null", "true", "false", '"a"', "7", "1.5", '["a", 1, [null]]', '["a", true]', "[]",
        "nothing", "x", "{'a': 'b'}", "2027-01-15 08:00:00+00:00",
    ]  # fmt: skip


def test_a_long_value_is_cut() -> None:
    assert shown(10**119) == "1" + "0" * 119
    assert shown(10**120) == "1" + "0" * 116 + "…"
