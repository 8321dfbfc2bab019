"""One fact of a decision at a time, in the smallest world that shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.issuers import ResourceServer
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.route_table import RouteTable
from gateway.access.simulation import FixedClock, run_sync
from gateway.access.snapshot import Snapshot
from gateway.model import CredentialKind, Reason
from tests.access.asked import Callers, Limits
from tests.access.decision_world import WORLD, call_of, told
from tests.access.worlds import NOW, snapshot, who

HOST = ("Host", "h.example")


def test_whoever_knows_callers_is_told_what_the_route_takes() -> None:
    route = next(route for route in WORLD.routes if route.id == "hosted")
    route = replace(route, issuers=frozenset(("own", "company")))
    table = RouteTable()
    table.insert(route)
    callers = Callers(who("u1"))
    gate = Authorizer(callers, Limits(), clock=FixedClock(NOW))
    for kind in (CredentialKind.BEARER, CredentialKind.COOKIE):
        headers = [("Host", "h.example"), ("Sec-Fetch-Site", "same-origin")]
        call = call_of("POST /hosted", who("u1"), headers=headers, kind=kind)
        assert run_sync(gate, call, Snapshot("v", table)).allowed
    assert callers.asked == [("/hosted", route.accept, route.issuers)] * 2


def test_a_token_without_the_scopes_of_a_resource_is_refused_with_its_caller() -> None:
    route = next(route for route in WORLD.routes if route.id == "signed")
    server = ResourceServer("/signed", ("https://id.example",), scopes=("a", "b", "c"))
    table = RouteTable()
    table.insert(replace(route, resource_server=server))
    token = replace(who("u1"), audience=("https://own.example/signed",), granted_scopes=("b",))
    origins = OwnOrigins("https://own.example")
    gate = Authorizer(Callers(token), Limits(), clock=FixedClock(NOW), origins=origins)
    refused = {
        "reason": "insufficient_scope",
        "refusal": "insufficient_scope",
        "route": "signed",
        "principal": "u1",
        "policy": "signed-in",
        "location": "routes.yaml:17",
        "lacking_scopes": ("a", "c"),
    }
    call = call_of("GET /signed", token)
    assert told(gate.reevaluate(call, Snapshot("v", table), token)) == refused
    limited = refused | {"limit": (0.0, "per-user")}
    assert told(run_sync(gate, call, Snapshot("v", table))) == limited


def test_a_key_is_sent_by_no_browser_of_itself() -> None:
    foreign = [("Origin", "https://other.example"), ("Sec-Fetch-Site", "cross-site")]
    call = call_of("POST /maybe", who("u1"), kind=CredentialKind.API_KEY, headers=foreign)
    gate = Authorizer(Callers(who("u1")), Limits(), clock=FixedClock(NOW))
    assert told(run_sync(gate, call, WORLD))["principal"] == "u1"


def test_a_credential_that_is_taken_no_more_is_refused_with_its_caller() -> None:
    call = call_of("GET /hosted", who("u1"), kind=CredentialKind.API_KEY, headers=[HOST])
    gate = Authorizer(Callers(who("u1")), Limits(), clock=FixedClock(NOW))
    assert told(gate.reevaluate(call, WORLD, who("u1"))) == {
        "reason": "no_credential",
        "refusal": "no_credential",
        "route": "hosted",
        "principal": "u1",
        "policy": "signed-in",
        "location": "routes.yaml:28",
    }


def test_fields_are_those_of_every_rule_that_allows_the_action() -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, policy: p, action: 'a:b', upstream: api}",
        """
        policy: p
        roles: {member: ["a:*"], other: ["b:*"]}
        rules:
          - {id: all, allow: ["a:b"], headers: {X-All: "{user.id}"}}
          - {id: role, allow: role-permissions, headers: {X-Member: "{user.id}"}}
        """,
    )
    gate = Authorizer(Callers(Reason.KEY_UNKNOWN), Limits(), clock=FixedClock(NOW))
    for role, headers in (
        ("member", (("X-All", "u1"), ("X-Member", "u1"))),
        ("other", (("X-All", "u1"),)),
    ):
        caller = who("u1", role)
        assert gate.reevaluate(call_of("GET /a", caller), world, caller).headers == headers


@pytest.mark.parametrize("kind", [CredentialKind.COOKIE, CredentialKind.BASIC])
@pytest.mark.parametrize(
    ("url", "origin", "refusal"),
    [
        ("http://h.example/hosted", "https://h.example", None),
        ("http://h.example/hosted", "https://own.example", None),
        ("http://h.example/hosted", "https://app.example.com", None),
        ("http://h.example/hosted", "https://other.example", Reason.CROSS_ORIGIN),
        # Any host leads here: it proves nothing that the call names the same one.
        ("http://h.example/cookies", "https://h.example", Reason.CROSS_ORIGIN),
        ("http://h.example/cookies", "https://own.example", None),
        ("http://h.example/cookies", "https://app.example.com", None),
    ],
)
def test_a_credential_of_the_browser_counts_at_own_and_listed_origins(
    kind: CredentialKind, url: str, origin: str, refusal: Reason | None
) -> None:
    call = call_of(f"POST {url}", who("u1"), kind=kind, headers=[("Origin", origin)])
    origins = OwnOrigins("https://own.example")
    gate = Authorizer(Callers(who("u1")), Limits(), clock=FixedClock(NOW), origins=origins)
    assert run_sync(gate, call, WORLD).refusal is refusal
    assert gate.reevaluate(call, WORLD, who("u1")).refusal is refusal


def test_what_is_remembered_of_a_role_is_told_to_those_alone_who_have_it() -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, auth: optional, policy: p, action: 'a:b', upstream: api}",
        "policy: p\nroles: {member: ['a:*']}\nrules: [{id: roles, allow: role-permissions}]",
    )
    gate = Authorizer(Callers(Reason.NO_CREDENTIAL), Limits(), clock=FixedClock(NOW))
    callers = (None, who("u1", "member"), None, who("u2"), who("u3", "member"), who("u4"))
    allowed = [gate.reevaluate(call_of("GET /a"), world, one).allowed for one in callers]
    assert allowed == [False, True, False, False, True, False]


@pytest.mark.parametrize(
    ("resource", "good", "bad", "reason"),
    [
        ("{query.x}", {"url": "/a?x=1"}, {"url": "/a?x=1&x=1"}, Reason.AMBIGUOUS_QUERY),
        (
            "{headers.x-a}",
            {"headers": [("X-A", "1")]},
            {"headers": [("X-A", "1"), ("X_A", "1")]},
            Reason.AMBIGUOUS_HEADER,
        ),
    ],
)
def test_what_is_remembered_of_a_role_excuses_nothing_that_could_be_read_in_two_ways(
    resource: str, good: dict[str, Any], bad: dict[str, Any], reason: Reason
) -> None:
    world = snapshot(
        f"""
        - {{id: a, match: {{path: /a}}, policy: p, action: 'a:b', upstream: api,
            resource: {{x: "{resource}"}}}}
        """,
        "policy: p\nroles: {member: ['a:*']}\nrules: [{id: roles, allow: role-permissions}]",
    )
    caller = who("u1", "member")

    def asked(url: str = "/a", **more: Any) -> Decision:
        gate = Authorizer(Callers(caller), Limits(), clock=FixedClock(NOW))
        return run_sync(gate, call_of(f"GET {url}", caller, **more), world)

    assert asked(**good).allowed
    assert asked(**bad).refusal is reason
