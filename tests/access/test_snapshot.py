"""One configuration: whose pages may send the cookie, and where its tables are written."""

from __future__ import annotations

import pytest

from gateway.access.authorizer import Decision
from gateway.access.routing.csrf import AllowedOrigins, OwnOrigins
from gateway.access.sent_headers import sent_headers, written_headers
from gateway.access.simulation import SimulatedRequest, simulate
from gateway.access.snapshot import TableLocation
from gateway.model import SourceLocation
from tests.access.worlds import snapshot, who

WORLD = snapshot(
    """
    version: 1
    auth: {cors: app}
    upstreams:
      api: {targets: [http://127.0.0.1:9001]}
      told: {targets: [http://127.0.0.1:9002], assertion: {audience: api}}
    cors:
      app: {origins: ["https://app.example.com"], credentials: true}
    routes:
      - {id: own, match: {path: /own}, auth: public, direct_response: {status: 204}}
      - {id: a, match: {path: /a, host: h.example}, policy: p, upstream: told,
         request: {set_headers: {X-Zone: eu}}}
      - {id: b, match: {path: /b}, policy: signed-in, upstream: api, identity_headers: authelia}
    """,
    """
    policy: p
    rules:
      - {id: all, allow: ["*"], when: "!('out' in user.roles)", headers: {X-Who: "{user.id}"}}
    """,
)


def test_the_cookie_counts_at_the_host_that_a_route_names_and_at_the_listed_origins() -> None:
    own = OwnOrigins("https://own.example")
    for host, named in (("h.example", "h.example"), ("other.example", None)):
        assert WORLD.auth_origins(own, host) == AllowedOrigins(own, named, WORLD.auth_cors)
    assert WORLD.auth_cors is WORLD.cors["app"]


def test_an_entry_of_a_table_stands_on_its_line() -> None:
    table = {"red": 1, "blue": 2}
    where = TableLocation(SourceLocation("data/teams.yaml", 2), (3, 7))
    assert where.of(table, "red") == SourceLocation("data/teams.yaml", 3)
    assert where.of(table, "blue") == SourceLocation("data/teams.yaml", 7)
    assert where.of(table, "green") is where.location
    assert where.of(["red"], "red") is where.location


def decided(path: str, *roles: str) -> Decision:
    return simulate(SimulatedRequest("GET", path, who("u1", *roles)), WORLD).decision


def test_a_backend_receives_what_the_route_the_rules_and_the_caller_give() -> None:
    assert sent_headers(decided("http://h.example/a")) == {
        "X-Zone": "eu",
        "X-Who": "u1",
        "X-Auth-User-Id": "u1",
        "X-Auth-Roles": "",
        "X-Auth-Session-Id": "session",
        "X-Auth-Assertion": "(signed for each call)",
    }
    assert sent_headers(decided("/b")) == {
        "Remote-User": "u1", "Remote-Groups": "", "Remote-Name": "u1",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/own", "/nowhere"])
def test_where_there_is_no_backend_nothing_is_sent(path: str) -> None:
    assert sent_headers(decided(path)) == {}


def test_of_a_call_that_is_refused_nothing_is_sent() -> None:
    assert sent_headers(decided("http://h.example/a", "out")) == {}


def test_all_that_any_call_could_be_sent_with_is_named() -> None:
    assert written_headers(WORLD) == {
        "X-Zone", "X-Who", "X-Auth-User-Id", "X-Auth-Email", "X-Auth-Roles", "X-Auth-Session-Id",
        "X-Auth-Tenant", "X-Auth-Tenant-Role", "X-Auth-Assertion", "Remote-User", "Remote-Groups", "Remote-Email", "Remote-Name",
    }  # fmt: skip
    plain = snapshot("- {id: a, match: {path: /a}, policy: signed-in, upstream: api}")
    assert written_headers(plain) == {
        "X-Auth-User-Id", "X-Auth-Email", "X-Auth-Roles", "X-Auth-Session-Id", "X-Auth-Tenant",
        "X-Auth-Tenant-Role",
    }  # fmt: skip
