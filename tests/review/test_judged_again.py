"""What a record does not hold is unknown, whatever the configuration and the call."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.decision_record import read_record
from gateway.access.simulation import FixedClock, SimulatedRequest
from gateway.access.snapshot import Snapshot
from gateway.model import CredentialKind, Principal, Reason
from gateway.review.judged_again import SecondJudge
from gateway.review.replay import replay
from tests.access.worlds import NOW, snapshot, who
from tests.review.recorded_cases import compiled, decided, edited, made_up, question, recorded

CALLS = 12
BEFORE = ("beside", "destination", "took_s")
"""What records have not always held."""


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_against_the_very_same_configuration_nothing_has_changed(seed: int) -> None:
    choose = random.Random(seed)
    world = compiled(made_up(choose))
    if world is None:
        return
    lines = [recorded(question(choose), world) for _ in range(CALLS)]
    found = replay(lines, world)
    assert not found.groups, found.examples
    assert (found.unreadable, found.same + found.unknown + found.unjudged) == (0, CALLS)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_nor_by_a_record_of_before_it_said_what_it_lacks(seed: int) -> None:
    choose = random.Random(seed)
    world = compiled(made_up(choose))
    if world is None:
        return
    lines = []
    for _ in range(CALLS):
        record = json.loads(recorded(question(choose), world))
        record = {name: value for name, value in record.items() if name not in BEFORE}
        record.get("body", {}).pop("left_out", None)
        user = record.get("user", {})
        if set(user.get("held_roles", ())) == set(user.get("roles", ())):
            user.pop("held_roles", None)
        lines.append(json.dumps(record))
    found = replay(lines, world)
    assert not found.groups, found.examples
    assert found.unreadable == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_what_is_told_of_another_configuration_is_what_it_decides(seed: int) -> None:
    choose = random.Random(seed)
    made = made_up(choose)
    old, new = compiled(made), compiled(edited(choose, made))
    if old is None or new is None:
        return
    judge = SecondJudge(new)
    for _ in range(CALLS):
        asked = question(choose)
        line = recorded(asked, old)
        held = read_record(json.loads(line))
        assert held is not None
        if not held.is_judged:
            continue
        judged = judge.judge(held)
        if not judged.unknown:
            _, truth = decided(asked, new)
            told = judged.decision
            assert told.allowed is truth.allowed, (line, asked)
            assert told.allowed or told.reason == truth.reason, (line, asked)


def ruled(when: str, route: str = "") -> Snapshot:
    return snapshot(
        f"""
        - id: a
          match: {{path: "/a/{{x}}"}}
          policy: p
          action: a:r
          upstream: api
          resource: {{owner: "{{x}}", tags: "{{body.tags}}"}}
          {route}
        - id: f
          match: {{path: "/f/{{x}}/{{rest:path}}"}}
          paths: files
          policy: f
          upstream: api
        """,
        f"""
        policy: p
        rules:
          - {{id: ours, allow: ["*"], when: {json.dumps(when)}, reason: not_yours}}
        """,
        """
        policy: f
        rules: [{id: own, allow: ["*"], when: request.params.x == user.id, reason: not_yours}]
        """,
    )


def line(world: Snapshot, request: str, caller: Principal | Reason, **more: Any) -> str:
    method, _, url = request.partition(" ")
    asked = SimulatedRequest(method, url, caller, clock=FixedClock(NOW), **more)
    return recorded(asked, world)


OWN = ruled("resource.owner == user.id")


@pytest.mark.parametrize(
    "wider",
    [
        "user.claims.level > 3",
        "resource.owner == user.id || 'a' in user.claims.groups",
        "user.session_id != '' || has_role('lead')",
        "user.tenant == 'acme'",
        "user.tenants[resource.owner] == 'owner'",
        "'a' in resource.tags",
    ],
)
def test_what_widens_by_what_is_not_held_is_never_told_as_the_same(wider: str) -> None:
    caller = who("u1", claims={"level": 4, "groups": ["a"]})
    written = line(OWN, "POST /a/u2", caller, body={"tags": ["a"]})
    found = replay([written], ruled(wider))
    assert (found.unknown, found.same, found.changed) == (1, 0, 0)
    # Of a list that it left out a record does not tell in which form its items are.
    assert len(found.unknown_names.keys() - {"all other body fields"}) == 1


def test_what_settles_a_decision_without_it_is_told() -> None:
    written = line(OWN, "POST /a/u2", who("u1", "lead", claims={"level": 4}))
    wider = ruled("has_role('lead') || user.claims.level > 3")
    assert replay([written], wider).gains == 1
    narrow = ruled("resource.owner == user.id && user.claims.level > 3")
    found = replay([written], narrow)
    assert (found.same, found.unknown) == (1, 0)
    mine = line(OWN, "POST /a/u1", who("u1", claims={"level": 4}))
    found = replay([mine], narrow)
    assert (found.loses, found.unknown_names) == (0, {"user.claims.level": 1})


@pytest.mark.parametrize(
    ("destination", "reason"),
    [("/f/u1/b", "rule_allowed"), ("/f/u2/b", "not_yours"), ("/a/u1", "ambiguous_path")],
)
def test_a_move_is_judged_again_by_where_it_writes(destination: str, reason: str) -> None:
    written = line(OWN, "MOVE /f/u1/a", who("u1"), headers=[("Destination", destination)])
    assert json.loads(written)["reason"] == reason
    assert replay([written], OWN).same == 1
    lacking = json.dumps({k: v for k, v in json.loads(written).items() if k != "destination"})
    found = replay([lacking], OWN)
    assert (found.unknown, found.changed) == (1, 0)


def test_a_session_cookie_is_judged_again_where_nothing_else_is_accepted() -> None:
    world = ruled("resource.owner == user.id", "accept: [cookie]")
    fields = [("Sec-Fetch-Site", "same-origin")]
    written = line(world, "POST /a/u1", who("u1"), kind=CredentialKind.COOKIE, headers=fields)
    assert json.loads(written)["reason"] == "rule_allowed"
    assert replay([written], world).same == 1
    bearer = ruled("resource.owner == user.id", "accept: [bearer]")
    (group,) = replay([written], bearer).groups
    assert (group.kind, group.after) == ("loses", "no_credential")


@pytest.mark.parametrize(
    ("when", "unknown"),
    [
        ("!has_role('suspended')", 1),
        ("'suspended' in user.roles ? false : true", 1),
        ("resource.owner == user.id", 0),
    ],
)
def test_of_a_key_whose_account_may_have_more_roles_it_is_unknown_whether_it_passes(
    when: str, unknown: int
) -> None:
    """Records told the roles of the key alone."""
    world = ruled(when, "accept: [api_key]")
    limited = replace(who("u1", "lead"), held_roles=("lead", "suspended"))
    for caller, same in ((who("u1", "lead"), 1 - unknown), (limited, 1 - unknown)):
        written = line(world, "POST /a/u1", caller, kind=CredentialKind.API_KEY)
        assert replay([written], world).same == 1
        record = json.loads(written)
        del record["user"]["held_roles"]
        record |= {"decision": "allow", "reason": "rule_allowed", "status": 200}
        found = replay([json.dumps(record)], world)
        assert (found.same, found.unknown, found.changed) == (same, unknown, 0)
    assert found.unknown_names == ({"all roles of the account": 1} if unknown else {})


def test_a_credential_that_nobody_looked_at_may_be_anybodys() -> None:
    public = ruled("true").routes.get("a")
    assert public is not None
    written = json.loads(line(OWN, "GET /nothing", who("u1")))
    assert written["beside"]["credentials"] == ["bearer"]
    asked = json.dumps(written | {"path": "/a/u1"})
    assert replay([asked], OWN).unknown_names == {"credential that came": 1}
    nobody = line(OWN, "GET /nothing", Reason.NO_CREDENTIAL).replace("/nothing", "/a/u1")
    assert replay([nobody], OWN).unknown == 0


def test_a_token_that_another_configuration_may_take_is_unknown() -> None:
    for reason in (Reason.KEY_UNKNOWN, Reason.TOKEN_CLAIMS_INVALID, Reason.TOKEN_MALFORMED):
        written = line(OWN, "POST /a/u1", reason)
        assert replay([written], OWN).unknown == 1
        same = json.dumps(json.loads(written) | {"version": OWN.version})
        assert replay([same], OWN).same == 1


def test_what_was_decided_about_when_it_began_to_be_otherwise_is_unknown() -> None:
    world = ruled("now < timestamp('2027-01-15T08:00:00Z')")
    record = json.loads(line(world, "POST /a/u1", who("u1")))
    late = json.dumps(record | {"at": NOW + 0.5, "took_s": 1.0, "decision": "allow"})
    assert replay([late], world).unknown_names == {"moment of the decision": 1}
    early = json.dumps(record | {"at": NOW + 9.5, "took_s": 1.0})
    assert replay([early], world).same == 1


def test_a_resource_is_called_by_the_public_url_that_is_set() -> None:
    world = snapshot("""
        version: 1
        issuers: {company: {issuer: https://id.example, audience: api}}
        upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
        routes:
          - id: r
            match: {path: /r}
            policy: signed-in
            upstream: api
            issuers: [own, company]
            resource_server: {}
    """)
    world = replace(world, public_url="https://gate.example")
    caller = replace(who("u1"), audience=("https://gate.example", "https://gate.example/r"))
    written = line(world, "GET /r", caller)
    assert json.loads(written)["decision"] == "allow"
    assert replay([written], world).same == 1


def test_of_a_body_that_a_limit_alone_has_read_no_form_is_known() -> None:
    routes = """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    limits: {few: {key: resource.a.KEY, rate: 9/1h, scope: local}}
    routes:
      - id: a
        match: {path: /a}
        auth: public
        resource: {a: "{body.a}"}
        limits: [few]
        upstream: api
    """
    old, new = (snapshot(routes.replace("KEY", name)) for name in ("account", "owner"))
    body = {"a": {"account": 7, "Owner": 3}}
    fields = [("Content-Length", "34")]
    written = line(old, "POST /a", Reason.NO_CREDENTIAL, body=body, headers=fields)
    assert replay([written], new).unknown_names == {"all other body fields": 1}
