"""Whole decisions about what goes on: every field that is not as in an empty one."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.simulation import FixedClock
from gateway.model import Principal, Reason
from tests.access.asked import Callers, Limits
from tests.access.decision_world import WORLD, call_of, told
from tests.access.worlds import NOW, who

AGAIN: list[tuple[str, Principal | None, dict[str, Any]]] = [
    ("GET /nowhere", None, {"reason": "route_unknown", "refusal": "route_unknown"}),
    ("POST /public/a", None, {"reason": "method_not_allowed", "refusal": "method_not_allowed"}),
    ("GET /nowhere/a;b", None, {"reason": "ambiguous_path", "refusal": "ambiguous_path"}),
    (
        "GET /public/a;b",
        None,
        {
            "reason": "ambiguous_path",
            "refusal": "ambiguous_path",
            "route": "public",
            "params": {"x": "a;b"},
            "location": "routes.yaml:11",
        },
    ),
    (
        "GET /public/a%2Fb",
        None,
        {
            "reason": "ambiguous_path",
            "refusal": "ambiguous_path",
            "route": "public",
            "params": {"x": "a/b"},
            "location": "routes.yaml:11",
        },
    ),
    (
        "GET /public/a",
        who("u1"),
        {
            "allowed": True,
            "reason": "route_public",
            "route": "public",
            "params": {"x": "a"},
            "location": "routes.yaml:11",
        },
    ),
    (
        "GET /signed",
        None,
        {
            "reason": "no_credential",
            "refusal": "no_credential",
            "route": "signed",
            "policy": "signed-in",
            "location": "routes.yaml:17",
        },
    ),
    (
        "GET /signed",
        who("u1"),
        {
            "allowed": True,
            "reason": "signed_in",
            "route": "signed",
            "principal": "u1",
            "policy": "signed-in",
            "rule": "signed-in",
            "location": "routes.yaml:17",
            "evaluated": True,
        },
    ),
    (
        "GET /maybe",
        None,
        {
            "allowed": True,
            "reason": "route_optional",
            "route": "maybe",
            "location": "routes.yaml:18",
        },
    ),
    (
        "GET /maybe",
        who("u1"),
        {
            "allowed": True,
            "reason": "route_optional",
            "route": "maybe",
            "principal": "u1",
            "location": "routes.yaml:18",
        },
    ),
    (
        "GET /judged/u1",
        who("u1"),
        {
            "allowed": True,
            "reason": "rule_allowed",
            "route": "judged",
            "params": {"x": "u1"},
            "principal": "u1",
            "policy": "p",
            "rule": "own",
            "location": "policies/p0.yaml:4",
            "headers": (("X-Own", "u1"), ("X-Two", "u1")),
            "evaluated": True,
            "last_limits": "per-route",
        },
    ),
    (
        "GET /judged/u2",
        who("u1"),
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "judged",
            "params": {"x": "u2"},
            "principal": "u1",
            "policy": "p",
            "location": "policies/p0.yaml:2",
            "evaluated": True,
        },
    ),
    (
        "GET /hidden/gone",
        who("u1"),
        {
            "reason": "gone",
            "route": "hidden",
            "params": {"x": "gone"},
            "principal": "u1",
            "policy": "q",
            "rule": "gone",
            "location": "policies/p1.yaml:4",
            "conceal": True,
            "evaluated": True,
        },
    ),
    (
        "GET /hidden/sure",
        who("u1"),
        {
            "reason": "insufficient_user_authentication",
            "refusal": "insufficient_user_authentication",
            "route": "hidden",
            "params": {"x": "sure"},
            "principal": "u1",
            "policy": "q",
            "rule": "sure",
            "location": "policies/p1.yaml:5",
            "evaluated": True,
            "max_age_s": 300,
            "amr": ("totp",),
        },
    ),
    (
        "GET /files/a;b",
        who("u1"),
        {
            "allowed": True,
            "reason": "rule_allowed",
            "route": "files",
            "params": {"x": "a;b"},
            "principal": "u1",
            "policy": "f",
            "rule": "most",
            "location": "policies/p3.yaml:4",
            "evaluated": True,
        },
    ),
    (
        "GET /files/b;d",
        who("u1"),
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "files",
            "params": {"x": "b"},
            "principal": "u1",
            "policy": "f",
            "location": "policies/p3.yaml:2",
            "evaluated": True,
            "read_as": "/files/b",
        },
    ),
    (
        "GET /files/c;d",
        who("u1"),
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "files",
            "params": {"x": "c;d"},
            "principal": "u1",
            "policy": "f",
            "location": "policies/p3.yaml:2",
            "evaluated": True,
        },
    ),
]


@pytest.mark.parametrize(("request_", "caller", "decision"), AGAIN)
def test_a_decision_of_what_goes_on_says_all_that_is_recorded_of_it(
    request_: str, caller: Principal | None, decision: dict[str, Any]
) -> None:
    gate = Authorizer(Callers(Reason.KEY_UNKNOWN), Limits(9.0), clock=FixedClock(NOW))
    call = call_of(request_, caller or Reason.NO_CREDENTIAL)
    assert told(gate.reevaluate(call, WORLD, caller)) == decision
