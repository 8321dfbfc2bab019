"""`request` and `response` of a route, as they are read from `routes.yaml`."""

from __future__ import annotations

import pytest

from gateway.access.routing.routes import Route
from tests.access.worlds import problems, snapshot

ROUTE = """
- id: a
  match: {path: /a}
  auth: public
  upstream: api
"""


def route(*lines: str) -> Route:
    found = snapshot(ROUTE + "".join(f"  {line}\n" for line in lines)).routes.get("a")
    assert found is not None
    return found


def wrong(line: str) -> list[str]:
    return problems(f"{ROUTE}  {line}\n")


def test_what_is_set_and_what_is_removed_is_read() -> None:
    found = route(
        "request: {set_headers: {X-Tenant: acme, X-Zone: eu 1}, remove_headers: [X-Debug]}",
        "response: {set_headers: {Cache-Control: no-store}, remove_headers: x-powered-by}",
    )
    assert found.request_lines == b"X-Tenant: acme\r\nX-Zone: eu 1"
    assert found.claimed_headers == {b"x-tenant", b"x-zone", b"x-debug"}
    assert found.response is not None
    assert found.response.lines == b"Cache-Control: no-store"
    assert found.response.names == {b"cache-control", b"x-powered-by"}


def test_a_block_of_a_route_takes_the_place_of_the_defaults() -> None:
    world = snapshot(
        """
        version: 1
        upstreams: {api: {targets: [http://127.0.0.1:9001]}}
        defaults: {auth: public, upstream: api, request: {set_headers: {X-Tenant: acme}}}
        routes:
          - {id: a, match: {path: /a}}
          - {id: b, match: {path: /b}, request: {remove_headers: [X-Debug]}}
        """
    )
    lines = {one.id: one.request_lines for one in world.routes}
    assert lines == {"a": b"X-Tenant: acme", "b": b""}


def test_a_route_keeps_what_it_names() -> None:
    found = route("keep_headers: [X-HTTP-Method-Override, cf-connecting-ip]")
    assert found.kept_headers == {b"x-http-method-override", b"cf-connecting-ip"}
    assert route().kept_headers == frozenset()


def test_keep_headers_of_a_route_take_the_place_of_the_defaults() -> None:
    world = snapshot(
        """
        version: 1
        upstreams: {api: {targets: [http://127.0.0.1:9001]}}
        defaults: {auth: public, upstream: api, keep_headers: [X-Real-IP]}
        routes:
          - {id: a, match: {path: /a}}
          - {id: b, match: {path: /b}, keep_headers: [X-Original-URL]}
          - {id: c, match: {path: /c}, keep_headers: []}
        """
    )
    assert {one.id: one.kept_headers for one in world.routes} == {
        "a": {b"x-real-ip"},
        "b": {b"x-original-url"},
        "c": frozenset(),
    }


READING = """
- id: a
  match: {path: /a}
  policy: p
  action: a:b
  upstream: api
"""
OVERRIDING_RULE = """
policy: p
rules:
  - {id: r, allow: ["a:b"], when: 'request.headers["x-http-method-override"] == "GET"'}
"""


def test_an_overriding_field_is_judged_only_where_it_is_kept() -> None:
    said = problems(READING, OVERRIDING_RULE)
    assert any("reads `x-http-method-override`, which is taken away" in one for one in said), said
    said = problems(
        READING + "  resource: {to: '{headers.x-original-url}'}\n  auth: optional\n",
        'policy: p\nrules: [{id: r, allow: ["*"], when: "has(resource.to)"}]',
    )
    assert any("`resource` reads `x-original-url`, which is taken away" in one for one in said)
    assert snapshot(READING + "  keep_headers: [X-HTTP-Method-Override]\n", OVERRIDING_RULE)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("keep_headers: [Proxy]", "`Proxy` is never passed"),
        ("keep_headers: [X-Forwarded-For]", "`X-Forwarded-For` is no field that is taken away"),
        ("keep_headers: [Script-Name]", "how much of the path is not theirs"),
        ("keep_headers: [X-HTTP-Method-Overide]", "did you mean `X-HTTP-Method-Override`?"),
        ("keep_headers: [X_Real_IP]", "`X_Real_IP` is no field that is taken away"),
        ("keep_headers: {X-Real-IP: true}", "list"),
        (
            "keep_headers: [X-Real-IP]\n  direct_response: {status: 204}",
            "`keep_headers` says nothing beside `direct_response`",
        ),
        (
            "keep_headers: [X-Original-URL]\n  request: {set_headers: {X-Original-URL: /a}}",
            "`X-Original-URL` is kept and written or removed",
        ),
    ],
)
def test_what_cannot_be_kept_is_a_problem(line: str, says: str) -> None:
    said = wrong(line)
    assert any(says in one for one in said), said


