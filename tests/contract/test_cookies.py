"""The session cookie on routes, at a started gateway of two workers and a Redis of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from gateway.identity.sign_in.session_cookies import EXPIRED, CookieMint
from tests.contract.answers import Answer
from tests.contract.running import ROUTES, Running, started
from tests.servers import ValkeyServer, wait_until

PASSWORD = "correct horse 7 battery"
APP = ("Origin", "https://app.example.com")
SAME = ("Sec-Fetch-Site", "same-origin")
SAME_SITE = ("Sec-Fetch-Site", "same-site")
CROSS_SITE = ("Sec-Fetch-Site", "cross-site")
STALENESS_S = 4
MINT = CookieMint(b"of another installation")

MORE = """\
  - id: tokens-only
    match: {{path: /tokens-only}}
    policy: signed-in
    accept: [bearer]
    upstream: echo
"""


@dataclass
class Browser:
    """Sends the cookie as a browser does, with whatever else the test says."""

    gateway: Running
    cookie: str
    csrf_token: str

    def call(self, method: str, path: str, *fields: tuple[str, str], **more: Any) -> Answer:
        cookie = ("Cookie", f"theirs=1; __Host-session={self.cookie}")
        return self.gateway.call(method, path, cookie, *fields, **more)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyServer) -> Iterator[Running]:
    routes = ROUTES.replace("version: 1\n", "version: 1\nauth: {{cors: app}}\n", 1) + MORE
    with started(
        tmp_path_factory.mktemp("cookies") / "g",
        "--workers",
        "2",
        routes=routes,
        GATEWAY_REDIS_URL=f"redis://127.0.0.1:{valkey.port}",
        GATEWAY_MAX_STALENESS_S=str(STALENESS_S),
    ) as running:
        yield running


def browser_of(site: Running, email: str = "alice@example.com") -> Browser:
    site.sign_in(email)
    answer = site.call(
        "POST",
        "/auth/login",
        json_body={"email": email, "password": PASSWORD, "transport": "cookie"},
    )
    assert answer.status == 200, answer
    (line,) = [v for v in answer.all("set-cookie") if v.startswith("__Host-session=")]
    cookie = line.split(";")[0].partition("=")[2]
    return Browser(site, cookie, answer.json["csrf_token"])


@pytest.fixture
def alice(site: Running) -> Browser:
    return browser_of(site)


def received(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer
    return dict(answer.json["fields"])


def test_the_upstream_learns_who_calls_and_nothing_of_the_cookie(alice: Browser) -> None:
    fields = received(alice.call("GET", "/me", SAME))
    assert fields["X-Auth-Email"] == "alice@example.com"
    assert fields["Cookie"] == "theirs=1"
    assert alice.cookie not in str(fields)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([SAME_SITE], "cross_origin"),
        ([CROSS_SITE], "cross_origin"),
        ([SAME_SITE, APP], "cross_origin"),  # listed, but not by this route
        ([("Sec-Fetch-Site", "none")], "cross_origin"),
        ([SAME, SAME_SITE], "cross_origin"),
        ([SAME, ("Origin", "null")], "cross_origin"),
        ([SAME, ("Origin", "https://evil.example")], "cross_origin"),
        ([SAME, ("Origin", "http://127.0.0.1:1")], "cross_origin"),
        ([("Origin", "https://evil.example")], "cross_origin"),
        ([], "csrf_invalid"),
        ([("X-CSRF-Token", "x")], "csrf_invalid"),
    ],
)
def test_an_unsafe_call_that_was_not_meant_reaches_nobody(
    alice: Browser, method: str, fields: list[tuple[str, str]], reason: str
) -> None:
    before = len(alice.gateway.echo.seen)
    answer = alice.call(method, "/me", *fields)
    assert (answer.status, answer.reason) == (403, reason)
    assert len(alice.gateway.echo.seen) == before


def test_intent_is_judged_before_the_cookie_is_looked_up(site: Running) -> None:
    for cookie in (MINT.new(), "nonsense", "\xe9", ""):
        nobody = Browser(site, cookie, "")
        answer = nobody.call("POST", "/me", CROSS_SITE)
        assert (answer.status, answer.reason) == (403, "cross_origin")
        assert not answer.all("set-cookie")
        answer = nobody.call("POST", "/me", SAME)
        assert (answer.status, answer.reason) == (401, "session_unknown")
        assert answer.all("set-cookie") == [EXPIRED]


def test_what_was_meant_passes(alice: Browser) -> None:
    own = ("Origin", f"http://127.0.0.1:{alice.gateway.port}")
    for fields in ([SAME], [own], [SAME, own], [("X-CSRF-Token", alice.csrf_token)]):
        assert "X-Auth-User-Id" in received(alice.call("POST", "/me", *fields))


@pytest.mark.parametrize(
    ("host", "origin", "meant"),
    [
        # On a host that no route names, `Host` makes no origin our own.
        ("evil.example", "https://evil.example", False),
        ("evil.example", "http://evil.example", False),
        ("app.example.net", "https://app.example.net", True),
        ("app.example.net", "http://app.example.net", True),  # the public URL is loopback
        ("app.example.net", "https://app.example.net:9999", False),
        ("app.example.net", "https://evil.example", False),
        # Of a wildcard only the very host that is called: its other hosts may be anybody's.
        ("a.wild.example.net", "https://a.wild.example.net", True),
        ("a.wild.example.net", "https://evil.wild.example.net", False),
        ("a.wild.example.net", "https://wild.example.net", False),
        ("a.wild.example.net", "https://*.wild.example.net", False),
        ("wild.example.net", "https://wild.example.net", False),
        ("a.b.wild.example.net", "https://a.b.wild.example.net", False),
    ],
)
@pytest.mark.parametrize("path", ["/me", "/auth/password/change"])
def test_an_old_browsers_origin_is_one_that_the_configuration_names(
    alice: Browser, path: str, host: str, origin: str, meant: bool
) -> None:
    answer = alice.call("POST", path, ("Origin", origin), host=host)
    assert (answer.reason if answer.status == 403 else "passed") == (
        "passed" if meant else "cross_origin"
    )


def test_the_csrf_token_stays_here_and_a_backends_own_passes(alice: Browser) -> None:
    """An upstream that is broken into must not learn what proves an intent."""
    for name in ("X-CSRF-Token", "x-csrf-token"):
        fields = received(alice.call("POST", "/me", (name, alice.csrf_token), SAME))
        assert alice.csrf_token not in str(fields)
    theirs = received(alice.call("POST", "/me", ("X-CSRF-Token", "of-the-backend"), SAME))
    assert theirs["X-CSRF-Token"] == "of-the-backend"


def test_the_csrf_token_of_another_session_proves_nothing(alice: Browser) -> None:
    mallory = browser_of(alice.gateway, "mallory@example.com")
    answer = alice.call("POST", "/me", ("X-CSRF-Token", mallory.csrf_token))
    assert (answer.status, answer.reason) == (403, "csrf_invalid")


def test_a_listed_origin_calls_with_the_cookie_where_it_is_listed(alice: Browser) -> None:
    answer = alice.call("POST", "/shared", CROSS_SITE, APP)
    assert "X-Auth-User-Id" in received(answer)
    assert answer.get("access-control-allow-origin") == APP[1]
    answer = alice.call("POST", "/shared", CROSS_SITE, ("Origin", "https://evil.example"))
    assert (answer.status, answer.reason) == (403, "cross_origin")
    assert answer.get("access-control-allow-origin") is None


TOP = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ([SAME], True),
        ([("Sec-Fetch-Site", "none"), *TOP], True),
        ([CROSS_SITE, *TOP], True),
        ([SAME_SITE, ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")], False),
        ([SAME_SITE, ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")], False),
        ([("Origin", "https://evil.example")], False),
        ([SAME, ("Origin", "https://evil.example")], False),
        ([], False),
    ],
)
def test_a_read_counts_the_cookie_only_where_it_was_meant(
    alice: Browser, fields: list[tuple[str, str]], counts: bool
) -> None:
    assert ("X-Auth-User-Id" in received(alice.call("GET", "/maybe", *fields))) is counts
    answer = alice.call("GET", "/me", *fields)
    assert answer.status == (200 if counts else 401)
    if not counts:
        assert answer.reason == "no_credential"
        assert not answer.all("set-cookie")  # another page must not be able to sign out


def test_a_handshake_of_a_strange_page_is_refused_before_any_upgrade(alice: Browser) -> None:
    """A socket may be opened by a page of any origin: no preflight asks first."""
    upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")]
    for fields, reason in (
        ([("Origin", "https://evil.example")], "cross_origin"),
        ([SAME_SITE, ("Origin", "http://127.0.0.1:1")], "cross_origin"),
        ([], "csrf_invalid"),
    ):
        answer = alice.call("GET", "/maybe", *upgrade, *fields)
        assert (answer.status, answer.reason) == (403, reason)


def test_a_route_that_takes_tokens_only_does_not_see_the_cookie(alice: Browser) -> None:
    answer = alice.call("POST", "/tokens-only", SAME)
    assert (answer.status, answer.reason) == (401, "no_credential")


def test_a_public_route_asks_nothing_of_a_cookie(site: Running) -> None:
    answer = Browser(site, MINT.new(), "").call("POST", "/public/x", CROSS_SITE)
    assert answer.status == 200
    assert answer.all("set-cookie") == ["theirs=1"]  # the upstream's; ours it may not set


def test_after_a_sign_out_no_worker_takes_the_cookie(alice: Browser) -> None:
    assert alice.call("POST", "/auth/logout", SAME).status == 204
    for _ in range(20):  # each on a connection of its own: both workers are asked
        answer = alice.call("GET", "/me", SAME)
        assert (answer.status, answer.reason) == (401, "session_unknown")
        assert answer.all("set-cookie") == [EXPIRED]


def test_an_operator_ends_a_cookie_session_at_once(alice: Browser) -> None:
    session = alice.call("GET", "/auth/me", SAME).json["session_id"]
    assert alice.gateway.cli("sessions", "end", session).returncode == 0
    for _ in range(10):
        answer = alice.call("GET", "/me", SAME)
        assert (answer.status, answer.reason) == (401, "token_revoked")
        assert answer.all("set-cookie") == [EXPIRED]


def test_a_role_takes_effect_on_the_next_call(site: Running) -> None:
    manager = browser_of(site, "manager@example.com")
    assert "X-Auth-Roles" in received(manager.call("GET", "/me", SAME))
    assert site.cli("roles", "grant", "manager@example.com", "manager").returncode == 0
    for _ in range(10):
        assert received(manager.call("GET", "/me", SAME))["X-Auth-Roles"] == "manager"


def test_a_page_of_a_listed_origin_signs_in_by_cors(site: Running) -> None:
    preflight = site.call(
        "OPTIONS",
        "/auth/login",
        APP,
        CROSS_SITE,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    )
    assert preflight.status == 204
    assert preflight.get("access-control-allow-origin") == APP[1]
    assert preflight.get("access-control-allow-credentials") == "true"
    wrong = {"email": "alice@example.com", "password": "wrong horse"}
    answer = site.call("POST", "/auth/login", APP, CROSS_SITE, json_body=wrong)
    assert answer.status == 401
    assert answer.get("access-control-allow-origin") == APP[1]
    evil = ("Origin", "https://evil.example")
    refused = site.call("OPTIONS", "/auth/login", evil, ("Access-Control-Request-Method", "POST"))
    assert refused.status == 403
    assert refused.get("access-control-allow-origin") is None
    assert "origin" in (refused.get("vary") or "").lower()


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register"])
@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ([SAME, ("Origin", "https://evil.example")], None),
        # A name that was pointed at the gateway: its `Host` and `Origin` agree.
        ([("Origin", "http://evil.example")], "evil.example"),
    ],
)
def test_no_page_of_another_origin_signs_its_visitor_in(
    site: Running, path: str, fields: list[tuple[str, str]], host: str | None
) -> None:
    body = {"email": "mallory@evil.example", "password": PASSWORD}
    answer = site.call("POST", path, *fields, json_body=body, host=host)
    assert (answer.status, answer.reason) == (403, "cross_origin")


# --- the last two break what the others stand on ---


def test_an_emptied_redis_ends_cookie_sessions_and_bearer_tokens_go_on(
    site: Running, valkey: ValkeyServer
) -> None:
    alice = browser_of(site)
    bearer = site.sign_in("alice@example.com")["access_token"]
    for _ in range(10):
        assert alice.call("GET", "/me", SAME).status == 200
    with redis.Redis(port=valkey.port) as client:
        client.flushall()
    for _ in range(10):
        answer = alice.call("GET", "/me", SAME)
        assert (answer.status, answer.reason) == (401, "session_unknown")
        assert answer.all("set-cookie") == [EXPIRED]
        assert site.call("GET", "/me", token=bearer).status == 200
    # 503 until both workers have a lease again.
    wait_until(lambda: alice.call("POST", "/auth/logout", SAME).status == 204, 40, "the sign-out")


def test_without_redis_known_sessions_go_on_until_staleness_and_all_heals(
    site: Running, valkey: ValkeyServer
) -> None:
    seen, unseen = browser_of(site), browser_of(site, "mallory@example.com")
    for _ in range(20):
        assert seen.call("GET", "/me", SAME).status == 200
    valkey.kill()
    assert seen.call("GET", "/me", SAME).status == 200
    answer = unseen.call("GET", "/me", SAME)
    assert (answer.status, answer.reason) == (503, "store_unavailable")
    wait_until(_says(seen, "replica_stale"), 40, "the fence")
    assert site.call("GET", "/public/x").status == 200
    answer = unseen.call("GET", "/me", SAME)
    assert answer.status == 503
    assert not answer.all("set-cookie")
    valkey.start()
    wait_until(lambda: unseen.call("GET", "/me", SAME).status == 200, 40, "the healing")
    wait_until(lambda: seen.call("GET", "/me", SAME).status == 200, 40, "the healing")


def _says(browser: Browser, reason: str) -> Callable[[], bool]:
    def said() -> bool:
        answer = browser.call("GET", "/me", SAME)
        return answer.status == 503 and answer.reason == reason

    return said
