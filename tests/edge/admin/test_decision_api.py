"""The decision API on a real socket, with the real Gate: who may tell it what, and what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from textwrap import dedent

import pytest

from gateway.access.secret_text import SecretText
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.secrets import UnreadSecrets
from gateway.model import Reason
from tests.access.worlds import snapshot
from tests.edge.admin.decision_house import (
    DIALECTS,
    POLICIES,
    ROUTES,
    House,
    each_dialect,
    opened,
    seen,
    told,
)
from tests.edge.rig import Client


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with opened() as found:
        yield found


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


async def test_envoy_is_told_to_keep_the_names_of_others_where_the_route_writes_them() -> None:
    routes = """
    version: 1
    decision_api: {trusted_peers: [127.0.0.1/32]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    routes:
      - {id: me, match: {path: /me}, policy: signed-in, upstream: api, identity_headers: oauth2-proxy}
    """
    async with opened(snapshot(routes)) as house:
        answer = await house.ask("envoy", "/me", token="good")
    assert answer.values("x-forwarded-user") == [b"u-1"]
    gone = answer.values("x-envoy-auth-headers-to-remove")[0].split(b",")
    assert b"x-forwarded-user" not in gone
    assert b"x-forwarded-access-token" in gone
    assert len(gone) == len(set(gone))


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
async def test_a_browser_without_a_session_is_led_to_the_page(house: House, dialect: str) -> None:
    fields = (
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Accept", "text/html"),
    )
    led = await house.ask(dialect, "/desk?x=1", *fields)
    (location,) = led.values("location")
    assert location.startswith(b"/auth/ui/sign-in?return_to=")
    assert led.values("www-authenticate") == []
    if dialect == "nginx":
        assert (led.status, led.values("authgate-status")) == (403, [b"303"])
    else:
        assert led.status == 303
    for path, sent in (("/desk", ()), ("/me", fields)):
        refused = await house.ask(dialect, path, *sent)
        assert seen(refused, dialect) == (401, "no_credential")
        assert refused.values("location") == []


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
async def test_a_stranger_is_refused_whatever_it_says(dialect: str) -> None:
    world = snapshot(ROUTES.replace("127.0.0.1/32", "192.0.2.0/24"), *POLICIES)
    async with opened(world) as house:
        for target in ("/public/a", "/me"):
            answer = await house.ask(dialect, target, token="good")
            assert answer.status == 403
            assert not answer.values("x-auth-user-id")
        assert not house.someone.calls


async def test_no_peer_is_trusted_unless_the_configuration_names_it() -> None:
    world = snapshot(
        ROUTES.replace("decision_api: {trusted_peers: [127.0.0.1/32, 10.9.0.0/16]}\n", ""),
        *POLICIES,
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
    assert {b"x-auth-tenant", b"x-auth-tenant-role"} <= set(gone)
    known = await house.ask("envoy", "/kept", token="good")
    left = known.values("x-envoy-auth-headers-to-remove")[0].split(b",")
    # By which others tell who is calling.
    for names in (gone, left):
        assert {b"x-forwarded-user", b"x-forwarded-groups", b"x-forwarded-ssl"} <= set(names)
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


class OneSecret(UnreadSecrets):
    def read(self, name: str) -> SecretText | str:
        return SecretText(f"secret of {name}")


@each_dialect
async def test_no_credential_of_the_caller_reaches_who_is_sent_a_secret(dialect: str) -> None:
    routes = """
    version: 1
    decision_api: {trusted_peers: [127.0.0.1/32]}
    upstreams: {hub: {targets: [http://127.0.0.1:9001]}}
    routes:
      - id: me
        match: {path: /me}
        policy: signed-in
        upstream: hub
        request: {set_headers: {Authorization: {secret: hub, prefix: "Bearer "}}}
    """
    sources = Sources(("routes.yaml", dedent(routes)), ())
    world = compile_snapshot(sources, secrets=OneSecret())
    assert isinstance(world, Snapshot)
    async with opened(world) as house:
        answer = await house.ask(dialect, "/me", token="good")
        assert answer.values("authorization") == [b"Bearer secret of hub"]


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
