"""A call that is held for longer than its decision, and its body then."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from gateway.access.decision import Decision
from gateway.access.decision_record import record_of
from gateway.access.parsed_bodies import drop_parsed, parsed_again, unparsed
from gateway.access.routing.routes import Route
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.model import Call
from tests.access.worlds import NOW, snapshot, who

WORLD = snapshot(
    """
    - id: note
      match: {path: /note, methods: [POST]}
      policy: p
      resource: {team: "{body.meta.team}", list: "{body.list}", none: "{body.none}"}
      upstream: api
    """,
    """
    policy: p
    rules: [{id: all, allow: ["*"]}]
    """,
)
BODY = {"meta": {"team": "red", "more": [1]}, "list": [["a"], 2], "rest": {"x": [1.5, "é"]}}


def decided() -> tuple[Call, Decision, Route]:
    asked = SimulatedRequest("POST", "/note", who("u1"), body=BODY, clock=FixedClock(NOW))
    result = simulate(asked, WORLD)
    call, route = result.call, result.decision.route
    assert call is not None
    assert route is not None
    call.raw_body = json.dumps(BODY).encode()
    return call, result.decision, route


def recorded(call: Call, decision: Decision) -> dict[str, Any]:
    return record_of(call, decision, at=NOW, status=200, request_id="r", version="v")


def test_what_is_left_of_a_body_gives_the_same_record() -> None:
    call, decision, route = decided()
    before = recorded(call, decision)
    drop_parsed(call, route, judged_again=False)
    assert before["body"]["values"] == {"meta.team": "red"}
    assert before["body"]["left_out"] == ["list"]
    assert recorded(call, decision) == before
    assert "rest" not in call.body
    assert call.raw_body == b""


def test_who_judges_it_again_has_all_that_it_said() -> None:
    call, _, route = decided()
    whole = replace(call)
    drop_parsed(call, route, judged_again=True)
    assert unparsed(call).body is None
    assert parsed_again(call) == parsed_again(unparsed(call)) == whole


def test_a_call_that_came_without_bytes_is_left_as_it_is() -> None:
    call = replace(decided()[0], raw_body=b"")
    assert parsed_again(call) is call
    assert unparsed(call) is call
