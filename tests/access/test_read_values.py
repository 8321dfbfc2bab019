"""What a policy reads of a call: what can be read in one way alone, and the resource made of it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.decision import Decision
from gateway.model import Reason
from tests.access.worlds import decide, rule_world, snapshot, who

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
    world = snapshot("- {id: needed, match: {path: /needed}, policy: signed-in, upstream: api}")
    assert decide(world, "GET /needed?a=1&a=2&b=%zz;", who()).allowed


DENIED = snapshot(
    """
    - {id: list, match: {path: /list}, policy: teams, action: "list:read", upstream: api}
    - {id: plain, match: {path: /plain}, policy: signed-in, upstream: api}
    """,
    "policy: teams\nrules: [{id: all, allow: ['*']}, {id: hr, deny: ['*'], "
    "when: \"has(request.query.team) && request.query.team == 'hr'\"}]",
)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "field", [("Content-Length", "11"), ("content-length", "010"), ("Transfer-Encoding", "chunked")]
)
def test_no_body_beside_a_parameter_that_was_judged_says_another(
    method: str, field: tuple[str, str]
) -> None:
    # Laravel takes the `team` of JSON, Rack that of a form, whatever the method.
    for path in ("/list?team=a", "/list"):
        assert decide(DENIED, f"{method} {path}", who(), headers=[field]).refusal is (
            Reason.AMBIGUOUS_QUERY
        )
        assert decide(DENIED, f"{method} {path}", who(), headers=[("Content-Length", "0")]).allowed
    assert decide(DENIED, f"{method} /plain?team=a", who(), headers=[field]).allowed
    assert decide(DENIED, "POST /list?team=a", who(), headers=[field]).allowed


def test_a_route_that_reads_no_body_takes_any_query_beside_it() -> None:
    world = rule_world("- {id: all, allow: ['*']}")
    assert decide(world, "GET /orders/u1?a=1;b=2", who(), body={"a": "1"}).allowed


def test_no_parameter_beside_a_body_that_was_judged_says_another() -> None:
    # Rails takes the `owner` of the query over that of the body; Laravel where the body has none.
    world = snapshot(
        """
        - id: write
          match: {path: /write}
          policy: own
          action: "a:w"
          resource: {owner: "{body.owner}", deep: "{body.meta.kind}", both: "{body.both}",
                     too: "{query.both}", far: "{body.top.mid.low}", it: "{body.all.of.it}",
                     of: "{query.all.of}"}
          upstream: api
        """,
        "policy: own\nrules: [{id: own, allow: ['*'], when: 'resource.owner == user.id'}]",
    )

    def asked(query: str) -> Decision:
        return decide(world, f"POST /write{query}", who("u1"), body={"owner": "u1"})

    for query in ("owner=u2", "owner=u1", "owner[]=u2", "Owner=u2", "a=1&%6fwner=u2", "owner",
                  "meta[kind]=x", "meta=x", "meta.kind=x", "Meta.Kind=x", "owner=%ff", "x;owner=u2",
                  "owner.x=1", "top.mid.low.x=1",
                  "top=x", "top.mid=x", "top[mid]=x", "top.mid.low=x", "Top.mid[low]=x"):  # fmt: skip
        assert asked(f"?{query}").refusal is Reason.AMBIGUOUS_QUERY, query
    for query in ("", "?", "?page=2&kind=x&owners=u2", "?both=1", "?mid=x&low=x&mid.low=x",
                  "?all.of=1"):  # fmt: skip
        assert asked(query).allowed, query


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
