"""May this call pass?  The pipeline, in the order in which it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.definitions import Limit
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    SimulatedRequest,
    SlowAuthenticator,
    SlowLimiter,
    run_sync,
    simulated_call,
)
from gateway.model import (
    OWN_ISSUERS,
    Call,
    Credential,
    CredentialKind,
    LimitState,
    Principal,
    Reason,
)
from tests.access.worlds import NOW, decide, problems, rule_world, snapshot, who

WORLD = snapshot(
    """
    - {id: public, match: {path: '/public/{x:path}'}, auth: public, upstream: api}
    - {id: needed, match: {path: /needed}, policy: signed-in, upstream: api}
    - {id: maybe, match: {path: /maybe}, auth: optional, upstream: api}
    - {id: judged, match: {path: /judged}, auth: optional, policy: p, action: x:y, upstream: api}
    - {id: bearer, match: {path: /bearer}, policy: signed-in, accept: [bearer], upstream: api}
    - {id: limited, match: {path: /limited}, policy: signed-in, limits: [per-user], upstream: api}
    - {id: slash, match: {path: '/slash/{x}'}, auth: public, allow_encoded_slash: true,
       upstream: api}
    """,
    """
    policy: p
    rules:
      - {id: known, allow: ["*"], when: user != null && user.id == 'u1'}
      - {id: guest, allow: ["*"], when: user == null && client.ip == '10.0.0.1'}
    """,
)
REFUSED = [Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED, Reason.KEY_UNKNOWN, Reason.REPLICA_STALE]


class Counting(SlowLimiter):
    """Admits, or lets wait; and remembers who was to be charged."""

    def __init__(self, *waits_s: float) -> None:
        """`waits_s` are of one asking after another; the last one stays."""
        self.waits_s = list(waits_s) or [0.0]
        self.asked: list[tuple[tuple[str, ...], str | None]] = []
        self.requested: list[RequestedResource] = []

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        names = tuple(limit.name for limit in limits)
        self.asked.append((names, principal.subject if principal else None))
        self.requested.append(requested)
        wait_s = self.waits_s[0] if len(self.waits_s) == 1 else self.waits_s.pop(0)
        return LimitState(wait_s, "", (), ())


def limited(url: str, caller: Principal | Reason, limiter: Counting) -> Decision:
    call = simulated_call(SimulatedRequest("GET", url, caller))
    assert not isinstance(call, Reason)
    return run_sync(
        Authorizer(FixedAuthenticator(caller), limiter, clock=FixedClock(NOW)), call, WORLD
    )


def test_a_public_route_judges_nobody() -> None:
    for caller in (Reason.NO_CREDENTIAL, Reason.TOKEN_EXPIRED, who()):
        decision = decide(WORLD, "GET /public/a", caller)
        assert decision.allowed
        assert decision.reason == Reason.ROUTE_PUBLIC
        assert decision.principal is None


def test_a_route_that_needs_a_caller_refuses_a_stranger() -> None:
    decision = decide(WORLD, "GET /needed")
    assert (decision.allowed, decision.refusal) == (False, Reason.NO_CREDENTIAL)
    assert decide(WORLD, "GET /needed", who()).reason == Reason.SIGNED_IN


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("path", ["/needed", "/maybe", "/judged"])
def test_a_refused_credential_is_never_taken_for_none(path: str, reason: Reason) -> None:
    # CVE-2021-21378: a wrong token counted as a missing one on optional routes.
    decision = decide(WORLD, f"GET {path}", reason)
    assert (decision.allowed, decision.refusal) == (False, reason)


def test_an_optional_route_admits_both() -> None:
    assert decide(WORLD, "GET /maybe").reason == Reason.ROUTE_OPTIONAL
    decision = decide(WORLD, "GET /maybe", who("u7"))
    assert decision.principal is not None
    assert decision.principal.subject == "u7"


def test_a_policy_on_an_optional_route_judges_both() -> None:
    assert decide(WORLD, "GET /judged", who("u1")).rule == "known"
    assert decide(WORLD, "GET /judged", client_ip="10.0.0.1").rule == "guest"
    assert decide(WORLD, "GET /judged").reason == Reason.NO_RULE


def test_a_credential_of_another_kind_is_none() -> None:
    decision = decide(WORLD, "GET /bearer", who(), kind=CredentialKind.API_KEY)
    assert decision.refusal is Reason.NO_CREDENTIAL


def test_a_key_that_is_limited_to_routes_is_good_at_no_other() -> None:
    for path, allowed in (("/needed", True), ("/bearer", False), ("/judged", False)):
        key = replace(who("u1"), scopes=("*",), routes=frozenset(("needed",)))
        decision = decide(WORLD, f"GET {path}", key)
        assert decision.allowed is allowed
        assert decision.refusal is (None if allowed else Reason.NO_RULE)
    read = replace(who("u1"), scopes=("x:z",), routes=frozenset(("judged",)))
    assert decide(WORLD, "GET /judged", read).refusal is Reason.NO_RULE


def test_an_encoded_slash_needs_a_route_that_allows_it() -> None:
    assert decide(WORLD, "GET /public/a%2Fb").refusal is Reason.AMBIGUOUS_PATH
    decision = decide(WORLD, "GET /slash/a%2Fb")
    assert (decision.target, decision.params) == ("/slash/a%2Fb", {"x": "a/b"})


def test_an_encoded_slash_does_not_tell_which_paths_have_a_route() -> None:
    """No route allows it, so it is ambiguous, and hidden routes stay hidden."""
    unknown = decide(WORLD, "GET /nowhere/a%2Fb")
    known = decide(WORLD, "GET /public/a%2Fb")
    assert unknown.refusal is known.refusal is Reason.AMBIGUOUS_PATH


# Limits


def test_a_limit_that_is_used_up_refuses_before_the_policy() -> None:
    limiter = Counting(7.0)
    decision = limited("/limited", who("u1"), limiter)
    assert (decision.refusal, decision.retry_after_s) == (Reason.RATE_LIMITED, 7.0)
    assert limiter.asked == [(("per-user",), "u1")]


def test_a_refused_credential_is_charged_to_the_address() -> None:
    limiter = Counting()
    assert limited("/limited", Reason.TOKEN_EXPIRED, limiter).refusal is Reason.TOKEN_EXPIRED
    assert limiter.asked == [(("per-user",), None)]
    waiting = limited("/limited", Reason.TOKEN_EXPIRED, Counting(1.0))
    assert waiting.refusal is Reason.RATE_LIMITED


def test_a_route_without_limits_asks_nobody() -> None:
    limiter = Counting(7.0)
    assert limited("/needed", who(), limiter).allowed
    assert limiter.asked == []


def test_a_rule_may_ask_for_limits_of_its_own() -> None:
    world = rule_world("- {id: a, allow: ['*'], limits: [per-user]}")
    call = simulated_call(SimulatedRequest("GET", "/orders/7", who()))
    assert not isinstance(call, Reason)
    for wait_s, allowed in ((0.0, True), (3.0, False)):
        gate = Authorizer(FixedAuthenticator(who()), Counting(wait_s), clock=FixedClock(NOW))
        decision = run_sync(gate, call, world)
        assert (decision.allowed, decision.rule) == (allowed, "a")


TENANTS = """
version: 1
upstreams: {{api: {{targets: [http://127.0.0.1:9001]}}}}
limits:
  per-user: {{key: user, rate: 600/1m}}
  per-tenant: {{key: {key}, rate: 600/1m}}
  per-route: {{key: route, rate: 600/1m}}
routes:
  - id: own
    match: {{path: "/tenants/{{tenant}}"}}
    policy: p
    action: a:b
    resource: {{tenant: "{{tenant}}"}}
    limits: [per-user, per-tenant]
    upstream: api
  - id: open
    match: {{path: "/open/{{tenant}}"}}
    auth: public
    resource: {{tenant: "{{tenant}}"}}
    limits: [per-user, per-tenant]
    upstream: api
"""
OWN_TENANT = """
policy: p
rules: [{id: own, allow: ["a:b"], when: resource.tenant == user.id, limits: [per-route]}]
"""


@pytest.mark.parametrize("key", ["resource.tenant", "request.params.tenant"])
def test_a_limit_by_what_is_asked_is_charged_to_those_who_may_ask(key: str) -> None:
    world = snapshot(TENANTS.format(key=key), OWN_TENANT)

    def asked(
        url: str, *waits: float
    ) -> tuple[Decision, list[tuple[str, ...]], list[RequestedResource]]:
        limiter = Counting(*waits)
        found = simulated_call(SimulatedRequest("GET", url, who("u1")))
        assert not isinstance(found, Reason)
        decision = run_sync(
            Authorizer(FixedAuthenticator(who("u1")), limiter, clock=FixedClock(NOW)), found, world
        )
        return decision, [names for names, _ in limiter.asked], limiter.requested

    allowed, names, requested = asked("/tenants/u1")
    assert allowed.allowed
    assert names == [("per-user",), ("per-tenant", "per-route")]
    assert requested[1] == RequestedResource({"tenant": "u1"}, {"tenant": "u1"})
    # A stranger to the tenant spends nothing of what its people may spend.
    denied, names, _ = asked("/tenants/u2")
    assert (denied.refusal, names) == (Reason.NO_RULE, [("per-user",)])
    waits, _, _ = asked("/tenants/u1", 0.0, 3.0)
    assert (waits.refusal, waits.retry_after_s, waits.rule) == (Reason.RATE_LIMITED, 3.0, "own")
    # Where nobody judges, all are asked at once.
    _, names, requested = asked("/open/u1")
    assert (names, requested[0].params) == ([("per-user", "per-tenant")], {"tenant": "u1"})


def test_the_limits_that_a_rule_asks_for_are_the_same_object_each_time() -> None:
    world = snapshot(TENANTS.format(key="resource.tenant"), OWN_TENANT)
    (route,) = (one for one in world.routes if one.id == "own")
    (rule,) = world.policies["p"].rules
    assert route.limits_after(rule) is route.limits_after(rule)
    assert [one.route_id for one in route.limits_after(rule)] == ["", "own"]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("resource.team", "add `resource: {team: …}`"),
        ("request.params.tenan", "the path has no `{tenan}`; did you mean `tenant`?"),
    ],
)
def test_what_a_limit_counts_by_is_given_by_its_routes(key: str, says: str) -> None:
    said = problems(TENANTS.format(key=key), OWN_TENANT)
    assert len(said) == 2
    assert all(
        "limit `per-tenant` (routes.yaml:6) counts by" in one and says in one for one in said
    )


# What a policy reads must be there once


QUERY = rule_world("- {id: q, allow: ['*'], when: request.query.tenant == 'a'}")


@pytest.mark.parametrize(
    "query",
    ["tenant=a&tenant=b", "tenant=a&tenant=a", "tenant=a&%74enant=b", "tenant=a&Tenant=b",
     "TENANT=a", "tenant=%zz", "tenant=%ff", "tenant=a;tenant=b", "x=1;tenant=a", "%zz=1&tenant=a",
     "tenant=a%00", "tenant=a&ten%61nt"],
)  # fmt: skip
def test_a_parameter_that_can_be_read_in_two_ways_is_refused(query: str) -> None:
    assert decide(QUERY, f"GET /orders/7?{query}", who()).refusal is Reason.AMBIGUOUS_QUERY


@pytest.mark.parametrize(
    ("query", "allowed"),
    [("tenant=a", True), ("x=1&tenant=%61&y=2&y=3", True), ("tenant=b", False), ("", False),
     ("x=tenant=a", False), ("tenant", False), ("&&tenant=a&", True)],
)  # fmt: skip
def test_a_parameter_is_read_decoded(query: str, allowed: bool) -> None:
    decision = decide(QUERY, f"GET /orders/7?{query}", who())
    assert decision.allowed is allowed
    assert decision.refusal in (None, Reason.NO_RULE, Reason.CONDITION_FAILED)


def test_parameters_that_no_policy_reads_may_repeat() -> None:
    assert decide(WORLD, "GET /needed?a=1&a=2&b=%zz;", who()).allowed


HEADER = rule_world('- {id: h, allow: ["*"], when: \'request.headers["x-tenant"] == "a"\'}')


@pytest.mark.parametrize(
    "headers",
    [
        # CVE-2021-32777: an authorizer saw only the last of repeated headers.
        [("X-Tenant", "a"), ("X-Tenant", "b")],
        [("X-Tenant", "a"), ("x-tenant", "a")],
        [("X-Tenant", "a"), ("X_Tenant", "b")],
        [("x_tenant", "a")],
        [("X-Tenant", "a\tb")],
    ],
)
def test_a_header_that_can_be_read_in_two_ways_is_refused(headers: list[tuple[str, str]]) -> None:
    decision = decide(HEADER, "GET /orders/7", who(), headers=headers)
    assert decision.refusal is Reason.AMBIGUOUS_HEADER


def test_a_header_is_read_whatever_its_case() -> None:
    assert decide(HEADER, "GET /orders/7", who(), headers=[("X-TENANT", "a")]).allowed
    assert not decide(HEADER, "GET /orders/7", who()).allowed


# The resource


def resource_world(resource: str, when: str) -> Any:
    return snapshot(
        f"""
        - id: r
          match: {{path: "/r/{{id}}"}}
          policy: p
          action: r:use
          resource: {resource}
          upstream: api
        """,
        f'policy: p\nrules: [{{id: a, allow: ["*"], when: "{when}"}}]',
    )


def test_a_resource_is_made_of_path_query_headers_and_body() -> None:
    world = resource_world(
        '{type: doc, id: "{id}", key: "doc-{id}", tenant: "{query.tenant}", zone: "{headers.x-zone}",'
        ' owner: "{body.meta.owner}", size: "{body.size}"}',
        "resource.type == 'doc' && resource.id == '7' && resource.key == 'doc-7' && "
        "resource.tenant == 't' && resource.zone == 'z' && resource.owner == user.id && "
        "resource.size < 10",
    )
    route = world.routes.get("r")
    assert route.reads_body
    body = {"meta": {"owner": "u1"}, "size": 5}
    more: dict[str, Any] = {"headers": [("X-Zone", "z")], "body": body}
    assert decide(world, "GET /r/7?tenant=t", who("u1"), **more).allowed
    assert not decide(world, "GET /r/7?tenant=t", who("u2"), **more).allowed
    two = decide(world, "GET /r/7?tenant=t&tenant=u", who("u1"), **more)
    assert two.refusal is Reason.AMBIGUOUS_QUERY


@pytest.mark.parametrize(
    "body", [None, [], "text", 7, {}, {"meta": None}, {"meta": {"owner": None}}]
)
def test_a_body_without_the_field_is_no_ground_to_allow(body: Any) -> None:
    world = resource_world('{owner: "{body.meta.owner}"}', "resource.owner == user.id")
    assert not decide(world, "POST /r/7", who("u1"), body=body).allowed


def test_a_number_that_the_engine_would_round_is_no_value() -> None:
    world = resource_world('{n: "{body.n}", m: "{body.m}"}', "resource.n == resource.m")
    assert decide(world, "POST /r/7", who(), body={"n": 2**62, "m": 2**62}).allowed
    assert not decide(world, "POST /r/7", who(), body={"n": 2**63, "m": 2**63 + 1}).allowed


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        (2.0**53 - 1, True),
        (2.0**53, False),
        ([2.0**53], False),
        ([[]] * 4_095, True),
        ([[]] * 4_096, False),
    ],
)
def test_what_the_engine_would_round_or_read_for_long_is_no_value(
    value: Any, allowed: bool
) -> None:
    world = resource_world('{n: "{body.n}", m: "{body.m}"}', "resource.m == 'm'")
    decision = decide(world, "POST /r/7", who(), body={"n": value, "m": "m", "unread": [2.0**53]})
    assert decision.allowed is allowed
    assert allowed or decision.reason == Reason.BODY_MALFORMED


def test_what_is_filled_in_is_never_read_as_a_template_again() -> None:
    # CVE-2026-30852: request text was expanded a second time.
    world = resource_world('{owner: "{id}"}', "resource.owner == '{headers.host}'")
    assert decide(world, "GET /r/%7Bheaders.host%7D", who()).allowed


def test_an_allow_may_add_headers_for_the_upstream() -> None:
    world = rule_world(
        "- {id: a, allow: ['*'], headers: {X-Order: 'o-{resource.id}', X-Who: '{user.id}'}}"
    )
    decision = decide(world, "GET /orders/caf%C3%A9", who("u1"))
    assert decision.headers == (("X-Order", "o-caf%C3%A9"), ("X-Who", "u1"))


# Scopes


def test_a_credential_limited_to_scopes_does_nothing_else() -> None:
    world = rule_world("- {id: a, allow: ['*']}")
    assert decide(world, "GET /orders/7", who(scopes=["orders:*"])).allowed
    assert not decide(world, "GET /orders/7", who(scopes=["mail:*"])).allowed
    assert not decide(WORLD, "GET /needed", who(scopes=["orders:*"])).allowed
    assert decide(WORLD, "GET /needed", who(scopes=["*"])).allowed


# The cookie


class Csrf:
    def __init__(self, valid: bool) -> None:
        self.valid = valid

    def csrf_valid(self, call: Call) -> bool:
        return self.valid


class Refusing(SlowAuthenticator):
    """Nobody may look the cookie up."""

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        raise AssertionError("the cookie was looked up")


def cookie_call(method: str, headers: list[tuple[str, str]]) -> Call:
    call = simulated_call(SimulatedRequest(method, "/needed", headers=headers))
    assert not isinstance(call, Reason)
    call.credential = Credential(CredentialKind.COOKIE, "c")
    return call


def test_a_cross_origin_cookie_is_refused_before_it_is_looked_up() -> None:
    call = cookie_call(
        "POST", [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")]
    )
    decision = run_sync(Authorizer(Refusing(), Counting()), call, WORLD)
    assert decision.refusal is Reason.CROSS_ORIGIN


def test_a_cookie_without_any_proof_needs_the_csrf_token() -> None:
    call = cookie_call("POST", [])
    for csrf in (None, Csrf(False)):
        decision = run_sync(Authorizer(Refusing(), Counting(), csrf), call, WORLD)
        assert decision.refusal is Reason.CSRF_INVALID
    assert run_sync(
        Authorizer(FixedAuthenticator(who()), Counting(), Csrf(True)), call, WORLD
    ).allowed


def test_a_read_whose_intent_is_not_proven_is_one_without_credential() -> None:
    for headers in ([("Sec-Fetch-Site", "cross-site")], [("Origin", "null")], []):
        decision = run_sync(Authorizer(Refusing(), Counting()), cookie_call("GET", headers), WORLD)
        assert decision.refusal is Reason.NO_CREDENTIAL


def test_a_same_origin_cookie_identifies() -> None:
    call = cookie_call("POST", [("Sec-Fetch-Site", "same-origin")])
    assert run_sync(Authorizer(FixedAuthenticator(who()), Counting()), call, WORLD).allowed


# Properties


@given(
    st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#\\"), max_size=30
    )
)
def test_no_query_changes_a_decision_that_reads_none(query: str) -> None:
    # CVE-2025-54576: a query that held a public path made a protected one public.
    for path, reason in (("/needed", Reason.NO_CREDENTIAL), ("/public/x", Reason.ROUTE_PUBLIC)):
        assert decide(WORLD, f"GET {path}?{query}").reason == reason


@pytest.mark.parametrize(
    "nested", ["/public/x", "/auth/login", "/.well-known/jwks.json", "/healthz", "/metrics"]
)
def test_no_path_of_another_kind_grants_passage_when_nested(nested: str) -> None:
    # CVE-2026-9800: an exempt path anywhere in the URL switched the checks off.
    for url in (f"/needed?x={nested}", f"/needed{nested}", f"/judged?{nested}"):
        assert not decide(WORLD, f"GET {url}").allowed


def test_templates_of_a_request_stay_literal() -> None:
    for text in ("{env.HOME}", "${HOME}", "{{x}}", "%7Benv.HOME%7D"):
        decision = decide(WORLD, f"GET /public/{text}")
        assert decision.target == f"/public/{text}"
