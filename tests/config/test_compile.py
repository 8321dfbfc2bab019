"""A configuration is taken whole, or every problem is told with its place."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gateway.access.definitions import Balance, LimitKey, Scope
from gateway.access.routing.routes import Auth
from gateway.access.snapshot import Snapshot
from gateway.access.websocket_options import WebSocketOptions
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import ConfigProblem, CredentialKind
from tests.access.worlds import built, problems, snapshot
from tests.config.texts import PUBLIC, one

ROOT = Path(__file__).parent.parent.parent
CONTRACT = """
version: 1
auth: {cors: app}
decision_api: {trusted_peers: [127.0.0.1/32]}
defaults:
  auth: required
  accept: [bearer, cookie, api_key]
  limits: [per-user]
  security_headers: standard
upstreams:
  orders:
    targets: [http://127.0.0.1:9001, http://127.0.0.1:9002]
    balance: least_requests
    timeout: {connect: 1s, response: 30s, idle: 60s}
    health: {path: /healthz, every: 5s, fall: 3, rise: 2}
    retry: {attempts: 2, on: [connect, "503"]}
    breaker: {failures: 20, window: 10s, open: 15s}
    assertion: {audience: orders}
limits:
  per-user: {key: user, rate: 600/1m, burst: 100}
  anon:     {key: address, rate: 60/1m}
cors:
  app: {origins: ["https://app.example.com"], credentials: true, methods: [GET, POST], headers: [content-type], max_age: 600s}
routes:
  - id: orders.read
    match: {host: api.example.com, path: "/v1/users/{user_id}/orders/{order_id}", methods: [GET]}
    policy: orders
    action: orders:read
    resource: {type: order, id: "{order_id}", owner: "{user_id}"}
    upstream: orders
    rewrite: {strip_prefix: /v1}
    max_body: 10MiB
    cors: app
  - id: catalogue
    match: {path: "/catalogue/{rest:path}"}
    auth: public
    limits: [anon]
    upstream: orders
"""


CONTRACT_POLICY = """
version: 1
policy: orders
roles:                            # role -> permissions
  viewer:  [orders:read]
  manager: {inherits: [viewer], permissions: [orders:*]}
rules:
  - id: own-orders
    allow: [orders:read, orders:cancel]
    when: resource.owner == user.id            # CEL
  - id: by-role
    allow: role-permissions                    # the caller's roles hold the route's action
  - id: no-suspended
    deny: ["*"]
    when: "'suspended' in user.roles"
    reason: account_suspended
    conceal: true                              # the client sees 404, as for an unknown route
    mode: shadow                               # judged, counted and logged, never enforced
"""


def test_the_example_of_the_contract_is_taken_as_it_stands() -> None:
    world = snapshot(CONTRACT, orders=CONTRACT_POLICY)
    route = world.routes.get("orders.read")
    assert route is not None
    assert route.upstream is world.upstreams["orders"]
    assert route.policy is world.policies["orders"]
    assert route.max_body_bytes == 10 * 1024 * 1024
    assert route.limits == (world.limits["per-user"],)
    upstream = world.upstreams["orders"]
    assert [target.port for target in upstream.targets] == [9001, 9002]
    assert upstream.balance is Balance.LEAST_REQUESTS
    assert upstream.retry.connect
    assert upstream.retry.statuses == {503}
    assert upstream.assertion_audience == "orders"
    assert upstream.pool_idle_s == 4.0
    limit = world.limits["per-user"]
    assert (limit.key, limit.per_s, limit.burst, limit.scope) == (
        LimitKey.USER, 10.0, 100, Scope.LEASED,
    )  # fmt: skip
    assert world.limits["anon"].burst == 60
    assert world.auth_cors is world.cors["app"]
    assert world.trusted_peers == ("127.0.0.1/32",)
    catalogue = world.routes.get("catalogue")
    assert catalogue is not None
    assert catalogue.auth is Auth.PUBLIC


def test_the_shipped_configuration_is_valid() -> None:
    files = sorted((ROOT / "policies").glob("*.yaml"))
    sources = Sources(
        ("routes.yaml", (ROOT / "routes.yaml").read_text()),
        tuple((f"policies/{file.name}", file.read_text()) for file in files),
    )
    found = compile_snapshot(sources)
    assert isinstance(found, Snapshot)
    assert found.notices == ()


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    said = problems(
        """
        version: 1
        upstreams:
          api: {targets: ["http://h:1"], balanc: round_robin}
        routs: []
        limits:
          x: {key: user, rate: 600/m}
        routes:
          - id: a
            match: {path: /a}
            policy: nope
            upstream: aip
        """,
        "policy: p\nrules: [{id: a, allow: [x], when: usr.id == 1}]",
    )
    assert said == [
        "policies/p0.yaml:3:35: unknown name `usr`; did you mean `user`?",
        "routes.yaml:4:34: unknown key `balanc` in upstream `api`; did you mean `balance`?",
        "routes.yaml:5:1: unknown key `routs` in the configuration; did you mean `routes`?",
        "routes.yaml:7:24: `rate` is a count in a time, such as `600/1m` or `5/1s`",
        "routes.yaml:11:13: unknown policy `nope`; there is `signed-in`, `p`",
        "routes.yaml:12:15: unknown upstream `aip`; did you mean `api`?",
    ]


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("match: {path: /a}, upstream: api", "`auth: required` needs a policy"),
        ("match: {path: /a}, policy: sign-in, upstream: api", "did you mean `signed-in`?"),
        ("match: {path: /a}, auth: public, policy: p, upstream: api", "judges nobody"),
        ("match: {path: /a}, auth: maybe, upstream: api, policy: p", "`auth` cannot be `maybe`"),
        ("match: {path: /a}, auth: publik, upstream: api", "did you mean `public`?"),
        ("match: {path: /a}, policy: p", "no `upstream:`"),
        ("match: {path: a}, auth: public, upstream: api", "begin it with `/`"),
        ("match: {path: /a%2Fb}, auth: public, upstream: api", "`allow_encoded_slash: true`"),
        (
            "match: {path: /a}, rewrite: {path: /x%2fy}, auth: public, upstream: api",
            "`allow_encoded_slash: true`",
        ),
        ("match: {}, auth: public, upstream: api", 'no `path: "/…"`'),
        ("auth: public, upstream: api", "no `match:"),
        ("match: {path: /a, methods: [get]}, auth: public, upstream: api", "`GET`"),
        ("match: {path: /a, methods: [TRACE]}, auth: public, upstream: api", "refuses TRACE"),
        ("match: {path: /a, methods: ['*']}, auth: public, upstream: api", "leave `methods` out"),
        ("match: {path: /a, methods: []}, auth: public, upstream: api", "`methods` is empty"),
        ("match: {path: /a, host: 'h:80'}, auth: public, upstream: api", "leave the port out"),
        ("match: {path: /a, host: '*'}, auth: public, upstream: api", "leave `host` out"),
        ("match: {path: /a, host: 'bücher.de'}, auth: public, upstream: api", "`xn--…`"),
        ("match: {path: '/{x}/b'}, auth: public, upstream: api", "would match `/auth/…`"),
        ("match: {path: /a}, policy: p, upstream: api, accept: [baerer]", "`bearer`"),
        ("match: {path: /a}, policy: p, upstream: api, accept: []", "`accept` is empty"),
        ("match: {path: /a}, policy: p, upstream: api, max_body: 10MB", "such as `10MiB`"),
        ("match: {path: /a}, policy: p, upstream: api, limits: [peruser]", "`per-user`"),
        ("match: {path: /a}, policy: p, upstream: api, cors: ap", "`app`"),
        ("match: {path: /a}, policy: p, upstream: api, action: 'a b'", "is no action"),
        ("match: {path: /a}, policy: p, upstream: api, forward_authorization: yes", "write true"),
        ("match: {path: /a}, policy: p, upstream: api, rewrite: {strip_prefix: /b}", "begin with"),
        ("match: {path: /a}, policy: p, upstream: api, rewrite: {add_prefix: /b/}", "none at the"),
        ("match: {path: /a}, policy: p, upstream: api, rewrite: {path: '/{x}'}", "has no `{x}`"),
        ("match: {path: /a}, policy: p, upstream: api, rewrite: {}", "`rewrite` has"),
        ("match: {path: /a}, policy: p, upstream: api, resource: {id: '{x}'}", "has no `{x}`"),
        ("match: {path: /a}, policy: p, upstream: api, resource: {id: '{env.X}'}", "nothing that"),
        ("match: {path: /a}, policy: p, upstream: api, resource: {id: '{x'}", "a brace without"),
        (
            "match: {path: /a}, policy: p, upstream: api, resource: {i: '{headers.cookie}'}",
            "`user`",
        ),
        (
            "match: {path: /a}, policy: p, upstream: api, resource: {i: '{headers.X-A}'}",
            "lower case",
        ),
        ("match: {path: /a}, policy: p, upstream: api, errors: explan", "`explain`"),
        ("match: {path: /a}, policy: p, upstream: api, websocket: {pings: 5s}", "mean `ping`?"),
        ("match: {path: /a}, policy: p, upstream: api, websocket: {ping: 30}", "unit: `30s`"),
        ("match: {path: /a}, policy: p, upstream: api, websocket: {ping: 10ms}", "`1s` or more"),
        ("match: {path: /a}, policy: p, upstream: api, websocket: {idle: never}", "a duration"),
        ("match: {path: /a}, policy: p, upstream: api, websocket: {max_frame: 1}", "is a size"),
        ("match: {path: /a}, policy: p, upstream: api, websocket: {max_frame: 9B}", "`125B` or"),
        ("match: {path: /a}, policy: p, upstream: api, websocket: {max_per_user: -1}", "0 or more"),
        ("match: {path: /a}, policy: p, upstream: api, websocket: off", "is a block"),
        ("match: {path: /a}, policy: p, upstream: api, on_change: rejugde", "`reevaluate`"),
        ("match: {path: /a}, policy: p, upstream: api, security_headers: of", "`off`"),
        (
            "match: {path: /a}, policy: p, upstream: api, security_headers: {Content-Length: '1'}",
            "is no security header",
        ),
    ],
)
def test_what_is_wrong_with_a_route_is_told_with_what_would_be_right(route: str, said: str) -> None:
    assert said in one(f"- {{id: a, {route}}}")


def test_every_mistake_of_a_route_is_told_at_once() -> None:
    route = "- {id: a, match: {path: a}, auth: public, upstream: api, on_change: x, max_body: 1}"
    said = problems(route)
    assert [word for word in ("no path", "`on_change`", "`max_body`") if word in "".join(said)] == [
        "no path", "`on_change`", "`max_body`",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("route", "column", "old", "new"),
    [
        ("match: {path: /a}, auth: public, respond: {body: a}", 46, "respond", "direct_response"),
        (
            "match: {path: '/{x}', except_own: true}, auth: public, upstream: api",
            35,
            "except_own",
            "except_reserved",
        ),
        (
            "match: {path: /a}, auth: public, upstream: api, on_change: rejudge",
            72,
            "rejudge",
            "reevaluate",
        ),
    ],
)
def test_a_renamed_word_is_refused_where_it_stands_and_its_new_name_told(
    route: str, column: int, old: str, new: str
) -> None:
    problem = next(p for p in problems(f"- {{id: a, {route}}}") if f"`{old}`" in p)
    assert problem.startswith(f"routes.yaml:11:{column}: ")
    assert problem.endswith(f"; renamed to `{new}` in 0.1; `gateway config migrate` writes it")


# Policies in folders, shared roles, data
SHARED = "version: 1\nroles:\n  viewer: [shop:read]\n"


def test_a_folder_is_a_namespace() -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, policy: shop/orders, action: shop:read, upstream: api}",
        roles=SHARED,
        shop__orders="version: 1\npolicy: orders\nrules: [{id: a, allow: role-permissions}]",
        orders="version: 1\npolicy: orders\nrules: [{id: a, allow: role-permissions}]",
    )
    assert {"shop/orders", "orders", "signed-in"} == set(world.policies)


def test_shared_roles_are_known_to_every_policy_and_may_be_added_to() -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, policy: p, action: shop:read, upstream: api}",
        "policy: p\nroles: {viewer: [extra:read], boss: {inherits: [viewer]}}\n"
        "rules: [{id: a, allow: role-permissions}]",
        roles=SHARED,
    )
    book = world.policies["p"].roles
    assert book.permits(("boss",), "shop:read")
    assert book.permits(("boss",), "extra:read")


def test_a_policy_stands_once() -> None:
    said = problems(
        PUBLIC,
        one="version: 1\npolicy: p\nrules: [{id: a, allow: ['*']}]",
        two="version: 1\npolicy: p\nrules: [{id: a, allow: ['*']}]",
    )
    assert "the policy `p` stands in policies/one.yaml:2 already" in said[0]


def test_signed_in_cannot_be_redefined() -> None:
    said = problems(PUBLIC, "policy: signed-in\nrules: [{id: a, allow: ['*']}]")
    assert "built in" in said[0]


def test_tests_are_no_policies() -> None:
    assert isinstance(built(PUBLIC, tests__a="nonsense: ["), Snapshot)


def test_the_version_names_the_texts_wherever_they_lie() -> None:
    routes = dedent(CONTRACT)
    here = Sources(("routes.yaml", routes), (("policies/a.yaml", "x"),))
    there = Sources(("/etc/gateway/routes.yaml", routes), (("/etc/p/a.yaml", "x"),), "/etc/p")
    assert here.version == there.version
    assert len(here.version) == 12
    other = Sources(("routes.yaml", routes), (("policies/a.yaml", "y"),))
    assert other.version != here.version


def test_problems_are_sorted_and_told_once() -> None:
    found = built("- {id: a}\n- {id: a}", "policy: p")
    assert isinstance(found, list)
    assert found == sorted(set(found))
    assert all(isinstance(problem, ConfigProblem) for problem in found)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("upstreams: {a: {}}", "has no `targets:"),
        ("upstreams: {a: {targets: []}}", "has no `targets:"),
        ("upstreams: {a: {targets: ['ftp://h']}}", "is no target"),
        ("upstreams: {a: {targets: ['http://h/p']}}", "a target has no path"),
        ("upstreams: {a: {targets: ['http://u:p@h']}}", "nothing else"),
        ("upstreams: {a: {targets: ['http://h:99999']}}", "is no URL"),
        ('upstreams: {a: {targets: ["http://h\\n.x"]}}', "is no target"),
        ("upstreams: {a: {targets: ['unix:x']}}", "`unix:/path"),
        ("upstreams: {a: {targets: ['http://h'], timeout: {conect: 1s}}}", "`connect`"),
        ("upstreams: {a: {targets: ['http://h'], timeout: {connect: 1}}}", "`1s`"),
        ("upstreams: {a: {targets: ['http://h'], timeout: {connect: 0s}}}", "is a duration"),
        ("upstreams: {a: {targets: ['http://h'], health: {}}}", "needs a `path:`"),
        ("upstreams: {a: {targets: ['http://h'], retry: {on: [x]}}}", "statuses such as"),
        ("upstreams: {a: {targets: ['http://h'], retry: {attempts: 99}}}", "10 at most"),
        ("upstreams: {a: {targets: ['http://h'], host: 'a b'}}", "is a host name"),
        ("limits: {a: {key: usr, rate: 1/1s}}", "`user`"),
        ("limits: {a: {key: user}}", "no `rate:"),
        ("limits: {a: {key: user, rate: 0/1s}}", "such as `600/1m`"),
        ("limits: {a: {key: user, rate: 1/9999d}}", "at most 1,000,000,000 in 366d"),
        ("limits: {a: {key: user, rate: 9999999999/1s}}", "at most 1,000,000,000 in 366d"),
        (f"limits: {{a: {{key: user, rate: {'9' * 5000}/1s}}}}", "such as `600/1m`"),
        ("limits: {a: {key: user, rate: 1/1s, burst: 9999999999}}", "1,000,000,000 at most"),
        ("upstreams: {a: {targets: ['http://h'], pool_idle: 9999d}}", "is 366d at most"),
        ("limits: {a: {key: 'request.query.x', rate: 1/1s}}", "a key reads"),
        ("limits: {a: {key: user, rate: 1/1s, scope: lesed}}", "`leased`"),
        ("cors: {a: {origins: ['https://x/']}}", "is no origin"),
        ("cors: {a: {origins: ['*'], credentials: true}}", "never with `credentials"),
        ("cors: {a: {}}", "no `origins:`"),
        ("cors: {a: {origins: []}}", "no `origins:`"),
        ("decision_api: {trusted_peers: [localhost]}", "is no address block"),
        ("decision_api: {trusted_peers: [0.0.0.0/0]}", "is everybody"),
        ("decision_api: {trusted_peers: ['::/0']}", "is everybody"),
        ("auth: {cors: nope}", "unknown cors `nope`"),
    ],
)
def test_what_is_wrong_with_a_block_is_told(block: str, said: str) -> None:
    lines = problems(f"version: 1\n{block}\nroutes: []\n")
    assert any(said in line for line in lines), lines


def test_a_limit_may_count_by_an_expression() -> None:
    world = snapshot(
        'version: 1\nlimits: {t: {key: "user.claims.tenant", rate: 5/1s}}\nroutes: []\n'
    )
    assert world.limits["t"].key is LimitKey.EXPRESSION
    assert world.limits["t"].expression is not None


def test_a_limit_by_route_is_one_for_each_route() -> None:
    world = snapshot(
        """
        version: 1
        upstreams: {api: {targets: ["http://h:1"]}}
        limits: {r: {key: route, rate: 5/1s}}
        routes:
          - {id: a, match: {path: /a}, auth: public, upstream: api, limits: [r]}
          - {id: b, match: {path: /b}, auth: public, upstream: api, limits: [r]}
        """
    )
    assert [route.limits[0].route_id for route in world.routes] == ["a", "b"]


def test_a_route_changes_what_defaults_say_of_sockets_key_by_key() -> None:
    world = snapshot(
        """
        version: 1
        upstreams: {api: {targets: ["http://h:1"]}}
        defaults:
          policy: signed-in
          upstream: api
          websocket: {max_per_user: 20, ping: 10s, max_frame: 64KiB}
          on_change: reevaluate
        routes:
          - {id: a, match: {path: /a}}
          - {id: b, match: {path: /b}, websocket: {ping: off, idle: 10m}, on_change: end}
        """
    )
    a, b = world.routes.get("a"), world.routes.get("b")
    assert a is not None
    assert b is not None
    assert a.websocket == WebSocketOptions(20, None, 10.0, 65_536)
    assert b.websocket == WebSocketOptions(20, 600.0, 0.0, 65_536)
    assert (a.reevaluates, b.reevaluates) == (True, False)


def test_defaults_hold_where_a_route_says_nothing_else() -> None:
    world = snapshot(
        """
        version: 1
        upstreams: {api: {targets: ["http://h:1"]}}
        limits: {l: {key: user, rate: 5/1s}}
        defaults: {policy: signed-in, upstream: api, limits: [l], accept: [bearer], max_body: 1KiB}
        routes:
          - {id: a, match: {path: /a}}
          - {id: b, match: {path: /b}, limits: [], accept: [cookie], max_body: 0B, auth: optional}
        """
    )
    a, b = world.routes
    assert a.policy is not None
    assert a.policy.name == "signed-in"
    assert (len(a.limits), a.accept, a.max_body_bytes) == (
        1,
        frozenset((CredentialKind.BEARER,)),
        1024,
    )
    assert (b.policy, b.limits, b.accept, b.max_body_bytes) == (
        None, (), frozenset((CredentialKind.COOKIE,)), 0,
    )  # fmt: skip
