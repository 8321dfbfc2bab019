"""A configuration in shadow is counted and told, and never felt."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.access.parsed_bodies import drop_parsed
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.access.snapshot import Snapshot
from gateway.model import OWN_ISSUERS, Call, Credential, CredentialKind, Principal, Reason
from gateway.telemetry import shadow
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.shadow import Shadow
from tests.access.worlds import NOW, rule_world, snapshot, who

LIVE = rule_world("- {id: own, allow: ['*'], when: resource.owner == user.id}")
STRICTER = rule_world("- {id: own, allow: ['*'], when: resource.owner == user.id && has_role('x')}")
WIDER = rule_world("- {id: all, allow: ['*']}")


@dataclass
class Running:
    snapshot: Snapshot


def told(
    live: Snapshot, beside: Snapshot | None, *questions: tuple[str, Principal | Reason]
) -> Shadow:
    made = Shadow(Metrics(), FixedClock(NOW), Running(beside) if beside else None)
    for url, caller in questions:
        answer = simulate(SimulatedRequest("GET", url, caller, clock=FixedClock(NOW)), live)
        made.decided(answer.call, answer.decision, 200, "r1")
    return made


def count(of: Shadow, name: str, **labels: str) -> int:
    return of._metrics.tally(name, "", **labels).n


def outcome(of: Shadow, text: str) -> int:
    return count(of, "shadow_configuration", outcome=text)


def test_what_it_would_have_changed_is_counted_and_logged() -> None:
    for beside, url, text in (
        (STRICTER, "/orders/u1", "would_deny"),
        (WIDER, "/orders/u2", "would_allow"),
        (LIVE, "/orders/u2", "the_same"),
    ):
        made = told(LIVE, beside, (url, who("u1")))
        with capture_logs() as lines:
            made.judge_some()
        assert outcome(made, text) == 1
        assert [line["event"] for line in lines] == (
            [] if text == "the_same" else ["shadow-differs"]
        )


def test_the_log_names_the_line_and_no_secret() -> None:
    made = told(LIVE, STRICTER, ("/orders/u1", who("u1")))
    with capture_logs() as lines:
        made.judge_some()
    (line,) = lines
    assert line["place"] == "policies/p0.yaml:2"
    assert line["request_id"] == "r1"
    assert set(line) == {
        "event", "log_level", "request_id", "route", "would", "reason", "rule", "place", "version",
    }  # fmt: skip


def test_what_there_is_no_time_for_waits_and_is_judged_later() -> None:
    """Judging in shadow is bounded by the processor time that it may take of the traffic."""
    made = told(LIVE, STRICTER, ("/orders/u1", who("u1")), ("/orders/u1", who("u1")))
    made.judge_some(0.0)
    assert outcome(made, "would_deny") == 0
    made.judge_some()
    assert outcome(made, "would_deny") == 2


def test_nothing_is_judged_where_there_is_no_shadow() -> None:
    made = told(LIVE, None, ("/orders/u1", who("u1")))
    made.judge_some()
    assert made._waiting == type(made._waiting)()


def test_a_caller_that_nobody_looked_at_is_not_judged() -> None:
    live = snapshot("- {id: orders, match: {path: '/orders/{id}'}, auth: public, upstream: api}")
    made = Shadow(Metrics(), FixedClock(NOW), Running(LIVE))
    answer = simulate(SimulatedRequest("GET", "/orders/u1", clock=FixedClock(NOW)), live)
    assert answer.call is not None
    answer.call.credential = Credential(CredentialKind.BEARER, "a.b.c")
    made.decided(answer.call, answer.decision, 200, "r1")
    made.judge_some()
    assert outcome(made, "not_judged") == 1


@dataclass
class AtHand:
    """Knows one caller without asking anybody."""

    who: Principal | Reason | None

    def authenticate_now(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason | None:
        return self.who


def opened(caller: Principal | Reason | None, *, auth: str) -> Shadow:
    """A POST with a credential that the live configuration has no method for, beside one in
    which it has."""
    route = "- {id: orders, match: {path: '/orders/{id}', methods: [GETS]}, upstream: api, AUTH}"
    live, beside = (
        snapshot(route.replace("GETS", methods).replace("AUTH", auth))
        for methods in ("GET", "GET, POST")
    )
    made = Shadow(Metrics(), FixedClock(NOW), Running(beside), AtHand(caller))
    answer = simulate(
        SimulatedRequest("POST", "/orders/u1", who("u1"), clock=FixedClock(NOW)), live
    )
    assert answer.decision.reason is Reason.METHOD_NOT_ALLOWED
    made.decided(answer.call, answer.decision, 405, "r1")
    made.judge_some()
    return made


@pytest.mark.parametrize(
    ("caller", "auth", "text"),
    [
        (who("u1"), "policy: signed-in", "would_allow"),
        (Reason.TOKEN_EXPIRED, "policy: signed-in", "the_same"),
        (None, "policy: signed-in", "not_judged"),
        (None, "auth: public", "would_allow"),
    ],
)
def test_a_method_that_became_open_is_counted(
    caller: Principal | Reason | None, auth: str, text: str
) -> None:
    assert outcome(opened(caller, auth=auth), text) == 1


def test_a_path_that_neither_configuration_has_is_the_same_whoever_calls() -> None:
    made = Shadow(Metrics(), FixedClock(NOW), Running(WIDER), AtHand(None))
    answer = simulate(SimulatedRequest("GET", "/nowhere", who("u1"), clock=FixedClock(NOW)), LIVE)
    made.decided(answer.call, answer.decision, 404, "r1")
    made.judge_some()
    assert outcome(made, "the_same") == 1


ISSUED = """
    version: 1
    issuers: {company: {issuer: https://id.example, audience: api}}
    upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
    routes: [{id: r, match: {path: /r}, policy: signed-in, upstream: api, KEYS}]
"""


def issued(live: str, beside: str, at_hand: Principal | Reason | None) -> Shadow:
    """A call with the token of another issuer; both sides are one route with these keys."""
    sides = [snapshot(ISSUED.replace("KEYS", keys)) for keys in (live, beside)]
    made = Shadow(
        Metrics(), FixedClock(NOW), Running(sides[1]), AtHand(at_hand), OwnOrigins(PUBLIC_URL)
    )
    asked = SimulatedRequest("GET", "/r", THEIRS, clock=FixedClock(NOW))
    answer = simulate(asked, replace(sides[0], public_url=PUBLIC_URL))
    made.decided(answer.call, answer.decision, 200, "r1")
    made.judge_some()
    return made


PUBLIC_URL = "https://gate.example"
THEIRS = replace(who("company:u1"), issuer="company", audience=("api",))


@pytest.mark.parametrize(
    ("live", "beside", "at_hand", "text"),
    [
        ("issuers: [own]", "issuers: [company]", THEIRS, "would_allow"),
        ("issuers: [own]", "issuers: [company]", None, "not_judged"),
        ("issuers: [own]", "issuers: [own]", Reason.TOKEN_CLAIMS_INVALID, "the_same"),
        ("issuers: [company]", "issuers: [own]", None, "would_deny"),
        ("issuers: [company]", "issuers: [company], resource_server: {}", None, "would_deny"),
    ],
)
def test_it_knows_whose_tokens_the_other_configuration_takes(
    live: str, beside: str, at_hand: Principal | Reason | None, text: str
) -> None:
    assert outcome(issued(live, beside, at_hand), text) == 1


def test_a_resource_is_known_by_the_public_url() -> None:
    keys = "issuers: [company], resource_server: {}"
    made = issued(keys, keys, THEIRS)
    assert outcome(made, "the_same") == 1  # refused by both: it names the gateway alone
    for_it = replace(THEIRS, audience=(f"{PUBLIC_URL}/r",), resource_only=True)
    made = issued("issuers: [own]", keys, for_it)
    assert outcome(made, "would_allow") == 1


def test_a_refused_credential_stays_refused() -> None:
    made = told(LIVE, WIDER, ("/orders/u1", Reason.TOKEN_EXPIRED))
    made.judge_some()
    assert outcome(made, "the_same") == 1


def test_a_queue_that_is_full_is_counted_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "MAX_WAITING", 3)
    made = told(LIVE, STRICTER, *[("/orders/u1", who("u1"))] * 10)
    assert outcome(made, "not_judged") == 7


TAGGED = """
- {id: tag, match: {path: /notes, methods: [POST]}, policy: p, upstream: api,
   resource: {tags: "{body.tags}", owner: "{body.owner}"}}
"""
NO_RED = """
policy: p
rules:
  - {id: red, deny: ["*"], when: "resource.tags.exists(t, t == 'red')"}
  - {id: all, allow: ["*"], when: "resource.owner == user.id"}
"""
ALL = """
policy: p
rules:
  - {id: all, allow: ["*"], when: "resource.owner == user.id"}
"""


def with_body(*bodies: dict[str, Any]) -> Shadow:
    live, made = (
        snapshot(TAGGED, ALL),
        Shadow(Metrics(), FixedClock(NOW), Running(snapshot(TAGGED, NO_RED))),
    )
    for body in bodies:
        asked = SimulatedRequest("POST", "/notes", who("u1"), body=body, clock=FixedClock(NOW))
        answer = simulate(asked, live)
        call, route = answer.call, answer.decision.route
        assert call is not None
        assert route is not None
        call.raw_body = json.dumps(body).encode()
        drop_parsed(call, route, judged_again=True)
        made.decided(call, answer.decision, 200, "r1")
    return made


def test_a_body_waits_as_its_bytes_and_is_judged_whole() -> None:
    """As objects 2,000 bodies may take 6 GB."""
    made = with_body({"owner": "u1", "tags": ["red"]}, {"owner": "u1", "tags": ["blue"]})
    assert [seen.call.body for seen in made._waiting] == [None, None]
    made.judge_some()
    assert (outcome(made, "would_deny"), outcome(made, "the_same")) == (1, 1)


def test_the_bodies_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"owner": "u1", "tags": ["red"]}
    monkeypatch.setattr(shadow, "MAX_BODY_BYTES", 2 * len(json.dumps(body)))
    made = with_body(body, body, body)
    assert outcome(made, "not_judged") == 1
    made.judge_some()
    assert (outcome(made, "would_deny"), made._body_bytes) == (2, 0)


def test_one_turn_judges_no_more_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "BATCH", 4)
    made = told(LIVE, STRICTER, *[("/orders/u1", who("u1"))] * 10)
    made.judge_some()
    assert outcome(made, "would_deny") == 4


def test_the_log_is_bounded_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "LOGGED_A_MINUTE", 2)
    made = told(LIVE, STRICTER, *[("/orders/u1", who("u1"))] * 5)
    with capture_logs() as lines:
        made.judge_some()
    assert len(lines) == 2


def test_a_rule_in_shadow_is_counted_with_what_it_would_do() -> None:
    live = rule_world("- {id: all, allow: ['*']}\n- {id: no, deny: ['*'], mode: shadow}")
    with capture_logs() as lines:
        made = told(live, None, ("/orders/u1", who("u1")))
    labels: dict[str, Any] = {"policy": "p", "rule": "no", "would": "deny"}
    assert count(made, "shadow_rules", **labels) == 1
    assert lines[0]["event"] == "shadow-rule-differs"
