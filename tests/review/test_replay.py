"""A decision that was written down can be asked again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.replay import SHOP, write_log
from gateway.access.decision_record import read_record, record_of
from gateway.access.simulation import FixedClock, SimulatedRequest, recorded_request, simulate
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.files import read_sources
from gateway.model import Principal, Reason
from gateway.review.replay import replay
from tests.access.worlds import NOW, rule_world, snapshot, who
from tests.cpu_cost import cost_ratio

OWN = "- {id: own, allow: [orders:read], when: resource.owner == user.id, reason: not_yours}"


def line(
    world: Snapshot, request: str, caller: Principal | Reason = Reason.NO_CREDENTIAL, **more: Any
) -> str:
    method, _, url = request.partition(" ")
    answer = simulate(SimulatedRequest(method, url, caller, clock=FixedClock(NOW), **more), world)
    assert answer.call is not None
    return json.dumps(
        record_of(answer.call, answer.decision, at=NOW, status=200, request_id="r1", version="v1")
    )


def test_the_same_configuration_decides_the_same() -> None:
    world = rule_world(OWN)
    lines = [
        line(world, "GET /orders/u1", who("u1")),
        line(world, "GET /orders/u2", who("u1")),
        line(world, "GET /orders/u2"),
        line(world, "GET /orders/u2", Reason.TOKEN_EXPIRED),
        line(world, "GET /nothing"),
    ]
    found = replay(lines, world)
    assert (found.total, found.same, found.changed) == (5, 5, 0)


@pytest.mark.parametrize(
    "rules",
    [
        "- {id: all, allow: ['*']}\n- {id: d, deny: ['*'], when: \"user.email == 'eve@x.example'\"}",
        "- {id: a, allow: ['*'], when: \"user.email != 'eve@x.example'\"}",
    ],
)
def test_an_address_in_other_letters_is_kept_away_again(rules: str) -> None:
    world = rule_world(rules)
    caller = replace(who("u1"), email="Eve@x.example", email_verified=True)
    found = replay([line(world, "GET /orders/u1", caller)], world)
    assert (found.total, found.same, found.changed) == (1, 1, 0)


@pytest.mark.parametrize("email", ["eve@x.example", "Eve@x.example"])
@pytest.mark.parametrize("more", ["user.claims.level < 3", "user.session_id != null"])
def test_an_address_beside_what_was_not_recorded_is_unknown(more: str, email: str) -> None:
    named = f"- {{id: all, allow: ['*']}}\n- {{id: d, deny: ['*'], when: \"user.email == 'eve@x.example' && {more}\"}}"
    caller = replace(who("u1"), email=email, email_verified=True, claims={"level": 1})
    before = rule_world("- {id: all, allow: ['*']}")
    for judged in (before, rule_world(named)):
        found = replay([line(judged, "GET /orders/u1", caller)], rule_world(named))
        assert (found.total, found.same, found.changed) == (1, 0, 0)


@pytest.mark.parametrize(
    ("asked", "owners"),
    [
        ("user.email != 'boss@x.example' && resource.owner.endsWith('-ltd')", ["x-ltd", "X-LTD"]),
        ("user.email.endsWith('@x.example') && resource.owner == 'eve'", ["eve", "EVE"]),
    ],
)
def test_a_path_in_other_letters_beside_an_address_is_not_guessed(
    asked: str, owners: list[str]
) -> None:
    """The gateway asks the whole rule in them, where no part that reads the path does alone."""
    rule = f"{asked} && user.claims.level < 3"
    world = rule_world(
        f"- {{id: all, allow: ['*']}}\n- {{id: d, deny: ['*'], when: \"{rule}\", reason: gone}}"
    )
    caller = replace(who("u1"), email="ann@x.example", email_verified=True, claims={"level": 1})
    for owner in owners:
        recorded = line(world, f"GET /orders/{owner}", caller)
        assert json.loads(recorded)["reason"] == "gone"
        found = replay([recorded], world)
        assert (found.total, found.unknown, found.changed) == (1, 1, 0)


def test_each_changed_decision_is_counted_with_an_example() -> None:
    old, new = rule_world(OWN), rule_world("- {id: lead, allow: ['*'], when: has_role('lead')}")
    lines = [
        line(old, "GET /orders/u1", who("u1")),
        line(old, "GET /orders/u1", who("u9", "lead")),
        line(old, "GET /orders/u2", who("u1")),
    ]
    found = replay(lines, new)
    assert (found.gains, found.loses, found.other_reason) == (1, 1, 1)
    kinds = {(group.kind, group.before, group.after, group.route) for group in found.groups}
    assert kinds == {
        ("loses", "rule_allowed", "no_rule", "orders"),
        ("gains", "not_yours", "rule_allowed", "orders"),
        ("another reason", "not_yours", "no_rule", "orders"),
    }
    (gained,) = [shown for group, shown in found.examples.items() if group.kind == "gains"]
    assert str(gained[0].decision.location) == "policies/p0.yaml:4"


def test_a_key_that_was_limited_is_limited_in_the_replay() -> None:
    world = rule_world(OWN)
    for route, reason in (("orders", "rule_allowed"), ("elsewhere", "no_rule")):
        key = replace(who("u1"), scopes=("*",), routes=frozenset((route,)))
        recorded = line(world, "GET /orders/u1", key)
        assert json.loads(recorded)["reason"] == reason
        found = replay([recorded], world)
        assert (found.total, found.same) == (1, 1)


def test_what_was_not_recorded_is_not_guessed() -> None:
    old = rule_world(OWN)
    new = rule_world("- {id: q, allow: ['*'], when: request.query.page == '1'}")
    found = replay([line(old, "GET /orders/u1?page=1", who("u1"))], new)
    assert (found.unknown, found.changed) == (1, 0)
    assert found.unknown_names == {"query parameter page": 1}


@pytest.mark.parametrize(
    ("reads", "url", "headers"),
    [
        ("request.query.page == '1'", "/orders/u1?page=1&page=2", ()),
        ("request.headers['x-zone'] == 'a'", "/orders/u1", (("X-Zone", "a"), ("X-Zone", "b"))),
    ],
)
def test_what_was_ambiguous_is_ambiguous_again_and_no_gain(
    reads: str, url: str, headers: tuple[tuple[str, str], ...]
) -> None:
    rules = [
        {"id": "all", "allow": ["*"]},
        {"id": "some", "deny": ["*"], "when": f"!({reads}) && false"},
    ]
    world = rule_world("\n".join(f"- {json.dumps(rule)}" for rule in rules))
    recorded = line(world, f"GET {url}", who("u1"), headers=headers)
    assert json.loads(recorded)["reason"].startswith("ambiguous_")
    found = replay([recorded], world)
    assert (found.same, found.changed) == (1, 0)


def test_what_was_found_beside_that_which_is_recorded_is_unknown_and_no_gain() -> None:
    world = snapshot(
        """
        - {id: t, match: {path: "/t/{team}"}, policy: p, upstream: api}
        - id: n
          match: {path: /notes}
          policy: q
          action: "notes:write"
          resource: {owner: "{body.owner}"}
          upstream: api
        """,
        """
        policy: p
        rules: [{id: mine, allow: ["*"], when: "request.params.team == 'mine'"}]
        """,
        """
        policy: q
        rules: [{id: own, allow: ["notes:write"], when: resource.owner == user.id}]
        """,
    )
    lines = [
        line(world, "GET /t/mine?team=theirs", who("u1")),
        line(world, "POST /notes?owner=u2", who("u1"), body={"owner": "u1"}),
        line(world, "POST /notes", who("u1"), body={"owner": "u1", "note": {"owner": "u2"}}),
    ]
    reasons = [json.loads(one)["reason"] for one in lines]
    assert reasons == ["ambiguous_query", "ambiguous_query", "body_malformed"]
    found = replay(lines, world)
    assert (found.unknown, found.changed) == (3, 0)


def test_what_a_policy_read_is_recorded() -> None:
    world = snapshot(
        """
        - id: r
          match: {path: "/r/{id}"}
          policy: p
          action: r:use
          resource: {team: "{body.meta.team}"}
          upstream: api
        """,
        """
        policy: p
        rules:
          - id: a
            allow: ["*"]
            when: >-
              resource.team == 'red' && request.query.page == '1' &&
              request.headers['x-zone'] == 'z' && client.ip == '10.0.0.1' && user.email_verified
        """,
    )
    written = line(
        world,
        "POST /r/7?page=1&secret=hunter2",
        who("u1", email_verified=True, claims={"ssn": "123"}),
        headers=[("X-Zone", "z"), ("Authorization", "Bearer abc"), ("Cookie", "a=b")],
        body={"meta": {"team": "red"}, "password": "hunter3"},
        client_ip="10.0.0.1",
    )
    found = replay([written], world)
    assert (found.same, found.changed) == (1, 0)
    for secret in ("hunter2", "hunter3", "Bearer", "abc", "a=b", "123", "ssn"):
        assert secret not in written


def test_refusals_of_load_stores_and_intent_are_no_matter_of_a_policy() -> None:
    world = rule_world(OWN)
    for reason in (Reason.RATE_LIMITED, Reason.REPLICA_STALE, Reason.CSRF_INVALID):
        written = line(world, "GET /orders/u1", who("u1")).replace("rule_allowed", reason)
        assert replay([written], world).unjudged == 1


@pytest.mark.parametrize(
    "text", ["nonsense", "{}", "[]", "null", '{"path": 7}', '{"path": "/a//b"}']
)
def test_a_line_that_is_no_record_is_counted(text: str) -> None:
    found = replay([text, "", "  "], rule_world(OWN))
    assert (found.total, found.unreadable) == (1, 1)


def test_a_recorded_call_can_be_explained() -> None:
    world = rule_world(OWN)
    recorded = read_record(json.loads(line(world, "GET /orders/u2", who("u1"))))
    assert recorded is not None
    assert simulate(recorded_request(recorded), world).decision.reason == "not_yours"


@settings(deadline=None)
@given(
    st.sampled_from(["/orders/u1", "/orders/u2", "/orders/caf%C3%A9", "/x", "/orders/u1?a=1&a=2"]),
    st.sampled_from(["GET", "PUT", "HEAD"]),
    st.one_of(
        st.sampled_from([Reason.NO_CREDENTIAL, Reason.TOKEN_REVOKED]),
        st.builds(
            lambda s, r, e, a, x: who(s, *r, email_verified=e, auth_time=NOW - a, scopes=x),
            st.sampled_from(["u1", "u2"]),
            st.lists(st.sampled_from(["lead", "bad"]), unique=True),
            st.booleans(),
            st.integers(0, 1000),
            st.sampled_from([None, ["orders:*"], ["x:*"]]),
        ),
    ),
)
def test_every_record_is_decided_again_as_it_was(
    url: str, method: str, caller: Principal | Reason
) -> None:
    world = rule_world(
        """
        - {id: own, allow: ["*"], when: resource.owner == user.id, step_up: {max_age: 5m}}
        - {id: lead, allow: ["*"], when: has_role('lead') && user.email_verified}
        - {id: a, deny: ["*"], when: "'a' in request.query && request.query.a == '1'"}
        - {id: bad, deny: ["*"], when: "'bad' in user.roles", reason: bad_role}
        """
    )
    found = replay([line(world, f"{method} {url}", caller)], world)
    ambiguous = "a=1&a=2" in url
    assert found.same + (found.changed if ambiguous else 0) == 1


def test_to_decide_again_costs_some_loops() -> None:
    world = rule_world(OWN)
    lines = [line(world, "GET /orders/u1", who("u1", "a", "b"))] * 100
    assert replay(lines, world).same == 100
    assert cost_ratio(lambda: replay(lines, world)) < 60


def test_a_foreign_token_is_judged_again_as_whose_and_for_what_it_was() -> None:
    def world(keys: str) -> Snapshot:
        return snapshot(f"""
            version: 1
            issuers: {{company: {{issuer: https://id.example, audience: api}}}}
            upstreams: {{api: {{targets: ["http://127.0.0.1:9001"]}}}}
            routes: [{{id: r, match: {{path: /r}}, policy: signed-in, upstream: api, {keys}}}]
        """)

    caller = replace(
        who("company:u1"), issuer="company", audience=("api",), granted_scopes=("r:read",)
    )
    recorded = line(world("issuers: [company]"), "GET /r", caller)
    assert replay([recorded], world("issuers: [own, company]")).same == 1
    for keys in ("issuers: [own]", "issuers: [company], resource_server: {}"):
        (group,) = replay([recorded], world(keys)).groups
        assert (group.kind, group.after) == ("loses", "token_claims_invalid")
    for_resource = replace(caller, audience=("/r",), resource_only=True)
    resource = "issuers: [company], resource_server: {scopes: [r:read]}"
    again = line(world(resource), "GET /r", for_resource)
    assert replay([again], world(resource)).same == 1
    more = "issuers: [company], resource_server: {scopes: [r:read, r:write]}"
    (group,) = replay([again], world(more)).groups
    assert (group.kind, group.after) == ("loses", "insufficient_scope")


def test_a_token_of_ours_names_no_resource() -> None:
    key = json.loads(line(rule_world(OWN), "GET /orders/u1", who("u1")))
    recorded = read_record(key)
    assert recorded is not None
    assert isinstance(recorded.caller, Principal)
    assert (recorded.caller.issuer, recorded.caller.audience) == ("own", ())
    with_cookie = read_record({**key, "user": {**key["user"], "with": "cookie"}})
    assert with_cookie is not None
    assert isinstance(with_cookie.caller, Principal)
    assert with_cookie.caller.audience is None


async def test_the_log_that_the_bench_writes_can_be_judged_again(tmp_path: Path) -> None:
    """Into a folder that is made with it: of a gateway the data folder is there."""
    sources = read_sources(SHOP / "routes.yaml", SHOP / "policies")
    assert isinstance(sources, Sources)
    shop = compile_snapshot(sources)
    assert isinstance(shop, Snapshot)
    await write_log(tmp_path / "new" / "decisions", 500, shop)
    (file,) = (tmp_path / "new" / "decisions").iterdir()
    found = replay(file.read_text("utf-8").splitlines(), shop)
    assert (found.total, found.changed) == (500, 0)
