"""What a policy reads of a call: what can be read in one way alone, and the resource made of it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.decision import Decision
from gateway.access.judging import judged
from gateway.access.routing.route_table import Match
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.access.snapshot import Snapshot
from gateway.model import Call, Reason
from tests.access.worlds import NOW, decide, rule_world, snapshot, who

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


def test_a_body_that_is_asked_about_came_with_the_call() -> None:
    """What `gateway explain --body` and `gateway test` say is what the gateway answers."""
    body = {"team": "hr"}
    for method in ("GET", "DELETE"):
        decision = decide(DENIED, f"{method} /list?team=it", who(), body=body)
        assert decision.refusal is Reason.AMBIGUOUS_QUERY
        assert decide(DENIED, f"{method} /plain?team=it", who(), body=body).allowed
    assert decide(DENIED, "POST /list?team=it", who(), body=body).allowed


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
                  "owner.x=1", "top.mid.low.x=1", "note[owner]=u2", "note.owner=u2", "Note[Owner]=u2",
                  "x[meta]=1", "x[meta][kind]=1", "x.top.mid=1", "x[owner][]=1", "a=1&x[owner]=u2",
                  "top=x", "top.mid=x", "top[mid]=x", "top.mid.low=x", "Top.mid[low]=x"):  # fmt: skip
        assert asked(f"?{query}").refusal is Reason.AMBIGUOUS_QUERY, query
    for query in ("", "?", "?page=2&kind=x&owners=u2", "?both=1", "?mid=x&low=x&mid.low=x",
                  "?all.of=1", "?x[kind]=1&x[y][owner]=2&x[mid][low]=3&x[it]=4&a.b.owner=5&note=6"):  # fmt: skip
        assert asked(query).allowed, query


PATHS = """
version: 1
upstreams: {api: {targets: [http://127.0.0.1:9001]}}
limits:
  by-resource: {key: resource.team, rate: 9/1h}
  by-param: {key: request.params.team, rate: 9/1h}
  by-user: {key: user, rate: 9/1h}
tenants: {roles: [member]}
defaults: {auth: required, upstream: api}
routes:
  - {id: filled, match: {path: "/filled/{team}/{id}"}, policy: filled, resource: {team: "{team}"}}
  - {id: read, match: {path: "/read/{team}/{id}"}, policy: read}
  - {id: whole, match: {path: "/whole/{team}"}, policy: whole}
  - {id: tenant, match: {path: "/tenant/{team}/{id}"}, policy: signed-in, tenant: "{team}"}
  - id: counted
    match: {path: "/counted/{team}/{id}"}
    policy: signed-in
    limits: [by-resource]
    resource: {team: "{team}"}
  - {id: open, match: {path: "/open/{team}/{id}"}, auth: public, limits: [by-param]}
  - id: unread
    match: {path: "/unread/{team}/{id}"}
    policy: signed-in
    limits: [by-user]
    resource: {team: "{team}"}
  - {id: files, match: {path: "/files/{team}"}, paths: files, policy: read}
  - {id: both, match: {path: "/both/{team}"}, policy: both}
"""
CONDITIONS = {
    "filled": "resource.team == 'mine'",
    "read": "request.params.team == 'mine'",
    "whole": "request.path == '/whole/mine'",
    "both": "request.params.team == 'mine' && "
    "(!has(request.query.team) || request.query.team == 'mine')",
}
PATH_POLICIES = [
    f'policy: {name}\nrules: [{{id: a, allow: ["*"], when: "{when}"}}]'
    for name, when in CONDITIONS.items()
]
MEMBER = who("u1", claims={"tenants": {"mine": "member"}})


@pytest.fixture(scope="module")
def paths() -> Snapshot:
    return snapshot(PATHS, *PATH_POLICIES)


@pytest.mark.parametrize(
    "path",
    ["/filled/mine/1", "/read/mine/1", "/whole/mine", "/tenant/mine/1", "/counted/mine/1",
     "/open/mine/1"],
)  # fmt: skip
def test_no_parameter_beside_a_path_that_was_judged_says_another(
    paths: Snapshot, path: str
) -> None:
    # Spring's `@ModelAttribute` takes the `team` of the query over that of the path.
    assert decide(paths, f"GET {path}", MEMBER).allowed
    for query in ("team=theirs", "Team=mine", "team=mine&team=mine", "team[]=mine", "team.x=1",
                  "_team=on", "!team=theirs", "te%61m=theirs", "team", "team=%ff", "a=1;team=theirs",
                  "a=1;team=mine", "%zz=1&team=theirs", "%zz=1&team=mine", "te%ffam=theirs",
                  "a=1&" * 1_000 + "team=theirs"):  # fmt: skip
        decision = decide(paths, f"GET {path}?{query}", MEMBER)
        assert decision.refusal is Reason.AMBIGUOUS_QUERY, query
    # Whoever reads the same from two places has what was judged; and else a query is nobody's.
    for query in ("team=mine", "te%61m=m%69ne", "a=1;b=2", "%zz=1&team_no=2", "x.team=1", "a=%ff",
                  "a=1&" * 1_001, "teams=theirs&a=1&a=2"):  # fmt: skip
        assert decide(paths, f"GET {path}?{query}", MEMBER).allowed, query


@pytest.mark.parametrize(
    "path",
    ["/filled/mine/1", "/read/mine/1", "/tenant/mine/1", "/counted/mine/1", "/open/mine/1"],
)
def test_no_path_says_a_parameter_of_a_query_that_is_made_of_it(paths: Snapshot, path: str) -> None:
    """nginx's `rewrite ^/read/(.*)/(.*)$ /read.php?team=$1&id=$2` escapes no ampersand, Apache and
    `try_files $uri /index.php?q=$uri` not even one that came encoded.  By `proxy_pass http://app$uri`
    a question mark that came so begins a query."""
    for behind in ("&team=theirs", "%26team=theirs", "&a=1&Team=theirs", "&te%61m[]=theirs", "&team",
                   "&team%3Dtheirs", "%26team%3dtheirs", "%26te%61m%3Dtheirs", "&a=1%26team=theirs",
                   "%3Fteam=theirs", "%3fteam%3Dtheirs", "%3Fa=1&team=theirs", "&x%3Fteam=theirs"):  # fmt: skip
        decision = decide(paths, f"GET {path}{behind}", MEMBER)
        assert decision.refusal is Reason.AMBIGUOUS_QUERY, behind
    for behind in (
        "&D",
        "%26D",
        "&a=1&b=2",
        "&team=mine",
        "&",
        "&&",
        "%3F",
        "%3Fa=1",
        "%3Fteam=mine",
    ):
        assert decide(paths, f"GET {path}{behind}", MEMBER).allowed, behind


def test_no_path_says_a_parameter_that_a_policy_reads_of_the_query_or_the_body() -> None:
    world = snapshot(
        "- {id: query, match: {path: '/q/{id}'}, policy: q, upstream: api}\n"
        "- {id: body, match: {path: '/b/{id}', methods: [POST]}, policy: b, upstream: api,\n"
        "   resource: {team: '{body.team}'}}\n",
        "policy: q\nrules: [{id: a, allow: ['*'], when: \"!has(request.query.team)\"}]",
        "policy: b\nrules: [{id: a, allow: ['*'], when: \"resource.team == 'mine'\"}]",
    )
    assert decide(world, "GET /q/1&x=2", MEMBER).allowed
    assert decide(world, "GET /q/1&team=2", MEMBER).refusal is Reason.AMBIGUOUS_QUERY
    assert decide(world, "GET /q/1%26team%3D2", MEMBER).refusal is Reason.AMBIGUOUS_QUERY
    for path, allowed in (
        ("/b/1&x=2", True),
        ("/b/1&team=theirs", False),
        ("/b/1%26team%3D1", False),
    ):
        decision = decide(world, f"POST {path}", MEMBER, body={"team": "mine"})
        assert decision.allowed is allowed


@pytest.mark.parametrize("files", ["", ", paths: files"])
def test_no_other_reading_says_a_parameter_of_a_query_that_is_made_of_it(files: str) -> None:
    """Nor the path that a COPY or MOVE writes."""
    world = snapshot(
        f'- {{id: a, match: {{path: "/f/{{team}}/{{rest:path}}"}}, policy: p, upstream: api{files}}}\n',
        "policy: p\nrules: [{id: a, allow: ['*'], when: \"request.params.team == 'mine'\"}]",
    )
    for rest in ("x", "x/R&D"):
        assert decide(world, f"GET /f/mine/{rest}", MEMBER).allowed
    for rest in ("x;team=theirs", "x%3Bteam=theirs", "x&%2574eam=theirs", "x%2526team=theirs",
                 "x%3Fteam=theirs", "x%253Fteam=theirs"):  # fmt: skip
        assert not decide(world, f"GET /f/mine/{rest}", MEMBER).allowed, rest
    for to, allowed in (("/f/mine/y", True), ("/f/mine/y&team=theirs", False),
                        ("/f/mine/y%26team%3Dtheirs", False)):  # fmt: skip
        moved = [("Destination", to)]
        assert decide(world, "MOVE /f/mine/x", MEMBER, headers=moved).allowed is allowed, to


def test_a_parameter_of_a_path_by_which_nothing_is_decided_may_be_said_anew(
    paths: Snapshot,
) -> None:
    assert decide(paths, "GET /filled/mine/1?id=2", MEMBER).allowed
    assert decide(paths, "GET /unread/mine/1?team=theirs", MEMBER).allowed
    assert decide(paths, "GET /both/mine?team=mine&Team=theirs", MEMBER).refusal is (
        Reason.AMBIGUOUS_QUERY
    )
    assert decide(paths, "GET /both/mine?team=theirs", MEMBER).refusal is Reason.NO_RULE


def test_a_policy_may_ask_for_a_parameter_that_the_path_of_a_route_has_not() -> None:
    world = snapshot(
        """
        - {id: a, match: {path: "/a/{team}"}, policy: p, auth: optional, upstream: api}
        - {id: b, match: {path: /b}, policy: p, auth: optional, upstream: api}
        """,
        """
        policy: p
        rules:
          - id: mine
            allow: ["*"]
            when: "!has(request.params.team) || request.params.team == 'mine'"
        """,
    )
    for query in ("team=theirs", "Team[x]=1", "team=mine&team=theirs"):
        assert decide(world, f"GET /b?{query}").allowed, query
        assert decide(world, f"GET /a/mine?{query}").refusal is Reason.AMBIGUOUS_QUERY, query


def test_where_a_path_has_other_readings_nothing_is_said_of_it_twice(paths: Snapshot) -> None:
    assert decide(paths, "GET /files/mine?team=mine", MEMBER).allowed
    assert not decide(paths, "GET /files/mine;x", MEMBER).allowed
    for query, reason in (("", Reason.NO_RULE), ("team=mine;x", Reason.AMBIGUOUS_QUERY),
                          ("team=mine%3Bx", Reason.AMBIGUOUS_QUERY)):  # fmt: skip
        assert decide(paths, f"GET /files/mine;x?{query}", MEMBER).refusal is reason


def test_a_remembered_verdict_lets_no_parameter_say_of_the_path_another(paths: Snapshot) -> None:
    for path in ("/tenant/mine/1", "/counted/mine/1"):
        for _ in range(2):
            call = simulated_call(SimulatedRequest("GET", f"{path}?team=theirs", MEMBER))
            assert isinstance(call, Call)
            match = paths.routes.match(call.host, call.method, call.segments)
            assert isinstance(match, Match)
            refused = judged(call, match, MEMBER, lambda: NOW)
            assert refused.refusal is Reason.AMBIGUOUS_QUERY
            assert decide(paths, f"GET {path}", MEMBER).allowed


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
    assert decide(world, "POST /r/7?tenant=t", who("u1"), **more).allowed
    assert not decide(world, "POST /r/7?tenant=t", who("u2"), **more).allowed
    two = decide(world, "POST /r/7?tenant=t&tenant=u", who("u1"), **more)
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
        ([""] * 4_095, True),
        ([""] * 4_096, False),
        ([7] * 4_096, False),
        ([{"a": 1, "b": 2, "c": 3}] * 1_000, True),
        ([{"a": 1, "b": 2, "c": 3}] * 1_024, False),
        (dict.fromkeys(map(str, range(4_095)), 1), True),
        (dict.fromkeys(map(str, range(4_096)), 1), False),
    ],
)
def test_what_the_engine_would_round_or_read_for_long_is_no_value(
    value: Any, allowed: bool
) -> None:
    world = resource_world('{n: "{body.n}", m: "{body.m}"}', "resource.m == 'm'")
    decision = decide(world, "POST /r/7", who(), body={"n": value, "m": "m", "unread": [2.0**53]})
    assert decision.allowed is allowed
    assert allowed or decision.reason == Reason.BODY_MALFORMED


def test_the_fields_of_a_body_are_taken_together() -> None:
    world = resource_world('{n: "{body.n}", m: "{body.m}"}', "!has(resource.m.x)")
    for count, allowed in ((2_047, True), (2_048, False)):
        body = {"n": [""] * 2_047, "m": [{}] * count}
        assert (
            decide(world, "POST /r/7", who(), body=body | {"m": {"y": [""] * (count - 1)}}).allowed
            is allowed
        )


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
