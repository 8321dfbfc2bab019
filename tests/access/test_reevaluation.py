"""A call that goes on, judged by the configuration and with the caller of this moment."""

from __future__ import annotations

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    SimulatedRequest,
    simulated_call,
)
from gateway.access.snapshot import Snapshot
from gateway.model import CredentialKind, Principal, Reason
from tests.access.asked import Limits
from tests.access.worlds import NOW, snapshot, who

POLICY = """
policy: p
rules:
  - {id: members, allow: ["*"], when: "user != null && 'member' in user.roles"}
  - {id: fresh, deny: ["*"], when: user != null && user.auth_time < now - duration('3600s'),
     reason: too_old}
"""


def world(route: str) -> Snapshot:
    return snapshot(f"- {{id: a, match: {{path: /a}}, upstream: api, {route}}}", POLICY)


def judged(
    snapshot: Snapshot,
    caller: Principal | None,
    *,
    kind: CredentialKind = CredentialKind.BEARER,
    url: str = "/a",
    **more: object,
) -> tuple[Decision, Limits]:
    asked = SimulatedRequest("GET", url, caller or Reason.NO_CREDENTIAL, kind=kind, **more)  # type: ignore[arg-type]
    call = simulated_call(asked)
    assert not isinstance(call, Reason)
    limiter = Limits(60.0)
    # Nobody is identified anew: whoever calls is known.
    gate = Authorizer(FixedAuthenticator(Reason.KEY_UNKNOWN), limiter, clock=FixedClock(NOW))
    return gate.reevaluate(call, snapshot, caller), limiter


def test_the_roles_that_are_given_count() -> None:
    here = world("policy: p")
    assert judged(here, who("u1", "member"))[0].allowed
    assert judged(here, who("u1"))[0].reason == Reason.NO_RULE


def test_no_limit_is_asked() -> None:
    decision, limiter = judged(world("policy: p, limits: [per-user]"), who("u1", "member"))
    assert decision.allowed
    assert limiter.asked == []


def test_a_rules_own_reason_is_told() -> None:
    decision, _ = judged(world("policy: p"), who("u1", "member", auth_time=NOW - 7_200))
    assert (decision.allowed, decision.reason) == (False, "too_old")


def test_a_route_that_is_gone_lets_nobody_go_on() -> None:
    assert judged(world("policy: p"), who("u1", "member"), url="/b")[0].reason == "route_unknown"


def test_a_route_that_has_become_public_lets_everybody_go_on() -> None:
    assert judged(world("auth: public"), who("u1"))[0].allowed


def test_a_stranger_may_not_go_on_where_a_caller_is_needed_now() -> None:
    assert judged(world("policy: signed-in"), None)[0].refusal is Reason.NO_CREDENTIAL
    assert judged(world("auth: optional"), None)[0].allowed


def test_a_kind_of_credential_that_is_taken_no_more_is_none() -> None:
    here = world("policy: signed-in, accept: [cookie]")
    assert judged(here, who("u1"))[0].refusal is Reason.NO_CREDENTIAL


def test_an_origin_that_is_listed_no_more_loses_what_its_cookie_opened() -> None:
    fields = (("Origin", "https://app.example.com"), ("Upgrade", "websocket"))
    cookie = CredentialKind.COOKIE
    listed, gone = world("policy: signed-in, cors: app"), world("policy: signed-in")
    assert judged(listed, who("u1"), kind=cookie, headers=fields)[0].allowed
    refused, _ = judged(gone, who("u1"), kind=cookie, headers=fields)
    assert refused.refusal is Reason.CROSS_ORIGIN


def test_an_encoded_slash_that_is_allowed_no_more_is_ambiguous() -> None:
    route = "- {id: a, match: {path: '/a/{x}'}, auth: public, upstream: api%s}"
    assert judged(snapshot(route % ", allow_encoded_slash: true"), None, url="/a/b%2Fc")[0].allowed
    decision, _ = judged(snapshot(route % ""), None, url="/a/b%2Fc")
    assert decision.refusal is Reason.AMBIGUOUS_PATH


REWRITTEN = """
- {id: a, match: {path: /a}, rewrite: {path: /admin}, policy: p, upstream: api}
"""
ADMIN = "- {id: admin, match: {path: /admin}, policy: nobody, upstream: api}\n"
NOBODY = "policy: nobody\nrules: []\n"


def test_a_rewritten_path_that_has_become_another_routes_is_left() -> None:
    caller = who("u1", "member")
    assert judged(snapshot(REWRITTEN, POLICY, NOBODY), caller)[0].allowed
    kept, _ = judged(snapshot(REWRITTEN + ADMIN, POLICY, NOBODY), caller)
    assert kept.refusal is Reason.AMBIGUOUS_PATH
