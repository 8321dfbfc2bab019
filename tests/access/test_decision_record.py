"""A decision as it is written down, every field of it, and as it is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.decision import Decision
from gateway.access.decision_record import (
    CREDENTIAL_REFUSALS,
    RecordedDecision,
    kept_call,
    read_record,
    record_of,
)
from gateway.access.record_gaps import LeftOut
from gateway.access.simulation import FixedClock, SimulatedRequest, recorded_request, simulate
from gateway.model import Call, Credential, CredentialKind, Principal, Reason
from gateway.review.unknown_reads import unknown_reads
from tests.access.decision_world import call_of
from tests.access.worlds import NOW, snapshot, who

WORLD = snapshot(
    """
    - {id: public, match: {path: "/public/{x:path}", host: h.example}, auth: public,
       allow_encoded_slash: true, upstream: api}
    - {id: bare, match: {path: /bare}, policy: bare, upstream: api}
    - id: read
      match: {path: "/read/{id}"}
      accept: [bearer, api_key, cookie]
      policy: read
      action: r:use
      resource: {team: "{body.meta.team}", size: "{body.size}", list: "{body.list}",
                 none: "{body.none}"}
      upstream: api
    """,
    """
    policy: read
    rules:
      - id: all
        allow: ["*"]
        when: "request.query.b == '1' || request.query.a == '1' || request.headers['x-b'] == 'b'
          || request.headers['x-a'] == 'b'"
      - {id: later, deny: ["*"], when: resource.team == 'red', reason: no_red, mode: shadow}
    """,
    """
    policy: bare
    rules:
      - {id: soon, allow: ["*"], mode: shadow}
    """,
)
REQUEST = {
    "at": NOW, "id": "r1", "version": "v1", "method": "GET", "host": "localhost",
    "path": "/bare", "ip": "10.0.0.1", "scheme": "http", "status": 403,
}  # fmt: skip


def recorded(
    request: str,
    caller: Principal | Reason = Reason.NO_CREDENTIAL,
    *,
    at: float = NOW,
    **more: Any,
) -> dict[str, Any]:
    method, _, url = request.partition(" ")
    asked = SimulatedRequest(
        method, url, caller, client_ip="10.0.0.1", clock=FixedClock(NOW), **more
    )
    answer = simulate(asked, WORLD)
    assert answer.call is not None
    record = record_of(
        answer.call, answer.decision, at=at, status=403, request_id="r1", version="v1"
    )
    # It is plain JSON.
    read: dict[str, Any] = json.loads(json.dumps(record))
    assert read == record
    return record


def test_of_an_unknown_path_the_request_alone_is_written() -> None:
    assert recorded("GET /nothing?a=1", at=NOW + 0.123456) == REQUEST | {
        "at": NOW + 0.123, "path": "/nothing", "decision": "deny", "reason": "route_unknown",
        "route": None, "policy": None, "rule": None,
        "beside": {"credentials": [], "query": True},
    }  # fmt: skip


def test_of_a_public_route_nobody_is_written_and_nothing_that_it_does_not_read() -> None:
    record = recorded("GET https://h.example/public/a%2Fb?q=1", who("u1"), body={"a": 1})
    assert record == REQUEST | {
        "host": "h.example", "path": "/public/a%2Fb", "scheme": "https", "decision": "allow",
        "reason": "route_public", "route": "public", "policy": None, "rule": None,
        "file": "routes.yaml", "line": 12,
        "beside": {"credentials": ["bearer"], "query": True, "body": True},
    }  # fmt: skip


def test_of_a_caller_their_standing_is_written_and_no_claim() -> None:
    plain = recorded("GET /bare", who("u1", "a", "b", claims={"ssn": "1"}))
    assert plain == REQUEST | {
        "decision": "deny", "reason": "no_rule", "route": "bare", "policy": "bare", "rule": None,
        "file": "policies/p1.yaml", "line": 2,
        "user": {"id": "u1", "roles": ["a", "b"], "verified": False, "auth_time": int(NOW),
                 "amr": ["pwd"]},
        "shadow": [{"policy": "bare", "rule": "soon", "decision": "allow",
                    "reason": "rule_allowed"}],
        "beside": {"credentials": ["bearer"], "once": {}},
    }  # fmt: skip
    key = who(
        "u1", email="u1@a.example", email_verified=True, client_id="c", amr=(), scopes=["b:c", "*"]
    )
    key = replace(key, auth_time=None, routes=frozenset(("read", "bare")))
    record = recorded("GET /read/7", key, kind=CredentialKind.API_KEY)
    assert record["user"] == {
        "id": "u1", "roles": [], "verified": True, "email": "u1@a.example", "client": "c",
        "scopes": ["b:c", "*"], "routes": ["bare", "read"], "with": "api_key", "held_roles": [],
    }  # fmt: skip


def test_of_a_token_its_resources_and_scopes_are_written_and_read_back() -> None:
    answer = simulate(SimulatedRequest("GET", "/bare", who("u1"), clock=FixedClock(NOW)), WORLD)
    assert answer.call is not None
    call = answer.call

    def line_of(caller: Principal) -> dict[str, Any]:
        decision = replace(answer.decision, principal=caller)
        return record_of(call, decision, at=NOW, status=403, request_id="r1", version="v1")

    call.credential = None
    own = replace(who("u1"), audience=("a",), resource_only=True, granted_scopes=("x", "y:z"))
    line = line_of(own)
    assert line["user"] == {
        "id": "u1", "roles": [], "verified": False, "auth_time": int(NOW), "amr": ["pwd"],
        "resource_only": True, "scope": "x y:z",
    }  # fmt: skip
    found = read_record(line)
    assert found is not None
    assert isinstance(found.caller, Principal)
    assert (found.caller.issuer, found.caller.audience) == ("own", ())
    assert (found.caller.resource_only, found.caller.granted_scopes) == (True, ("x", "y:z"))
    for audience in (None, ("a", "b")):
        other = replace(who("c:u1"), issuer="c", audience=audience)
        line = line_of(other)
        assert (line["user"]["issuer"], line["user"]["aud"]) == ("c", list(audience or ()))
        found = read_record(line)
        assert found is not None
        assert isinstance(found.caller, Principal)
        assert (found.caller.issuer, found.caller.audience) == ("c", audience or ())
        assert (found.caller.resource_only, found.caller.granted_scopes) == (False, ())


def test_of_a_request_what_the_policy_reads_is_written() -> None:
    record = recorded(
        "POST /read/7?a=1&c=3",
        who("u1"),
        headers=[("X-A", "é"), ("X-C", "c")],
        body={"meta": {"team": "red", "more": 1}, "size": 1.5, "list": [1], "none": None},
    )
    assert record["query"] == {"read": ["a", "b"], "values": {"a": "1"}}
    assert record["headers"] == {"read": ["x-a", "x-b"], "values": {"x-a": "é"}}
    assert record["body"] == {
        "read": ["list", "meta.team", "none", "size"],
        "values": {"meta.team": "red", "size": 1.5},
        "left_out": ["list"],
    }
    assert record["shadow"] == [
        {"policy": "read", "rule": "later", "decision": "deny", "reason": "no_red"}
    ]
    for value in (True, 7, "text"):
        record = recorded("POST /read/7?a=1", who("u1"), body={"size": value, "meta": "none"})
        assert record["body"]["values"] == {"size": value}


def test_what_could_be_read_in_two_ways_has_no_values() -> None:
    record = recorded(
        "GET /read/7?a=1&a=2", who("u1"), headers=[("X-A", "1"), ("X-A", "2")], body=[]
    )
    assert record["query"] == {"read": ["a", "b"], "values": None}
    assert record["headers"] == {"read": ["x-a", "x-b"], "values": None}
    assert record["body"]["values"] == {}
    found = read_record(record)
    assert found is not None
    assert found.call.query == "a=&a=&b=&b="
    assert found.call.headers == ((b"x-a", b""), (b"x-a", b""), (b"x-b", b""), (b"x-b", b""))


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ([], ""),
        (["/bare/b"], "/bare/b"),
        (["http://localhost/bare/b"], "/bare/b"),
        (["http://elsewhere/bare/b"], None),
        (["/bare/b", "/bare/c"], None),
        (["/bare/b?password=hunter2"], None),
    ],
)
def test_of_a_move_the_path_that_it_writes_is_written(
    fields: list[str], written: str | None
) -> None:
    record = recorded("MOVE /bare", who("u1"), headers=[("Destination", one) for one in fields])
    assert record["destination"] == written
    assert "destination" not in recorded("PUT /bare", who("u1"), headers=[("Destination", "/b")])
    far = recorded("MOVE /bare", who("u1"), headers=[("Destination", "/" + "b" * 2_000)])
    assert "destination" not in far


def test_what_came_beside_is_told_without_a_value() -> None:
    record = recorded(
        "POST /read/7?a=1&note=hunter2",
        who("u1"),
        headers=[("Content-Length", "9")],
        body={"meta": {"team": "red"}, "list": {"secret": "hunter3"}, "other": 1},
    )
    assert "read" in record["beside"].pop("once")["wrappers"]
    assert record["beside"] == {"credentials": ["bearer"], "query": True, "body": True}
    assert record["body"]["left_out"] == ["list"]
    assert "hunter" not in json.dumps(record)


def test_who_was_revoked_while_the_call_waited_is_no_matter_of_a_policy() -> None:
    found = read_record(LINE | {"reason": "token_revoked", "decision": "deny"})
    assert found is not None
    assert not found.is_judged


# Read back

READ_BACK = RecordedDecision(
    at=NOW,
    request_id="r1",
    version="v1",
    call=Call(
        "POST", "localhost", "/read/a%2Fb;c", ("read", "a/b;c"),
        "a=%26%20%C3%A9%2F&b%2F=2", headers=((b"x-a", "é".encode()), (b"x-b", b"b")),
        client_ip="10.0.0.1", scheme="http", credential=Credential(CredentialKind.API_KEY, ""),
        encoded_slash=True, body={"meta": {"team": "red", "name": "n"}, "size": 1.5},
        files_only=True,
    ),
    caller=Principal(
        "u1", ("a", "b"), None, "recorded", "c", kid="recorded", issued_at=int(NOW), expires_at=int(NOW) + 1,
        email="u1@a.example", email_verified=True, auth_time=int(NOW) - 5, amr=("pwd", "otp"), scopes=("b:c",), routes=frozenset(("r", "s")),
    ),
    allowed=True,
    reason="rule_allowed",
    route="read",
    rule="all",
    status=200,
    query_names=frozenset(("a", "b/")),
    header_names=frozenset(("x-a", "x-b")),
    body_names=frozenset(("meta.team", "meta.name", "size")),
)  # fmt: skip
LINE: dict[str, Any] = {
    "at": NOW, "id": "r1", "version": "v1", "method": "POST", "host": "localhost",
    "path": "/read/a%2Fb;c", "ip": "10.0.0.1", "scheme": "http", "status": 200,
    "decision": "allow", "reason": "rule_allowed", "route": "read", "policy": "read",
    "rule": "all", "file": "policies/p0.yaml", "line": 4,
    "user": {
        "id": "u1", "roles": ["a", "b"], "verified": True, "email": "u1@a.example",
        "client": "c", "auth_time": int(NOW) - 5, "amr": ["pwd", "otp"], "scopes": ["b:c"],
        "routes": ["r", "s"], "with": "api_key", "held_roles": ["b", "a"],
    },
    "query": {"read": ["a", "b/"], "values": {"a": "& é/", "b/": "2"}},
    "headers": {"read": ["x-a", "x-b"], "values": {"x-a": "é", "x-b": "b"}},
    "body": {"read": ["meta.team", "meta.name", "size"],
             "values": {"meta.team": "red", "meta.name": "n", "size": 1.5}},
}  # fmt: skip


def test_every_field_is_read_back() -> None:
    assert read_record(LINE) == READ_BACK


def test_what_need_not_be_there_is_taken_as_none() -> None:
    optional = ("policy", "file", "line", "query", "headers", "body", "route", "rule")
    line = {name: value for name, value in LINE.items() if name not in optional}
    line |= {"user": {"id": "u1", "roles": []}, "path": "/a", "decision": "deny"}
    found = read_record(line)
    assert found == RecordedDecision(
        at=NOW,
        request_id="r1",
        version="v1",
        call=Call(
            "POST", "localhost", "/a", ("a",), "", headers=(), client_ip="10.0.0.1", scheme="http",
            credential=Credential(CredentialKind.BEARER, ""),
        ),
        caller=Principal(
            "u1", (), None, "recorded", None, kid="recorded", issued_at=int(NOW), expires_at=int(NOW) + 1, audience=()
        ),
        allowed=False,
        reason="rule_allowed",
        route=None,
        rule=None,
        status=200,
    )  # fmt: skip


def test_a_cookie_of_then_counts_as_one_whose_intent_was_proven() -> None:
    found = read_record(LINE | {"user": LINE["user"] | {"with": "cookie"}})
    assert found is not None
    assert found.call.credential == Credential(CredentialKind.BEARER, "")


@pytest.mark.parametrize(
    ("reason", "caller"),
    [
        *((reason.value, reason) for reason in sorted(CREDENTIAL_REFUSALS)),
        ("no_credential", Reason.NO_CREDENTIAL),
        ("no_rule", Reason.NO_CREDENTIAL),
        ("a_reason_of_a_rule", Reason.NO_CREDENTIAL),
    ],
)
def test_nobody_is_nobody_for_the_reason_of_then(reason: str, caller: Reason) -> None:
    found = read_record(LINE | {"user": None, "reason": reason})
    assert found is not None
    assert found.caller is caller
    bearer = Credential(CredentialKind.BEARER, "")
    assert found.call.credential == (None if caller is Reason.NO_CREDENTIAL else bearer)
    assert recorded_request(found).kind is CredentialKind.BEARER


@pytest.mark.parametrize(
    "name",
    ["at", "id", "version", "method", "host", "path", "ip", "scheme", "status", "decision",
     "reason"],
)  # fmt: skip
def test_a_line_that_lacks_what_every_line_has_is_none_of_ours(name: str) -> None:
    assert read_record({key: value for key, value in LINE.items() if key != name}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "/a/../b"},
        {"path": 7},
        {"at": "soon"},
        {"status": "ok"},
        {"query": 7},
        {"query": {"values": None, "x": 1}},
        {"user": {"id": "u1"}},
        {"user": LINE["user"] | {"with": "magic"}},
        {"user": 7},
        {"headers": {"read": ["naïve\u2028"], "values": {"\u2028": "1"}}},
        {"body": {"read": [], "values": {"a": 1, "a.b": 2}}},
    ],
)
def test_a_line_with_something_else_in_it_is_none_of_ours(wrong: dict[str, Any]) -> None:
    assert read_record(LINE | wrong) is None


def test_what_was_read_back_is_asked_as_it_was() -> None:
    request = recorded_request(READ_BACK)
    assert request == SimulatedRequest(
        "POST",
        "/read/a%2Fb;c?a=%26%20%C3%A9%2F&b%2F=2",
        READ_BACK.caller,
        [("Host", "localhost"), ("x-a", "é"), ("x-b", "b")],
        "10.0.0.1",
        {"meta": {"team": "red", "name": "n"}, "size": 1.5},
        FixedClock(NOW),
        CredentialKind.API_KEY,
    )
    without = replace(READ_BACK, call=replace(READ_BACK.call, query=""))
    assert recorded_request(without).url == "/read/a%2Fb;c"


def test_what_a_route_reads_and_the_line_does_not_hold_is_named() -> None:
    decision = Decision(True, "rule_allowed", route=WORLD.routes.get("read"))
    held = replace(
        READ_BACK,
        query_names=frozenset("b"),
        header_names=frozenset(("x-b", "x-z")),
        body_names=frozenset(("meta.team", "size", "size.deep")),
    )
    assert unknown_reads(held, decision) == [
        "query parameter a", "header x-a", "body field list", "body field none",
    ]  # fmt: skip
    nothing = replace(held, query_names=frozenset(), header_names=frozenset())
    assert unknown_reads(nothing, decision)[:4] == [
        "query parameter a", "query parameter b", "header x-a", "header x-b",
    ]  # fmt: skip
    for other in (None, WORLD.routes.get("public"), WORLD.routes.get("bare")):
        assert unknown_reads(nothing, Decision(True, "rule_allowed", route=other)) == []


@pytest.mark.parametrize(
    ("reason", "unknown"),
    [
        (Reason.AMBIGUOUS_QUERY, ["all other query parameters"]),
        (Reason.AMBIGUOUS_HEADER, ["all other headers"]),
        (Reason.BODY_MALFORMED, ["all other body fields"]),
        (Reason.NO_RULE, []),
    ],
)
def test_of_what_was_said_in_two_ways_the_line_holds_one(
    reason: Reason, unknown: list[str]
) -> None:
    refused = replace(READ_BACK, allowed=False, reason=str(reason))
    assert unknown_reads(refused, Decision(True, "rule_allowed")) == unknown
    assert unknown_reads(refused, Decision(False, str(reason), reason)) == []


def test_a_call_is_kept_with_what_its_policy_reads_of_the_body_alone() -> None:
    call = call_of(
        "POST /read/7",
        who("u1"),
        body={"meta": {"team": "red", "more": "x" * 99}, "size": 1.5, "list": [1], "other": "y"},
    )
    (route,) = [one for one in WORLD.routes if one.id == "read"]
    kept, characters = kept_call(call, route)
    assert kept == replace(call, body={"meta": {"team": "red"}, "size": 1.5, "list": LeftOut()})
    assert characters == 3
    for without in (None, next(one for one in WORLD.routes if one.id == "bare")):
        kept, characters = kept_call(call, without)
        assert (kept.body, characters) == (None, 0)
    empty = call_of("POST /read/7", who("u1"))
    kept, characters = kept_call(empty, route)
    assert kept is empty
    assert characters == 0
