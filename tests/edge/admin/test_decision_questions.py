"""Which call a question of the decision API is about: read in one way, or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.access.worlds import snapshot
from tests.edge.admin.decision_house import (
    House,
    each_dialect,
    opened,
    seen,
    told,
)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with opened() as found:
        yield found


@each_dialect
async def test_the_host_of_the_original_call_chooses_the_route(house: House, dialect: str) -> None:
    assert (await house.ask(dialect, host="other.example.com")).status == 200
    assert (await house.ask(dialect, host="OTHER.example.com.:443")).status == 200
    assert (await house.ask(dialect, host="another.example.com")).status == 401
    assert (await house.ask(dialect, host="a.WILD.example.com:443")).status == 200
    for host in ("wild.example.com", "a.b.wild.example.com", "a.wild.example.com.evil.net"):
        assert (await house.ask(dialect, host=host)).status == 401


@each_dialect
@pytest.mark.parametrize(
    "said", ["host=other.example.com", 'for=192.0.2.1;host="a.wild.example.com:80"', "host=x," * 40]
)
async def test_the_host_of_another_route_is_no_clients_to_say(
    house: House, dialect: str, said: str
) -> None:
    """Whatever of it the proxy would send on: behind an older recipe a backend may serve that one."""
    answer = await house.ask(dialect, "/public/a", ("Forwarded", said))
    assert seen(answer, dialect) == (400, "host_mismatch")


@each_dialect
async def test_the_host_that_was_asked_for_and_one_that_no_route_names_may_be_said(
    house: House, dialect: str
) -> None:
    for said in ("for=192.0.2.1;host=api.example.com;proto=https", "host=elsewhere.example"):
        assert (await house.ask(dialect, "/public/a", ("Forwarded", said))).status == 200
    asked = await house.ask(dialect, "/me", ("Forwarded", "host=x"), host="other.example.com")
    assert asked.status == 200


@pytest.mark.parametrize("dialect", ["nginx", "envoy", "grpc"])
async def test_a_host_that_only_x_forwarded_host_says_is_none_of_another_route(
    house: House, dialect: str
) -> None:
    answer = await house.ask(dialect, "/public/a", ("X-Forwarded-Host", "other.example.com"))
    assert seen(answer, dialect) == (400, "host_mismatch")
    for said in ("api.example.com", "API.example.com:443", "elsewhere.example"):
        answer = await house.ask(dialect, "/public/a", ("X-Forwarded-Host", said))
        assert answer.status == 200


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


@each_dialect
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
async def test_what_a_copy_or_move_writes_is_shown_and_judged(
    house: House, dialect: str, method: str
) -> None:
    answer = await house.ask(dialect, "/public/a", method=method)
    assert seen(answer, dialect) == (400, "request_malformed")
    for path, expected in (("/public/b", 200), ("/me", 400)):
        answer = await house.ask(dialect, "/public/a", ("Destination", path), method=method)
        status = answer.status if answer.status == 200 else seen(answer, dialect)[0]
        assert status == expected


SENT_NAMES = snapshot(
    """
    version: 1
    decision_api: {trusted_peers: [127.0.0.1/32, 10.9.0.0/16]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    routes:
      - {id: up, match: {path: /up}, auth: optional, policy: p, action: "f:w", upstream: api}
      - id: of
        match: {path: /of}
        auth: optional
        policy: q
        action: "f:w"
        resource: {name: "{headers.x-original-name}"}
        upstream: api
    """,
    """
    version: 1
    policy: p
    rules:
      - {id: all, allow: ["*"]}
      - id: no
        deny: ["*"]
        when: "'x-original-filename' in request.headers"
    """,
    """
    version: 1
    policy: q
    rules:
      - {id: all, allow: ["*"], when: resource.name == 'mine'}
    """,
)


@each_dialect
async def test_a_policy_sees_each_header_of_the_call(dialect: str) -> None:
    """But for those by which a proxy tells of it, which no policy reads."""
    async with opened(SENT_NAMES) as house:
        assert (await house.ask(dialect, "/up", ("X-Original", "a"))).status == 200
        answer = await house.ask(dialect, "/up", ("X-Original-Filename", "a.php"))
        assert seen(answer, dialect) == (403, "no_rule")
        answer = await house.ask(dialect, "/up", ("X_Original_Filename", "a.php"))
        assert seen(answer, dialect) == (400, "ambiguous_header")
        answer = await house.ask(dialect, "/of", ("X-Original-Name", "mine"))
        assert answer.status == 200
        if dialect == "grpc":  # what was judged goes on to the backend
            assert answer.values("x-original-name") == [b"mine"]
        assert (await house.ask(dialect, "/of", ("X-Original-Name", "hers"))).status == 403


NO_BODY: dict[str, list[list[tuple[str, str]]]] = {
    "nginx": [
        [],
        [("X-Original-Content-Length", "0")],
        [("X-Original-Content-Length", ""), ("X-Original-Transfer-Encoding", "")],
    ],
    "caddy": [[], [("X-Forwarded-Content-Length", "0")], [("X-Forwarded-Content-Length", "")]],
    "traefik": [[]],
    "envoy": [[], [("Content-Length", "0")]],
    "grpc": [[], [("Content-Length", "0")]],
}
"""As each proxy tells it; older recipes tell nothing."""
A_BODY: dict[str, list[list[tuple[str, str]]]] = {
    "nginx": [
        [("X-Original-Content-Length", "7")],
        [("X-Original-Content-Length", "0"), ("X-Original-Content-Length", "0")],
        [("X-Original-Content-Length", ""), ("X-Original-Transfer-Encoding", "chunked")],
    ],
    "caddy": [
        [("X-Forwarded-Content-Length", "7")],
        [("X-Forwarded-Content-Length", "0"), ("X-Forwarded-Content-Length", "7")],
        [("X-Forwarded-Transfer-Encoding", "chunked")],
    ],
    "traefik": [[("Content-Length", "7")]],
    "envoy": [[("Content-Length", "7")]],
    "grpc": [[("Content-Length", "7")], [("X-Envoy-Auth-Partial-Body", "true")]],
}


@each_dialect
async def test_a_body_beside_a_query_that_is_judged_is_refused(house: House, dialect: str) -> None:
    target = "/list?team=a"
    for fields in NO_BODY[dialect]:
        assert (await house.ask(dialect, target, *fields)).status == 200
    for method in ("GET", "DELETE", "OPTIONS"):
        for fields in A_BODY[dialect]:
            if dialect in ("traefik", "envoy"):
                # The body is the question's own.
                asked = told(dialect, target, *fields, method=method) + b"team=hr"
                answer = await house.send(asked)
            else:
                answer = await house.ask(dialect, target, *fields, method=method)
            assert seen(answer, dialect) == (400, "ambiguous_query")
    for fields in A_BODY[dialect]:
        if dialect not in ("traefik", "envoy"):
            assert (await house.ask(dialect, target, *fields, method="POST")).status == 200


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
    "grpc": ("Proto",),
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


@pytest.mark.parametrize("dialect", ["envoy", "traefik", "caddy", "grpc"])
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


@pytest.mark.parametrize("dialect", ["envoy", "traefik", "caddy", "grpc"])
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
