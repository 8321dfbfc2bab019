"""What of one call its route's policy, resource and limits may read."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.conditions.context import EvaluationContext, RequestedResource
from gateway.access.evaluation import evaluation_context, judged_resource, requested_resource
from gateway.access.routing.route_table import Match
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.model import Call, Reason
from tests.access.worlds import NOW, snapshot, who

WORLD = snapshot(
    """
    - {id: bare, match: {path: "/bare/{x}"}, policy: p, action: "a:b", upstream: api}
    - {id: whole, match: {path: "/whole/{x}"}, policy: p, action: "a:b", upstream: api,
       resource: {a: "{body.a}", b: "{body.deep.b}"}}
    - {id: parts, match: {path: "/parts/{x}"}, policy: p, action: "a:b", upstream: api,
       resource: {a: "a-{body.a}", b: "{body.deep.b}"}}
    - {id: typed, match: {path: "/typed/{x}"}, policy: p, action: "a:b", upstream: api,
       resource: {type: note, a: "{body.a}"}}
    - {id: single, match: {path: "/users/{x}/profile"}, policy: p, action: "a:b", upstream: api,
       resource: {a: "{body.a}"}}
    - {id: address, match: {path: "/users/{x}/address"}, policy: p, action: "a:b", upstream: api,
       resource: {a: "{body.address.city}"}}
    - {id: moved, match: {path: "/me/{x}"}, policy: p, action: "a:b", upstream: api,
       resource: {a: "{body.a}"}, rewrite: {path: "/v1/quizzes/{x}/start"}}
    - {id: under, match: {path: "/old/notes/{x}"}, policy: p, action: "a:b", upstream: api,
       resource: {a: "{body.a}"}, rewrite: {strip_prefix: /old/notes, add_prefix: /v1/mice}}
    - {id: all, match: {path: "/all/{x}"}, policy: p, action: "a:b", upstream: api,
       resource: {kind: doc, x: "{x}", q: "{query.q}", h: "{headers.x-h}", b: "{body.b}"}}
    """,
    """
    policy: p
    rules: [{id: all, allow: ["*"], when: "request.query.z != 'z' || request.headers.z != 'z'"}]
    """,
)


def matched(url: str, **more: Any) -> tuple[Call, Match]:
    call = simulated_call(SimulatedRequest("POST", url, **more))
    assert isinstance(call, Call)
    match = WORLD.routes.match(call.host, call.method, call.segments)
    assert isinstance(match, Match)
    return call, match


def read(url: str, **more: Any) -> EvaluationContext | Reason:
    return evaluation_context(*matched(url, **more), who("u1"), lambda: NOW)


def test_the_policy_reads_the_call_its_caller_and_the_time() -> None:
    call, match = matched("/all/1?q=2", headers=[("X-H", "3"), ("Z", "4")], body={"b": 5})
    found = evaluation_context(call, match, caller := who("u1"), lambda: NOW)
    assert isinstance(found, EvaluationContext)
    assert found.call is call
    assert found.principal is caller
    assert found.now() == NOW
    assert found.params == {"x": "1"}
    assert (found.query, found.headers) == ({"q": "2"}, {"x-h": "3", "z": "4"})
    assert found.resource == {"kind": "doc", "x": "1", "q": "2", "h": "3", "b": 5}
    policy = match.route.policy
    assert policy is not None
    assert found.roles is policy.roles
    assert found.data is policy.data


def test_a_route_without_a_resource_has_none() -> None:
    found = read("/bare/1")
    assert isinstance(found, EvaluationContext)
    assert (found.resource, found.query, found.headers) == ({}, {}, {})


@pytest.mark.parametrize("body", [None, {}, {"a": None}, {"deep": None}, {"deep": {}}])
@pytest.mark.parametrize("path", ["/whole/1", "/parts/1"])
def test_what_a_body_does_not_hold_is_no_field(path: str, body: Any) -> None:
    found = read(path, body=body)
    assert isinstance(found, EvaluationContext)
    assert found.resource == {}


@pytest.mark.parametrize(
    "body", [[], "text", 7, {"A": 1}, {"a": 1, "A": 1}, {"deep": []}, {"deep": {"B": 1}},
             {"a": 2**63}, {"deep": {"b": -(2**63)}}],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/whole/1", "/parts/1"])
def test_a_body_that_could_be_read_in_two_ways_is_malformed(path: str, body: Any) -> None:
    assert read(path, body=body) is Reason.BODY_MALFORMED
    assert isinstance(read("/bare/1", body=body), EvaluationContext)


def test_what_may_be_the_whole_of_a_body_to_a_backend_says_none_of_its_fields_anew() -> None:
    assert read("/whole/1", body={"a": 1, "part": {"a": 2}}) is not Reason.BODY_MALFORMED
    inner: dict[str, Any]
    for inner in ({"a": 2}, {"deep": {}}):
        assert read("/whole/1", body={"a": 1, "whole": inner}) is Reason.BODY_MALFORMED
        assert read("/parts/1", body={"a": 1, "part": inner}) is Reason.BODY_MALFORMED
    assert read("/typed/1", body={"a": 1, "note": {"a": 2}}) is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    ("path", "names"),
    [("/users/1/profile", ("profile", "user")), ("/me/1", ("me", "quiz", "start")),
     ("/old/notes/1", ("note", "mouse"))],
)  # fmt: skip
def test_a_whole_may_have_the_name_of_what_the_path_or_its_rewrite_says(
    path: str, names: tuple[str, ...]
) -> None:
    for name in names:
        assert read(path, body={"a": 1, name: {"a": 1}}) is Reason.BODY_MALFORMED
        for ordinary in ({name: {"b": 2}}, {name: "a"}, {name: [{"a": 2}]}, {"part": {"a": 2}}):
            found = read(path, body={"a": 1, **ordinary})
            assert isinstance(found, EvaluationContext)
            assert found.resource == {"a": 1}


def test_a_whole_in_which_a_policy_reads_may_say_its_own_name_again() -> None:
    inner = {"city": "x", "address": "Main st 1"}
    found = read("/users/1/address", body={"address": inner})
    assert isinstance(found, EvaluationContext)
    assert found.resource == {"a": "x"}
    other = {"address": inner, "user": {"address": {"city": "y"}}}
    assert read("/users/1/address", body=other) is Reason.BODY_MALFORMED


@pytest.mark.parametrize("value", [True, False, {}, {"c": 1}, [], ["x"]])
def test_what_is_no_text_is_no_part_of_one(value: Any) -> None:
    assert read("/parts/1", body={"a": value}) is Reason.BODY_MALFORMED
    found = read("/whole/1", body={"a": value})
    assert isinstance(found, EvaluationContext)
    assert found.resource == {"a": value}
    found = read("/parts/1", body={"a": 7, "deep": {"b": value}})
    assert isinstance(found, EvaluationContext)
    assert found.resource == {"a": "a-7", "b": value}


def test_a_limit_reads_the_path_and_the_resource_alone() -> None:
    call, match = matched("/all/1?q=2&z=3", headers=[("X-H", "3"), ("Z", "4")], body={"b": 5})
    for reads in (requested_resource, judged_resource):
        assert reads(call, match) == RequestedResource(
            {"x": "1"}, {"kind": "doc", "x": "1", "q": "2", "h": "3", "b": 5}, last_param="x"
        )
        assert reads(*matched("/bare/1")) == RequestedResource({"x": "1"}, {}, last_param="x")


def test_a_text_made_of_several_is_counted_when_a_limit_asks() -> None:
    requested = requested_resource(*matched("/parts/1", body={"a": "B\xc9"}))
    assert isinstance(requested, RequestedResource)
    assert requested.resource["a"] == "a-B\xc9"
    assert {name: count() for name, count in requested.joined.items()} == {"a": "a-be"}


@pytest.mark.parametrize(
    ("url", "headers", "body", "resource"),
    [
        ("/all/1", [], None, {}),
        ("/all/1?q=2", [], None, {"q": "2"}),
        ("/all/1", [("X-H", "3")], {}, {"h": "3"}),
        ("/all/1", [], {"b": 1}, {"b": 1}),
    ],
)
def test_what_a_call_does_not_say_is_no_field_to_a_limit(
    url: str, headers: list[tuple[str, str]], body: Any, resource: dict[str, Any]
) -> None:
    for reads in (requested_resource, judged_resource):
        asked = reads(*matched(url, headers=headers, body=body))
        assert isinstance(asked, RequestedResource)
        assert asked.resource == {"kind": "doc", "x": "1"} | resource


@pytest.mark.parametrize(
    ("url", "headers", "body", "reason"),
    [
        ("/all/1?q=2&q=2", [], None, Reason.AMBIGUOUS_QUERY),
        ("/all/1?Q=2", [], None, Reason.AMBIGUOUS_QUERY),
        ("/all/1", [("X-H", "3"), ("X-H", "3")], None, Reason.AMBIGUOUS_HEADER),
        ("/all/1", [("X_H", "3")], None, Reason.AMBIGUOUS_HEADER),
        ("/all/1", [], [], Reason.BODY_MALFORMED),
        ("/all/1", [], {"B": 1}, Reason.BODY_MALFORMED),
        ("/whole/1", [], {"a": 2**63}, Reason.BODY_MALFORMED),
        ("/parts/1", [], {"a": True}, Reason.BODY_MALFORMED),
        ("/all/1?b=2", [], {"b": 1}, Reason.AMBIGUOUS_QUERY),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_by_policies_and_limits_alike(
    url: str, headers: list[tuple[str, str]], body: Any, reason: Reason
) -> None:
    more: dict[str, Any] = {"headers": headers, "body": body}
    assert requested_resource(*matched(url, **more)) is reason
    assert read(url, **more) is reason
