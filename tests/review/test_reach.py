"""Who can reach what: nothing is called settled that the call could still turn."""

from __future__ import annotations

import pytest

from gateway.access.simulation import FixedClock, SimulatedRequest, person, simulate
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import Principal, Reason
from gateway.review.reach import Reach, reach
from tests.databases import NOON

POLICY = """\
version: 1
policy: p
roles:
  viewer: [a:read]
  manager: {{inherits: [viewer], permissions: ["a:*"]}}
rules:
{rules}
"""
ROUTES = """\
version: 1
upstreams: {u: {targets: ["http://127.0.0.1:1"]}}
routes:
  - {id: read, match: {path: "/read/{owner}"}, policy: p, action: "a:read", resource: {owner: "{owner}"}, upstream: u}
  - {id: write, match: {path: "/write/{owner}"}, policy: p, action: "a:write", resource: {owner: "{owner}"}, upstream: u}
  - {id: open, match: {path: "/open/{owner}"}, auth: public, upstream: u}
"""
BY_ROLE = "  - {id: by-role, allow: role-permissions}"
OWN = "  - {id: own, allow: ['a:*'], when: resource.owner == user.id}"
SUSPENDED = "  - {id: out, deny: ['*'], when: \"has_role('suspended')\"}"
NIGHT = "  - {id: night, deny: ['a:write'], when: 'now < timestamp(\"2020-01-01T00:00:00Z\")'}"
STRONG = "  - {id: strong, allow: ['a:write'], step_up: {amr: [mfa]}}"
FAILS = "  - {id: fails, deny: ['*'], when: user.claims.nothing == 1}"


def compiled(*rules: str) -> Snapshot:
    text = POLICY.format(rules="\n".join(rules))
    found = compile_snapshot(Sources(("routes.yaml", ROUTES), (("policies/p.yaml", text),)))
    assert isinstance(found, Snapshot), found
    return found


def told(snapshot: Snapshot, route_id: str, *roles: str) -> tuple[Reach, str]:
    route = next(route for route in snapshot.routes if route.id == route_id)
    caller = person("u1", roles, now=NOON) if roles else None
    answer = reach(route, caller, lambda: NOON)
    return answer.reach, answer.rule


@pytest.mark.parametrize(
    ("rules", "route", "roles", "expected"),
    [
        ((BY_ROLE,), "open", (), (Reach.YES, "")),
        ((BY_ROLE,), "read", (), (Reach.NO, "")),
        ((BY_ROLE,), "read", ("viewer",), (Reach.YES, "by-role")),
        ((BY_ROLE,), "write", ("viewer",), (Reach.NO, "")),
        ((BY_ROLE,), "write", ("manager",), (Reach.YES, "by-role")),
        ((BY_ROLE, OWN), "write", ("viewer",), (Reach.DEPENDS, "own")),
        ((BY_ROLE, SUSPENDED), "read", ("viewer",), (Reach.YES, "by-role")),
        ((BY_ROLE, SUSPENDED), "read", ("suspended",), (Reach.NO, "out")),
        ((BY_ROLE, NIGHT), "write", ("manager",), (Reach.DEPENDS, "night")),
        ((BY_ROLE, NIGHT), "read", ("manager",), (Reach.YES, "by-role")),
        ((STRONG,), "write", ("viewer",), (Reach.STEP_UP, "strong")),
        ((STRONG, NIGHT), "write", ("viewer",), (Reach.DEPENDS, "night")),
        ((BY_ROLE, FAILS), "read", ("viewer",), (Reach.DEPENDS, "fails")),
    ],
)
def test_what_the_caller_settles_is_told_with_its_rule(
    rules: tuple[str, ...], route: str, roles: tuple[str, ...], expected: tuple[Reach, str]
) -> None:
    assert told(compiled(*rules), route, *roles) == expected


@pytest.mark.parametrize(
    "rules",
    [(BY_ROLE,), (BY_ROLE, OWN), (BY_ROLE, SUSPENDED, OWN), (STRONG, NIGHT), (BY_ROLE, FAILS)],
)
@pytest.mark.parametrize("roles", [(), ("viewer",), ("manager",), ("suspended",), ("other",)])
def test_yes_and_no_are_what_the_decision_says_of_every_call(
    rules: tuple[str, ...], roles: tuple[str, ...]
) -> None:
    snapshot = compiled(*rules)
    for route in ("read", "write", "open"):
        caller: Principal | Reason = Reason.NO_CREDENTIAL
        if roles:
            caller = person("u1", roles, now=NOON, amr=("pwd", "mfa"))
        answers = {
            simulate(
                SimulatedRequest("GET", f"/{route}/{owner}", caller, clock=FixedClock(at)), snapshot
            ).decision.allowed
            for owner in ("u1", "u2")
            for at in (NOON, 1_500_000_000)
        }
        verdict = told(snapshot, route, *roles)[0]
        if verdict is Reach.YES:
            assert answers == {True}
        elif verdict is Reach.NO:
            assert answers == {False}
