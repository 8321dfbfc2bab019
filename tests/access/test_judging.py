"""What the readings of a path cost: judged once where they show the policy the same, and not many
times where a policy may take long."""

from __future__ import annotations

from collections.abc import ItemsView
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.decision import Decision
from gateway.access.judging import MOST_JUDGED, acting
from gateway.access.judging import judged as judged_alone
from gateway.access.readings import readings_of
from gateway.access.routing.path_readings import MOST_READINGS, other_readings
from gateway.access.routing.route_table import Match
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate, simulated_call
from gateway.model import Call, Reason
from tests.access.worlds import NOW, anew, snapshot, who

# Whoever evaluates a policy of these once asks the clock once.
COUNTED = "now > timestamp('2020-01-01T00:00:00Z')"
WORLD = snapshot(
    """
    - id: bodies
      match: {prefix: /bodies}
      paths: files
      policy: bodies
      resource: {items: "{body.items}"}
      upstream: api
    - id: named
      match: {path: "/named/{rest:path}"}
      paths: files
      policy: bodies
      resource: {items: "{body.items}", name: "{rest}"}
      upstream: api
    - id: kinds
      match: {path: "/kinds/{rest:path}"}
      paths: files
      policy: filled
      resource: {owner: "{rest}", kind: "{body.kind}"}
      upstream: api
    - {id: lists, match: {prefix: /lists}, paths: files, policy: lists, upstream: api}
    - {id: unread, match: {path: "/unread/{rest:path}"}, paths: files, policy: any, upstream: api}
    - {id: paths, match: {prefix: /paths}, paths: files, policy: paths, upstream: api}
    - {id: told, match: {path: "/told/{name}"}, paths: files, policy: told, upstream: api}
    - id: filled
      match: {path: "/filled/{name}"}
      paths: files
      policy: filled
      resource: {owner: "{name}"}
      upstream: api
    - id: blocked
      match: {path: "/blocked/{rest:path}"}
      paths: files
      policy: blocked
      resource: {name: "{rest}"}
      upstream: api
    - id: tables
      match: {path: "/tables/{rest:path}"}
      paths: files
      policy: tables
      resource: {name: "{rest}"}
      upstream: api
    - id: of-tenant
      match: {path: "/tenants/{org}/{rest:path}"}
      paths: files
      tenant: "{org}"
      policy: tenants
      upstream: api
    """,
    f"""
    policy: bodies
    rules:
      - {{id: all, allow: ['*'], when: "{COUNTED} && resource.items.all(i, i.id != 'x')"}}
    """,
    f"""
    policy: lists
    rules:
      - {{id: all, allow: ['*'], when: "{COUNTED} && ['/a'].all(i, i != request.path)"}}
    """,
    f"""
    policy: any
    rules: [{{id: all, allow: ['*'], when: "{COUNTED} && request.method != 'PUT'"}}]
    """,
    f"""
    policy: paths
    rules: [{{id: all, allow: ['*'], when: "{COUNTED} && request.path != '/paths/root'"}}]
    """,
    f"""
    policy: told
    rules:
      - id: all
        allow: ['*']
        when: >-
          {COUNTED} && request.query.team == 'a' && request.headers['x-team'] == 'b'
          && request.params.name != 'root'
    """,
    f"""
    policy: filled
    rules: [{{id: all, allow: ['*'], when: "{COUNTED} && resource.owner != 'root'"}}]
    """,
    f"""
    policy: blocked
    rules: [{{id: all, allow: ['*'], when: "{COUNTED} && !(resource.name in data.names)"}}]
    """,
    f"""
    policy: tables
    rules: [{{id: all, allow: ['*'], when: "{COUNTED} && !('/' + resource.name in data.names)"}}]
    """,
    """
    policy: tenants
    rules: [{id: all, allow: ['*'], when: "user.tenant == null || user.tenant == 'a'"}]
    """,
    data__names="\n".join(("version: 1", "names:", *(f"- name-{one}" for one in range(200)))),
)
MANY = "/x/%2541/%252541%253B;%2541%2525%5C%253B"
"""A path of as many readings as there may be."""


class CountingClock(FixedClock):
    def __init__(self) -> None:
        super().__init__(NOW)
        self.asked = 0

    def now(self) -> float:
        self.asked += 1
        return super().now()


class CountedBody(dict[str, Any]):
    """One that tells how often its fields were looked through."""

    looked_through = 0

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        self.looked_through += 1
        return super().items()


def body() -> CountedBody:
    return CountedBody({"items": [{"id": "a"}]})


def judged(request: str, **more: Any) -> tuple[Decision, int]:
    """The decision, and how often the policy was evaluated for it."""
    method, _, url = request.partition(" ")
    clock = CountingClock()
    simulated = simulate(
        SimulatedRequest(method, url, who("ann"), clock=clock, **more), anew(WORLD)
    )
    return simulated.decision, clock.asked


def written(path: str) -> list[tuple[str, str]]:
    return [("Destination", path)]


def test_a_path_has_as_many_readings_as_there_may_be() -> None:
    assert len(other_readings(f"/paths{MANY}") or ()) == MOST_READINGS - 1


@pytest.mark.parametrize("asked", ["/bodies", "/bodies/a;b", f"/bodies{MANY}"])
def test_a_policy_that_reads_no_path_judges_all_readings_at_once(asked: str) -> None:
    decision, evaluated = judged(f"POST {asked}", body=body())
    assert (decision.allowed, evaluated) == (True, 1)