@pytest.mark.parametrize(
    "name",
    [
        "X-Auth-Email", "x-auth-anything", "X-Forwarded-For", "Forwarded", "Via", "X-Real-IP",
        "X-Request-Id", "traceparent", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade",
        "Proxy-Authorization", "Expect", "Content-Length", "Transfer-Encoding", "Content-Type",
        "Host", "Authorization", "Sec-WebSocket-Key",
    ],
)  # fmt: skip
def test_what_the_gateway_answers_for_cannot_be_changed_on_the_way_in(name: str) -> None:
    for line in (
        f"request: {{set_headers: {{{name}: a}}}}",
        f"request: {{remove_headers: [{name}]}}",
    ):
        assert any(f"`{name}` cannot be changed" in said for said in wrong(line)), line


@pytest.mark.parametrize(
    "name",
    [
        "X-Auth-Email", "Via", "X-Request-Id", "Connection", "Trailer", "Proxy-Status",
        "Content-Length", "Transfer-Encoding", "Content-Encoding", "Content-Range", "Date",
        "RateLimit", "RateLimit-Policy", "Access-Control-Allow-Origin", "Sec-WebSocket-Accept",
    ],
)  # fmt: skip
def test_what_the_gateway_answers_for_cannot_be_changed_on_the_way_back(name: str) -> None:
    for line in (
        f"response: {{set_headers: {{{name}: a}}}}",
        f"response: {{remove_headers: [{name}]}}",
    ):
        assert any(f"`{name}` cannot be changed" in said for said in wrong(line)), line


@pytest.mark.parametrize(
    "name", ["X_Auth_Email", "x.auth.email", "X_FORWARDED_FOR", "content_length"]
)
def test_no_other_spelling_gets_around_that(name: str) -> None:
    said = wrong(f'request: {{remove_headers: ["{name}"]}}')
    assert any("cannot be changed" in one for one in said)


def test_cookies_can_be_removed_and_not_set() -> None:
    assert b"cookie" in route("request: {remove_headers: [Cookie]}").claimed_headers
    assert route("response: {remove_headers: [Set-Cookie]}").response is not None
    assert "one caller's" in wrong("request: {set_headers: {Cookie: a=b}}")[0]
    assert "one caller's" in wrong('response: {set_headers: {Set-Cookie: "a=b"}}')[0]


@pytest.mark.parametrize(
    "value", [r'"a\r\nX-Auth-Email: x"', r'"a\nb"', r'"a\0b"', r'"a\tb"', '"ä"', '" a"', '"a "']
)
def test_a_value_is_one_line_of_ascii(value: str) -> None:
    assert "one line of ASCII" in wrong(f"request: {{set_headers: {{X-A: {value}}}}}")[0]
    assert "one line of ASCII" in wrong(f"response: {{set_headers: {{X-A: {value}}}}}")[0]


def test_a_name_stands_once_in_one_spelling() -> None:
    said = wrong("request: {set_headers: {X-A: a, x-a: b}}")
    assert any("`x-a` stands here as `X-A` too" in one for one in said)
    said = wrong('request: {set_headers: {X-A: a}, remove_headers: ["X_A"]}')
    assert any("`X_A` stands here as `X-A` too" in one for one in said)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("request: {set_headers: {X A: a}}", "no name to set"),
        ("request: {set_headers: {X_A: a}}", "no name to set"),
        ('request: {remove_headers: ["X A"]}', "no name of a header"),
        ("request: {set_headers: {X-A: 1}}", 'write "1"'),
        ("request: {set: {X-A: a}}", "unknown key `set`"),
        ("request: {}", "has `set_headers:`"),
    ],
)
def test_what_cannot_be_meant_is_a_problem_with_its_place(line: str, says: str) -> None:
    said = wrong(line)
    assert any(says in one and one.startswith("routes.yaml:1") for one in said), said


def test_a_field_that_a_rule_of_the_policy_writes_too_is_a_problem() -> None:
    said = problems(
        """
        - id: a
          match: {path: /a}
          policy: p
          action: a:b
          upstream: api
          request: {set_headers: {X-Team: blue}}
        """,
        """
        policy: p
        rules: [{id: r, allow: ["a:b"], headers: {x-team: "{user.id}"}}]
        """,
    )
    assert len(said) == 1
    assert "`x-team` is written by rule `r`" in said[0]


def test_a_security_header_that_the_route_writes_is_not_added_beside_it() -> None:
    found = route(
        "response: {set_headers: {Referrer-Policy: no-referrer, strict-transport-security: max-age=0}}"
    )
    assert found.security_headers is not None
    assert [name for name, _ in found.security_headers.fields] == ["X-Content-Type-Options"]
    assert found.security_headers.hsts is None
