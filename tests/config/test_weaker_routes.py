"""`gateway validate` warns of a route for everything else that asks less than those beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.access.routing.routes import Route
from gateway.config import weaker_routes
from gateway.config.asking import Asking
from tests.access.worlds import snapshot

ASK = "has_role('staff')"
POLICIES = (
    f'policy: p\nrules: [{{id: r, allow: ["*"], when: "{ASK}"}}]',
    f'policy: q\nrules: [{{id: r, allow: ["*"], when: "{ASK}"}}]',
    f'policy: trial\nmode: shadow\nrules: [{{id: r, allow: ["*"], when: "{ASK}"}}]',
)
UPSTREAMS = """
version: 1
upstreams:
  api: {targets: [http://127.0.0.1:9001]}
  other: {targets: [http://127.0.0.1:9002]}
  site: {targets: [http://127.0.0.1:9001], host: site.internal}
  elsewhere: {targets: [http://127.0.0.1:9001], host: elsewhere.internal}
  again: {targets: ["http://localhost:9001"]}
  once-more: {targets: ["http://[::1]:9001/"]}
limits: {few: {key: address, rate: 5/1m}, some: {key: address, rate: 9/1m}}
attributes:
  terms: {type: boolean, set_by: person}
  age: {type: integer, set_by: [operator, person]}
  nick: {set_by: person}
  town: {values: [rome, bonn], set_by: person}
  likes: {type: list, values: [tea], set_by: person}
  staff: {type: boolean}
issuers: {idp: {issuer: "https://id.example.com", audience: shop}}
routes:
"""
REST = "match: {prefix: /, except_reserved: true}, upstream: api"
ADMIN = "match: {prefix: /admin}, policy: p, upstream: api"


def told(*routes: str, policies: tuple[str, ...] = POLICIES) -> list[str]:
    names = "first", "second", "third"
    lines = [f"  - {{id: {name}, {route}}}" for name, route in zip(names, routes, strict=False)]
    world = snapshot(UPSTREAMS + "\n".join(lines), *policies)
    return [str(one) for one in world.notices if "is open to" in str(one)]


def test_a_public_route_for_the_rest_is_told_with_those_it_stands_beside() -> None:
    (notice,) = told(f"auth: public, {REST}", ADMIN, "match: {path: /me}, policy: q, upstream: api")
    assert notice.startswith("routes.yaml:")
    assert "route `first` is open to anybody" in notice
    assert "upstream `api`" in notice
    assert "`second` (routes.yaml:" in notice
    assert "and 1 more ask for more" in notice


@pytest.mark.parametrize(
    ("rest", "beside"),
    [
        (f"auth: optional, {REST}", ADMIN),
        ('auth: public, match: {path: "/{rest:path}", except_reserved: true}, upstream: api', ADMIN),
        # Deeper, below what a parameter takes, and of whatever number.
        ("auth: public, match: {prefix: /app}, upstream: api", "match: {path: /app/a/b}, policy: p, upstream: api"),
        ('auth: public, match: {path: "/{org}/{rest:path}", except_reserved: true}, upstream: api', 'match: {path: "/x/settings"}, policy: p, upstream: api'),
        ('auth: public, match: {path: "/{org}/{rest:path}", except_reserved: true}, upstream: api', 'match: {path: "/{name}/settings", except_reserved: true}, policy: p, upstream: api'),
        ('auth: public, match: {path: "/o/{id:int}/{rest:path}"}, upstream: api', 'match: {path: "/o/{n:int}/settings"}, policy: p, upstream: api'),
        ('auth: public, match: {path: "/o/{id:int}/{rest:path}"}, upstream: api', 'match: {path: "/o/7/settings"}, policy: p, upstream: api'),
        # One host of many, by name or by wildcard.
        (f"auth: public, {REST}", "match: {host: a.example.com, prefix: /admin}, policy: p, upstream: api"),
        ('auth: public, match: {host: "*.example.com", prefix: /, except_reserved: true}, upstream: api', "match: {host: a.example.com, prefix: /admin}, policy: p, upstream: api"),
        ('auth: public, match: {host: "*.example.com", prefix: /app}, upstream: api', "match: {host: a.example.com, prefix: /app}, policy: p, upstream: api"),
        ("auth: public, match: {prefix: /app}, upstream: api", "match: {host: a.example.com, prefix: /app}, policy: p, upstream: api"),
        ("auth: public, match: {host: a.example.com, prefix: /app}, upstream: api", "match: {path: /app/x}, policy: p, upstream: api"),
        # Any name in the place of one, however many follow.
        ('auth: public, match: {prefix: "/{org}", except_reserved: true}, upstream: api', ADMIN),
        ('auth: public, match: {path: "/{section}/{rest:path}", except_reserved: true}, upstream: api', 'match: {path: "/admin/{rest:path}"}, policy: p, upstream: api'),
        ('auth: public, match: {path: "/{page}", except_reserved: true}, upstream: api', "match: {path: /admin}, policy: p, upstream: api"),
        ('auth: public, match: {path: "/books/{page}"}, upstream: api', 'match: {path: "/books/{id:int}"}, policy: p, upstream: api'),
        ('auth: public, match: {prefix: "/users/{name}"}, upstream: api', 'match: {prefix: "/users/{id:int}"}, policy: p, upstream: api'),
        # What the gateway refuses itself, and what has a trial before it.
        (f"auth: public, {REST}", "match: {path: /metrics}, auth: public, direct_response: {status: 404}"),
        (f"policy: trial, {REST}", ADMIN),
        # Other names of this machine.
        (f"auth: public, {REST}", "match: {prefix: /admin}, policy: p, upstream: again"),
        ("auth: public, match: {prefix: /, except_reserved: true}, upstream: once-more", "match: {prefix: /admin}, policy: p, upstream: again"),
        # The client says at which site of a target it asks.
        (f"auth: public, {REST}", "match: {prefix: /admin}, policy: p, upstream: site"),
        # Or the gateway does, whatever the host is that the client asks for.
        ("auth: public, match: {host: a.example.com, prefix: /, except_reserved: true}, upstream: site", "match: {host: b.example.com, prefix: /admin}, policy: p, upstream: site"),
        ("auth: public, match: {host: a.example.com, prefix: /, except_reserved: true}, upstream: site", "match: {host: b.example.com, prefix: /, except_reserved: true}, policy: p, upstream: site"),
        ("auth: public, match: {host: a.example.com, prefix: /, except_reserved: true}, upstream: site", "match: {host: site.internal, prefix: /admin}, policy: p, upstream: api"),
        ("auth: public, match: {host: site.internal, prefix: /, except_reserved: true}, upstream: api", "match: {host: b.example.com, prefix: /admin}, policy: p, upstream: site"),
        # What the backend is sent counts, not what the client asks for.
        ("auth: public, match: {prefix: /open}, rewrite: {strip_prefix: /open}, upstream: api", ADMIN),
        ("auth: public, match: {prefix: /open}, upstream: api, rewrite: {strip_prefix: /open, add_prefix: /x}", "match: {path: /x/admin}, policy: p, upstream: api"),
    ],
)  # fmt: skip
def test_whatever_takes_the_rest_and_asks_nothing_is_told(rest: str, beside: str) -> None:
    assert len(told(rest, beside)) == 1


def test_a_route_for_every_account_is_told_beside_one_that_is_not() -> None:
    (notice,) = told(f"policy: signed-in, {REST}", ADMIN)
    assert "open to every account" in notice
    assert (
        told(f"policy: signed-in, {REST}", "match: {path: /me}, policy: signed-in, upstream: api")
        == []
    )


@pytest.mark.parametrize(
    ("rules", "auth", "open_to"),
    [
        ('{id: r, allow: ["*"]}', "required", "every account"),
        ('{id: r, allow: ["*"]}', "optional", "anybody"),
        ('{id: r, allow: ["*"], when: "true"}', "optional", "anybody"),
        ('{id: r, allow: ["*"], when: " user  != null"}', "optional", "every account"),
        ('{id: r, allow: ["*"], when: "null != user"}', "required", "every account"),
        ('{id: a, allow: ["x:*"], when: "has_role(\'y\')"}, {id: r, allow: ["*"]}', "required", "every account"),
        ('{id: d, deny: ["other:*"]}, {id: r, allow: ["a:b"]}', "required", "every account"),
        ('{id: d, mode: shadow, deny: ["*"]}, {id: r, allow: ["*"]}', "required", "every account"),
    ],
)  # fmt: skip
def test_a_policy_that_asks_nothing_is_told(rules: str, auth: str, open_to: str) -> None:
    policies = (*POLICIES, f"policy: all\nrules: [{rules}]")
    rest = f"policy: all, auth: {auth}, action: 'a:b', {REST}"
    (notice,) = told(rest, ADMIN, policies=policies)
    assert f"is open to {open_to}" in notice
    if open_to == "every account":
        assert told(rest, ADMIN.replace("policy: p", "policy: signed-in"), policies=policies) == []


@pytest.mark.parametrize(
    "rules",
    [
        '{id: r, allow: ["*"], when: "user.claims.dept == \'x\'"}',
        '{id: r, allow: ["*"], when: "has(user.claims.staff)"}',
        '{id: r, allow: ["*"], when: "user.email.endsWith(\'@example.com\')"}',
        '{id: r, allow: ["*"], when: "size(user.tenants) > 0"}',
        '{id: r, allow: ["*"], when: "in_cidr(client.ip, \'10.0.0.0/8\')"}',
        '{id: r, allow: ["*"], when: "in_cidr(client.ip, \'8.8.0.0/16\')"}',
        '{id: r, allow: ["*"], when: "in_cidr(client.ip, \'77.0.0.0/8\')"}',
        '{id: r, allow: ["*"], when: "user.attributes.staff"}',
        '{id: r, allow: ["*"], when: "user.attributes.terms && user.attributes.staff"}',
        '{id: r, allow: ["*"], when: "now - user.auth_time < duration(\'1h\')"}',
        '{id: r, allow: ["*"], when: "user.auth_time < timestamp(\'2027-01-01T00:00:00Z\')"}',
        '{id: r, allow: ["*"], when: "request.headers[\'x-a\'] == \'b\'"}',
        '{id: r, allow: ["*"], when: "request.query.a != \'b\'"}',
        '{id: r, allow: ["*"], when: "now.getHours() >= 0"}',
        '{id: r, allow: ["*"], when: "request.path == \'/start\'"}',
        # Denies that turn away whoever has nothing.
        '{id: r, allow: ["*"]}, {id: d, deny: ["*"]}',
        '{id: r, allow: ["*"]}, {id: d, deny: ["*"], when: "!has_role(\'staff\')"}',
        '{id: r, allow: ["*"]}, {id: d, deny: ["*"], when: "user.claims.dept == \'x\'"}',
        '{id: r, allow: ["*"]}, {id: d, deny: ["*"], when: "!in_cidr(client.ip, \'10.0.0.0/8\')"}',
        '{id: r, allow: ["*"]}, {id: d, deny: ["*"], step_up: {max_age: 5m}}',
        '{id: r, allow: ["*"], step_up: {max_age: 5m}}',
        '{id: r, allow: ["other:*"]}, {id: d, allow: ["a:*"], when: "has_role(\'staff\')"}',
        '{id: r, mode: shadow, allow: ["*"]}',
        "{id: r, allow: role-permissions}",
    ],
)  # fmt: skip
def test_a_policy_that_asks_for_something_is_not_told(rules: str) -> None:
    policies = (*POLICIES, f"policy: all\nrules: [{rules}]")
    rest = f"policy: all, action: 'a:b', {REST}"
    assert told(rest, ADMIN, policies=policies) == []


@pytest.mark.parametrize(
    "condition",
    [
        "user != null && true",
        "!(user == null)",
        "user.id != ''",
        "user.email != null",
        "user.email_verified",
        "user.issuer == 'own'",
        "user != null || has_role('staff')",
        "size(user.roles) >= 0",
        "size(user.tenants) >= 0",
        "!has_role('banned')",
        "!('banned' in user.roles)",
        "in_cidr(client.ip, '0.0.0.0/0')",
        "in_cidr(client.ip, '::/0')",
        "!in_cidr(client.ip, '192.0.2.0/24')",
        "request.method != 'TRACE'",
        "request.method == 'DELETE'",
        "request.path != '/admin'",
        "request.path.startsWith('/')",
        "!has(request.query.a)",
        # Who signed in a moment ago, from either half of the addresses.
        "user.auth_time != null",
        "user.auth_time > timestamp('2026-01-01T00:00:00Z')",
        "in_cidr(client.ip, '0.0.0.0/1')",
        "in_cidr(client.ip, '128.0.0.0/1')",
        # What people say of themselves.
        "user.attributes.terms",
        "user.attributes.age > 0",
        "user.attributes.nick != ''",
        "user.attributes.town == 'rome'",
        "'tea' in user.attributes.likes",
        "!has(user.attributes.terms)",
    ],
)
def test_a_condition_that_whoever_has_nothing_meets_is_none(condition: str) -> None:
    policies = (*POLICIES, f'policy: all\nrules: [{{id: r, allow: ["*"], when: "{condition}"}}]')
    (notice,) = told(f"policy: all, {REST}", ADMIN, policies=policies)
    assert "is open to every account" in notice
    same = ADMIN.replace("policy: p", "policy: all")
    assert told(f"policy: all, {REST}", same, policies=policies) == []
    open_to = "every account" if "user" in condition else "anybody"
    (notice,) = told(f"policy: all, auth: optional, {REST}", ADMIN, policies=policies)
    assert f"is open to {open_to}" in notice


@pytest.mark.parametrize(
    "condition",
    [
        "'suspended' in user.roles",
        "has(user.claims.x)",
        "in_cidr(client.ip, '192.0.2.0/24') || in_cidr(client.ip, '2001:db8::/32')",
        "request.method == 'PURGE'",
        "request.headers['x-a'] == 'b'",
        "request.query.a == 'b'",
        "now.getHours() < 24",
        "request.path == '/admin' && !has_role('staff')",
    ],
)
def test_a_deny_that_lets_whoever_has_nothing_pass_asks_for_nothing(condition: str) -> None:
    """It takes accounts away, and names that no route has stay open to the others."""
    deny = f'{{id: d, deny: ["*"], when: "{condition}"}}'
    policies = (*POLICIES, f'policy: all\nrules: [{{id: r, allow: ["*"]}}, {deny}]')
    (notice,) = told(f"policy: all, {REST}", ADMIN, policies=policies)
    assert "is open to every account" in notice
    # Beside others of its kind it is as much, and beside one without it is more.
    all_beside = ADMIN.replace("policy: p", "policy: all")
    assert told(f"policy: all, {REST}", all_beside, policies=policies) == []
    assert len(told(f"policy: signed-in, {REST}", all_beside, policies=policies)) == 1
    signed_in = ADMIN.replace("policy: p", "policy: signed-in")
    assert told(f"policy: all, {REST}", signed_in, policies=policies) == []


def test_what_a_policy_keeps_by_its_path_is_open_by_another_name() -> None:
    deny = "request.path.startsWith('/admin') && !has_role('staff')"
    rules = f'{{id: r, allow: ["*"]}}, {{id: d, deny: ["*"], when: "{deny}"}}'
    policies = (*POLICIES, f"policy: all\nrules: [{rules}]")
    beside = ADMIN.replace("policy: p", "policy: all")
    assert len(told(f"policy: all, {REST}", beside, policies=policies)) == 1


def test_what_is_open_by_another_method_is_no_way_around() -> None:
    policies = (
        *POLICIES,
        "policy: all\nrules: [{id: r, allow: ['*'], when: \"request.method == 'GET'\"}]",
    )
    posts = "match: {prefix: /admin, methods: [POST]}, policy: p, upstream: api"
    assert told(f"policy: all, {REST}", posts, policies=policies) == []
    assert len(told(f"policy: all, {REST}", ADMIN, policies=policies)) == 1
    lists = posts.replace("POST", "PROPFIND")
    assert told(f"policy: all, {REST}", lists, policies=policies) == []
    assert len(told(f"policy: signed-in, {REST}", lists)) == 1


def test_what_a_value_of_the_path_lets_pass_is_open_where_any_value_does() -> None:
    for condition, notices in (("!= 'ann'", 1), ("== 'ann'", 0), ("== user.id", 0)):
        resource = 'resource: {owner: "{owner}"}'
        rest = 'match: {path: "/{owner}/{rest:path}", except_reserved: true}, upstream: api'
        when = f"resource.owner {condition} && request.params.owner {condition}"
        policies = (*POLICIES, f'policy: all\nrules: [{{id: r, allow: ["*"], when: "{when}"}}]')
        found = told(
            f"policy: all, {rest}, {resource}", "match: {path: /x/admin}, policy: p, upstream: api",
            policies=policies,
        )  # fmt: skip
        assert len(found) == notices


def test_what_is_closed_is_said_to_be() -> None:
    closed = "match: {path: /metrics}, auth: public, direct_response: {status: 403}"
    (notice,) = told(f"auth: public, {REST}", closed)
    assert "is closed: a path" in notice
    assert "asks for more" not in notice
    (notice,) = told(f"auth: public, {REST}", closed, ADMIN)
    assert "is closed, and 1 more are or ask for more: a path" in notice


LOGIN = "match: {path: /login}, auth: public, upstream: api"


@pytest.mark.parametrize("whose", ["auth: public", "policy: signed-in"])
def test_what_is_limited_more_is_told(whose: str) -> None:
    """`/apilogin` is `/api/login` to a backend behind gunicorn, and nothing counts its tries."""
    rest = f"{whose}, {REST}"
    login = f"{LOGIN}, limits: [few]".replace("auth: public", whose)
    (notice,) = told(rest, login)
    assert "has limits that it does not have: a path" in notice
    assert "Give `first` those limits" in notice
    (notice,) = told(rest, login, login.replace("/login", "/mail"))
    assert "and 1 more have limits that it does not have: a path" in notice
    (notice,) = told(rest, login, ADMIN)
    assert "`third` (routes.yaml" in notice
    assert "and 1 more ask for more: a path" in notice
    assert len(told(f"{rest}, limits: [some]", f"{login[:-1]}, some]")) == 1


@pytest.mark.parametrize(
    ("limits", "beside"),
    [
        # As many, others, or none on either side.
        ("limits: [few]", f"{LOGIN}, limits: [few]"),
        ("limits: [few, some]", f"{LOGIN}, limits: [few]"),
        ("limits: [few]", f"{LOGIN}, limits: [some]"),
        ("limits: [few]", LOGIN),
        # Of what no backend serves, of other calls, and of another backend.
        ("max_body: off", f"{LOGIN}, limits: [few]".replace("upstream: api", "redirect: {to: /x}")),
        ("max_body: off", f"{LOGIN}, limits: [few]".replace("upstream: api", "upstream: other")),
    ],
)
def test_what_is_limited_in_another_way_is_not_told(limits: str, beside: str) -> None:
    assert told(f"auth: public, {REST}, {limits}", beside) == []


def test_two_hosts_that_are_sent_as_one_are_said_to_be() -> None:
    (notice,) = told(
        "auth: public, match: {host: a.example.com, prefix: /, except_reserved: true}, upstream: site",
        "match: {host: b.example.com, prefix: /admin}, policy: p, upstream: site",
    )
    assert "asks for more, though both are sent as `site.internal`: a path" in notice


@pytest.mark.parametrize(
    ("rest", "beside"),
    [
        # It asks for something itself, nobody asks for more, or it ends somewhere.
        (f"policy: q, {REST}", ADMIN),
        (f"auth: public, {REST}", "match: {prefix: /admin}, auth: public, upstream: api"),
        ("auth: public, match: {path: /}, upstream: api", ADMIN),
        # Another backend, another corner of it, other calls.
        (f"auth: public, {REST}", "match: {prefix: /admin}, policy: p, upstream: other"),
        ("auth: public, match: {prefix: /assets}, upstream: api", ADMIN),
        ("auth: public, match: {prefix: /admin/open}, upstream: api", ADMIN),
        ('auth: public, match: {path: "/{id:int}/{rest:path}"}, upstream: api', ADMIN),
        ("auth: public, match: {prefix: /, except_reserved: true, methods: [GET]}, upstream: api", "match: {prefix: /admin, methods: [POST]}, policy: p, upstream: api"),
        ("auth: public, match: {host: a.example.com, prefix: /, except_reserved: true}, upstream: api", "match: {host: b.example.com, prefix: /admin}, policy: p, upstream: api"),
        ('auth: public, match: {host: "*.example.com", prefix: /, except_reserved: true}, upstream: api', "match: {host: a.b.example.com, prefix: /admin}, policy: p, upstream: api"),
        ("auth: public, match: {host: a.example.com, prefix: /, except_reserved: true}, upstream: site", "match: {host: b.example.com, prefix: /admin}, policy: p, upstream: elsewhere"),
        ("auth: public, match: {host: a.example.com, prefix: /, except_reserved: true}, upstream: site", "match: {host: b.example.com, prefix: /admin}, policy: p, upstream: api"),
        ("auth: public, match: {host: a.example.com, prefix: /, except_reserved: true}, upstream: api", "match: {host: b.example.com, prefix: /admin}, policy: p, upstream: site"),
        (f"policy: signed-in, {REST}", "match: {prefix: /admin}, policy: trial, upstream: api"),
        ("auth: public, match: {prefix: /, except_reserved: true}, upstream: site", "match: {prefix: /admin}, policy: p, upstream: elsewhere"),
        # As wide as it.
        ('auth: public, match: {path: "/a/{x}", methods: [GET]}, upstream: api', 'match: {path: "/a/{x}", methods: [POST]}, policy: p, upstream: api'),
        (f"auth: public, {REST}", "match: {path: /moved}, auth: public, redirect: {to: /x, status: 301}"),
        ("auth: public, match: {prefix: /, except_reserved: true}, direct_response: {status: 404}", ADMIN),
    ],
)  # fmt: skip
def test_what_is_no_way_around_is_not_told(rest: str, beside: str) -> None:
    assert told(rest, beside) == []


def test_what_a_rewrite_leads_around_is_told_once() -> None:
    world = snapshot(
        """
        - {id: open, match: {prefix: /open}, auth: public, upstream: api,
           rewrite: {strip_prefix: /open}}
        - {id: admin, match: {path: /v1/admin}, policy: p, upstream: api,
           rewrite: {strip_prefix: /v1}}
        """,
        POLICIES[0],
    )
    (notice,) = [str(one) for one in world.notices if "`open`" in str(one)]
    assert "asks no policy" in notice


LONG = f"version: 1\nnumbers: {list(range(500))}\n"


@pytest.mark.parametrize(("slow", "found"), [(1, 1), (20, 0)])
def test_of_very_many_conditions_no_more_are_tried(slow: int, found: int) -> None:
    """A configuration that is loaded is not to wait for what it is warned of."""
    policies = (
        *POLICIES,
        'policy: slow\nrules: [{id: r, allow: ["*"],'
        " when: \"has_role('x') && data.numbers.exists(n, n > 1) && request.path != '/y'\"}]",
        'policy: void\nrules: [{id: r, allow: ["*"],'
        " when: \"request.path != '/y' && data.numbers.exists(n, n > 1)\"}]",
    )
    lines = [
        f"  - {{id: s{number}, match: {{path: /s{number}}}, policy: slow, upstream: api}}"
        for number in range(slow)
    ]
    lines += [f"  - {{id: admin, {ADMIN}}}", f"  - {{id: rest, policy: void, {REST}}}"]
    world = snapshot(UPSTREAMS + "\n".join(lines), *policies, data__long=LONG)
    assert len([one for one in world.notices if "is open to" in str(one)]) == found


@pytest.mark.parametrize(
    "deny",
    [
        "['/x', '/y'].exists(p, request.path.startsWith(p))",
        "data.numbers.exists(n, n == size(request.path))",
    ],
)
@pytest.mark.parametrize("count", [10, 400])
def test_routes_of_one_policy_ask_the_same_however_many_they_are(deny: str, count: int) -> None:
    policy = (
        'policy: same\nrules:\n  - {id: a, allow: ["*"], when: "user != null"}\n'
        f'  - {{id: d, deny: ["*"], when: "{deny}"}}'
    )
    lines = [f"  - {{id: rest, policy: same, {REST}}}"]
    lines += [
        f"  - {{id: s{number}, match: {{path: /s{number}}}, policy: same, upstream: api}}"
        for number in range(count)
    ]
    world = snapshot(UPSTREAMS + "\n".join(lines), policy, data__long=LONG)
    assert [one for one in world.notices if "is open to" in str(one)] == []


MCP = "match: {prefix: /mcp}, resource_server: {scopes: [tools]}, policy: signed-in, upstream: api"


@pytest.mark.parametrize(
    ("rest", "beside", "notices"),
    [
        # A token of others without the scope passes where no resource asks for it.
        ("issuers: [idp]", "issuers: [idp]", 1),
        ("issuers: [own, idp]", "issuers: [own, idp]", 1),
        ("issuers: [idp], resource_server: {scopes: [tools, more], path: /}", "issuers: [idp]", 0),
        # Accounts of ours come with a cookie, and nobody without a token needs one.
        ("issuers: [own]", "issuers: [own, idp]", 0),
        ("policy: void", "issuers: [own, idp]", 0),
    ],
)
def test_what_asks_for_a_scope_asks_for_more(rest: str, beside: str, notices: int) -> None:
    void = 'policy: void\nrules: [{id: r, allow: ["*"], when: "has_role(\'staff\')"}]'
    policy = "" if "policy" in rest else "policy: signed-in, "
    found = told(f"{policy}{rest}, {REST}", f"{MCP}, {beside}", policies=(*POLICIES, void))
    assert len(found) == notices
    for notice in found:
        assert "asks for more" in notice


def test_attributes_that_others_do_not_know_are_given_to_no_account_of_theirs() -> None:
    policies = (
        *POLICIES,
        'policy: all\nrules: [{id: r, allow: ["*"], when: "user.attributes.terms"}]',
    )
    assert told(f"policy: all, issuers: [idp], {REST}", ADMIN, policies=policies) == []


def test_which_credential_comes_is_no_weaker_route() -> None:
    api = "match: {prefix: /api}, policy: signed-in, accept: [bearer], upstream: api"
    assert told(f"policy: signed-in, accept: [cookie, bearer], {REST}", api) == []


def test_a_parameter_that_takes_nothing_else_is_no_weaker_route() -> None:
    me = "match: {path: /users/me}, policy: p, upstream: api"
    assert len(told('auth: public, match: {path: "/users/{id}"}, upstream: api', me)) == 1
    assert told('auth: public, match: {path: "/users/{id:uuid}"}, upstream: api', me) == []


def test_each_is_compared_with_those_of_its_hosts_and_place_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a thousand hosts at one backend each once took a reload half a second more."""
    compared = 0

    def count(asking: Asking, other: Route, route: Route) -> bool:
        nonlocal compared
        compared += 1
        return asks_more(asking, other, route)

    asks_more: Callable[[Asking, Route, Route], bool] = vars(weaker_routes)["_asks_more"]
    monkeypatch.setattr(weaker_routes, "_asks_more", count)
    host = "match: {{host: t{0}.example.com, prefix: {1}, except_reserved: true}}, upstream: api"
    pairs = [
        f"  - {{id: o{n}, auth: public, {host.format(n, '/')}}}\n"
        f"  - {{id: a{n}, policy: p, {host.format(n, '/admin')}}}\n"
        for n in range(100)
    ]
    notices = map(str, snapshot(UPSTREAMS + "".join(pairs), POLICIES[0]).notices)
    assert sum("is open to anybody" in one for one in notices) == 100
    assert compared == 100
