"""`identity_headers` as it is read, and what it takes from clients."""

from __future__ import annotations

import pytest

from gateway.access.routing.routes import Route
from gateway.access.snapshot import Snapshot
from tests.access.worlds import problems, snapshot, who

CALLER = who(
    "u1", "dev", "ops", email="ada@x.org", email_verified=True, claims={"team": {"name": "Zoë"}}
)


def world(defaults: str = "", upstream: str = "", route: str = "", *more: str) -> str:
    return f"""
version: 1
defaults: {{auth: optional{defaults}}}
upstreams:
  api: {{targets: [http://127.0.0.1:9001]{upstream}}}
  other: {{targets: [http://127.0.0.1:9002]}}
routes:
  - {{id: a, match: {{path: /a}}, upstream: api{route}}}
  - {{id: b, match: {{path: /b}}, upstream: other, auth: public}}
""" + "".join(f"  - {one}\n" for one in more)


def sent(found: Snapshot, route_id: str = "a") -> dict[str, str]:
    return dict(one(found, route_id).identity.texts(CALLER))


def one(found: Snapshot, route_id: str) -> Route:
    route = found.routes.get(route_id)
    assert route is not None
    return route


def field(text: str) -> str | None:
    return sent(snapshot(world(route=f", identity_headers: [{text}]"))).get("X-A")


@pytest.mark.parametrize(
    ("defaults", "upstream", "route", "first"),
    [
        ("", "", "", "X-Auth-User-Id"),
        (", identity_headers: grafana", "", "", "X-WEBAUTH-USER"),
        (", identity_headers: grafana", ", identity_headers: authelia", "", "Remote-User"),
        (
            ", identity_headers: grafana",
            ", identity_headers: authelia",
            ", identity_headers: oauth2-proxy",
            "X-Forwarded-User",
        ),
        (", identity_headers: grafana", "", ", identity_headers: authgate", "X-Auth-User-Id"),
        (", identity_headers: grafana", "", ", identity_headers: []", None),
    ],
)
def test_the_nearest_says_how_the_backend_is_told(
    defaults: str, upstream: str, route: str, first: str | None
) -> None:
    names = list(sent(snapshot(world(defaults, upstream, route))))
    assert next(iter(names), None) == first


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{name: X-A, value: '{user.email}'}", "ada@x.org"),
        ("{name: X-A, value: '{user.roles}', separator: ';'}", "dev;ops"),
        ("{name: X-A, value: '{user.roles}', separator: json}", '["dev","ops"]'),
        ("{name: X-A, value: '{user.claims.team.name}'}", "Zo%C3%AB"),
        ("{name: X-A, value: '{user.claims.team.name}', encoding: utf8}", "Zoë"),
        ("{name: X-A, value: '{user.claims.team.name}', encoding: rfc8187}", "UTF-8''Zo%C3%AB"),
        ("{name: X-A, value: '{user.claims.no}'}", None),
        ("{name: X-A, value: 'acct:{user.id}'}", "acct:u1"),
        ("{name: X-A, value: 'acct:{user.claims.no}'}", None),
        ("{name: X-A, value: \"'ops' in user.roles ? 'Admin' : 'Viewer'\"}", "Admin"),
        ("{name: X-A, value: user.roles}", "dev,ops"),
        ("{name: X-A, value: 'user.claims.no'}", None),
        ("{name: X-A, value: 'has_role(\"ops\")'}", "true"),
        ("grafana, {name: X-A, value: user.id}", "u1"),
    ],
)
def test_a_value_is_a_text_with_places_or_an_expression(text: str, value: str | None) -> None:
    assert field(text) == value


def test_an_expression_may_read_the_tables_of_data() -> None:
    found = snapshot(
        world(route=", identity_headers: [{name: X-A, value: 'data.teams[user.id]'}]"),
        data__teams="version: 1\nteams: {u1: blue}\n",
    )
    assert sent(found) == {"X-A": "blue"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("graphana", "did you mean `grafana`?"),
        ("[graphana]", "did you mean `grafana`?"),
        ("[{name: X-A}]", "the field has no `value:`"),
        ("[{value: user.id}]", "the field has no `name:`"),
        ("[{name: X-A, value: user.id, seperator: ';'}]", "did you mean `separator`?"),
        ("[{name: X-A, value: '{user.mail}'}]", "did you mean `email`?"),
        ("[{name: X-A, value: '{user.claims}'}]", "name the claim"),
        ("[{name: X-A, value: '{user.email.host}'}]", "`{user.email.host}` cannot be filled in"),
        ("[{name: X-A, value: '{user.id}{id}'}]", "`{id}` is no field of the caller"),
        ("[{name: X-A, value: '{user.id'}]", "a brace without its partner"),
        ("[{name: X-A, value: 'r:{user.roles}'}]", "is a list: it stands alone"),
        ("[{name: X-A, value: user.mail}]", "`user` has no field `mail`"),
        ("[{name: X-A, value: request.path}]", "reads `user` and `data` alone"),
        ("[{name: X-A, value: client.ip}]", "reads `user` and `data` alone"),
        ("[{name: X-A, value: '1 +'}]", "not a CEL expression"),
        ("[{name: X-A, value: '{resource.id}'}]", "`{resource.id}` is no field of the caller"),
        ("[{name: X-A, value: '{email}'}]", "`{email}` is no field of the caller"),
        ("[{name: X-A, value: user.id, separator: ab}]", "`separator` is 1 to 4 signs"),
        ("[{name: X-A, value: user.id, separator: '%'}]", "`separator` is 1 to 4 signs"),
        ("[{name: X-A, value: user.id, encoding: base64}]", "`encoding` cannot be `base64`"),
        ("[{name: X A, value: user.id}]", "no name to set"),
        ("[{name: X_A, value: user.id}]", "no name to set"),
        ("[{name: X-A, value: user.id}, {name: x-a, value: user.id}]", "once is enough"),
        ("[grafana, {name: X-Webauth-User, value: user.id}]", "once is enough"),
    ],
)
def test_what_is_wrong_with_a_block_is_told_with_its_place(text: str, says: str) -> None:
    found = problems(world(route=f", identity_headers: {text}"))
    assert any(says in said for said in found), found
    assert all(said.startswith("routes.yaml:8:") for said in found), found


