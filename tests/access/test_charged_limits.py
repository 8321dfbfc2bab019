"""Which limits a decision asks, when, and who is charged."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.evaluation import UNIDENTIFIED
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    SimulatedRequest,
    run_sync,
    simulated_call,
)
from gateway.model import Call, Principal, Reason
from gateway.rate_limit.limiter import RateLimiter
from tests.access.asked import KnownLimits, Limits
from tests.access.decision_world import call_of
from tests.access.worlds import NOW, decide, problems, rule_world, snapshot, who
from tests.databases import Hands

WORLD = snapshot(
    """
    - {id: needed, match: {path: /needed}, policy: signed-in, upstream: api}
    - {id: limited, match: {path: /limited}, policy: signed-in, limits: [per-user], upstream: api}
    """
)


def limited(url: str, caller: Principal | Reason, limiter: Limits) -> Decision:
    gate = Authorizer(FixedAuthenticator(caller), limiter, clock=FixedClock(NOW))
    return run_sync(gate, call_of(f"GET {url}", caller), WORLD)


def test_a_limit_that_is_used_up_refuses_before_the_policy() -> None:
    limiter = Limits(7.0)
    decision = limited("/limited", who("u1"), limiter)
    assert (decision.refusal, decision.retry_after_s) == (Reason.RATE_LIMITED, 7.0)
    assert limiter.asked == [("per-user", "/limited", "u1", {}, {})]


def test_a_refused_credential_is_charged_to_the_address() -> None:
    limiter = Limits()
    assert limited("/limited", Reason.TOKEN_EXPIRED, limiter).refusal is Reason.TOKEN_EXPIRED
    assert limiter.asked == [("per-user", "/limited", None, {}, {})]
    waiting = limited("/limited", Reason.TOKEN_EXPIRED, Limits(1.0))
    assert waiting.refusal is Reason.RATE_LIMITED


@pytest.mark.parametrize("limits", [Limits, KnownLimits])
def test_whoever_asks_a_limit_for_a_refused_call_says_so(limits: type[Limits]) -> None:
    """In memory or after a wait: by it the limit knows that nothing of the call may be its key."""
    limiter = limits()
    assert not limited("/limited", Reason.TOKEN_EXPIRED, limiter).allowed
    assert limited("/limited", who("u1"), limiter).allowed
    assert [one is UNIDENTIFIED for one in limiter.requested] == [True, False]


BY_HEADER = snapshot(
    """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    limits: {tools: {key: "request.headers['x-tool']", rate: 1/1h, scope: local}}
    routes:
      - {id: a, match: {path: /a}, policy: signed-in, limits: [tools], upstream: api}
    """
)


def test_a_refused_call_is_charged_for_nothing_that_it_says() -> None:
    limiter = RateLimiter(Hands())

    def asked(caller: Principal | Reason, tool: str) -> Decision:
        gate = Authorizer(FixedAuthenticator(caller), limiter, clock=FixedClock(NOW))
        call = call_of("GET /a", caller)
        call.headers = (*call.headers, (b"X-Tool", tool.encode()))
        return run_sync(gate, call, BY_HEADER)

    assert asked(Reason.TOKEN_EXPIRED, "one").refusal is Reason.TOKEN_EXPIRED
    # Who guesses tokens gets no other bucket by another header, and spends nobody else's.
    assert asked(Reason.TOKEN_MALFORMED, "two").refusal is Reason.RATE_LIMITED
    assert asked(Reason.NO_CREDENTIAL, "three").refusal is Reason.RATE_LIMITED
    assert asked(who("u1"), "one").allowed
    assert asked(who("u1"), "one").refusal is Reason.RATE_LIMITED


def test_a_route_without_limits_asks_nobody() -> None:
    limiter = Limits(7.0)
    assert limited("/needed", who(), limiter).allowed
    assert limiter.asked == []


def test_a_rule_may_ask_for_limits_of_its_own() -> None:
    world = rule_world("- {id: a, allow: ['*'], limits: [per-user]}")
    for wait_s, allowed in ((0.0, True), (3.0, False)):
        gate = Authorizer(FixedAuthenticator(who()), Limits(wait_s), clock=FixedClock(NOW))
        decision = run_sync(gate, call_of("GET /orders/7", who()), world)
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

    def asked(url: str, *waits_s: float) -> tuple[Decision, list[tuple[Any, ...]]]:
        limiter = Limits(*waits_s)
        gate = Authorizer(FixedAuthenticator(who("u1")), limiter, clock=FixedClock(NOW))
        return run_sync(gate, call_of(f"GET {url}", who("u1")), world), limiter.asked

    tenant = {"tenant": "u1"}
    allowed, asking = asked("/tenants/u1")
    assert allowed.allowed
    assert asking == [
        ("per-user", "/tenants/u1", "u1", {}, {}),
        ("per-tenant+per-route", "/tenants/u1", "u1", tenant, tenant),
    ]
    # A stranger to the tenant spends nothing of what its people may spend.
    denied, asking = asked("/tenants/u2")
    assert denied.refusal is Reason.NO_RULE
    assert asking == [("per-user", "/tenants/u2", "u1", {}, {})]
    waits, _ = asked("/tenants/u1", 0.0, 3.0)
    assert (waits.refusal, waits.retry_after_s, waits.rule) == (Reason.RATE_LIMITED, 3.0, "own")
    # Where nobody judges, all are asked at once.
    _, [(names, *_, params, _)] = asked("/open/u1")
    assert (names, params) == ("per-user+per-tenant", tenant)


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


TRIES = """
version: 1
upstreams: {api: {targets: [http://127.0.0.1:9001]}}
limits:
  tries: {key: resource.email, rate: 1/1h, scope: local}
  by-query: {key: resource.account, rate: 1/1h, scope: local}
routes:
  - id: open
    match: {path: /open}
    auth: public
    resource: {email: "{body.email}"}
    limits: [tries]
    upstream: api
  - id: optional
    match: {path: /optional}
    auth: optional
    resource: {email: "{body.email}"}
    limits: [tries]
    upstream: api
  - id: signed-in
    match: {path: /signed-in}
    policy: signed-in
    action: a:b
    resource: {email: "{body.email}"}
    limits: [tries]
    upstream: api
  - id: query
    match: {path: /query}
    auth: public
    resource: {account: "{query.account}{headers.x-account}"}
    limits: [by-query]
    upstream: api
"""


def tried(limiter: Any, world: Any, url: str, **more: Any) -> Decision:
    """As a gateway that runs answers: with what it remembers of calls before."""
    caller = more.pop("caller", who("u1"))
    gate = Authorizer(FixedAuthenticator(caller), limiter, clock=FixedClock(NOW))
    request = SimulatedRequest("POST", url, caller, clock=FixedClock(NOW), **more)
    call = simulated_call(request)
    assert isinstance(call, Call)
    return run_sync(gate, call, world)


@pytest.mark.parametrize("path", ["/open", "/optional", "/signed-in"])
@pytest.mark.parametrize(
    ("query", "body", "reason"),
    [
        ("", {"email": "r1", "Email": "victim"}, Reason.BODY_MALFORMED),
        ("", {"email": "r1", "$set": {"email": "victim"}}, Reason.BODY_MALFORMED),
        ("", {"email": ["victim"], "e_mail": 1}, Reason.BODY_MALFORMED),
        ("", ["victim"], Reason.BODY_MALFORMED),
        ("?email=victim", {"email": "r1"}, Reason.AMBIGUOUS_QUERY),
    ],
)
def test_no_second_name_of_what_a_limit_counts_passes_it(
    path: str, query: str, body: Any, reason: Reason
) -> None:
    """Whoever guesses somebody's password would have as many tries as there are other names."""
    world = snapshot(TRIES)
    limiter = RateLimiter(Hands())
    for known in ("me", "you"):
        assert tried(limiter, world, path, body={"email": known}).allowed
        # The verdict is remembered by now.
        assert tried(limiter, world, path + query, body=body).refusal is reason
        assert tried(limiter, world, path, body={"email": known}).refusal is Reason.RATE_LIMITED
        limiter = RateLimiter(Hands())


@pytest.mark.parametrize(
    ("query", "headers", "reason"),
    [
        ("?account=a&Account=victim", [("X-Account", "b")], Reason.AMBIGUOUS_QUERY),
        ("?account=a", [("X-Account", "b"), ("X_Account", "c")], Reason.AMBIGUOUS_HEADER),
        ("?account=a", [("X-Account", "b"), ("Connection", "x-account")], Reason.AMBIGUOUS_HEADER),
    ],
)
def test_on_a_route_that_judges_nobody_what_a_limit_counts_has_one_name(
    query: str, headers: list[tuple[str, str]], reason: Reason
) -> None:
    world, limiter = snapshot(TRIES), RateLimiter(Hands())
    assert tried(limiter, world, "/query?account=a", headers=[("X-Account", "b")]).allowed
    assert tried(limiter, world, f"/query{query}", headers=headers).refusal is reason


@pytest.mark.parametrize("limits", [Limits, KnownLimits])
def test_who_names_what_is_counted_in_two_ways_is_charged_as_whoever_it_is(
    limits: type[Limits],
) -> None:
    world = snapshot(TRIES)
    limiter = limits()
    twice = {"email": "a", "Email": "b"}
    decision = tried(limiter, world, "/optional", body=twice)
    assert (decision.refusal, decision.principal) == (Reason.BODY_MALFORMED, who("u1"))
    assert limiter.asked == [("tries", "/optional", "u1", {}, {})]
    assert limiter.requested[0] is UNIDENTIFIED
    waiting = tried(limits(5.0), world, "/optional", body=twice)
    assert (waiting.refusal, waiting.principal) == (Reason.RATE_LIMITED, who("u1"))


def test_where_no_limit_counts_by_it_a_route_that_judges_nobody_takes_any_body() -> None:
    world = snapshot(TRIES.replace("limits: [tries]", "", 1))
    body = {"email": "a", "Email": "b"}
    assert tried(Limits(), world, "/open?email=c", body=body).allowed


@pytest.mark.parametrize("path", ["/open", "/signed-in"])
def test_what_is_explained_of_such_a_call_is_what_is_done(path: str) -> None:
    asked = decide(snapshot(TRIES), f"POST {path}", who("u1"), body={"Email": "a"})
    assert asked.refusal is Reason.BODY_MALFORMED


TYPED = """
version: 1
upstreams: {api: {targets: [http://127.0.0.1:9001]}}
limits:
  by-param: {key: request.params.id, rate: 1/1h, scope: local}
  by-resource: {key: resource.account, rate: 1/1h, scope: local}
defaults: {upstream: api}
routes:
  - {id: open, match: {path: "/open/{id:int}/{x}"}, auth: public, limits: [by-param]}
  - {id: known, match: {path: "/known/{id:uuid}/{x}"}, policy: signed-in, limits: [by-param]}
  - id: filled
    match: {path: "/filled/{id:int}/{x}"}
    auth: public
    limits: [by-resource]
    resource: {account: "a-{id}"}
  - id: judged
    match: {path: "/judged/{id:int}/{x}"}
    policy: signed-in
    limits: [by-resource]
    resource: {account: "{id}"}
  - {id: text, match: {path: "/text/{id}/{x}"}, auth: public, limits: [by-param]}
"""
UUID = "6f1c2b3a-aaaa-bbbb-cccc-abcdefabcdef"


@pytest.mark.parametrize(
    ("path", "same", "other"),
    [
        ("/open/7/x", ["/open/07/x", "/open/0007/y"], "/open/70/x"),
        ("/open/0/x", ["/open/00/x", "/open/000/x"], "/open/10/x"),
        ("/filled/7/x", ["/filled/07/x"], "/filled/17/x"),
        ("/judged/07/x", ["/judged/7/x", "/judged/007/x"], "/judged/17/x"),
        (f"/known/{UUID}/x", [f"/known/{UUID.upper()}/x"], f"/known/{UUID[:-1]}0/x"),
    ],
)
def test_no_other_spelling_of_a_number_is_another_to_a_limit(
    path: str, same: list[str], other: str
) -> None:
    """Whoever guesses the code of an account would have as many tries as they write zeros."""
    world, limiter = snapshot(TYPED), RateLimiter(Hands())
    assert tried(limiter, world, path).allowed
    for spelled in same:
        assert tried(limiter, world, spelled).refusal is Reason.RATE_LIMITED
    assert tried(limiter, world, other).allowed


def test_what_is_text_is_counted_in_one_spelling_too() -> None:
    """As a backend looks for it: `key: request.params.name` has no other way to say so."""
    world, limiter = snapshot(TYPED), RateLimiter(Hands())
    for text, others in (("7", ("07", "+7", "7.0")), ("a", ("A", "%20a", "a%E2%80%8B", "%C3%A1"))):
        assert tried(limiter, world, f"/text/{text}/x").allowed
        for other in others:
            assert tried(limiter, world, f"/text/{other}/x").refusal is Reason.RATE_LIMITED
    assert tried(limiter, world, "/text/b/x").allowed


@pytest.mark.parametrize("path", ["/open", "/signed-in"])
def test_no_other_spelling_of_a_name_is_another_to_a_limit(path: str) -> None:
    world, limiter = snapshot(TRIES), RateLimiter(Hands())
    assert tried(limiter, world, path, body={"email": "Victim@example.com"}).allowed
    for email in ("victim@example.com", " VICTIM@example.com ", "víctim@example.com"):
        body = {"email": email}
        assert tried(limiter, world, path, body=body).refusal is Reason.RATE_LIMITED
    assert tried(limiter, world, path, body={"email": "victim+1@example.com"}).allowed


@pytest.mark.parametrize("path", ["/open", "/signed-in"])
def test_nothing_around_an_address_is_another_to_a_limit(path: str) -> None:
    """`EmailStr` of Pydantic and its like find one account by all of them."""
    world, limiter = snapshot(TRIES), RateLimiter(Hands())
    assert tried(limiter, world, path, body={"email": "victim@example.com"}).allowed
    for email in ("n1 <victim@example.com>", '"n" <Victim@Example.com>', "victim(1)@example。com"):
        body = {"email": email}
        assert tried(limiter, world, path, body=body).refusal is Reason.RATE_LIMITED
    assert tried(limiter, world, path, body={"email": "n1 <other@example.com>"}).allowed


@pytest.mark.parametrize("path", ["/open", "/signed-in"])
def test_addresses_that_cannot_be_told_are_one_for_each_that_writes_them(path: str) -> None:
    world, limiter = snapshot(TRIES), RateLimiter(Hands())
    assert tried(limiter, world, path, body={"email": "<n1@x.com> <victim@x.com>"}).allowed
    for email in ("<n2@x.com> <victim@x.com>", "victim@x.com:n3", "n" * 300 + " <victim@x.com>"):
        body = {"email": email}
        assert tried(limiter, world, path, body=body).refusal is Reason.RATE_LIMITED
    assert tried(limiter, world, path, body={"email": "victim@x.com"}).allowed


@pytest.mark.parametrize("path", ["/open", "/signed-in"])
def test_telephone_numbers_that_cannot_be_told_are_one_for_each_that_writes_them(path: str) -> None:
    """libphonenumber reads one number in all of them."""
    world, limiter = snapshot(TRIES), RateLimiter(Hands())
    assert tried(limiter, world, path, body={"email": "+14155552671/xq1"}).allowed
    for email in ("+14155552671 \\ xq2 z", "tel:71;phone-context=+141555526", "①+14155552671"):
        body = {"email": email}
        assert tried(limiter, world, path, body=body).refusal is Reason.RATE_LIMITED
    assert tried(limiter, world, path, body={"email": "+1 415 555 2671 доб. 1"}).allowed
    again = tried(limiter, world, path, body={"email": "+14155552671@--"})
    assert again.refusal is Reason.RATE_LIMITED


def test_each_part_of_a_resource_counts_in_one_spelling() -> None:
    world, limiter = snapshot(TRIES), RateLimiter(Hands())
    assert tried(limiter, world, "/query?account=7", headers=[("X-Account", "b")]).allowed
    for account, header in (("07", "b"), ("7", "B"), ("%207", " b")):
        fields = [("X-Account", header)]
        again = tried(limiter, world, f"/query?account={account}", headers=fields)
        assert again.refusal is Reason.RATE_LIMITED


@pytest.mark.parametrize("email", [{"$ne": "r1"}, ["victim@example.com", "r1"]])
def test_a_resource_that_joins_a_field_takes_nothing_that_finds_whom_it_likes(
    email: object,
) -> None:
    world = snapshot(TRIES.replace('"{body.email}"', '"mail {body.email}"', 1))
    limiter = RateLimiter(Hands())
    refused = tried(limiter, world, "/open", body={"email": email})
    assert refused.refusal is Reason.BODY_MALFORMED
    assert tried(limiter, world, "/open", body={"email": "victim@example.com"}).allowed