def test_what_a_move_writes_is_judged_with_what_it_takes() -> None:
    headers = written(f"/bodies{MANY}z")
    decision, evaluated = judged(f"MOVE /bodies{MANY}", headers=headers, body=body())
    assert (decision.allowed, evaluated) == (True, 1)


def test_parameters_that_no_rule_reads_are_not_judged_apart() -> None:
    decision, evaluated = judged(f"GET /unread{MANY}")
    assert (decision.allowed, evaluated) == (True, 1)


def test_each_reading_that_the_policy_tells_apart_is_judged() -> None:
    decision, evaluated = judged(f"GET /paths{MANY}")
    assert (decision.allowed, evaluated) == (True, MOST_READINGS)
    headers = written(f"/paths/y{MANY}")
    decision, evaluated = judged(f"MOVE /paths{MANY}", headers=headers)
    assert (decision.allowed, evaluated) == (True, 2 * MOST_READINGS)


@pytest.mark.parametrize(
    ("asked", "to", "readings"),
    [
        ("/x", "", 1),
        ("/a;b", "", 2),
        ("/a%5Cb", "/a%5Cc", 4),
        ("/a;b/c", "/a;b/d", 5),
        ("/a;b/c", "/b;c/d", 6),
        ("/a;b%5Cc", "/b;c/d", 0),
        ("/a;b/c", "/b;c/d%5Ce", 0),
        (MANY, "", 0),
        ("/x", MANY, 0),
    ],
)
@pytest.mark.parametrize("below", ["/named", "/lists", "/kinds", "/tables"])
def test_a_policy_that_may_take_long_judges_few_readings(
    below: str, asked: str, to: str, readings: int
) -> None:
    headers = written(below + to) if to else []
    decision, evaluated = judged(f"MOVE {below}{asked}", headers=headers, body=body())
    # Of too many none is judged but the plain one.
    assert decision.allowed is (readings > 0)
    assert evaluated == max(readings, 1) <= MOST_JUDGED
    if not readings:
        assert (decision.reason, decision.refusal) == (Reason.AMBIGUOUS_PATH,) * 2
        assert decision.principal == who("ann")


def test_a_text_that_is_looked_for_in_a_long_list_is_judged_in_every_reading() -> None:
    headers = written(f"/blocked/y{MANY}")
    decision, evaluated = judged(f"MOVE /blocked{MANY}", headers=headers)
    assert (decision.allowed, evaluated) == (True, 2 * MOST_READINGS)
    decision, _ = judged("GET /blocked/name-%25315;x")
    assert (decision.allowed, decision.read_as) == (False, "/blocked/name-15")


def test_a_body_is_looked_through_once_for_all_readings() -> None:
    looked_through = []
    for asked, readings in (("/named/x", 1), ("/named/a;b/c", 3)):
        decision, evaluated = judged(f"POST {asked}", body=(sent := body()))
        assert (decision.allowed, evaluated) == (True, readings)
        looked_through.append(sent.looked_through)
    assert looked_through[0] == looked_through[1] > 0


@pytest.mark.parametrize(
    ("asked", "read_as"),
    [("a;b", ""), ("root;b", "/told/root"), ("r%256fot", "/told/root")],
)
def test_query_and_headers_are_those_of_the_call_in_every_reading(asked: str, read_as: str) -> None:
    decision, evaluated = judged(f"GET /told/{asked}?team=a", headers=[("X-Team", "b")])
    assert (decision.allowed, decision.read_as) == (not read_as, read_as)
    assert evaluated == 2


@pytest.mark.parametrize(("asked", "read_as"), [("a;b", ""), ("root;b", "/filled/root")])
def test_what_the_resource_is_made_of_is_told_apart(asked: str, read_as: str) -> None:
    decision, evaluated = judged(f"GET /filled/{asked}")
    assert (decision.allowed, decision.read_as, evaluated) == (not read_as, read_as, 2)


MEMBER = who("ann", claims={"tenants": {"a": "owner", "b": "owner"}})
PIECES = ("a", "b", "root", "r%256fot", ";", ";root", "%5C", "%255C", "%2561", "%253B", "/", "/b")


@given(
    st.sampled_from(["/unread/", "/paths/", "/filled/", "/tenants/a", "/tenants/"]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join),
)
def test_no_reading_passes_that_is_denied_when_judged_alone(below: str, rest: str) -> None:
    request = SimulatedRequest("GET", below + rest, MEMBER, clock=FixedClock(NOW))
    call = simulated_call(request)
    if isinstance(call, Reason):
        return
    match = WORLD.routes.match(call.host, call.method, call.segments)
    readings = readings_of(call, match, WORLD.routes)
    decision = simulate(request, WORLD).decision
    if readings is None or not isinstance(match, Match):
        assert not decision.allowed
        return

    def allowed(one: Call, found: Match) -> bool:
        return judged_alone(one, found, acting(MEMBER, found), lambda: NOW).allowed

    assert decision.allowed is all(allowed(*one) for one in [(call, match), *readings])


@pytest.mark.parametrize(("asked", "read_as"), [("%2561", ""), ("%2562", "/tenants/b/x")])
def test_readings_of_two_tenants_are_judged_apart(asked: str, read_as: str) -> None:
    request = SimulatedRequest("GET", f"/tenants/{asked}/x", MEMBER, clock=FixedClock(NOW))
    decision = simulate(request, WORLD).decision
    assert (decision.allowed, decision.read_as) == (not read_as, read_as)
