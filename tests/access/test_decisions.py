"""Whole decisions: every field that is not as in an empty one, and what was asked on the way."""

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
from gateway.model import CredentialKind, Principal, Reason
from tests.access.decision_world import WORLD, Callers, Limits, call_of, told
from tests.access.worlds import NOW, snapshot, who

HOST = ("Host", "h.example")


def decided(
    request: str, caller: Principal | Reason = Reason.NO_CREDENTIAL, *waits_s: float, **more: Any
) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    limits = Limits(*waits_s)
    gate = Authorizer(Callers(caller), limits, clock=FixedClock(NOW))
    return told(run_sync(gate, call_of(request, caller, **more), WORLD)), limits.asked


CASES: list[tuple[str, Principal | Reason, list[float], dict[str, Any], list[tuple[Any, ...]]]] = [
    (
        "GET /nowhere",
        Reason.NO_CREDENTIAL,
        [],
        {"reason": "route_unknown", "refusal": "route_unknown"},
        [],
    ),
    (
        "POST /public/a",
        Reason.NO_CREDENTIAL,
        [],
        {
            "reason": "method_not_allowed",
            "refusal": "method_not_allowed",
            "allow": ("GET", "HEAD", "PUT"),
        },
        [],
    ),
    (
        "GET /nowhere/a%2Fb",
        Reason.NO_CREDENTIAL,
        [],
        {"reason": "ambiguous_path", "refusal": "ambiguous_path"},
        [],
    ),
    (
        "PUT /slash/a%2Fb",
        Reason.NO_CREDENTIAL,
        [],
        {"reason": "method_not_allowed", "refusal": "method_not_allowed", "allow": ("GET", "HEAD")},
        [],
    ),
    (
        "GET /slash/a%2Fb",
        Reason.NO_CREDENTIAL,
        [],
        {
            "allowed": True,
            "reason": "route_public",
            "route": "slash",
            "params": {"x": "a/b"},
            "location": "routes.yaml:15",
            "target": "/slash/a%2Fb",
        },
        [],
    ),
    (
        "GET /public/a%2Fb",
        Reason.NO_CREDENTIAL,
        [],
        {
            "reason": "ambiguous_path",
            "refusal": "ambiguous_path",
            "route": "public",
            "params": {"x": "a/b"},
            "location": "routes.yaml:11",
        },
        [],
    ),
    (
        "GET /public/a?b=c",
        Reason.NO_CREDENTIAL,
        [],
        {
            "allowed": True,
            "reason": "route_public",
            "route": "public",
            "params": {"x": "a"},
            "location": "routes.yaml:11",
            "target": "/public/a?b=c",
        },
        [],
    ),
    (
        "GET /public/a",
        Reason.NO_CREDENTIAL,
        [],
        {
            "allowed": True,
            "reason": "route_public",
            "route": "public",
            "params": {"x": "a"},
            "location": "routes.yaml:11",
            "target": "/public/a",
        },
        [],
    ),
    (
        "GET /counted/a",
        who("u1"),
        [],
        {
            "allowed": True,
            "reason": "route_public",
            "route": "counted",
            "params": {"x": "a"},
            "location": "routes.yaml:12",
            "target": "/counted/a",
            "limit": (0.0, "per-user"),
        },
        [("per-user", "/counted/a", None, {}, {})],
    ),
    (
        "GET /counted/a",
        Reason.NO_CREDENTIAL,
        [0.5],
        {
            "reason": "rate_limited",
            "refusal": "rate_limited",
            "route": "counted",
            "params": {"x": "a"},
            "location": "routes.yaml:12",
            "retry_after_s": 0.5,
            "limit": (0.5, "per-user"),
        },
        [("per-user", "/counted/a", None, {}, {})],
    ),
    (
        "GET /tenant/t",
        Reason.NO_CREDENTIAL,
        [],
        {
            "allowed": True,
            "reason": "route_public",
            "route": "tenant",
            "params": {"x": "t"},
            "location": "routes.yaml:13",
            "target": "/tenant/t",
            "limit": (0.0, "per-tenant"),
        },
        [("per-tenant", "/tenant/t", None, {"x": "t"}, {"tenant": "t"})],
    ),
    (
        "GET /tenant/t",
        Reason.NO_CREDENTIAL,
        [3.0],
        {
            "reason": "rate_limited",
            "refusal": "rate_limited",
            "route": "tenant",
            "params": {"x": "t"},
            "location": "routes.yaml:13",
            "retry_after_s": 3.0,
            "limit": (3.0, "per-tenant"),
        },
        [("per-tenant", "/tenant/t", None, {"x": "t"}, {"tenant": "t"})],
    ),
    (
        "GET /signed",
        Reason.NO_CREDENTIAL,
        [],
        {
            "reason": "no_credential",
            "refusal": "no_credential",
            "route": "signed",
            "policy": "signed-in",
            "location": "routes.yaml:17",
            "limit": (0.0, "per-user"),
        },
        [("per-user", "/signed", None, {}, {})],
    ),
    (
        "GET /signed",
        Reason.TOKEN_EXPIRED,
        [],
        {
            "reason": "token_expired",
            "refusal": "token_expired",
            "route": "signed",
            "policy": "signed-in",
            "location": "routes.yaml:17",
            "limit": (0.0, "per-user"),
        },
        [("per-user", "/signed", None, {}, {})],
    ),
    (
        "GET /signed",
        Reason.TOKEN_EXPIRED,
        [0.5],
        {
            "reason": "rate_limited",
            "refusal": "rate_limited",
            "route": "signed",
            "policy": "signed-in",
            "location": "routes.yaml:17",
            "retry_after_s": 0.5,
            "limit": (0.5, "per-user"),
        },
        [("per-user", "/signed", None, {}, {})],
    ),
    (
        "GET /signed",
        who("u1"),
        [],
        {
            "allowed": True,
            "reason": "signed_in",
            "route": "signed",
            "principal": "u1",
            "policy": "signed-in",
            "rule": "signed-in",
            "location": "routes.yaml:17",
            "target": "/signed",
            "limit": (0.0, "per-user"),
            "evaluated": True,
        },
        [("per-user", "/signed", "u1", {}, {})],
    ),
    (
        "GET /signed",
        who("u1"),
        [0.25],
        {
            "reason": "rate_limited",
            "refusal": "rate_limited",
            "route": "signed",
            "principal": "u1",
            "policy": "signed-in",
            "location": "routes.yaml:17",
            "retry_after_s": 0.25,
            "limit": (0.25, "per-user"),
        },
        [("per-user", "/signed", "u1", {}, {})],
    ),
    (
        "GET /signed",
        who("u1", scopes=["a:b"]),
        [],
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "signed",
            "principal": "u1",
            "policy": "signed-in",
            "location": "routes.yaml:17",
            "limit": (0.0, "per-user"),
        },
        [("per-user", "/signed", "u1", {}, {})],
    ),
    (
        "GET /maybe",
        Reason.NO_CREDENTIAL,
        [],
        {
            "allowed": True,
            "reason": "route_optional",
            "route": "maybe",
            "location": "routes.yaml:18",
            "target": "/maybe",
        },
        [],
    ),
    (
        "GET /maybe",
        who("u1"),
        [],
        {
            "allowed": True,
            "reason": "route_optional",
            "route": "maybe",
            "principal": "u1",
            "location": "routes.yaml:18",
            "target": "/maybe",
        },
        [],
    ),
    (
        "GET /maybe",
        Reason.TOKEN_EXPIRED,
        [],
        {
            "reason": "token_expired",
            "refusal": "token_expired",
            "route": "maybe",
            "location": "routes.yaml:18",
        },
        [],
    ),
    (
        "GET /judged/u1?q=1",
        who("u1"),
        [],
        {
            "allowed": True,
            "reason": "rule_allowed",
            "route": "judged",
            "params": {"x": "u1"},
            "principal": "u1",
            "policy": "p",
            "rule": "own",
            "location": "policies/p0.yaml:4",
            "target": "/judged/u1?q=1",
            "headers": (("X-Own", "u1"), ("X-Two", "u1")),
            "limit": (0.0, "per-user, per-route"),
            "evaluated": True,
            "last_limits": "per-route",
        },
        [
            ("per-user", "/judged/u1", "u1", {}, {}),
            ("per-route", "/judged/u1", "u1", {"x": "u1"}, {"owner": "u1"}),
        ],
    ),
    (
        "GET /judged/u1",
        who("u1"),
        [0.0, 0.5],
        {
            "reason": "rate_limited",
            "refusal": "rate_limited",
            "route": "judged",
            "params": {"x": "u1"},
            "principal": "u1",
            "policy": "p",
            "rule": "own",
            "location": "policies/p0.yaml:4",
            "retry_after_s": 0.5,
            "limit": (0.5, "per-user, per-route"),
        },
        [
            ("per-user", "/judged/u1", "u1", {}, {}),
            ("per-route", "/judged/u1", "u1", {"x": "u1"}, {"owner": "u1"}),
        ],
    ),
    (
        "GET /judged/u1",
        who("u1"),
        [1.0],
        {
            "reason": "rate_limited",
            "refusal": "rate_limited",
            "route": "judged",
            "params": {"x": "u1"},
            "principal": "u1",
            "policy": "p",
            "location": "routes.yaml:19",
            "retry_after_s": 1.0,
            "limit": (1.0, "per-user"),
        },
        [("per-user", "/judged/u1", "u1", {}, {})],
    ),
    (
        "GET /judged/u2",
        who("u1"),
        [],
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "judged",
            "params": {"x": "u2"},
            "principal": "u1",
            "policy": "p",
            "location": "policies/p0.yaml:2",
            "limit": (0.0, "per-user"),
            "evaluated": True,
        },
        [("per-user", "/judged/u2", "u1", {}, {})],
    ),
    (
        "GET /judged/u2",
        who("u1", "guest", "bad"),
        [],
        {
            "allowed": True,
            "reason": "rule_allowed",
            "route": "judged",
            "params": {"x": "u2"},
            "principal": "u1",
            "policy": "p",
            "rule": "guest",
            "location": "policies/p0.yaml:8",
            "target": "/judged/u2",
            "limit": (0.0, "per-user"),
            "evaluated": True,
            "shadowed": [("soon", False, "suspended")],
        },
        [("per-user", "/judged/u2", "u1", {}, {})],
    ),
    (
        "GET /hidden/gone",
        who("u1"),
        [],
        {
            "reason": "gone",
            "route": "hidden",
            "params": {"x": "gone"},
            "principal": "u1",
            "policy": "q",
            "rule": "gone",
            "location": "policies/p1.yaml:4",
            "conceal": True,
            "evaluated": True,
        },
        [],
    ),
    (
        "GET /hidden/sure",
        who("u1"),
        [],
        {
            "reason": "insufficient_user_authentication",
            "refusal": "insufficient_user_authentication",
            "route": "hidden",
            "params": {"x": "sure"},
            "principal": "u1",
            "policy": "q",
            "rule": "sure",
            "location": "policies/p1.yaml:5",
            "evaluated": True,
            "max_age_s": 300,
            "amr": ("totp",),
        },
        [],
    ),
    (
        "GET /hidden/x?q=a",
        who("u1"),
        [],
        {
            "allowed": True,
            "reason": "rule_allowed",
            "route": "hidden",
            "params": {"x": "x"},
            "principal": "u1",
            "policy": "q",
            "rule": "query",
            "location": "policies/p1.yaml:7",
            "target": "/hidden/x?q=a",
            "evaluated": True,
        },
        [],
    ),
    (
        "GET /hidden/x?q=a&q=a",
        who("u1"),
        [],
        {
            "reason": "ambiguous_query",
            "refusal": "ambiguous_query",
            "route": "hidden",
            "params": {"x": "x"},
            "principal": "u1",
            "policy": "q",
            "location": "routes.yaml:21",
        },
        [],
    ),
    (
        "GET /hidden/x?q=a",
        who("u1", scopes=["x:y"]),
        [],
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "hidden",
            "params": {"x": "x"},
            "principal": "u1",
            "policy": "q",
            "location": "routes.yaml:21",
        },
        [],
    ),
    (
        "GET /written/a?b=c",
        who("u1"),
        [],
        {
            "allowed": True,
            "reason": "signed_in",
            "route": "written",
            "params": {"x": "a"},
            "principal": "u1",
            "policy": "signed-in",
            "rule": "signed-in",
            "location": "routes.yaml:22",
            "target": "/w/a?b=c",
            "evaluated": True,
        },
        [],
    ),
    (
        "GET /lost/other",
        who("u1"),
        [],
        {
            "allowed": True,
            "reason": "signed_in",
            "route": "lost",
            "params": {"x": "other"},
            "principal": "u1",
            "policy": "signed-in",
            "rule": "signed-in",
            "location": "routes.yaml:24",
            "target": "/other",
            "evaluated": True,
        },
        [],
    ),
    (
        "GET /lost/judged/u1",
        who("u1"),
        [],
        {
            "reason": "ambiguous_path",
            "refusal": "ambiguous_path",
            "route": "lost",
            "params": {"x": "judged/u1"},
            "principal": "u1",
            "policy": "signed-in",
            "location": "routes.yaml:24",
        },
        [],
    ),
    (
        "GET /files/a;b",
        who("u1"),
        [],
        {
            "allowed": True,
            "reason": "rule_allowed",
            "route": "files",
            "params": {"x": "a;b"},
            "principal": "u1",
            "policy": "f",
            "rule": "most",
            "location": "policies/p3.yaml:4",
            "target": "/files/a;b",
            "evaluated": True,
        },
        [],
    ),
    (
        "GET /files/b;d",
        who("u1"),
        [],
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "files",
            "params": {"x": "b"},
            "principal": "u1",
            "policy": "f",
            "location": "policies/p3.yaml:2",
            "evaluated": True,
            "read_as": "/files/b",
        },
        [],
    ),
    (
        "GET /files/e;d",
        who("u1"),
        [],
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "files",
            "params": {"x": "e"},
            "principal": "u1",
            "policy": "f",
            "location": "policies/p3.yaml:2",
            "evaluated": True,
            "read_as": "/files/e",
        },
        [],
    ),
    (
        "GET /signed",
        replace(who("u1"), resource_only=True),
        [],
        {
            "reason": "token_claims_invalid",
            "refusal": "token_claims_invalid",
            "route": "signed",
            "policy": "signed-in",
            "location": "routes.yaml:17",
            "limit": (0.0, "per-user"),
        },
        [("per-user", "/signed", None, {}, {})],
    ),
    (
        "GET /files/c;d",
        who("u1"),
        [],
        {
            "reason": "no_rule",
            "refusal": "no_rule",
            "route": "files",
            "params": {"x": "c;d"},
            "principal": "u1",
            "policy": "f",
            "location": "policies/p3.yaml:2",
            "evaluated": True,
        },
        [],
    ),
    (
        "GET /files/a%5c..%5cb",
        who("u1"),
        [],
        {
            "reason": "ambiguous_path",
            "refusal": "ambiguous_path",
            "route": "files",
            "params": {"x": "a\\..\\b"},
            "policy": "f",
            "location": "routes.yaml:26",
        },
        [],
    ),
    (
        "GET /public/a;b",
        Reason.NO_CREDENTIAL,
        [],
        {
            "reason": "ambiguous_path",
            "refusal": "ambiguous_path",
            "route": "public",
            "params": {"x": "a;b"},
            "location": "routes.yaml:11",
        },
        [],
    ),
    (
        "GET /nowhere/a;b",
        Reason.NO_CREDENTIAL,
        [],
        {"reason": "ambiguous_path", "refusal": "ambiguous_path"},
        [],
    ),
]