@pytest.mark.parametrize(
    "name",
    [
        "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Connection",
        "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "Host", "Via", "Cookie",
        "Authorization", "Proxy", "Proxy-Authorization", "Sec-WebSocket-Protocol",
        "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix",
        "Forwarded", "X-Real-IP", "X-Original-URL", "X-HTTP-Method-Override", "X-Request-Id",
        "X-Auth-Assertion", "Accept", "User-Agent", "If-Match",
    ],
)  # fmt: skip
def test_a_name_that_would_break_a_call_or_say_something_else_is_refused(name: str) -> None:
    (said,) = problems(world(route=f", identity_headers: [{{name: {name}, value: user.id}}]"))
    assert f"`{name}` cannot be changed" in said


def test_an_answer_of_the_routes_own_tells_no_backend() -> None:
    own = "{id: c, match: {path: /c}, direct_response: {status: 204}, identity_headers: grafana}"
    (said,) = problems(world("", "", "", own))
    assert "`identity_headers` says nothing beside `direct_response`" in said


@pytest.mark.parametrize("name", ["X-Forwarded-User", "X-Auth-Request-User", "X-Auth-Email"])
def test_a_name_that_the_gateway_takes_from_clients_anyway_may_be_written(name: str) -> None:
    found = snapshot(world(route=f", identity_headers: [{{name: {name}, value: user.id}}]"))
    assert sent(found) == {name: "u1"}


def test_what_is_written_anywhere_is_taken_from_clients_everywhere() -> None:
    found = snapshot(
        world(
            ", identity_headers: grafana",
            ", identity_headers: [{name: X-Up, value: user.id}]",
            ", identity_headers: [{name: X-Route, value: user.id}, authelia]",
            "{id: c, match: {path: /c}, upstream: api, request: {set_headers: {X-Set: a, Accept: b}}}",
            "{id: d, match: {path: /d}, upstream: api, policy: p}",
        ),
        "policy: p\nrules: [{id: r, allow: ['*'], headers: {X-Rule: a}}]",
    )
    everywhere = {
        b"x-webauth-user", b"x-webauth-role", b"x-up", b"x-route", b"x-set", b"x-rule",
        b"remote-user", b"remote-groups", b"remote-email", b"remote-name",
    }  # fmt: skip
    claimed = {route.id: set(route.claimed_headers) for route in found.routes}
    assert claimed["a"] == claimed["b"] == claimed["d"] == everywhere
    # What every client says of its own is taken where it is written, and nowhere else.
    assert claimed["c"] == everywhere | {b"accept"}


def test_without_fields_of_its_own_a_configuration_takes_nothing_more() -> None:
    for text in (world(), world(", identity_headers: authgate")):
        assert all(not route.claimed_headers for route in snapshot(text).routes)
        assert all(route.other_identity is None for route in snapshot(text).routes)


def test_a_route_may_keep_what_another_one_sets_and_nothing_that_says_who_calls() -> None:
    setting = (
        "{id: c, match: {path: /c}, upstream: api, request: {set_headers: {X-Api-Key: a}}}",
        "{id: d, match: {path: /d}, upstream: api, keep_headers: [X-Api-Key]}",
    )
    found = snapshot(world("", "", "", *setting))
    assert one(found, "a").claimed_headers == {b"x-api-key"}
    assert one(found, "d").claimed_headers == frozenset()
    said = problems(world(", identity_headers: authelia", "", ", keep_headers: [Remote-User]"))
    assert "`Remote-User` is no field that is taken away" in said[0]


@pytest.mark.parametrize(
    ("route", "policy", "says"),
    [
        (
            ", identity_headers: grafana, request: {set_headers: {x-webauth-user: a}}",
            "",
            "`X-WEBAUTH-USER` is written by `set_headers` and by `identity_headers`",
        ),
        (
            ", identity_headers: grafana, policy: p",
            "{id: r, allow: ['*'], headers: {x-webauth-role: a}}",
            "`x-webauth-role` is written by rule `r` of policy `p` (policies/p0.yaml:4) and by "
            "`identity_headers`",
        ),
    ],
)
def test_a_field_has_one_source(route: str, policy: str, says: str) -> None:
    rules = [f"policy: p\nrules:\n  - {policy}\n"] if policy else []
    found = problems(world(route=route), *rules)
    assert any(says in said for said in found), found


def test_no_policy_believes_a_clients_own_identity_header() -> None:
    reading = "policy: p\nrules: [{id: r, allow: ['*'], when: \"request.headers['{}'] == 'a'\"}]"
    for route, name in (
        (", identity_headers: authelia, policy: p", "remote-user"),
        (", identity_headers: authelia, policy: p", "remote_user"),
    ):
        (said,) = problems(world(route=route), reading.replace("{}", name))
        assert f"reads `{name}`, which `identity_headers` writes" in said
        assert "use `user`" in said
    (said,) = problems(
        world(
            "", "", ", policy: p",
            "{id: c, match: {path: /c}, upstream: api, request: {set_headers: {X-Zone: a}}}",
        ),
        reading.replace("{}", "x-zone"),
    )  # fmt: skip
    assert "add `keep_headers: [x-zone]`" in said
