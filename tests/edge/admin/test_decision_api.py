"""The decision API on a real socket, with the real Gate: who may tell it what, and what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.authorizer import Authorizer
from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.definitions import Limit
from gateway.access.snapshot import Snapshot
from gateway.edge.admin.decision_api import DecisionApi
from gateway.edge.admin.listener import AdminListener, AdminOptions
from gateway.edge.proxy.request import CallReader
from gateway.edge.server.listener import Listener
from gateway.model import Call, CredentialKind, LimitState, Principal, Reason
from tests.access.worlds import snapshot
from tests.edge.rig import Answer, Client, listen, principal

ROUTES = """
version: 1
decision_api: {trusted_peers: [127.0.0.1/32, 10.9.0.0/16]}
upstreams:
  api: {targets: [http://127.0.0.1:9001]}
  proving: {targets: [http://127.0.0.1:9002], assertion: {audience: orders}}
limits:
  few: {key: address, rate: 1/1h, burst: 4}
cors:
  app: {origins: ["https://app.example.com"], credentials: true}
routes:
  - {id: me, match: {path: /me}, policy: signed-in, upstream: api, cors: app}
  - {id: kept, match: {path: /kept}, policy: signed-in, upstream: api, forward_authorization: true}
  - {id: proving, match: {path: "/orders/{id}", methods: [GET]}, policy: signed-in, upstream: proving}
  - {id: public, match: {path: "/public/{rest:path}"}, auth: public, upstream: api}
  - {id: maybe, match: {path: /maybe}, auth: optional, upstream: api}
  - {id: hidden, match: {path: /hidden}, policy: hidden, action: see, upstream: api}
  - {id: few, match: {path: /few}, auth: public, limits: [few], upstream: api}
  - {id: where, match: {path: /where}, policy: where, action: see, auth: optional, upstream: api}
  - id: bodies
    match: {path: /bodies}
    policy: bodies
    action: see
    resource: {flag: "{body.flag}"}
    upstream: api
  - {id: fresh, match: {path: /fresh}, policy: fresh, action: see, upstream: api}
  - {id: moved, match: {path: /moved}, auth: public, redirect: {to: /me}}
  - id: tenant
    match: {path: /tenant}
    auth: public
    upstream: api
    request: {set_headers: {X-Tenant: acme}, remove_headers: [X-Debug, Cookie]}
  - {id: other, match: {host: other.example.com, path: /me}, auth: public, upstream: api}
  - {id: wild, match: {host: "*.wild.example.com", path: /me}, auth: public, upstream: api}
"""
HIDDEN = """
policy: hidden
rules:
  - {id: nobody, deny: ["*"], conceal: true}
"""
WHERE = """
policy: where
rules:
  - id: from-there
    allow: ["*"]
    when: client.ip == "203.0.113.7" && request.host == "api.example.com"
"""

BODIES = """
policy: bodies
rules:
  - {id: unflagged, allow: ["*"], when: "!has(resource.flag)"}
"""

FRESH = """
policy: fresh
rules:
  - {id: fresh, allow: ["*"], step_up: {max_age: 5m}, headers: {X-Tenant: "{user.email}"}}
"""

DIALECTS = ("nginx", "envoy", "traefik", "caddy")


@dataclass
class Someone:
    """Knows one good token; remembers what it was asked."""

    calls: list[Call] = field(default_factory=list)

    async def authenticate(
        self, call: Call, accept: frozenset[CredentialKind]
    ) -> Principal | Reason:
        self.calls.append(call)
        if call.credential is None:
            return Reason.NO_CREDENTIAL
        if isinstance(call.credential, Reason):
            return call.credential
        if call.credential.kind is CredentialKind.COOKIE:
            return Reason.SESSION_UNKNOWN
        if call.credential.text != "good":
            return Reason.TOKEN_REVOKED
        return principal()


class OneOfFour:
    """Three calls pass, the next does not."""

    left = 3

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        self.left -= 1
        wait_s = 0.0 if self.left >= 0 else 30.0
        return LimitState(wait_s, '"few";q=4', (("few", 0.1),), (max(self.left, 0),))


class AssertionSigner:
    ready = True

    def assertion(self, who: Principal, audience: str, method: str, path: str) -> str | None:
        return f"{who.subject}.{audience}.{method}.{path}" if self.ready else None


@dataclass
class House:
    port: int
    someone: Someone
    assertion_signer: AssertionSigner
    live: bool = True
    ended: Reason | None = None
    """Why the session of the caller has ended since it was looked up."""
    peers: tuple[str, ...] | None = None
    clients: list[Client] = field(default_factory=list)

    async def send(self, data: bytes, *, to_head: bool = False) -> Answer:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        await client.send(data)
        return await client.answer(to_head=to_head)

    async def ask(
        self,
        dialect: str,
        target: str = "/me",
        *fields: tuple[str, str],
        method: str = "GET",
        host: str = "api.example.com",
        proto: str = "https",
        ip: str = "203.0.113.7",
        token: str | None = None,
        without: str = "",
    ) -> Answer:
        return await self.send(
            told(
                dialect,
                target,
                *fields,
                method=method,
                host=host,
                proto=proto,
                ip=ip,
                token=token,
                without=without,
            ),
            to_head=dialect == "envoy" and method == "HEAD",
        )


def told(
    dialect: str,
    target: str,
    *fields: tuple[str, str],
    method: str = "GET",
    host: str = "api.example.com",
    proto: str = "https",
    ip: str = "203.0.113.7",
    token: str | None = None,
    without: str = "",
) -> bytes:
    """The bytes of the question, as that proxy asks it."""
    line, lines = f"GET /decide/{dialect} HTTP/1.1", [("Host", "authgate:9901")]
    if dialect == "nginx":
        lines += [
            ("X-Original-Method", method),
            ("X-Original-URI", target),
            ("X-Original-Host", host),
            ("X-Original-Proto", proto),
            ("X-Original-IP", ip),
        ]
    elif dialect == "envoy":
        line = f"{method} /decide/envoy{target} HTTP/1.1"
        lines = [("Host", host), ("X-Forwarded-Proto", proto), ("X-Forwarded-For", ip)]
    else:
        lines += [
            ("X-Forwarded-Method", method),
            ("X-Forwarded-Uri", target),
            ("X-Forwarded-Host", host),
            ("X-Forwarded-Proto", proto),
            ("X-Forwarded-For", ip),
        ]
    lines = [(name, value) for name, value in lines if name != without]
    if token is not None:
        lines.append(("Authorization", f"Bearer {token}"))
    text = "\r\n".join([line, *(f"{n}: {v}" for n, v in [*lines, *fields])])
    return f"{text}\r\n\r\n".encode("latin-1")


WORLD = snapshot(ROUTES, HIDDEN, WHERE, BODIES, FRESH)


class _Nobody:
    async def gather(self) -> list[object]:
        return []


@asynccontextmanager
async def opened(world: Snapshot = WORLD) -> AsyncIterator[House]:
    someone, assertion_signer = Someone(), AssertionSigner()
    house = House(0, someone, assertion_signer)
    reader = CallReader()
    decisions = DecisionApi(
        Authorizer(someone, OneOfFour()),
        lambda: world,
        reader,
        live=lambda: house.live,
        refusal=lambda who: house.ended,
        assertion_signer=assertion_signer,
    )
    options = AdminOptions(frozenset(), "local", page=False)
    admin = AdminListener(options, _Nobody(), someone, None, decisions)  # type: ignore[arg-type]
    listener = Listener(admin, reader)
    listener.start()
    house.port = await listen(listener)
    try:
        yield house
    finally:
        for client in house.clients:
            client.close()
        await listener.stop(0.1)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with opened() as found:
        yield found


def seen(answer: Answer, dialect: str) -> tuple[int, str]:
    """Status and reason as the client of that proxy would be given them."""
    problem = json.loads(answer.body)
    assert answer.values("content-type") == [b"application/problem+json"]
    if dialect == "nginx":
        assert answer.status == (401 if problem["status"] == 401 else 403)
        assert int(answer.values("authgate-status")[0]) == problem["status"]
        assert json.loads(answer.values("authgate-problem")[0]) == problem
    else:
        assert answer.status == problem["status"]
    return problem["status"], problem["reason"]


each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@each_dialect
async def test_an_allowed_call_is_answered_with_the_identity_headers(
    house: House, dialect: str
) -> None:
    answer = await house.ask(dialect, token="good")
    assert answer.status == 200
    assert answer.values("x-auth-user-id") == [b"u-1"]
    assert answer.values("x-auth-roles") == [b"user,editor"]
    assert answer.values("x-auth-email") == [b"ada@example.com"]
    assert answer.values("x-auth-session-id") == [b"s-1"]
    assert answer.body == b""


AUTHELIA = snapshot(
    """
    version: 1
    decision_api: {trusted_peers: [127.0.0.1/32, 10.9.0.0/16]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    routes:
      - {id: me, match: {path: /me}, policy: signed-in, upstream: api, identity_headers: authelia}
      - {id: public, match: {path: /public}, auth: public, upstream: api}
    """
)
FORGED = (("Remote-User", "root"), ("remote_groups", "root"), ("X-Auth-User-Id", "root"))


@each_dialect
async def test_the_answer_has_the_identity_headers_that_the_route_names(dialect: str) -> None:
    async with opened(AUTHELIA) as house:
        answer = await house.ask(dialect, "/me", *FORGED, token="good")
    assert answer.status == 200
    assert answer.values("remote-user") == [b"u-1"]  # the address is not verified
    assert answer.values("remote-groups") == [b"user,editor"]
    assert answer.values("x-auth-user-id") == []
    assert b"root" not in answer.head


@each_dialect
async def test_the_answer_about_a_public_call_says_nothing_of_who_calls(dialect: str) -> None:
    async with opened(AUTHELIA) as house:
        answer = await house.ask(dialect, "/public", *FORGED)
    assert answer.status == 200
    assert b"root" not in answer.head
    assert answer.values("remote-user") == []
    if dialect == "envoy":
        (removed,) = answer.values("x-envoy-auth-headers-to-remove")
        names = removed.split(b",")
        assert len(names) == len(set(names))
        assert {b"remote-user", b"remote-groups", b"remote-email", b"remote-name"} <= set(names)


@each_dialect
async def test_a_call_without_credential_is_challenged(house: House, dialect: str) -> None:
    answer = await house.ask(dialect)
    assert seen(answer, dialect) == (401, "no_credential")
    assert answer.values("www-authenticate") == [b'Bearer realm="authgate"']
    assert answer.values("proxy-status")


@each_dialect
async def test_a_revoked_token_is_refused(house: House, dialect: str) -> None:
    answer = await house.ask(dialect, token="revoked")
    assert seen(answer, dialect) == (401, "token_revoked")


@each_dialect
async def test_the_cookie_of_a_session_that_is_over_is_taken_away(
    house: House, dialect: str
) -> None:
    cookie = ("Cookie", "__Host-session=bad")
    answer = await house.ask(dialect, "/me", cookie, ("Sec-Fetch-Site", "same-origin"))
    assert answer.status == 401
    (gone,) = answer.values("set-cookie")
    assert b"Max-Age=0" in gone


@each_dialect
async def test_a_policy_that_wants_a_fresher_sign_in_says_so(house: House, dialect: str) -> None:
    answer = await house.ask(dialect, "/fresh", token="good")
    assert seen(answer, dialect) == (401, "insufficient_user_authentication")
    assert b'max_age="300"' in answer.values("www-authenticate")[0]


@each_dialect
async def test_a_limit_that_is_used_up_says_when_to_come_back(house: House, dialect: str) -> None:
    for _ in range(3):
        assert (await house.ask(dialect, "/few")).status == 200
    answer = await house.ask(dialect, "/few")
    assert seen(answer, dialect) == (429, "rate_limited")
    assert answer.values("retry-after") == [b"30"]
    assert answer.values("ratelimit-policy")


@each_dialect
async def test_a_concealed_refusal_is_that_of_an_unknown_route(house: House, dialect: str) -> None:
    hidden = await house.ask(dialect, "/hidden", token="good")
    unknown = await house.ask(dialect, "/nowhere", token="good")
    assert seen(hidden, dialect) == seen(unknown, dialect) == (404, "route_unknown")


@each_dialect
async def test_the_host_of_the_original_call_chooses_the_route(house: House, dialect: str) -> None:
    assert (await house.ask(dialect, host="other.example.com")).status == 200
    assert (await house.ask(dialect, host="OTHER.example.com.:443")).status == 200
    assert (await house.ask(dialect, host="another.example.com")).status == 401
    assert (await house.ask(dialect, host="a.WILD.example.com:443")).status == 200
    for host in ("wild.example.com", "a.b.wild.example.com", "a.wild.example.com.evil.net"):
        assert (await house.ask(dialect, host=host)).status == 401


@each_dialect
async def test_the_method_of_the_original_call_is_judged(house: House, dialect: str) -> None:
    answer = await house.ask(dialect, "/orders/7", method="DELETE", token="good")
    assert seen(answer, dialect) == (405, "method_not_allowed")
    assert answer.values("allow") == [b"GET, HEAD"] or answer.values("allow") == [b"GET"]
    assert (await house.ask(dialect, "/orders/7", method="HEAD", token="good")).status == 200


@each_dialect
@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
async def test_trace_and_connect_are_refused(house: House, dialect: str, method: str) -> None:
    answer = await house.ask(dialect, "/public/a", method=method)
    assert seen(answer, dialect) == (405, "method_not_allowed")


AMBIGUOUS = (
    "/public/../me",
    "/public/%2e%2e/me",
    "/public/.",
    "//me",
    "/public//me",
    "/public/%2fme",
    "/public/%5cme",
    "/public/a;b",
    "/public/a#b",
    "/public/a?b#c",
    "/public/%00",
    "/public/%c0%af",
    "/public/%252e",
    "/public/%zz",
)


@each_dialect
@pytest.mark.parametrize("target", AMBIGUOUS)
async def test_a_path_with_two_readings_is_refused(house: House, dialect: str, target: str) -> None:
    # CVE-2021-32637, CVE-2026-33494: no spelling of a path makes the check answer 200.
    answer = await house.ask(dialect, target)
    assert seen(answer, dialect) == (400, "ambiguous_path")


@each_dialect
@pytest.mark.parametrize("target", ["", "me", "*", "http//x", "/" + "a" * 9_000])
async def test_what_is_no_target_is_refused(house: House, dialect: str, target: str) -> None:
    answer = await house.ask(dialect, target)
    assert answer.status in (400, 401, 403, 404, 414)


@each_dialect
async def test_own_addresses_are_nobodys_to_allow(house: House, dialect: str) -> None:
    # /auth is answered by the public listener, not by a backend.
    answer = await house.ask(dialect, "/auth/login", method="POST", token="good")
    assert seen(answer, dialect) == (404, "route_unknown")


PARTS = {
    "nginx": ("Method", "URI", "Host", "Proto", "IP"),
    "traefik": ("Method", "Uri", "Host", "Proto", "For"),
    "caddy": ("Method", "Uri", "Host", "Proto", "For"),
    "envoy": ("Proto", "For"),
}
EVERY_PART = [
    (dialect, ("X-Original-" if dialect == "nginx" else "X-Forwarded-") + part)
    for dialect, parts in PARTS.items()
    for part in parts
]


@pytest.mark.parametrize(("dialect", "name"), EVERY_PART)
async def test_what_the_proxy_leaves_out_is_never_guessed(
    house: House, dialect: str, name: str
) -> None:
    answer = await house.ask(dialect, "/public/a", without=name)
    assert seen(answer, dialect) == (400, "request_malformed")
    assert not house.someone.calls


@pytest.mark.parametrize(
    ("dialect", "name"), [pair for pair in EVERY_PART if pair[1] != "X-Forwarded-For"]
)
async def test_what_is_said_twice_is_refused(house: House, dialect: str, name: str) -> None:
    # CVE-2026-40575: a client's copy beside the proxy's own is no choice to make.
    good = {"Method": "GET", "Uri": "/public/a", "URI": "/public/a", "Host": "a", "Proto": "https"}
    value = good.get(name.rpartition("-")[2], "203.0.113.9")
    answer = await house.ask(dialect, "/public/a", (name, value))
    assert seen(answer, dialect) == (400, "request_malformed")


@pytest.mark.parametrize("dialect", ["nginx", "traefik", "caddy"])
@pytest.mark.parametrize("method", ["get", "GET POST", "G€T", "", "GET,GET"])
async def test_what_is_no_method_is_refused(house: House, dialect: str, method: str) -> None:
    question = told(dialect, "/public/a", method="XX").replace(b": XX", b": " + method.encode())
    assert (await house.send(question)).status in (400, 403)


@each_dialect
@pytest.mark.parametrize("proto", ["", "ftp", "https,http", "HTTPS"])
async def test_what_is_no_scheme_is_refused(house: House, dialect: str, proto: str) -> None:
    answer = await house.ask(dialect, "/public/a", proto=proto)
    assert seen(answer, dialect) == (400, "request_malformed")


@each_dialect
@pytest.mark.parametrize("ip", ["", "unknown", "203.0.113.7:80", "203.0.113.7, x", "1.2.3"])
async def test_what_ends_in_no_address_is_refused(house: House, dialect: str, ip: str) -> None:
    answer = await house.ask(dialect, "/public/a", ip=ip)
    assert seen(answer, dialect) == (400, "request_malformed")


@pytest.mark.parametrize("dialect", ["envoy", "traefik", "caddy"])
@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),  # the left one was written by the client
        ("198.51.100.1, 203.0.113.7, 10.9.1.1", "203.0.113.7"),
        ("127.0.0.1, 203.0.113.7, 10.9.1.1, 127.0.0.1", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("10.9.1.1", "10.9.1.1"),
    ],
)
async def test_the_client_is_the_first_hop_from_the_right_that_is_no_peer(
    house: House, dialect: str, hops: str, client: str
) -> None:
    await house.ask(dialect, "/maybe", ip=hops)
    assert house.someone.calls[-1].client_ip == client


@pytest.mark.parametrize("dialect", ["envoy", "traefik", "caddy"])
async def test_a_client_behind_more_than_32_hops_is_not_looked_for(
    house: House, dialect: str
) -> None:
    near = await house.ask(dialect, "/public/a", ip="203.0.113.7" + ", 10.9.1.1" * 31)
    assert near.status == 200
    far = await house.ask(dialect, "/public/a", ip="203.0.113.7" + ", 10.9.1.1" * 32)
    assert seen(far, dialect) == (400, "request_malformed")


@each_dialect
async def test_a_policy_reads_the_original_host_and_the_clients_address(
    house: House, dialect: str
) -> None:
    assert (await house.ask(dialect, "/where", host="api.example.com:8443")).status == 200
    elsewhere = await house.ask(dialect, "/where", host="api.example.com:8443", ip="203.0.113.8")
    assert elsewhere.status in (401, 403)


@each_dialect
async def test_a_stranger_is_refused_whatever_it_says(dialect: str) -> None:
    world = snapshot(ROUTES.replace("127.0.0.1/32", "192.0.2.0/24"), HIDDEN, WHERE, BODIES, FRESH)
    async with opened(world) as house:
        for target in ("/public/a", "/me"):
            answer = await house.ask(dialect, target, token="good")
            assert answer.status == 403
            assert not answer.values("x-auth-user-id")
        assert not house.someone.calls


async def test_no_peer_is_trusted_unless_the_configuration_names_it() -> None:
    world = snapshot(
        ROUTES.replace("decision_api: {trusted_peers: [127.0.0.1/32, 10.9.0.0/16]}\n", ""),
        HIDDEN,
        WHERE,
        BODIES,
        FRESH,
    )
    async with opened(world) as house:
        assert (await house.ask("caddy", "/public/a")).status == 403


@each_dialect
async def test_a_fenced_worker_judges_nothing(house: House, dialect: str) -> None:
    house.live = False
    answer = await house.ask(dialect, "/public/a")
    assert seen(answer, dialect) == (503, "replica_stale")
    assert answer.values("retry-after")


@each_dialect
async def test_a_session_that_ended_while_its_call_was_decided_is_refused(
    house: House, dialect: str
) -> None:
    house.ended = Reason.TOKEN_REVOKED
    answer = await house.ask(dialect, token="good")
    assert seen(answer, dialect) == (401, "token_revoked")
    assert not answer.values("x-auth-user-id")


@each_dialect
async def test_an_anonymous_call_is_allowed_without_identity(house: House, dialect: str) -> None:
    forged = [("X-Auth-User-Id", "root"), ("X-Auth-Roles", "admin")]
    answer = await house.ask(dialect, "/public/a", *forged)
    assert answer.status == 200
    assert not [line for line in answer.head.lower().split(b"\r\n") if line.startswith(b"x-auth-")]


async def test_envoy_is_told_what_to_remove(house: House) -> None:
    anonymous = await house.ask("envoy", "/public/a", token="good")
    gone = anonymous.values("x-envoy-auth-headers-to-remove")[0].split(b",")
    assert {b"x-auth-user-id", b"x-auth-email", b"x-auth-assertion", b"authorization"} <= set(gone)
    known = await house.ask("envoy", "/kept", token="good")
    left = known.values("x-envoy-auth-headers-to-remove")[0].split(b",")
    assert b"x-auth-user-id" not in left
    assert b"authorization" not in left
    assert b"x-auth-assertion" in left
    # A field that rules write is theirs on every route, also where none of them wrote it.
    assert b"x-tenant" in gone


@each_dialect
async def test_the_backend_sees_the_credential_only_where_the_route_says_so(
    house: House, dialect: str
) -> None:
    assert not (await house.ask(dialect, "/me", token="good")).values("authorization")
    kept = await house.ask(dialect, "/kept", token="good")
    assert kept.values("authorization") == [b"Bearer good"]


@each_dialect
async def test_the_backend_never_sees_our_cookies(house: House, dialect: str) -> None:
    cookies = ("Cookie", "__Host-session=s3cret; theirs=1; __HOST-DEVICE=d")
    answer = await house.ask(dialect, "/public/a", cookies)
    assert answer.values("cookie") == [b"theirs=1"]
    assert not (await house.ask(dialect, "/public/a", ("Cookie", "__Host-session=x"))).values(
        "cookie"
    )


@each_dialect
async def test_an_upstream_that_asks_is_given_an_assertion(house: House, dialect: str) -> None:
    answer = await house.ask(dialect, "/orders/7?x=1", token="good")
    assert answer.values("x-auth-assertion") == [b"u-1.orders.GET./orders/7"]
    assert not (await house.ask(dialect, "/me", token="good")).values("x-auth-assertion")


@each_dialect
async def test_without_the_key_of_assertions_nothing_passes_to_who_asks(
    house: House, dialect: str
) -> None:
    house.assertion_signer.ready = False
    answer = await house.ask(dialect, "/orders/7", token="good")
    assert seen(answer, dialect) == (503, "store_unavailable")
    assert (await house.ask(dialect, "/me", token="good")).status == 200


@each_dialect
async def test_a_refusal_on_a_route_with_cors_can_be_read_by_the_page(
    house: House, dialect: str
) -> None:
    answer = await house.ask(dialect, "/me", ("Origin", "https://app.example.com"))
    assert answer.values("access-control-allow-origin") == [b"https://app.example.com"]


@each_dialect
async def test_a_policy_that_reads_a_body_which_is_not_shown_allows_nothing(
    house: House, dialect: str
) -> None:
    answer = await house.ask(dialect, "/bodies", method="POST", token="good")
    assert seen(answer, dialect) == (403, "no_rule")
    assert "body" in json.loads(answer.body)["detail"]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PROPFIND"])
async def test_the_question_may_come_with_any_method(house: House, method: str) -> None:
    question = told("caddy", "/public/a").replace(b"GET /decide", method.encode() + b" /decide")
    assert (await house.send(question, to_head=method == "HEAD")).status == 200


async def test_a_query_of_the_question_says_nothing(house: House) -> None:
    question = told("caddy", "/me").replace(b"/decide/caddy", b"/decide/caddy?uri=/public/a")
    assert (await house.send(question)).status == 401


@pytest.mark.parametrize("path", ["", "apache", "nginx/x", "Nginx", "envoy", "envoyx/public/a"])
async def test_other_addresses_below_decide_allow_nothing(house: House, path: str) -> None:
    question = told("caddy", "/public/a").replace(b"/decide/caddy", b"/decide/" + path.encode())
    assert (await house.send(question)).status == 404


async def test_many_questions_travel_on_one_connection(house: House) -> None:
    client = Client(*await asyncio.open_connection("127.0.0.1", house.port))
    house.clients.append(client)
    await client.send(told("nginx", "/me", token="good") * 5)
    assert [(await client.answer()).status for _ in range(5)] == [200] * 5


async def test_nginx_without_keep_alive_is_answered_and_let_go(house: House) -> None:
    question = told("nginx", "/public/a").replace(b"HTTP/1.1", b"HTTP/1.0")
    client = Client(*await asyncio.open_connection("127.0.0.1", house.port))
    house.clients.append(client)
    await client.send(question)
    assert b"200 OK" in await client.rest()


_NOISE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    dialect=st.sampled_from(["nginx", "traefik", "caddy"]),
    part=st.sampled_from(["target", "host", "method", "proto", "ip"]),
    noise=_NOISE,
)
async def test_no_noise_is_ever_allowed_on_a_protected_route(
    house: House, dialect: str, part: str, noise: str
) -> None:
    values = {
        "target": "/me",
        "host": "api.example.com",
        "method": "GET",
        "proto": "https",
        "ip": "203.0.113.7",
        part: noise,
    }
    answer = await house.send(told(dialect, values.pop("target"), **values))
    allowed_by_right = noise.startswith(("/public/", "/few"))
    assert answer.status >= 400 or allowed_by_right or noise in ("/maybe",)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_route_that_answers_itself_is_nobody_elses_to_answer(dialect: str) -> None:
    async with opened() as house:
        assert (await house.ask(dialect, "/moved")).status == 403


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_set_fields_of_a_route_are_told_and_cookies_it_removes_are_not(
    dialect: str,
) -> None:
    async with opened() as house:
        answer = await house.ask(dialect, "/tenant", ("Cookie", "a=b"))
        assert answer.values("x-tenant") == [b"acme"]
        assert answer.values("cookie") == []
        if dialect == "envoy":
            gone = answer.values("x-envoy-auth-headers-to-remove")[0].split(b",")
            assert {b"x-debug", b"cookie"} <= set(gone)
            assert b"x-tenant" not in gone