@pytest.mark.parametrize(("request_", "caller", "waits_s", "decision", "asked"), CASES)
def test_a_decision_says_all_that_is_recorded_of_it(
    request_: str,
    caller: Principal | Reason,
    waits_s: list[float],
    decision: dict[str, Any],
    asked: list[tuple[Any, ...]],
) -> None:
    assert decided(request_, caller, *waits_s) == (decision, asked)


@pytest.mark.parametrize(
    ("request_", "reason", "target"),
    [
        ("GET /files/x;y", "ambiguous_path", ""),
        ("GET /posted/a;b", "method_not_allowed", ""),
        ("POST /posted/a;b", "route_public", "/posted/a;b"),
        ("GET http://h.example/there/a;b", "method_not_allowed", ""),
        ("GET /there/a;b", "ambiguous_path", ""),
        ("GET /lost/guarded", "ambiguous_path", ""),
        ("GET /lost/guarded?a=b", "ambiguous_path", ""),
        ("GET /lost/guarded/a", "signed_in", "/guarded/a"),
        ("GET /lost/both", "signed_in", "/both"),
        ("POST /lost/both", "ambiguous_path", ""),
        ("GET /name/a%2Fb", "route_public", "/name/a%2Fb"),
        ("POST /name/a%2Fb", "ambiguous_path", ""),
        ("POST /name/a%2Fc", "route_public", "/name/a%2Fc"),
        ("GET /moved/a;b", "signed_in", "/a;b"),
        ("GET /moved/guarded;b", "ambiguous_path", ""),
        ("GET /moved/guarded", "ambiguous_path", ""),
    ],
)
def test_no_other_route_is_reached_by_another_name(request_: str, reason: str, target: str) -> None:
    decision, _ = decided(request_, who("u1"))
    assert (decision["reason"], decision.get("target", "")) == (reason, target)


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
