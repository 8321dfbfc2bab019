"""Each proxy of deploy/ with authgate deciding: what arrives, what is refused, and how."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.access.field_names import KEEPABLE, NEVER_KEPT
from gateway.access.identity_headers import AUTHGATE
from tests.contract.answers import Answer
from tests.contract.running import Running
from tests.deploy.proxies import PROXIES, TOLD_BY_PROXIES, Site, missing, require, site
from tests.providers import oidc_provider
from tests.providers.oidc_provider import Setup, machine
from tests.servers import ValkeyServer, wait_until

EMAIL = "ada@example.com"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("site")
    with site(folder) as found:
        yield found


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, house: Site) -> Iterator[Running]:
    require(request.param)
    with house.behind(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def tokens(proxy: Running) -> dict[str, Any]:
    return proxy.sign_in(EMAIL)


@pytest.fixture(scope="module")
def token(tokens: dict[str, Any]) -> str:
    return str(tokens["access_token"])


def received(answer: Answer) -> dict[str, list[str]]:
    """The fields that the backend says it received, names in lower case."""
    assert answer.status == 200, answer
    assert answer.get("x-upstream") == "echo", answer
    return by_name(answer.json["fields"])


def by_name(fields: list[list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    return found


def test_an_allowed_call_arrives_with_the_identity_headers(proxy: Running, token: str) -> None:
    fields = received(proxy.call("GET", "/me?a=b%20c", token=token))
    user = proxy.users[EMAIL]["user_id"]
    assert fields["x-auth-user-id"] == [user]
    assert fields["x-auth-email"] == [EMAIL]
    assert len(fields["x-auth-session-id"]) == 1
    assert len(fields["x-request-id"]) == 1
    assert "authorization" not in fields


def test_the_target_arrives_as_it_was_judged(proxy: Running) -> None:
    answer = proxy.call("GET", "/catalogue/a%20b/c%C3%A9,~!$&'()*+=:@?x=%2F..%2f&y=%20/./")
    received(answer)
    assert answer.json["target"] == "/catalogue/a%20b/c%C3%A9,~!$&'()*+=:@?x=%2F..%2f&y=%20/./"


def test_a_body_arrives_whole(proxy: Running, token: str) -> None:
    user = proxy.users[EMAIL]["user_id"]
    body = b'{"n": 1}' * 5_000
    answer = proxy.call("POST", f"/users/{user}/orders", body=body, token=token)
    assert received(answer)["x-auth-user-id"] == [user]
    assert answer.json["method"] == "POST"
    assert answer.json["body"] == body.decode()


def test_the_assertion_is_bound_to_the_call(proxy: Running, token: str) -> None:
    fields = received(proxy.call("GET", "/me", token=token))
    (assertion,) = fields["x-auth-assertion"]
    part = assertion.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert (claims["aud"], claims["method"], claims["path"]) == ("shop", "GET", "/me")
    assert claims["sub"] == fields["x-auth-user-id"][0]


def test_a_401_reaches_the_client_as_it_is(proxy: Running) -> None:
    answer = proxy.call("GET", "/me")
    assert (answer.status, answer.reason) == (401, "no_credential")
    (challenge,) = answer.all("www-authenticate")
    assert challenge == 'Bearer realm="authgate"'
    assert answer.json["request_id"] == answer.get("x-request-id")
    bad = proxy.call("GET", "/me", token="not.a.token")
    assert (bad.status, bad.reason) == (401, "token_malformed")
    assert 'error="invalid_token"' in (bad.get("www-authenticate") or "")


def test_a_browser_without_a_session_is_led_to_the_page_and_finds_it(proxy: Running) -> None:
    browser = (
        ("Sec-Fetch-Site", "none"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Accept", "text/html"),
    )
    led = proxy.call("GET", "/desk?x=1", *browser)
    assert led.status == 303, led
    location = (led.get("location") or "").removeprefix(f"http://127.0.0.1:{proxy.port}")
    assert location.startswith("/auth/ui/sign-in?return_to=")
    assert not led.get("www-authenticate")
    page = proxy.call("GET", location, *browser)
    assert (page.status, page.get("content-type")) == (200, "text/html; charset=utf-8")
    assert proxy.call("GET", "/desk").reason == "no_credential"


def test_a_client_of_a_resource_finds_its_metadata(proxy: Running, house: Site) -> None:
    where = "/.well-known/oauth-protected-resource/mcp"
    refused = proxy.call("GET", "/mcp/messages")
    assert refused.status == 401
    (challenge,) = refused.all("www-authenticate")
    assert 'scope="tools:call", resource_metadata="http://127.0.0.1:' in challenge
    assert challenge.endswith(f'{where}"')
    document = proxy.call("GET", where).json
    assert document["authorization_servers"] == [f"http://127.0.0.1:{house.issuer_port}"]
    assert proxy.call("GET", "/.well-known/oauth-protected-resource").status == 404


@pytest.mark.slow
def test_a_token_that_lacks_scopes_is_told_so(proxy: Running, house: Site, tmp_path: Path) -> None:
    resource = f"http://127.0.0.1:{house.public}/mcp"
    setup = Setup(clients=(machine(),), resources={resource: {"scope": "tools:call"}})
    with oidc_provider.started(tmp_path, setup, port=house.issuer_port) as provider:
        lacking = provider.client_token(resource=resource)
        good = provider.client_token(resource=resource, scope="tools:call")
        # Until now its keys could not be had.
        wait_until(lambda: proxy.call("GET", "/mcp", token=good).status == 200, 60, "its keys")
        refused = proxy.call("GET", "/mcp", token=lacking)
    assert (refused.status, refused.json["missing_scopes"]) == (403, ["tools:call"])
    (challenge,) = refused.all("www-authenticate")
    assert 'error="insufficient_scope", scope="tools:call", resource_metadata="' in challenge


def test_a_403_reaches_the_client_as_it_is(proxy: Running, token: str) -> None:
    answer = proxy.call("GET", "/users/somebody-else/orders", token=token)
    assert (answer.status, answer.reason) == (403, "no_rule")
    assert answer.json["status"] == 403


def test_a_429_reaches_the_client_with_the_time_to_wait(proxy: Running) -> None:
    someone = f"limited{proxy.port}@example.com"
    own = str(proxy.sign_in(someone)["access_token"])
    assert [proxy.call("GET", "/export", token=own).status for _ in range(2)] == [200, 200]
    answer = proxy.call("GET", "/export", token=own)
    assert (answer.status, answer.reason) == (429, "rate_limited")
    assert int(answer.get("retry-after") or 0) > 0
    assert answer.get("ratelimit-policy")


def test_unknown_addresses_and_methods_are_told_apart(proxy: Running, token: str) -> None:
    assert proxy.call("GET", "/nowhere", token=token).reason == "route_unknown"
    answer = proxy.call("DELETE", "/catalogue/a")
    assert (answer.status, answer.reason) == (405, "method_not_allowed")
    assert "GET" in (answer.get("allow") or "")


def test_a_logout_is_refused_at_once(proxy: Running) -> None:
    own = str(proxy.sign_in(f"leaving{proxy.port}@example.com")["access_token"])
    assert proxy.call("GET", "/me", token=own).status == 200
    assert proxy.call("POST", "/auth/logout", token=own).status == 204
    answer = proxy.call("GET", "/me", token=own)
    assert (answer.status, answer.reason) == (401, "token_revoked")


IDENTITY = tuple(one.name for one in AUTHGATE.fields)
SPELLINGS = [
    *((name, "forged") for name in (*IDENTITY, "X-Auth-Assertion")),
    *((name.lower(), "forged") for name in IDENTITY),
    *((name.replace("-", "_"), "forged") for name in IDENTITY),
    *((name.upper().replace("-", "_", 1), "forged") for name in IDENTITY),
    ("X-Auth_User-Id", "forged"),
    ("X.Auth.User.Id", "forged"),
    *(
        (f"X-Forwarded-{name}", "forged")
        for name in ("User", "Email", "Groups", "Preferred-Username", "Access-Token")
    ),
]
"""Ours, and those by which others tell who is calling."""


def test_forged_identity_headers_do_not_arrive(proxy: Running, token: str) -> None:
    for who in (None, token):
        target = "/me" if who else "/catalogue/a"
        fields = received(proxy.call("GET", target, *SPELLINGS, token=who))
        assert not [name for name, values in fields.items() if "forged" in values], fields
        kept = {name for name in fields if name.replace("_", "-").startswith("x-auth-")}
        assert bool(kept) == (who is not None)
        assert all(len(fields[name]) == 1 for name in kept)


@pytest.mark.parametrize(
    "file", ["nginx/authgate-protect.conf", "caddy/Caddyfile", "envoy/envoy.yaml"]
)
def test_a_proxy_that_copies_by_name_copies_every_identity_header(file: str) -> None:
    text = (Path(__file__).parents[2] / "deploy" / file).read_text().lower()
    missed = [name for name in IDENTITY if not re.search(rf"{name.lower()}(?![\w-])", text)]
    assert missed == []


LIES = [
    ("X-Original-Method", "GET"),
    ("X-Original-URI", "/catalogue/a"),
    ("X-Original-Url", "/catalogue/a"),
    ("X-Original-Host", "elsewhere.example"),
    ("X-Original-IP", "198.51.100.1"),
    ("X-Forwarded-Method", "GET"),
    ("X-Forwarded-Uri", "/catalogue/a"),
    ("X-Forwarded-Host", "elsewhere.example"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-For", "198.51.100.1"),
    ("X_Forwarded_Uri", "/catalogue/a"),
    ("X-Rewrite-Url", "/catalogue/a"),
    ("X-Envoy-Original-Path", "/catalogue/a"),
    ("Authgate-Status", "200"),
]


def test_a_clients_own_word_on_its_address_path_or_method_does_not_arrive(
    proxy: Running, token: str
) -> None:
    names = (*NEVER_KEPT, *KEEPABLE.values(), "SCRIPT_NAME", "PATH_INFO", "X_Script_Name")
    fields = received(proxy.call("GET", "/me", *((name, "6.6.6.6") for name in names), token=token))
    assert [name for name, values in fields.items() if "6.6.6.6" in values] == []


FORGED = "for=6.6.6.6;host=evil.example;proto=https"
HOW_IT_CAME = [
    *((name, FORGED) for name in TOLD_BY_PROXIES),
    *(
        (name.replace("-", sign), FORGED)
        for name in (*TOLD_BY_PROXIES, "x-forwarded-for")
        for sign in "._"
    ),
]


def test_no_word_of_a_client_on_how_it_came_arrives(proxy: Running, token: str) -> None:
    for target, who in (("/catalogue/a", None), ("/me", token)):
        fields = received(proxy.call("GET", target, *HOW_IT_CAME, token=who))
        assert [name for name, values in fields.items() if FORGED in values] == []


def test_no_lie_about_the_call_makes_it_pass(proxy: Running, token: str) -> None:
    # CVE-2026-40575, CVE-2023-27487
    answer = proxy.call("GET", "/me", *LIES)
    assert (answer.status, answer.reason) == (401, "no_credential")
    answer = proxy.call("DELETE", "/catalogue/a", *LIES)
    assert (answer.status, answer.reason) == (405, "method_not_allowed")
    fields = received(proxy.call("GET", "/me", *LIES, token=token))
    for name in ("x-forwarded-host", "x-forwarded-for", "x-forwarded-proto"):
        assert "elsewhere.example" not in fields.get(name, [])
        assert not any(value.startswith("https") for value in fields.get(name, []))


@pytest.mark.parametrize(
    "lie",
    [
        ("Connection", "close, X-Auth-User-Id, X-Forwarded-Uri, X-Original-URI"),
        ("Connection", "X-Forwarded-Method"),
        ("Connection", "Authorization"),
    ],
)
def test_the_connection_field_takes_nothing_of_ours_away(
    proxy: Running, token: str, lie: tuple[str, str]
) -> None:
    # CVE-2024-45410: whatever else happens, no call passes unidentified.
    answer = proxy.call("GET", "/me", lie, token=token)
    if answer.status == 200:
        assert len(received(answer)["x-auth-user-id"]) == 1
    else:
        assert answer.status in (400, 401)


@pytest.mark.parametrize(
    "target",
    [
        "/catalogue/../me",
        "/catalogue/%2e%2e/me",
        "/catalogue/x/%2e%2e%2f%2e%2e/me",
        "/catalogue//a",
        "//me",
        "/catalogue/%2fme",
        "/catalogue/..%5cme",
        "/catalogue/a;b",
        "/catalogue/a#/../../me",
        "/catalogue/%252e%252e/me",
        "/catalogue/./a",
        "/auth/../me",
        "/auth/%2e%2e/me",
    ],
)
def test_a_path_with_two_readings_reaches_no_backend(
    proxy: Running, token: str, target: str
) -> None:
    before = len(proxy.echo.seen)
    answer = proxy.call("GET", target, token=token)
    assert 400 <= answer.status < 500, answer
    assert len(proxy.echo.seen) == before


def test_the_gateways_cookies_reach_no_backend(proxy: Running) -> None:
    cookies = ("Cookie", "theirs=1; __Host-session=abc; __Host-device=def")
    assert received(proxy.call("GET", "/catalogue/a", cookies))["cookie"] == ["theirs=1"]
    alone = received(proxy.call("GET", "/catalogue/a", ("Cookie", "__Host-session=abc")))
    assert "cookie" not in alone


def test_the_address_that_is_limited_is_the_clients_own(proxy: Running) -> None:
    # A forged hop must not give every call a fresh budget: /auth/login counts by address.
    body = {"email": "nobody@example.com", "password": "wrong horse 7 battery"}
    for n in range(6):
        answer = proxy.call(
            "POST", "/auth/login", ("X-Forwarded-For", f"198.51.100.{n}"), json_body=body
        )
    assert answer.status in (401, 403, 429)


def test_head_is_answered_without_a_body(proxy: Running, token: str) -> None:
    assert proxy.call("HEAD", "/me", token=token).status == 200
    assert proxy.call("HEAD", "/me").status == 401


WEBSOCKET = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]


def test_a_websocket_handshake_is_judged_before_the_backend_sees_it(
    proxy: Running, token: str
) -> None:
    before = len(proxy.echo.seen)
    assert proxy.call("GET", "/me", *WEBSOCKET).status == 401
    assert len(proxy.echo.seen) == before
    assert len(handshake(proxy, token)["x-auth-user-id"]) == 1


def handshake(proxy: Running, token: str) -> dict[str, list[str]]:
    """What the backend sees of one; its 200 is no answer that every proxy hands on whole."""
    before = len(proxy.echo.seen)
    proxy.call("GET", "/me", *WEBSOCKET, token=token)
    assert len(proxy.echo.seen) == before + 1
    return by_name(proxy.echo.seen[-1]["fields"])


def test_websockets_reach_the_backend_as_such(
    proxy: Running, token: str, request: pytest.FixtureRequest
) -> None:
    if "traefik" in request.node.name:
        return  # what stands for it speaks plain HTTP only
    fields = handshake(proxy, token)
    assert [value.lower() for value in fields["upgrade"]] == ["websocket"]
    assert [value.lower() for value in fields["connection"]] == ["upgrade"]


def test_no_other_upgrade_reaches_the_backend(proxy: Running, token: str) -> None:
    # A tunnel of HTTP/2 would be judged once and then carry anything.
    lie = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAM")]
    answer = proxy.call("GET", "/me", *lie, token=token)
    if answer.status == 200:
        assert "h2c" not in received(answer).get("upgrade", [])
    else:
        assert 400 <= answer.status < 500


def test_a_session_cookie_counts_only_for_calls_of_its_own_page(proxy: Running) -> None:
    email = f"cookie{proxy.port}@example.com"
    proxy.sign_in(email)
    body = {"email": email, "password": "correct horse 7 battery", "transport": "cookie"}
    own = ("Sec-Fetch-Site", "same-origin")
    signed = proxy.call("POST", "/auth/login", own, json_body=body)
    assert signed.status == 200, signed
    session = next(c for c in signed.all("set-cookie") if c.startswith("__Host-session="))
    cookie = ("Cookie", session.partition(";")[0] + "; theirs=1")
    fields = received(proxy.call("GET", "/me", cookie, own))
    assert fields["cookie"] == ["theirs=1"]
    assert fields["x-auth-email"] == [email]
    assert proxy.call("GET", "/me", cookie, ("Sec-Fetch-Site", "cross-site")).status == 401
    path = f"/users/{proxy.users[email]['user_id']}/orders"
    assert proxy.call("POST", path, cookie, own, body=b"x").status == 200
    foreign = [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")]
    refused = proxy.call("POST", path, cookie, *foreign, body=b"x")
    assert (refused.status, refused.reason) == (403, "cross_origin")


def test_a_gateway_that_cannot_confirm_revocations_lets_nothing_pass(tmp_path: Path) -> None:
    valkey = ValkeyServer(tmp_path / "valkey").start()
    settings = {"GATEWAY_REDIS_URL": valkey.url, "GATEWAY_MAX_STALENESS_S": "2"}
    try:
        with site(tmp_path / "fenced", **settings) as house, ExitStack() as proxies:
            names = [name for name in PROXIES if not missing(name)]
            fronts = {name: proxies.enter_context(house.behind(name)) for name in names}
            for front in fronts.values():
                assert front.call("GET", "/catalogue/a").status == 200
            valkey.freeze()
            for name, front in fronts.items():
                _await(front, 503)
                answer = front.call("GET", "/catalogue/a")
                if name != "envoy":  # which makes its own answer of a 5xx
                    assert answer.reason == "replica_stale"
                    assert answer.get("retry-after")
            valkey.thaw()
            for front in fronts.values():
                _await(front, 200)
    finally:
        valkey.kill()


def _await(front: Running, status: int) -> None:
    wait_until(
        lambda: front.call("GET", "/catalogue/a").status == status, 60, f"{status} of the proxy"
    )


def test_without_a_gateway_nothing_passes(house: Site, request: pytest.FixtureRequest) -> None:
    """Fails closed: see `Site.behind` with nobody on the ports of the gateway."""
    from tests.ports import free_port

    for name in (*PROXIES[:3], "envoy-grpc"):
        require(name)
        absent = replace(house, public=free_port(), admin=free_port(), grpc=free_port())
        before = len(house.echo.seen)
        with absent.behind(name) as found:
            assert found.call("GET", "/catalogue/a").status >= 500
        assert len(house.echo.seen) == before
