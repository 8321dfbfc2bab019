"""What a route knows of itself before the first call: made once, asked at each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.access.definitions import DirectResponse, HeaderChanges, Limit, LimitKey
from gateway.access.identity_headers import IdentityHeaders
from gateway.access.routing.routes import Rewrite, Route
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.access.snapshot import Snapshot
from gateway.model import Call, Reason
from tests.access.worlds import snapshot


def only(routes: str, *policies: str) -> Route:
    (route,) = snapshot(routes, *policies).routes
    return route


def plain_route() -> Route:
    return only("- {id: a, match: {path: '/a/{x}'}, auth: public, upstream: api}")


def call(path: str) -> Call:
    found = simulated_call(SimulatedRequest("GET", path))
    assert not isinstance(found, Reason)
    return found


def test_a_route_that_asks_for_no_change_is_plain() -> None:
    route = plain_route()
    assert route.plain is True
    assert route.param_names == ("x",)
    assert route.other_identity is None
    assert route.request_lines == b""


@pytest.mark.parametrize(
    "change",
    [
        {"rewrite": Rewrite(1)},
        {"claimed_headers": frozenset((b"x-a",))},
        {"request": HeaderChanges((("X-A", "1"),))},
        {"forward_authorization": True},
        {"reevaluates": True},
        {"redirect_slash": True},
        {"identity": IdentityHeaders(())},
        {"upstream": None, "direct_response": DirectResponse(204)},
    ],
)
def test_whatever_is_changed_on_its_way_makes_a_route_not_plain(change: dict[str, Any]) -> None:
    assert replace(plain_route(), **change).plain is False


@pytest.mark.parametrize("change", [{"host": "api.internal"}, {"assertion_audience": "api"}])
def test_an_upstream_that_is_told_more_makes_a_route_not_plain(change: dict[str, Any]) -> None:
    route = plain_route()
    assert route.upstream is not None
    assert replace(route, upstream=replace(route.upstream, **change)).plain is False


def test_what_is_sent_besides_is_told() -> None:
    identity = IdentityHeaders(())
    route = replace(
        plain_route(), identity=identity, request=HeaderChanges((("X-A", "1"), ("X-B", "2")))
    )
    assert route.other_identity is identity
    assert route.request_lines == b"X-A: 1\r\nX-B: 2"


POLICY = """
policy: p
rules:
  - {id: query, allow: ['a:read'], when: "request.query.team == 'x'"}
  - {id: header, deny: ['a:read'], when: "request.headers['x-team'] == 'y'"}
  - {id: other, allow: ['a:write'], when: "request.query.other == 'x'"}
