"""A line of the access log can be read back, and holds nothing that nobody is to read there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.decision_record import read_record, record_of
from gateway.access.simulation import FixedClock, SimulatedRequest, recorded_request, simulate
from gateway.telemetry.access_record import (
    LINE_BYTES,
    AnsweredRequest,
    as_combined,
    as_json,
    fields_of_decision,
    fields_of_line,
    fields_of_request,
    record_of_fields,
    told_target,
)
from tests.access.worlds import NOW, rule_world, who

WORLD = rule_world("""
  - {id: own, allow: ['*'], when: resource.owner == user.id}
  - {id: foreign, deny: ['*'], when: resource.owner != user.id, reason: not_yours}
""")


def record_for(url: str, *roles: str, **more: Any) -> dict[str, Any]:
    caller = who("u1", *roles, email="u1@example.com", **more)
    answer = simulate(SimulatedRequest("GET", url, caller, clock=FixedClock(NOW)), WORLD)
    assert answer.call is not None
    return record_of(
        answer.call, answer.decision, at=NOW, status=403, request_id="r1", version="v1"
    )


def fields_for(url: str, *roles: str, **more: Any) -> dict[str, Any]:
    headers = [(b"user-agent", b"curl/8"), (b"Authorization", b"Bearer hidden")]
    return fields_of_decision(record_for(url, *roles, **more), headers, took_s=0.0015, worker=7)


def test_a_refusal_is_told_in_the_names_of_ecs_with_the_rule_and_its_line() -> None:
    fields = fields_for("/orders/u2?q=hidden", "viewer")
    assert fields["@timestamp"] == "2027-01-15T08:00:00.000+00:00"
    assert (fields["http.request.id"], fields["http.response.status_code"]) == ("r1", 403)
    assert (fields["event.outcome"], fields["event.reason"]) == ("failure", "not_yours")
    assert (fields["event.duration"], fields["process.pid"]) == (1_500_000, 7)
    assert (fields["user.id"], fields["user.roles"]) == ("u1", ["viewer"])
    assert (fields["rule.id"], fields["user_agent.original"]) == ("foreign", "curl/8")
    assert fields["authgate.file"].endswith(".yaml")
    assert fields["authgate.line"] > 0
    assert fields["url.path"] == "/orders/u2"
    text = as_json(fields)
    assert "hidden" not in text
    assert "u1@example.com" not in text


def test_a_line_can_be_judged_again() -> None:
    line = as_json(fields_for("/orders/u2", "viewer", amr=("pwd", "totp"), scopes=("orders:read",)))
    fields = fields_of_line(f"Jan 15 08:00:00 host authgate[1]: {line}")
    assert fields is not None
    recorded = read_record(record_of_fields(fields))
    assert recorded is not None
    again = simulate(recorded_request(recorded), WORLD).decision
    assert (again.allowed, again.reason) == (False, "not_yours")
    caller: Any = recorded.caller
    assert (caller.subject, caller.roles, caller.scopes) == ("u1", ("viewer",), ("orders:read",))
    assert caller.amr == ("pwd", "totp")


def test_a_line_is_short_however_long_what_came_is() -> None:
    roles = [f"role-{number}-{'x' * 100}" for number in range(60)]
    line = as_json(fields_for("/orders/" + "u" * 3_000, *roles))
    assert len(line) <= LINE_BYTES
    fields = fields_of_line(line)
    assert fields is not None
    assert (fields["rule.id"], fields["event.reason"]) == ("foreign", "not_yours")
    assert record_of_fields(fields) is None, "what was cut is judged as no other call"


def test_what_was_not_decided_is_no_record() -> None:
    request = AnsweredRequest("r2", 400, "192.0.2.1", "GET", "", "/a/../b")
    fields = fields_of_request(request, "ambiguous_path", route_id="", at=NOW, worker=7)
    assert fields["url.path"] == "/a/../b"
    assert "user.id" not in fields
    assert record_of_fields(fields) is None


def test_the_combined_format_has_the_id_the_reason_the_route_and_the_worker_behind_it() -> None:
    assert as_combined(fields_for("/orders/u2?q=hidden")) == (
        '127.0.0.1 - u1 [15/Jan/2027:08:00:00 +0000] "GET /orders/u2 HTTP/1.1" 403 - "-" "curl/8"'
        " r1 not_yours orders 7"
    )


@given(st.text(max_size=60), st.text(max_size=60), st.binary(max_size=60))
def test_nothing_that_a_client_sends_ends_a_line_or_a_field(
    path: str, method: str, agent: bytes
) -> None:
    request = AnsweredRequest("r3", 400, "192.0.2.1", method, "h", path, [(b"User-Agent", agent)])
    fields = fields_of_request(request, "request_malformed", route_id="", at=NOW, worker=7)
    for line in (as_json(fields), as_combined(fields)):
        assert line.isascii()
        assert line.isprintable()
    combined = fields_of_line(as_combined(fields))
    assert combined is not None
    assert (combined["http.request.id"], combined["event.reason"]) == ("r3", "request_malformed")
    assert json.loads(as_json(fields))["http.request.id"] == "r3"


@pytest.mark.parametrize("line", ["", "{}", '{"@timestamp": 1', "GET / 403", '{"@timestamp": 1}'])
def test_another_line_is_none_of_ours(line: str) -> None:
    assert fields_of_line(line) is None


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/a/b?c=secret", "/a/b"),
        ("/a@b", "/a@b"),
        ("http://user:secret@example.com/a?b", "example.com/a"),
        ("http:/user:sec@ret@example.com", "example.com"),
        ("user:secret@example.com:443", "example.com:443"),
        ("*", "*"),
    ],
)
def test_a_target_is_told_without_a_query_and_without_a_password(target: str, told: str) -> None:
    assert told_target(target) == told


def traced_line(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    request = AnsweredRequest("r1", 401, headers=headers)
    return fields_of_request(request, "no_credential", route_id="", at=NOW, worker=1)


def test_a_line_names_the_trace_that_the_client_names() -> None:
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    assert traced_line((b"Traceparent", parent))["trace.id"] == parent[3:35].decode()
    assert "trace.id" not in traced_line()
    assert "trace.id" not in traced_line((b"traceparent", parent[:-1]))
    twice = traced_line((b"traceparent", parent), (b"traceparent", parent))
    assert "trace.id" not in twice, "two of them are none"