"""


def test_what_the_policy_and_the_resource_read_is_known() -> None:
    route = only(
        """
        - id: a
          match: {path: "/a/{x}"}
          policy: p
          action: a:read
          upstream: api
          resource: {type: t, id: "{x}-{query.id}", of: "{headers.x-of}", kind: "{body.a.kind}"}
        """,
        POLICY,
    )
    assert route.query_names == {"id"}
    assert route.header_names == {"x-of"}
    assert route.body_names == {"a.kind"}
    assert route.resource_query is not None
    assert route.resource_query.names == {"id"}
    assert route.resource_headers is not None
    assert route.resource_headers.names == {"x-of"}
    assert route.policy_query is not None
    assert route.policy_query.names == {"id", "team"}
    assert route.policy_headers is not None
    assert route.policy_headers.names == {"x-of", "x-team"}
    assert route.action_rules is not None
    assert [rule.id for rule in route.action_rules.allows] == ["query"]
    values: dict[str, dict[str, Any]] = {
        "params": {"x": "7"},
        "query": {"id": "1"},
        "headers": {},
        "body": {"a": {"kind": 2}},
    }
    assert route.resource_of(values) == {"type": "t", "id": "7-1", "kind": 2}


def test_what_a_policy_reads_alone_is_no_part_of_the_resource() -> None:
    route = only("- {id: a, match: {path: /a}, policy: p, action: 'a:read', upstream: api}", POLICY)
    assert (route.query_names, route.header_names) == (frozenset(), frozenset())
    assert (route.resource_query, route.resource_headers) == (None, None)
    assert route.policy_query is not None
    assert route.policy_query.names == {"team"}
    assert route.policy_headers is not None
    assert route.policy_headers.names == {"x-team"}


def test_of_a_route_that_reads_nothing_nothing_is_read() -> None:
    route = plain_route()
    assert (route.resource_query, route.resource_headers) == (None, None)
    assert (route.policy_query, route.policy_headers) == (None, None)
    assert route.body_names == frozenset()
    assert route.action_rules is None


def limited(auth: str) -> tuple[Snapshot, Route]:
    world = snapshot(
        f"""
        version: 1
        upstreams: {{api: {{targets: [http://127.0.0.1:9001]}}}}
        limits:
          by-user: {{key: user, rate: 10/1s}}
          by-tenant: {{key: request.params.tenant, rate: 5/1s}}
          heavy: {{key: route, rate: 1/1s}}
        routes:
          - {{id: a, match: {{path: "/t/{{tenant}}"}}, {auth}, upstream: api,
             limits: [by-user, by-tenant]}}
        """,
        """
        policy: p
        rules:
          - {id: light, allow: ['*'], when: user.id == 'ann'}
          - {id: heavy, allow: ['*'], when: user.id == 'ben', limits: [heavy]}
        """,
    )
    (route,) = world.routes
    return world, route


def test_a_limit_by_what_the_call_is_about_is_asked_once_the_policy_has_allowed_it() -> None:
    _, route = limited("policy: p")
    assert [limit.name for limit in route.first_limits] == ["by-user"]
    assert [limit.name for limit in route.last_limits] == ["by-tenant"]
    assert route.has_last_limits is True
    assert route.first_by_resource is False
    assert route.action_rules is not None
    light, heavy = route.action_rules.allows
    assert [limit.name for limit in route.limits_after(light)] == ["by-tenant"]
    assert [limit.name for limit in route.limits_after(None)] == ["by-tenant"]
    assert [limit.name for limit in route.limits_after(heavy)] == ["by-tenant", "heavy"]
    # A limit of the route has a bucket of each route, and its object is always the same.
    assert route.limits_after(heavy)[1].route_id == "a"
    assert route.limits_after(heavy) is route.limits_after(heavy)
    assert route.limits_after(light) is route.last_limits
    assert list(route.limits_of_rules) == [heavy]


def test_without_a_policy_every_limit_is_asked_first() -> None:
    _, route = limited("auth: public")
    assert [limit.name for limit in route.first_limits] == ["by-user", "by-tenant"]
    assert route.last_limits == ()
    assert route.has_last_limits is False
    assert route.first_by_resource is True
    assert route.limits_of_rules == {}


def test_a_rule_s_limits_alone_are_last_limits_too() -> None:
    _, route = limited("policy: p")
    alone = replace(route, limits=())
    assert (alone.first_limits, alone.last_limits, alone.has_last_limits) == ((), (), True)
    unlimited = replace(plain_route(), limits=(Limit("u", LimitKey.USER, 1, 1),))
    assert (unlimited.has_last_limits, unlimited.first_by_resource) == (False, False)


def test_the_hosts_that_a_route_takes() -> None:
    route = replace(plain_route(), hosts=("one.example.com", "*.example.net"))
    names = ("one.example.com", "x.example.net", "y.x.example.net", "example.net", "other")
    assert [route.takes_host(name) for name in names] == [True, True, False, False, False]
    assert replace(route, hosts=()).takes_host("other")


def test_a_prefix_is_three_patterns_and_that_of_everything_two() -> None:
    def shown(match: str) -> list[str]:
        route = only(f"- {{id: a, match: {match}, auth: public, upstream: api}}")
        return ["/" + "/".join(f"{one.kind}:{one.text}" for one in p) for p in route.patterns()]

    assert shown("{path: '/a/{x:int}'}") == ["/literal:a/int:x"]
    assert shown("{prefix: /a}") == ["/literal:a", "/literal:a/literal:", "/literal:a/path:**"]
    assert shown("{prefix: /, except_reserved: true}") == ["/literal:", "/path:**"]


def test_the_bare_name_is_led_to_the_same_with_a_slash() -> None:
    route = only(
        "- {id: a, match: {prefix: '/{n}', except_reserved: true}, redirect_slash: true,"
        " auth: public, upstream: api}"
    )
    assert route.slash_target(call("/app")) == "/app/"
    assert route.slash_target(call("/app?a=1&b=/x")) == "/app/?a=1&b=/x"
    assert route.slash_target(call("/caf%C3%A9?q=\xe9")) == "/caf%C3%A9/?q=%C3%A9"
    assert route.slash_target(call("/app/x")) is None
    assert replace(route, redirect_slash=False).slash_target(call("/app")) is None
